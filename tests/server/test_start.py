"""What the start of a process costs: nothing is reckoned before it is needed, and a command imports what it needs."""

import json
import subprocess
import sys
from pathlib import Path

from app import create_app

ROOT = Path(__file__).resolve().parents[2]


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has after the code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_server_hashes_no_password_before_it_serves():
    code = (
        "import hashlib\n"
        "def scrypt(*args, **kwargs): raise AssertionError('a password is hashed')\n"
        "hashlib.scrypt = scrypt\n"
        "import wsgi"
    )

    assert "wsgi" in loaded(code)


def test_neither_a_server_nor_a_command_imports_apprise_which_costs_25_mb():
    for code in ("import wsgi", "import handlers.commands.alerts, handlers.dashboard.account.alerts"):
        assert {"apprise", "requests"} & set(loaded(code)) == set()


def test_a_server_imports_no_command():
    assert {name for name in loaded("import wsgi") if "commands" in name and name.startswith("handlers.")} == {
        "handlers.commands"
    }


def test_every_command_is_in_the_module_that_is_named_for_it():
    commands = create_app({"COINSLOT_HOME": "/nonexistent"}).cli.commands

    assert [commands[name].name for name in commands] == list(commands)


def test_the_collector_leaves_alone_what_the_start_has_made():
    assert "wsgi" in loaded("import wsgi, gc\nassert gc.isenabled()\nassert gc.get_freeze_count() > 10_000")
