"""The copy that follows: when it was last up to date. A job asks Litestream over its control socket.

Coinslot asks Litestream to copy what is new. Its destination is a folder, another host or object storage. Litestream
answers when all of it is there. Its own stamp of the last copy is not used: it goes on while Litestream
cannot read the database.
"""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coinslot.access import page_facts
from coinslot.base import clock
from coinslot.base.settings import Settings
from coinslot.operations.findings import LOOK, WRONG, Checked, Trouble
from coinslot.store.connection import is_followed
from coinslot.store.db import Database
from coinslot.store.queries import fact, set_fact
from coinslot.store.sqlite import SqliteDatabase

JOB = "follower"
FACT = "follower"
EVERY_SECONDS = 15.0
OLD_SECONDS = 60.0
COPY_SECONDS = 10  # that Litestream may take for what is new
TIMEOUT_SECONDS = 15.0
LARGEST_ANSWER = 64 * 1024  # bytes


@dataclass(frozen=True)
class Copy:
    """All that was committed at ``copied_at`` was at the destination; None: never, as far as is known.

    ``problem`` is why Litestream did not say so at the last look, empty: it did.
    """

    copied_at: str | None
    problem: str = ""


def watch(database: Database, control_socket: Path | None) -> float | None:
    """A job: ask Litestream, and store what it says. Returns when to ask again, in seconds; None: nobody follows."""
    if control_socket is None or not isinstance(database, SqliteDatabase) or page_facts.is_demo(database.read()):
        return None
    found, before = look(control_socket, database.path), known(fact(database.read(), FACT))
    if found.copied_at is None and before is not None:  # what it once said is still true
        found = Copy(before.copied_at, found.problem)
    database.write(lambda tx: set_fact(tx, FACT, json.dumps(asdict(found))), keeps_games=True)
    return EVERY_SECONDS


def known(stored: str | None) -> Copy | None:
    """What the stored fact says; None: nobody has asked yet."""
    return None if stored is None else Copy(**json.loads(stored))


def look(control_socket: Path, path: Path) -> Copy:
    """Have Litestream copy what is new in the database at ``path``, and wait until it has: 15 seconds at most."""
    began_at = clock.stamp()
    try:
        status, answer = _ask(control_socket, {"path": str(path), "wait": True, "timeout": COPY_SECONDS})
        if status == 200:
            is_complete = answer["txid"] == answer["replicated_txid"]
            return Copy(began_at) if is_complete else Copy(None, "part of what is new is not at the destination")
        if not answer["error"]:
            raise ValueError("no error")
    except OSError as error:
        return Copy(None, f"it does not answer at {control_socket} ({error.strerror or type(error).__name__})")
    except (http.client.HTTPException, ValueError, KeyError, TypeError):
        return Copy(None, f"what answers at {control_socket} is no Litestream of version 0.5")
    if status == 404:
        return Copy(None, f"it does not copy {path}")
    return Copy(None, "it cannot read what is new or store it at the destination; journalctl -u litestream says why")


def check(facts: Mapping[str, str], settings: Settings, database: Database) -> Iterator[Checked]:
    """Whether the copy is young enough, as the job saw it last."""
    if not isinstance(database, SqliteDatabase):
        if settings.follower is not None:
            sentence = "COINSLOT_FOLLOWER names a Litestream, which copies SQLite files and no PostgreSQL database."
            yield Trouble("follower", LOOK, sentence, "Leave COINSLOT_FOLLOWER out.")
        return
    if settings.follower is None:
        if is_followed(database.path):
            sentence = "Litestream copies the database, and nobody would notice that it has stopped."
            yield Trouble(
                "follower", LOOK, sentence, "Name its control socket in COINSLOT_FOLLOWER (docs/follower.md)."
            )
        return
    found = known(facts.get(FACT)) or Copy(None)
    age = None if found.copied_at is None else clock.now() - clock.seconds(found.copied_at)
    if age is not None and age <= OLD_SECONDS:
        yield f"the copy that follows was up to date at {found.copied_at}"
        return
    never = "No copy that follows is known"
    newest = never if age is None else f"The copy that follows was last up to date at {found.copied_at}"
    problem = found.problem or "nobody has asked it since; a relay does"
    remedy = "Until that is mended, a broken disk takes what came since: systemctl status litestream"
    yield Trouble("follower", WRONG, f"{newest}. Litestream: {problem}.", remedy, since=found.copied_at)


def _ask(control_socket: Path, what: Mapping[str, object]) -> tuple[int, Any]:
    connection = _Connection(control_socket)
    try:
        connection.request("POST", "/sync", json.dumps(what), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read(LARGEST_ANSWER))
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(str(self._path))
