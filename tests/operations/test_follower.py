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

COMPLETE = {"status": "synced", "txid": 7, "replicated_txid": 7}


class ControlSocket(socketserver.ThreadingUnixStreamServer):
    """Answers as Litestream 0.5.17 was seen to do, with ``status`` and ``answer``, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, path) -> None:
        super().__init__(str(path), _Answers)
        self.status, self.answer = 200, json.dumps(COMPLETE).encode()
        self.asked: list[dict[str, object]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def says(self, status: int, document: object) -> None:
        self.status, self.answer = status, json.dumps(document).encode()


class _Answers(BaseHTTPRequestHandler):
    server: ControlSocket

    def do_POST(self) -> None:
        assert self.path == "/sync"
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

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


def test_nobody_follows_and_nothing_is_said(installation, said):
    assert installation.own_jobs[follower.JOB](installation) is None
    assert said(is_asked=False) == []


def test_a_young_copy_is_well(installation, followed, litestream, said, clock):
    assert said() == [("ok", f"the copy that follows was up to date at {clocks.stamp()}")]
    assert [each["path"] for each in litestream.asked] == [str(installation.database.path)]
    assert litestream.asked[0]["wait"] is True


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (
            500,
            {"error": "sync database: db sync: disk I/O error (522)"},
            "it cannot read what is new or store it at the destination",
        ),
        (404, {"error": "database not found: /x"}, "it does not copy"),
        (200, {**COMPLETE, "replicated_txid": 6}, "part of what is new is not at the destination"),
    ],
)
def test_a_copy_that_is_not_made_grows_old(installation, followed, litestream, said, clock, status, answer, words):
    at = clocks.stamp()
    assert said()[0][0] == "ok"
    litestream.says(status, answer)
    clock.shift(30)
    assert said()[0][0] == "ok"
    clock.shift(31)

    ((severity, sentence),) = said()

    assert severity == "wrong"
    assert sentence.startswith(f"The copy that follows was last up to date at {at}. Litestream: {words}")
    litestream.says(200, COMPLETE)
    assert said()[0][0] == "ok"


def test_what_litestream_said_is_known_when_it_has_died(installation, followed, litestream, said, clock):
    at = clocks.stamp()
    assert said()[0][0] == "ok"
    litestream.shutdown()
    litestream.server_close()
    clock.shift(61)

    ((severity, sentence),) = said()

    assert severity == "wrong"
    assert sentence.startswith(f"The copy that follows was last up to date at {at}. Litestream: it does not answer at")


def test_without_a_relay_nobody_asks_and_that_shows(installation, followed, said):
    ((severity, sentence),) = said(is_asked=False)

    assert severity == "wrong"
    assert sentence.startswith("No copy that follows is known. Litestream: nobody has asked it since; a relay does.")


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("answer", [b"", b"null", b"{}", b"[]", b'"error"', b"\xff", b"1" * 9000])
def test_what_is_no_litestream(installation, followed, litestream, said, status, answer):
    litestream.status, litestream.answer = status, answer

    assert "is no Litestream of version 0.5" in said()[0][1]


def test_a_socket_that_nobody_listens_at(installation, followed, said, socket_path):
    os.mkfifo(socket_path)

    assert "it does not answer at" in said()[0][1]


def test_litestream_without_anybody_who_looks(installation, said):
    (installation.settings.home / ".coinslot.db-litestream").mkdir()

    ((severity, sentence),) = said(is_asked=False)

    assert severity == "look"
    assert "COINSLOT_FOLLOWER" in sentence
