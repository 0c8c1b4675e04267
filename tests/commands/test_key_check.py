"""``flask key check``: a copy of the master key opens the installation or it does not, and never shows."""

import os
import pty
import subprocess
import sys

import pytest

from coinslot.access import key_copy, keyring
from coinslot.access.vault import MasterKey, Vault, VaultError
from tests import databases
from tests.servers import ROOT


def copy_of(installation):
    """The master key as its owner has written it down."""
    return installation.vault.current(installation.database.read()).text()


@pytest.fixture
def check(app, installation, studio):
    key = copy_of(installation)
    installation.database.write_here(
        lambda tx: tx.execute("DELETE FROM installation WHERE name = 'vault.checked_key_id'")
    )
    installation.database.write_here(lambda tx: tx.execute("DELETE FROM audit"))

    def run(text):
        result = app.test_cli_runner().invoke(args=["key", "check"], input=text)
        assert "Traceback" not in result.output
        assert key not in result.output
        assert text.strip() == "" or text.strip() not in result.output
        return result

    return run


def checked_at(installation):
    return key_copy.checked_at(installation.database.read())


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " \n"])
def test_the_right_copy_opens_everything_and_is_noted(check, installation, db, ending):
    assert checked_at(installation) is None

    result = check(copy_of(installation) + ending)

    assert result.exit_code == 0
    assert "opens the installation" in result.output
    assert "all 3 sealed values opened" in result.output
    assert checked_at(installation) is not None
    assert db("SELECT actor, subject FROM audit WHERE action = 'key.check'") == [
        {"actor": "command", "subject": installation.vault.candidates()[0].id}
    ]


def assert_does_not_open(check, installation, text, words):
    result = check(text)

    assert result.exit_code == 1
    assert words in result.stderr
    assert installation.vault.current(installation.database.read()).id in result.stderr
    assert checked_at(installation) is None


def test_another_key_does_not(check, installation):
    assert_does_not_open(check, installation, MasterKey.generate().text(), "this is another one")


def test_an_earlier_key_does_not(check, installation):
    earlier = copy_of(installation)
    keyring.rotate_master_key(installation.database, installation.vault, MasterKey.generate(), "test")

    # Only key files are kept after a rotation, so that who has none is not told which key it was.
    is_kept = not installation.vault.is_from_environment
    assert_does_not_open(check, installation, earlier, "this is an earlier one" if is_kept else "this is another one")


@pytest.mark.parametrize("text", ["", "\n", "c2hvcnQ=\n", "no Base64 at all\n", "A" * 44, "x" * 100_000])
def test_what_is_no_key_is_refused_in_words(check, installation, text):
    result = check(text)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert checked_at(installation) is None


def test_it_works_while_the_servers_own_key_is_lost(check, installation):
    copy = copy_of(installation)
    installation.vault.path.unlink(missing_ok=True)
    other = MasterKey.generate().text() if installation.vault.is_from_environment else None
    installation.vault = Vault(installation.settings.home, other)
    with pytest.raises(VaultError):
        copy_of(installation)

    assert check(copy).exit_code == 0


def test_a_value_that_was_changed_is_told(check, installation):
    installation.database.write_here(
        lambda tx: tx.execute("UPDATE secrets SET ciphertext = x'00' WHERE name = 'playtem.secret'")
    )

    result = check(copy_of(installation))

    assert result.exit_code == 1
    assert "playtem.secret" in result.stderr
    assert checked_at(installation) is None


def test_a_rotation_asks_for_a_copy_of_the_new_key(check, installation):
    assert check(copy_of(installation)).exit_code == 0

    keyring.rotate_master_key(installation.database, installation.vault, MasterKey.generate(), "test")

    assert checked_at(installation) is None
    assert check(copy_of(installation)).exit_code == 0
    assert checked_at(installation) is not None


def test_on_the_command_line_it_is_refused_and_not_repeated(app, installation, studio):
    key = copy_of(installation)

    result = app.test_cli_runner().invoke(args=["key", "check", key])

    assert result.exit_code == 2
    assert key not in result.output


def test_at_a_terminal_it_is_asked_for_once_and_hidden(installation, studio):
    key = copy_of(installation)
    terminal, theirs = pty.openpty()
    environment = os.environ | databases.environment(installation.settings.home)
    command = [sys.executable, "-m", "flask", "key", "check"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"copy of the master key" not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, key.encode() + b"\n")
        while b"sealed values opened" not in shown:
            shown += os.read(terminal, 1024)
        assert process.wait(60) == 0
    os.close(terminal)
    assert key.encode() not in shown
