"""The commands: what they do, what they refuse in words, and that no value ever shows."""

import base64
import csv
import io
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask
from werkzeug.security import check_password_hash

from app import create_app
from coinslot.access import keyring
from coinslot.access.vault import MasterKey
from coinslot.base import clock, csv_text
from coinslot.base.spellings import shown
from coinslot.games import imports, registry
from coinslot.installation import Installation
from coinslot.store.db import Connection
from tests import databases
from tests.conftest import use_key
from tests.fakes.http import FakeServer, Reply, Request, status
from tests.pages import serving
from tests.servers import ROOT, until

FLASK = [sys.executable, "-m", "flask"]
VALUE = "correct-horse-battery-WXYZ"
NEXT_VALUE = "another-horse-battery-QRST"

Run = Callable[..., Result]


class Place:
    """A home folder that no command has touched yet, and the commands run on it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = {**databases.environment(home), **environment}
        self._apps: dict[tuple[str, ...], Flask] = {}

    def app(self) -> Flask:
        return create_app(self.environment)

    def installation(self) -> Installation:
        """As another process has it."""
        found: Installation = self.app().extensions["coinslot"]
        return found

    def run(self, *words: str, stdin: str | bytes | None = None) -> Result:
        """All commands of a test have one app, until its environment changes."""
        environment = tuple(self.environment.values())
        if environment not in self._apps:
            self._apps[environment] = self.app()
        return self._apps[environment].test_cli_runner().invoke(args=list(words), input=stdin)

    def exchange_key(self) -> None:
        """Put another key in the place of the master key, as nobody should."""
        other = MasterKey.generate().text()
        if "COINSLOT_MASTER_KEY" in self.environment:
            self.environment["COINSLOT_MASTER_KEY"] = other
        else:
            (self.home / "master.key").write_text(other)
        self.restart()

    def restart(self) -> None:
        """The next command has an app of its own, as each process has."""
        self._apps.clear()

    def ok(self, *words: str, stdin: str | bytes | None = None) -> str:
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, *words: str, stdin: str | bytes | None = None) -> str:
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), "a traceback instead of words"
        assert result.stderr.startswith("Error: ")
        return result.stderr

    def process(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        how = {"cwd": ROOT, "env": os.environ | self.environment, "stdin": subprocess.DEVNULL, "timeout": 60}
        return subprocess.run(command, capture_output=True, **how)  # type: ignore[call-overload]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return databases.tuples(self.home, sql)

    def every_byte(self) -> bytes:
        """Everything in the home folder, the log of writes included, and in the database."""
        files = b"".join(path.read_bytes() for path in self.home.iterdir()) if self.home.exists() else b""
        return files + "\n".join(databases.content(self.home)).encode()

    def opened(self, name: str) -> dict[str, str]:
        game = self.installation().games.by_slug("demo")
        assert game is not None
        return {value.slot: value.value.decode() for value in game.keys(name)}


@pytest.fixture
def fresh(tmp_path: Path) -> Place:
    home = tmp_path / "never" / "started"
    databases.begin_bare(home)
    return Place(home)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "home")
    found.ok("game", "add", "demo")
    return found


# Registering


def test_help_touches_no_disk(fresh: Place) -> None:
    for words in (["--help"], ["game", "--help"], ["key", "rotate", "--help"], ["simulate", "--help"]):
        fresh.ok(*words)

    assert not fresh.home.exists()


def test_a_damaged_file_is_told_in_words(fresh: Place) -> None:
    fresh.home.mkdir(parents=True)
    (fresh.home / "coinslot.db").write_bytes(b"no database at all" * 1000)

    for words in (["game", "list"], ["game", "add", "demo"], ["key", "rotate"], ["secret", "list", "demo"]):
        assert "Traceback" not in fresh.refused(*words)


def test_a_home_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "file" in Place(tmp_path / "file" / "home").refused("game", "add", "demo")


# game


def test_game_add_on_a_machine_where_nothing_was_started(fresh: Place) -> None:
    fresh.environment["COINSLOT_PUBLIC_URL"] = "https://pay.example/"

    output = fresh.ok("game", "add", "demo", "--name", "Démo 👩‍🚀")

    token = re.findall(r"coinslot_\S+", output)
    assert len(token) == 1
    assert fresh.installation().games.by_token(token[0]).slug == "demo"  # type: ignore[union-attr]
    assert "https://pay.example/appcharge/demo/orders" in output
    assert "https://pay.example/playtem/demo/credit" in output
    if not databases.IS_POSTGRES:
        assert {path.name for path in fresh.home.iterdir()} >= {"coinslot.db", "master.key", "write.lock"}
        assert fresh.home.stat().st_mode & 0o777 == 0o700
    assert fresh.rows("SELECT slug, name FROM games") == [("demo", "Démo 👩‍🚀")]
    assert ("command", "game.add", "demo") in fresh.rows("SELECT actor, action, subject FROM audit")
    assert token[0].encode() not in fresh.every_byte()


def test_game_add_json_ends_in_one_line_for_scripts(fresh: Place) -> None:
    last = json.loads(fresh.ok("game", "add", "demo", "--json").splitlines()[-1])

    assert last.keys() == {"game", "api_token"}
    assert last["game"] == "demo"
    assert fresh.installation().games.by_token(last["api_token"]) is not None


def test_game_add_refuses_what_is_no_slug_a_second_game_of_that_name_and_control_characters(place: Place) -> None:
    for slug in ("", "Demo", "a b", "-x", "x" * 64, "d/e", "dé"):
        assert "is no slug" in place.refused("game", "add", "--", slug), slug
    assert "already" in place.refused("game", "add", "demo")
    assert "--name" in place.refused("game", "add", "other", "--name", "a\x1b[2Jb")

    assert place.rows("SELECT slug, name FROM games") == [("demo", "demo")]


def test_game_list(fresh: Place) -> None:
    assert "the first start of the server makes" in fresh.refused("game", "list")
    fresh.ok("game", "add", "zeta")
    fresh.ok("game", "add", "alpha", "--name", "Alpha Game")

    output = fresh.ok("game", "list")

    assert output.index("alpha  Alpha Game") < output.index("zeta  zeta")
    assert "http://127.0.0.1:8000/appcharge/alpha/orders" in output
    assert "coinslot_" not in output


def test_game_token_keeps_the_one_before_until_it_is_retired(fresh: Place) -> None:
    first = json.loads(fresh.ok("game", "add", "demo", "--json"))["api_token"]
    second = json.loads(fresh.ok("game", "token", "demo", "--json"))["api_token"]
    third = re.findall(r"coinslot_\S+", fresh.ok("game", "token", "demo"))[0]
    by_token = fresh.installation().games.by_token

    assert all(by_token(token).slug == "demo" for token in (first, second, third))  # type: ignore[union-attr]
    assert "coinslot_" not in fresh.ok("game", "token", "demo", "--retire")

    assert [by_token(first), by_token(second)] == [None, None]
    assert by_token(third) is not None
    assert "no earlier token" in fresh.refused("game", "token", "demo", "--retire")
    assert "no game nope" in fresh.refused("game", "token", "nope")
    assert "no game nope" in fresh.refused("game", "token", "nope", "--retire")
    audit = fresh.rows("SELECT action FROM audit WHERE action LIKE 'game.token%' ORDER BY id")
    assert [action for (action,) in audit] == ["game.token", "game.token", "game.token.retire"]


def test_retiring_leaves_the_tokens_of_other_games(place: Place) -> None:
    other = json.loads(place.ok("game", "add", "other", "--json"))["api_token"]
    place.ok("game", "token", "other")
    place.ok("game", "token", "demo")

    assert json.loads(place.ok("game", "token", "demo", "--retire", "--json")) == {"game": "demo", "retired": 1}

    assert place.installation().games.by_token(other) is not None


# config


def test_config_set_and_show(place: Place) -> None:
    assert place.ok("config", "set", "demo", "players.unknown", "create") == "players.unknown = create\n"
    place.ok("config", "set", "demo", "playtem.field_separator", "-|")

    output = place.ok("config", "show", "demo")

    assert re.search(r"^players\.unknown +create$", output, re.M)
    assert re.search(r"^playtem\.field_separator +-\|$", output, re.M)
    assert re.search(r"^items\.unknown +reject  \(default\)$", output, re.M)
    assert re.search(r"^appcharge\.project_id +\(empty\)  \(default\)$", output, re.M)
    for key in place.installation().catalogue:
        assert re.search(rf"^{re.escape(key)} ", output, re.M)
    assert max(len(line) for line in output.splitlines()) <= 120
    assert ("command", "players.unknown = create") in place.rows("SELECT actor, subject FROM audit")


def test_config_refuses_unknown_keys_bad_values_and_unknown_games(place: Place) -> None:
    assert "no setting players.unknwon" in place.refused("config", "set", "demo", "players.unknwon", "create")
    assert "use one of" in place.refused("config", "set", "demo", "players.unknown", "maybe")
    assert "whole number" in place.refused("config", "set", "demo", "appcharge.tolerance_seconds", "-1")
    assert "no game nope" in place.refused("config", "set", "nope", "players.unknown", "create")
    assert "no game nope" in place.refused("config", "show", "nope")
    for url in ("https://user:pass-word@h/", "https://token@h/", "https://@h/"):
        output = place.refused("config", "set", "demo", "players.lookup_url", url)
        assert "leave out the user name and password" in output
        assert "pass-word" not in output
        assert "token@" not in output

    assert place.rows("SELECT * FROM settings") == []


def commands_of(group: click.Group, *path: str) -> Iterator[tuple[list[str], click.Command]]:
    """Our own commands below a group, each with the words that name it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, *path, name)
        elif command.callback is not None and not command.callback.__module__.startswith("flask."):
            yield [*path, name], command


def test_bytes_that_are_no_text_are_refused_in_words_by_every_command(place: Place) -> None:
    place.ok("secret", "set", "demo", "playtem.secret", stdin=VALUE)
    before = place.rows("SELECT * FROM audit")
    tried = []
    for name, command in commands_of(place.app().cli):  # type: ignore[arg-type]
        words: list[str] = []
        for parameter in command.params:
            if parameter.type is click.STRING and parameter.nargs in (1, -1):
                words += ([] if isinstance(parameter, click.Argument) else [parameter.opts[0]]) + ["\udcff"]
            elif isinstance(parameter, click.Argument):
                words.append("1" if isinstance(parameter.type, click.types.IntParamType) else "/dev/null")
        for each in (words, ["demo", *words[1:]]):
            if "\udcff" in each:
                tried.append([*name, *each])

    for words in tried:
        result = place.run(*words, stdin=VALUE)

        assert isinstance(result.exception, SystemExit), (words, result.exception)
        assert result.exit_code in (1, 2), (words, result.output)
        assert "Error: " in result.stderr, (words, result.stderr)
    assert len(tried) > 40
    assert place.rows("SELECT * FROM audit") == before


def test_a_copy_may_have_a_name_that_is_no_text(place: Place, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db")

    assert "\N{REPLACEMENT CHARACTER}.db" in place.ok("backup", path)
    assert os.path.exists(path)


def test_bytes_that_are_no_text_are_refused_in_words_by_a_real_process(place: Place) -> None:
    done = place.process([*FLASK, "appcharge", "offers", os.fsdecode(b"\xff")])

    assert (done.returncode, done.stderr.strip()) == (1, b"Error: what was typed is not UTF-8")


# secret


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (VALUE, VALUE),
        (f"{VALUE}\n", VALUE),
        (f"{VALUE}\r\n", VALUE),
        (f"  {VALUE} \n", f"  {VALUE} "),
        ("ключ-ключ\n", "ключ-ключ"),
    ],
)
def test_secret_set_takes_exactly_one_line_ending_off(place: Place, sent: str, stored: str) -> None:
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=sent)

    assert place.opened("appcharge.main_key") == {"current": stored}


def test_secret_set_refuses_what_is_no_value(place: Place) -> None:
    for sent in (b"", b"\n", b"\r\n", b"a\0b\n", b"\xff\xfe\n", b"x" * 70_000):
        assert "appcharge.main_key: " in place.refused("secret", "set", "demo", "appcharge.main_key", stdin=sent), sent

    assert place.rows("SELECT * FROM secrets") == []


def test_secret_set_with_standard_input_closed(place: Place) -> None:
    command = f"exec {' '.join(FLASK)} secret set demo appcharge.main_key <&-"

    done = place.process(["/bin/sh", "-c", command])

    assert done.returncode == 1
    assert b"standard input is closed" in done.stderr


def test_secret_commands_refuse_unknown_names_before_anybody_types(place: Place) -> None:
    for verb in ("set", "rotate", "retire"):
        output = place.refused("secret", verb, "demo", "appcharge.mian_key", stdin=VALUE)
        assert "appcharge.mian_key" in output
        assert "appcharge.main_key" in output
        assert "no game nope" in place.refused("secret", verb, "nope", "appcharge.main_key", stdin=VALUE)
    assert "no game nope" in place.refused("secret", "list", "nope")
    assert "nope" in place.refused("secret", "set", "demo", "destination.nope", stdin=VALUE)


def test_a_secret_is_never_taken_from_the_command_line(place: Place) -> None:
    for verb in ("set", "rotate"):
        result = place.run("secret", verb, "demo", "appcharge.main_key", VALUE)
        assert result.exit_code == 2
        assert VALUE not in result.output


SPOILED = (
    "two\nlines",
    "a\u200bb",
    "two\n\n",
    "cr\r",
    "a\tb",
    "a\x1b[2Jb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "-----BEGIN x\ny",
)


def test_no_secret_takes_a_character_that_cannot_be_seen(place: Place) -> None:
    names = [name.replace("*", "second") for name in place.installation().secret_names]
    assert len(names) > 10
    tried = [("set", name, SPOILED[0]) for name in names] + [("set", names[0], each) for each in SPOILED]
    place.ok("secret", "set", "demo", names[0], stdin=VALUE)

    for verb, name, value in [*tried, *(("rotate", names[0], each) for each in SPOILED)]:
        refusal = place.refused("secret", verb, "demo", name, stdin=value)
        assert "cannot be seen" in refusal, (name, value)
        assert value not in refusal

    assert [place.opened(name) for name in names] == [{"current": VALUE}, *[{}] * (len(names) - 1)]


def test_a_private_key_is_set_with_its_lines(place: Place) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\r\nAAAA\r\n-----END PRIVATE KEY-----"
    place.ok("secret", "set", "demo", "appcharge.apple_secret", stdin=f"{pem}\r\n")
    assert place.opened("appcharge.apple_secret") == {"current": pem}


def test_secret_rotate_and_retire(place: Place) -> None:
    name = "appcharge.main_key"
    assert "no value yet" in place.refused("secret", "rotate", "demo", name, stdin=VALUE)
    assert "no previous value" in place.refused("secret", "retire", "demo", name)
    place.ok("secret", "set", "demo", name, stdin=VALUE)
    assert "current value" in place.refused("secret", "rotate", "demo", name, stdin=f"{VALUE}\n")

    place.ok("secret", "rotate", "demo", name, stdin=f"{NEXT_VALUE}\n")
    assert place.opened(name) == {"current": NEXT_VALUE, "previous": VALUE}

    place.ok("secret", "retire", "demo", name)
    assert place.opened(name) == {"current": NEXT_VALUE}
    assert [action for (action,) in place.rows("SELECT action FROM audit ORDER BY id")] == [
        "game.add",
        "secret.set",
        "secret.rotate",
        "secret.retire",
    ]


def test_a_new_value_typed_wrongly_does_not_end_the_one_that_is_in_use(place: Place) -> None:
    name = "appcharge.main_key"
    place.ok("secret", "set", "demo", name, stdin=VALUE)
    output = place.ok("secret", "rotate", "demo", name, stdin="mistyped")
    assert "never used" not in output

    output = place.ok("secret", "rotate", "demo", name, stdin=NEXT_VALUE)

    assert place.opened(name) == {"current": NEXT_VALUE, "previous": VALUE}
    assert "the value before was never used and is gone" in output
    place.ok("secret", "rotate", "demo", name, stdin=VALUE)  # back to the one in use
    place.ok("secret", "retire", "demo", name)
    assert place.opened(name) == {"current": VALUE}
    assert f"the one before that stays valid until `flask secret retire demo {name}`" in output


def test_a_second_rotation_replaces_the_previous_value_once_the_current_one_was_used(place: Place) -> None:
    name = "appcharge.main_key"
    place.ok("secret", "set", "demo", name, stdin=VALUE)
    place.ok("secret", "rotate", "demo", name, stdin="the second one")
    place.installation().database.write_here(lambda tx: use_key(tx, name, "current", clock.stamp()))

    output = place.ok("secret", "rotate", "demo", name, stdin=NEXT_VALUE)

    assert place.opened(name) == {"current": NEXT_VALUE, "previous": "the second one"}
    assert "never used" not in output


def test_what_a_destination_is_signed_with_is_kept_whether_or_not_it_was_used(place: Place) -> None:
    """Nobody proves himself with it, so that it was not used means nothing: the game may have the newer one already."""
    place.ok("destination", "add", "demo", "main", "http://127.0.0.1:9/hook")
    place.ok("destination", "rotate", "demo", "main")
    second = place.opened("destination.main")["current"]

    place.ok("destination", "rotate", "demo", "main")

    assert place.opened("destination.main")["previous"] == second


def test_a_secret_holds_from_the_next_request_of_a_running_process(place: Place) -> None:
    running = place.installation()
    assert running.games.by_slug("demo").keys("playtem.secret") == ()  # type: ignore[union-attr]

    place.ok("secret", "set", "demo", "playtem.secret", stdin=VALUE)

    (value,) = running.games.by_slug("demo").keys("playtem.secret")  # type: ignore[union-attr]
    assert value.value == VALUE.encode()


def test_secret_list_shows_last_characters_and_no_value(place: Place) -> None:
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    place.ok("secret", "rotate", "demo", "appcharge.main_key", stdin=NEXT_VALUE)
    place.ok("secret", "set", "demo", "playtem.secret", stdin="short")

    output = place.ok("secret", "list", "demo")

    assert re.search(r"^appcharge\.main_key +current +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +never +…QRST$", output, re.M)
    assert re.search(r"^appcharge\.main_key +previous .* …WXYZ$", output, re.M)
    assert re.search(r"^playtem\.secret +current .*too short", output, re.M)
    assert re.search(r"^Not set: .*appcharge\.publisher_token", output, re.M)
    assert VALUE[:-4] not in output
    assert "short\n" not in output


def test_secret_list_works_without_the_right_key(place: Place) -> None:
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    place.exchange_key()

    assert "does not open" in place.ok("secret", "list", "demo")
    assert "master key" in place.refused("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)


def test_no_value_is_stored_in_clear_or_told(place: Place) -> None:
    output = ""
    for words, value in (
        (("set", "demo", "appcharge.main_key"), VALUE),
        (("rotate", "demo", "appcharge.main_key"), NEXT_VALUE),
        (("rotate", "demo", "appcharge.main_key"), NEXT_VALUE),
        (("set", "demo", "nope"), VALUE),
        (("list", "demo"), ""),
    ):
        result = place.run("secret", *words, stdin=value)
        output += result.output
    output += place.run("key", "rotate").output
    output += place.run("config", "show", "demo").output

    stored = place.every_byte().lower()
    for value in (VALUE, NEXT_VALUE):
        for spelled in (value, value.encode().hex(), base64.b64encode(value.encode()).decode()):
            assert spelled not in output
            assert spelled.lower().encode() not in stored


def test_a_hidden_prompt_asks_twice_at_a_terminal(place: Place) -> None:
    pid, terminal = pty.fork()
    if pid == 0:  # the child, with a terminal of its own
        os.chdir(ROOT)
        words = [*FLASK, "secret", "set", "demo", "appcharge.main_key"]
        os.execve(sys.executable, words, os.environ | place.environment)

    output = _read_until(terminal, b":")
    os.write(terminal, f"{VALUE}\n".encode())
    output += _read_until(terminal, b":")
    os.write(terminal, f"{VALUE}\n".encode())
    output += _read_until(terminal, b"is set")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 0, output
    assert place.opened("appcharge.main_key") == {"current": VALUE}
    assert VALUE.encode() not in output


def _read_until(terminal: int, wanted: bytes) -> bytes:
    output = b""
    while wanted not in output:
        try:
            some = os.read(terminal, 1024)
        except OSError:  # what Linux says at the end of a terminal
            some = b""
        if not some:
            raise AssertionError(output)
        output += some
    return output


# key


def test_key_rotate_puts_everything_under_a_new_key(place: Place) -> None:
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    place.ok("secret", "rotate", "demo", "appcharge.main_key", stdin=NEXT_VALUE)
    running = place.installation()
    old_key = (place.home / "master.key").read_text()

    output = place.ok("key", "rotate")

    new_key = (place.home / "master.key").read_text()
    (aside,) = place.home.glob("master.key.old-*")
    assert f"is kept as {aside}: backups" in output
    assert "2 values" in output
    assert new_key != old_key == aside.read_text()
    assert new_key.strip() not in output
    assert not (place.home / "master.key.next").exists()
    key_id = MasterKey.parse(new_key, "test").id
    assert place.rows("SELECT DISTINCT key_id FROM secrets") == [(key_id,)]
    assert place.opened("appcharge.main_key") == {"current": NEXT_VALUE, "previous": VALUE}
    assert running.games.by_slug("demo").keys("appcharge.main_key")[0].value == NEXT_VALUE.encode()  # type: ignore[union-attr]
    assert place.rows("SELECT count(*) FROM audit WHERE actor = 'command' AND action = 'key.rotate'") == [(1,)]


class Crashed(BaseException):
    """The process ends here."""


def test_key_rotate_after_a_crash_before_the_commit(place: Place) -> None:
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    installation = place.installation()

    def crash(*_: object) -> int:
        raise Crashed

    with pytest.raises(Crashed):
        installation.vault.rotate(installation.database, crash, MasterKey.generate())
    assert (place.home / "master.key.next").exists()
    assert place.opened("appcharge.main_key") == {"current": VALUE}

    place.ok("key", "rotate")

    assert not (place.home / "master.key.next").exists()
    assert len(list(place.home.glob("master.key.old-*"))) == 1
    assert place.opened("appcharge.main_key") == {"current": VALUE}


def test_key_rotate_after_a_crash_after_the_commit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    installation = place.installation()
    write_here = installation.database.write_here

    def commit_and_crash(function: Callable[[Connection], Any]) -> None:
        write_here(function)
        raise Crashed

    monkeypatch.setattr(installation.database, "write_here", commit_and_crash)
    with pytest.raises(Crashed):
        installation.vault.rotate(installation.database, keyring.reseal, MasterKey.generate())
    committed = (place.home / "master.key.next").read_text()
    assert place.opened("appcharge.main_key") == {"current": VALUE}
    place.ok("secret", "set", "demo", "playtem.secret", stdin=VALUE)

    place.ok("key", "rotate")

    assert not (place.home / "master.key.next").exists()
    assert committed in {path.read_text() for path in place.home.glob("master.key.old-*")}
    assert place.opened("appcharge.main_key") == {"current": VALUE}
    assert place.opened("playtem.secret") == {"current": VALUE}


def test_key_rotate_with_the_key_in_the_environment(tmp_path: Path) -> None:
    old, new = MasterKey.generate(), MasterKey.generate()
    place = Place(tmp_path / "home", COINSLOT_MASTER_KEY=old.text())
    place.ok("game", "add", "demo")
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    for bad in ("", "short\n", base64.b64encode(b"x" * 31).decode(), f"{new.text()}!"):
        assert new.text() not in place.refused("key", "rotate", stdin=bad)
    assert "already" in place.refused("key", "rotate", stdin=old.text())

    output = place.ok("key", "rotate", stdin=f"{new.text()}\n")

    assert "COINSLOT_MASTER_KEY" in output
    assert "restart" in output
    assert new.text() not in output
    assert not list(place.home.glob("master.key*"))
    place.restart()
    assert "master key" in place.refused("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    place.environment["COINSLOT_MASTER_KEY"] = new.text()
    assert place.opened("appcharge.main_key") == {"current": VALUE}


def test_key_rotate_with_the_wrong_key_changes_nothing(place: Place) -> None:
    place.ok("secret", "set", "demo", "appcharge.main_key", stdin=VALUE)
    before = place.rows("SELECT * FROM secrets")
    place.exchange_key()
    files = sorted(place.home.glob("master.key*"))

    assert "master key" in place.refused("key", "rotate")

    assert place.rows("SELECT * FROM secrets") == before
    assert sorted(place.home.glob("master.key*")) == files


def test_a_malformed_key_in_the_environment_is_refused_in_words(place: Place) -> None:
    for key in (" ", "not base64", "AAAA", *([] if databases.IS_POSTGRES else [""])):  # there no start is without one
        place.environment["COINSLOT_MASTER_KEY"] = key

        assert "COINSLOT_MASTER_KEY" in place.refused("secret", "set", "demo", "playtem.secret", stdin=VALUE)
        assert "COINSLOT_MASTER_KEY" in place.refused("key", "rotate", stdin=MasterKey.generate().text())


# player and item


@pytest.mark.parametrize(("kind", "columns"), [("player", "player_id, name"), ("item", "sku, name")])
def test_add_keeps_what_is_there_and_takes_a_name(place: Place, kind: str, columns: str) -> None:
    assert "alice is registered" in place.ok(kind, "add", "demo", "alice", "--name", "Alice")
    assert "already" in place.ok(kind, "add", "demo", "alice")
    assert place.rows(f"SELECT {columns} FROM {kind}s") == [("alice", "Alice")]

    place.ok(kind, "add", "demo", "alice", "--name", "Alice 2")

    assert place.rows(f"SELECT {columns} FROM {kind}s") == [("alice", "Alice 2")]
    assert place.rows(f"SELECT count(*) FROM audit WHERE action = '{kind}.add' AND actor = 'command'") == [(3,)]


@pytest.mark.parametrize("kind", ["player", "item"])
def test_add_refuses_what_is_no_id(place: Place, kind: str) -> None:
    for bad in ("", " a", "a\nb", "x" * 256, "a\x7f"):
        place.refused(kind, "add", "demo", bad)
    place.refused(kind, "add", "nope", "good")
    place.refused(kind, "add", "demo", "good", "--name", "a\x1bb")

    assert place.rows("SELECT * FROM players") == place.rows("SELECT * FROM items") == []


AS_PEOPLE_WRITE = (
    "alice,Alice\nbob,Bob\n",
    "alice,Alice\r\nbob,Bob",
    "\ufeffalice,Alice\n\nbob,Bob\n\n",
    "player_id,name\nalice,Alice\nbob,Bob\n",
    "\ufeffName,ID\nAlice,alice\nBob,bob\n",
    'id,name\n"alice","Alice"\n"bob","Bob"\n',
    "Player ID,Name\nalice,Alice\nbob,Bob\n",
    "playerId,displayName\nalice,Alice\nbob,Bob\n",
    "PLAYER-ID;NAME\r\nalice;Alice\r\nbob;Bob\r\n",
    "user id\tname\nalice\tAlice\nbob\tBob\n",
    "\ufeffsep=;\r\nplayer_id;name\r\nalice;Alice\r\nbob;Bob\r\n",
    "sep=;\nalice;Alice\nbob;Bob\n",
    "# exported yesterday\n\nplayer_id,name\nalice,Alice\nbob,Bob\n",
    "player_id,name,,\nalice,Alice,,\nbob,Bob,,\n,,,\n",
    '"player_id";"name"\n"alice";"Alice"\n"bob";"Bob"\n',
    'player_id,name\n="alice",Alice\nbob,Bob\n',
    "player_id\tname\r\nalice\tAlice\r\nbob\tBob".encode("utf-16"),
    b"\xfe\xff" + "player_id,name\nalice,Alice\nbob,Bob\n".encode("utf-16-be"),
)


def test_player_import_reads_files_as_people_write_them(place: Place, tmp_path: Path) -> None:
    file, database = tmp_path / "players.csv", place.installation().database
    for text in AS_PEOPLE_WRITE:
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        database.write_here(lambda tx: tx.execute("DELETE FROM players"))

        assert place.ok("player", "import", "demo", str(file)).splitlines()[-1] == "imported 2 players (2 new)", text
        found = place.rows("SELECT player_id, name FROM players ORDER BY 1")
        assert found == [("alice", "Alice"), ("bob", "Bob")], text


def test_player_import_from_standard_input_shows_no_bar_where_nobody_watches(place: Place) -> None:
    result = place.run("player", "import", "demo", "-", stdin="alice\nböb,Böb\n")

    assert (result.stdout, result.stderr) == ("imported 2 players (2 new)\n", "")
    assert place.rows("SELECT player_id, name FROM players ORDER BY 1") == [("alice", None), ("böb", "Böb")]


def test_player_import_sets_only_what_the_file_has(place: Place) -> None:
    database = place.installation().database
    entry = {
        "name": "Alice",
        "country": "DE",
        "login_name": "alice",
        "password_hash": "scrypt:...",
        "profile": {"segments": ["vip"]},
        "identities": {"google": "g-1"},
    }
    database.write_here(lambda tx: registry.put_player(tx, 1, "alice", entry))
    before = registry.player(database.read(), 1, "alice")
    assert before is not None

    output = place.ok(
        "player", "import", "demo", "-", stdin="id,country,profile_image,name\nalice,fr,https://p/a.png,\n"
    )

    after = registry.player(database.read(), 1, "alice")
    assert after == before | {
        "country": "FR",
        "profile_image": "https://p/a.png",
        "updated_at": after["updated_at"],  # type: ignore[index]
    }
    assert output == "imported 1 players (0 new)\n"


def test_import_says_how_many_are_new_and_may_be_repeated(place: Place) -> None:
    text = "".join(f"player-{number},Name {number}\n" for number in range(2500))
    assert place.ok("player", "import", "demo", "-", stdin=text) == "imported 2500 players (2500 new)\n"
    before = place.rows("SELECT * FROM players ORDER BY player_id")

    assert place.ok("player", "import", "demo", "-", stdin=text + "late\n") == "imported 2501 players (1 new)\n"

    assert place.rows("SELECT * FROM players WHERE player_id <> 'late' ORDER BY player_id") == before
    assert ("player.import", "2501 players (1 new)") in place.rows("SELECT action, subject FROM audit")


NO_PLAYERS: tuple[tuple[str | bytes, list[str]], ...] = (
    ("alice\n bob\n", ["line 2: id: "]),
    ("alice\n,Bob\n", ["line 2: id: "]),
    ("alice\nbob\n\nalice\n", ["line 4: alice is on line 1 already"]),
    ("id,name\nalice,A\nalice,A\n", ["line 3: alice is on line 2 already"]),
    ("id,name\nalice,A\nbob\n", ["line 3: 1 columns, and 2 in the header row"]),
    ("alice,A,DE\n", ["line 1: 3 columns"]),
    ("id,nmae\nalice,A\n", ["line 1: unknown column nmae"]),
    ("alice;A\n", ["line 1: columns are separated by another sign"]),
    ("alice\tA\n", ["line 1: columns are separated by another sign"]),
    ("alice\nbob;Bob\n", ["line 2: columns are separated by another sign"]),
    ("player_id\nalice;A\n", ["line 2: several columns, and 1 in the header row"]),
    ("player_id,name\nalice;A\n", ["line 2: 1 columns, and 2 in the header row"]),
    ("Identifier,Username\nalice,A\n", ["line 1: unknown column Identifier, Username"]),
    ("Player ID,Level\nalice,7\n", ["line 1: unknown column Level"]),
    ("Players of Space Miner\nplayer_id,name\nalice,A\n", ["line 2: looks like a header row"]),
    ("player_id,name\nalice,A\nplayer_id,name\nbob,B\n", ["line 3: looks like a header row"]),
    ("# exported yesterday\nalice,A\n", ["line 1: looks like a comment"]),
    ("alice,A\n# the end\n", ["line 2: looks like a comment"]),
    ("// exported\nalice\n", ["line 1: looks like a comment"]),
    ("player_id,name\nalice,A\n# total, 1\n", ["line 3: looks like a comment"]),
    ("player_id\nalice\n#end;1\n", ["line 3: looks like a comment"]),
    ("sep=;\nalice,A\nbob;B\nsep=;\n", ["line 4: "]),
    ('[{"player_id":"alice"}]\n', ["line 1: looks like JSON"]),
    ('{"player_id":"alice"}\n{"player_id":"bob"}\n', ["line 1: looks like JSON", "line 2: looks like JSON"]),
    ("<!doctype html>\n", ["line 1: looks like JSON or HTML"]),
    ("player_id,name\n1.23E+05,A\n", ["line 2: id: a spreadsheet has rounded this number"]),
    ("player_id,name\nalice,A\n".encode("utf-16-le"), ["line 1: holds a NUL character"]),
    (b"\xff\xfea", ["line 1: not UTF-16"]),
    (b"\xff\xfe", ["line 1: the file is empty"]),
    ("name,country\nAlice,DE\n", ["line 1: the column player_id is missing"]),
    ("id,player_id\na,a\n", ["line 1: a column is there twice"]),
    ("id,country\na,Germany\nb,D1\n", ["line 2: country: ", "line 3: country: "]),
    ("id,profile_image\na,javascript:x\n", ["line 2: profile_image: "]),
    ("id,login_name\na,ann\nb,ann\n", ["line 3: login_name ann is on line 2 already"]),
    ("id,login_name\na,taken\n", ["line 2: login_name taken belongs to another player"]),
    ('alice\nbob,"B\n', ["line 2: not CSV"]),
    ('id,name\na,"x\ny"\nb,B,B\n', ["line 2: name: use no control characters", "line 4: 3 columns"]),
    ("alice\na\0b\n", ["line 2: holds a NUL character"]),
    (f"alice\n{'x' * 70_000}\n", ["line 2: longer than"]),
    (b"alice\nbob,B\xfcb\n", ["line 2: not UTF-8"]),
)


def test_player_import_is_all_or_nothing_and_names_the_lines(place: Place) -> None:
    place.installation().database.write_here(lambda tx: registry.put_player(tx, 1, "owner-of", {"login_name": "taken"}))
    audited = place.rows("SELECT * FROM audit")

    for text, messages in NO_PLAYERS:
        refusal = place.refused("player", "import", "demo", "-", stdin=text)

        assert "nothing was imported" in refusal, text
        assert [message for message in messages if message not in refusal] == [], text
    assert place.rows("SELECT player_id FROM players") == [("owner-of",)]
    assert place.rows("SELECT * FROM audit") == audited


def test_import_prints_twenty_errors_and_counts_the_others(place: Place) -> None:
    output = place.refused("player", "import", "demo", "-", stdin="good\n" + " bad\n" * 50)

    assert output.count("line ") == 20
    assert output.rstrip().endswith("and 30 more")
    assert place.rows("SELECT * FROM players") == []


def test_a_login_name_lost_while_the_file_was_read_leaves_nothing(place: Place) -> None:
    database = place.installation().database
    staged = imports.staging()
    imports.stage(staged, 1, {"id": "aaa"})
    imports.stage(staged, 2, {"id": "bob", "login_name": "taken"})
    imports.portion(staged)
    database.write_here(lambda tx: registry.put_player(tx, 1, "alice", {"login_name": "taken"}))

    with pytest.raises(registry.RegistryError):
        database.write_here(lambda tx: imports.import_players(tx, 1, staged, 0))

    assert place.rows("SELECT player_id FROM players") == [("alice",)]


ODD_IDS = ("#7", "a;b", 'a"b', "auth0|7", "a,b", "=1", "'=1", "''=1", "'x", "-5", "-x", "+1", "@x", "\u00e9")


@pytest.mark.parametrize("header", ["player_id,country", "player_id"])
def test_any_id_is_read_back_as_a_spreadsheet_is_given_it(place: Place, header: str) -> None:
    for player_id in ODD_IDS:
        buffer = io.StringIO()
        cells = [csv_text.written(player_id), "DE"][: header.count(",") + 1]
        csv.writer(buffer, quoting=csv.QUOTE_MINIMAL if "," in header else csv.QUOTE_ALL).writerow(cells)

        place.ok("player", "import", "demo", "-", stdin=f"{header}\n{buffer.getvalue()}")

    assert {player_id for (player_id,) in place.rows("SELECT player_id FROM players")} == set(ODD_IDS)


def test_a_large_file_in_utf_16_is_read_in_pieces(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "players.csv"
    file.write_text("player_id\tname\r\n" + "".join(f"p-{n}\tName \U0001f98a\r\n" for n in range(9000)), "utf-16")

    assert place.ok("player", "import", "demo", str(file)).splitlines()[-1] == "imported 9000 players (9000 new)"

    assert place.rows("SELECT count(*) FROM players WHERE name = 'Name \U0001f98a'") == [(9000,)]
    assert "longer than" in place.refused("player", "import", "demo", "-", stdin=("x" * 200_000).encode("utf-16"))


def test_item_import(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("SKU,Name\ncoins,Coins\ngems,\n")
    assert place.ok("item", "import", "demo", str(file)) == "imported 2 items (2 new)\n"

    assert place.ok("item", "import", "demo", "-", stdin="coins\ngems,Gems\nkeys\n") == "imported 3 items (1 new)\n"

    assert place.rows("SELECT sku, name FROM items ORDER BY 1") == [
        ("coins", "Coins"),
        ("gems", "Gems"),
        ("keys", None),
    ]
    file.write_bytes("sep=;\r\nItem ID;Title\r\nrubies;Rubies\r\n".encode("utf-16"))
    assert place.ok("item", "import", "demo", str(file)) == "imported 1 items (1 new)\n"
    assert "line 1: columns" in place.refused("item", "import", "demo", "-", stdin="swords;Swords\n")
    assert "unknown column country" in place.refused("item", "import", "demo", "-", stdin="sku,country\na,DE\n")
    assert "line 2: coins is on line 1" in place.refused("item", "import", "demo", "-", stdin="coins\ncoins\n")


def test_import_needs_a_game_and_a_file(place: Place, tmp_path: Path) -> None:
    for kind in ("player", "item"):
        assert "no game nope" in place.refused(kind, "import", "nope", "-", stdin="a\n")
        assert place.run(kind, "import", "demo", str(tmp_path / "missing.csv")).exit_code == 2
        assert place.run(kind, "import", "demo", str(tmp_path)).exit_code != 0
        assert f"imported 0 {kind}s (0 new)" in place.ok(kind, "import", "demo", "-", stdin="")


# admin


def test_admin_password(fresh: Place) -> None:
    password = "correct horse ß\N{COMBINING ACUTE ACCENT}"
    output = fresh.ok("admin", "password", stdin=f"{password}\n")

    ((stored,),) = fresh.rows("SELECT password_hash FROM people WHERE name = 'owner'")
    assert stored.startswith("scrypt:")
    assert check_password_hash(stored, password)
    assert password.encode() not in fresh.every_byte() + output.encode()
    assert ("command", "person.password") in fresh.rows("SELECT actor, action FROM audit")


def test_admin_password_refuses(fresh: Place) -> None:
    for sent in (b"", b"\n", b"too short\n", b"0123456789\xff", b"0123456789\0"):
        fresh.refused("admin", "password", stdin=sent)

    assert not fresh.home.exists()


# simulate


@pytest.fixture
def server(place: Place) -> Iterator[tuple[Flask, str]]:
    """The application on a port of its own, with both partners configured."""
    for name in ("appcharge.main_key", "appcharge.publisher_token", "playtem.secret"):
        place.ok("secret", "set", "demo", name, stdin=f"{name}-{VALUE}")
    app = place.app()
    with serving(app) as server:
        yield app, f"http://127.0.0.1:{server.server_port}"


def _assert_nothing_shown(place: Place, output: str) -> None:
    for name in ("appcharge.main_key", "appcharge.publisher_token", "playtem.secret"):
        for value in place.opened(name).values():
            assert value not in output
    assert "v1=" not in output
    assert "Traceback" not in output


def test_simulate_twice_against_a_running_server(place: Place, server: tuple[Flask, str]) -> None:
    app, url = server
    place.ok("config", "set", "demo", "refunds.revoke", "on")
    for _ in range(2):
        output = place.ok("simulate", "demo", "--url", f"{url}/")

        assert "SURPRISE" not in output
        assert re.search(r"^Appcharge +order +200, our id +200 .* ok$", output, re.M)
        assert re.search(r"^Playtem +purchase +200, empty +200 +ok$", output, re.M)
        _assert_nothing_shown(place, output)
    app.extensions["coinslot"].observations.flush()
    until(lambda: place.rows("SELECT 1 FROM refusals"), "another thread has written what it held")
    assert {row for (row,) in place.rows("SELECT is_simulated FROM refusals")} == {1}
    assert len(place.rows("SELECT * FROM transactions")) > 0
    assert place.rows("SELECT partner, name, value FROM counters") == []


def test_simulate_from_a_copy_with_another_key_is_a_surprise(place: Place, server: tuple[Flask, str]) -> None:
    copy = Place(place.home.parent / "copy", COINSLOT_PUBLIC_URL=server[1])
    copy.home.mkdir()
    with sqlite3.connect(place.home / "coinslot.db") as source, sqlite3.connect(copy.home / "coinslot.db") as target:
        source.backup(target)
    shutil.copy(place.home / "master.key", copy.home)
    assert copy.run("simulate", "demo").exit_code == 0
    copy.ok("secret", "set", "demo", "appcharge.main_key", stdin=f"{VALUE}-edited")

    result = copy.run("simulate", "demo")

    assert result.exit_code == 1
    assert re.search(r"^Appcharge +order .* 401 .* SURPRISE: an order must get 200", result.stdout, re.M)
    assert re.search(r"^Playtem +purchase .* ok$", result.stdout, re.M)
    assert "were a surprise" in result.stderr
    _assert_nothing_shown(copy, result.output)


def test_simulate_skips_partners_without_keys(place: Place) -> None:
    assert "no partner of demo is configured" in place.refused("simulate", "demo")
    assert "no game nope" in place.refused("simulate", "nope")
    place.ok("secret", "set", "demo", "playtem.secret", stdin=VALUE)

    result = place.run("simulate", "demo", "--url", "http://127.0.0.1:9")

    assert result.exit_code == 1
    assert "Skipped, not configured: Appcharge, PlayCamp" in result.stdout
    assert "http://127.0.0.1:9: nobody answers there" in result.stderr
    assert "payload" not in result.output


def test_simulate_refuses_what_is_no_address(place: Place) -> None:
    place.ok("secret", "set", "demo", "playtem.secret", stdin=VALUE)

    for url in ("ftp://x", "127.0.0.1", "http://[::1", "http://127.0.0.1:99999", "http://", "http://u:p@h"):
        place.refused("simulate", "demo", "--url", url)


def test_simulate_shows_nothing_a_server_echoes_and_follows_no_redirect(place: Place) -> None:
    sent: list[str] = []

    def echo(request: Request) -> Reply:
        sent.extend(
            [request.target, request.headers.get("signature", ""), request.headers.get("x-publisher-token", "")]
        )
        said = sent[-2].partition("v1=")[2] + sent[-1] or request.target.partition("=")[2]
        return status(302, said.encode() + request.body, Location=f"/somewhere-else?{said}")

    for name in ("appcharge.main_key", "appcharge.publisher_token", "playtem.secret"):
        place.ok("secret", "set", "demo", name, stdin=f"{name}-{VALUE}")
    with FakeServer(echo) as server:
        result = place.run("simulate", "demo", "--url", server.url)

    assert result.exit_code == 1
    assert not [path for path in sent if path.startswith("/somewhere-else")]
    assert "[hidden]" in result.output
    for words in sent:
        for word in re.findall(r"[\w%.-]{12,}", words):
            assert word[:12] not in result.output, word
    _assert_nothing_shown(place, result.output)


def test_text_of_strangers_stays_on_its_line() -> None:
    assert shown("a\x1b[2J\nb", 48) == "a·[2J·b"
    assert shown("x" * 60, 48) == "x" * 47 + "…"
