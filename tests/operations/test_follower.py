"""How old the copy is, as a control socket says, and what the list of troubles makes of it."""

import json
import os
import socketserver
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from coinslot.base import clock as clocks
from coinslot.operations import follower
from handlers.kit import troubles


class ControlSocket(socketserver.ThreadingUnixStreamServer):
    """Answers as Litestream 0.5.17 does: ``databases`` is what it says it copies."""

    daemon_threads = True

    def __init__(self, path) -> None:
        super().__init__(str(path), _Answers)
        self.databases: list[dict[str, str]] = []
        self.raw: bytes | None = None
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def says(self, path, copied_at: str | None) -> None:
        known = {} if copied_at is None else {"last_sync_at": copied_at}
        self.databases = [{"path": str(path), "status": "replicating", **known}]


class _Answers(BaseHTTPRequestHandler):
    server: ControlSocket

    def do_GET(self) -> None:
        assert self.path == "/list"
        content = json.dumps({"databases": self.server.databases}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if self.server.raw is None else self.server.raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def socket_path(installation):
    return installation.settings.home / "litestream.sock"


@pytest.fixture
def followed(installation, socket_path):
    """COINSLOT_FOLLOWER is set."""
    installation.settings = replace(installation.settings, follower=socket_path)


@pytest.fixture
def litestream(socket_path):
    with ControlSocket(socket_path) as server:
        yield server
        server.shutdown()


@pytest.fixture
def said(app, installation):
    """What the list says of the copy, after the job has run: severity or ``ok``, and the sentence with its remedy."""

    def say(is_asked: bool = True) -> list[tuple[str, str]]:
        if is_asked:
            assert installation.own_jobs[follower.JOB](installation) == follower.EVERY_SECONDS
        with app.app_context():
            listed = troubles.list_checked(installation)
        found = [
            (each.severity, f"{each.sentence} {each.remedy}") for each in listed.troubles if each.key == "follower"
        ]
        return found + [("ok", each) for each in listed.well if "copy that follows" in each]

    return say


def litestreams(seconds: float) -> str:
    """A moment as Litestream writes it, with nine digits."""
    return clocks.stamp(seconds).replace("Z", "789Z")


def test_nobody_follows_and_nothing_is_said(installation, said):
    assert installation.own_jobs[follower.JOB](installation) is None
    assert said(is_asked=False) == []


def test_a_young_copy_is_well(installation, followed, litestream, said, clock):
    litestream.says(installation.database.path, litestreams(clocks.now() - 1))

    assert said() == [("ok", f"the copy that follows is complete up to {clocks.stamp(int(clocks.now() - 1))}")]


def test_a_copy_whose_destination_takes_nothing_grows_old(installation, followed, litestream, said, clock):
    litestream.says(installation.database.path, litestreams(clocks.now()))
    assert said()[0][0] == "ok"

    clock.shift(61)
    ((severity, sentence),) = said()

    assert severity == "wrong"
    assert "it could not bring anything to its destination since" in sentence
    litestream.says(installation.database.path, litestreams(clocks.now()))
    assert said()[0][0] == "ok"


def test_what_litestream_said_is_known_when_it_has_died(installation, followed, litestream, said, clock):
    at = int(clocks.now())
    litestream.says(installation.database.path, litestreams(at))
    assert said()[0][0] == "ok"
    litestream.shutdown()
    litestream.server_close()

    assert said()[0][0] == "ok"  # it is a second old, whoever may have died
    clock.shift(61)
    ((severity, sentence),) = said()

    assert severity == "wrong"
    assert sentence.startswith(f"The copy that follows ends at {clocks.stamp(at)}. Litestream: it does not answer at")


def test_without_a_relay_nobody_asks_and_that_shows(installation, followed, said):
    ((severity, sentence),) = said(is_asked=False)

    assert severity == "wrong"
    assert sentence.startswith("There is no copy that follows. Litestream: nobody has asked it yet.")


def test_what_answers_and_copies_nothing_of_ours(installation, followed, litestream, said, tmp_path):
    litestream.says(installation.database.path, None)
    assert "it has copied nothing yet" in said()[0][1]
    litestream.says(tmp_path / "other.db", litestreams(clocks.now()))
    assert "it copies other databases and not" in said()[0][1]


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"{}", b"[]", b'{"databases": null}', b'{"databases": [1]}', b"\xff", b"1" * 9000]
)
def test_what_is_no_litestream(installation, followed, litestream, said, raw):
    litestream.raw = raw

    assert "is no Litestream of version 0.5" in said()[0][1]


def test_a_stamp_that_is_none(installation, followed, litestream, said):
    litestream.says(installation.database.path, "yesterday")

    assert "is no Litestream of version 0.5" in said()[0][1]


def test_a_socket_that_nobody_listens_at(installation, followed, said, socket_path):
    os.mkfifo(socket_path)

    assert "it does not answer at" in said()[0][1]


def test_litestream_without_anybody_who_looks(installation, said):
    (installation.settings.home / ".coinslot.db-litestream").mkdir()

    ((severity, sentence),) = said(is_asked=False)

    assert severity == "look"
    assert "COINSLOT_FOLLOWER" in sentence
