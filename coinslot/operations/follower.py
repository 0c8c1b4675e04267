"""The copy that follows: how old Litestream's newest copy is. A job asks Litestream itself, over its control socket.

Litestream stamps each moment when everything it knows of is at the destination, be that a folder, another host or
object storage; while the destination takes nothing, or Litestream does not run, the stamp grows old.
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

JOB = "follower"
FACT = "follower"
EVERY_SECONDS = 15.0
OLD_SECONDS = 60.0  # Litestream copies every second; an answer of the job is this old at most when it is replaced: 15
TIMEOUT_SECONDS = 2.0
LARGEST_ANSWER = 1024 * 1024  # bytes


@dataclass(frozen=True)
class Copy:
    """``copied_at`` is when all that Litestream had read was at its destination, None: never, as far as is known.

    ``problem`` is why Litestream did not say so at the last look, empty: it did.
    """

    copied_at: str | None
    problem: str = ""


def watch(database: Database, control_socket: Path | None) -> float | None:
    """A job: ask Litestream, and store what it says. Returns when to ask again, in seconds; None: nobody follows."""
    if control_socket is None or page_facts.is_demo(database.read()):
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
    """Ask Litestream now when it last copied the database at ``path``. Waits two seconds at most."""
    try:
        databases = _ask(control_socket)["databases"]
        mine = next((each for each in databases if Path(each["path"]).resolve() == path.resolve()), None)
        if mine is None:
            return Copy(None, f"it copies other databases and not {path}")
        copied_at = mine.get("last_sync_at")
        return (
            Copy(None, "it has copied nothing yet")
            if not copied_at
            else Copy(clock.stamp(clock.seconds(f"{copied_at[:19]}Z")))
        )
    except OSError as error:
        return Copy(None, f"it does not answer at {control_socket} ({error.strerror or type(error).__name__})")
    except (http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return Copy(None, f"what answers at {control_socket} is no Litestream of version 0.5")


def check(facts: Mapping[str, str], settings: Settings, database: Database) -> Iterator[Checked]:
    """Whether the copy is young enough, as the job saw it last."""
    if settings.follower is None:
        if is_followed(database.path):
            sentence = "Litestream copies the database, and nobody would notice that it has stopped."
            yield Trouble(
                "follower", LOOK, sentence, "Name its control socket in COINSLOT_FOLLOWER (docs/follower.md)."
            )
        return
    found = known(facts.get(FACT)) or Copy(None, "nobody has asked it yet")
    age = None if found.copied_at is None else clock.now() - clock.seconds(found.copied_at)
    if age is not None and age <= OLD_SECONDS:
        yield f"the copy that follows is complete up to {found.copied_at}"
        return
    newest = "There is no copy that follows" if age is None else f"The copy that follows ends at {found.copied_at}"
    problem = found.problem or "it could not bring anything to its destination since"
    remedy = "Until that is mended, a broken disk takes what came since: systemctl status coinslot-litestream"
    yield Trouble("follower", WRONG, f"{newest}. Litestream: {problem}.", remedy, since=found.copied_at)


def _ask(control_socket: Path) -> Any:
    connection = _Connection(control_socket)
    try:
        connection.request("GET", "/list")
        return json.loads(connection.getresponse().read(LARGEST_ANSWER))
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
