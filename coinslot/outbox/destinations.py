"""Destinations: where a game's deliveries go, and how (``circuit.py``: whether they are up)."""

import base64
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from coinslot.access import keyring
from coinslot.access.keyring import SecretValue
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.games.games import find
from coinslot.outbox.checks import (
    NAME,
    DestinationError,
    checked_events,
    checked_retry,
    checked_success,
    checked_url,
    says_yes,
)
from coinslot.outbox.circuit import CLOSED
from coinslot.outbox.formats import FORMATS, STANDARD, Format
from coinslot.store import audit
from coinslot.store.db import Connection, Row
from coinslot.store.queries import insert

LONGEST_RETRY_AFTER_SECONDS = 86400  # of a Retry-After header; a longer one counts as this
JITTER = 0.1  # of each delay
LONGEST_TIMEOUT_SECONDS = 60
BURIED_AT_ONCE = 500
SECRET_PREFIX = keyring.SIGNING_PREFIX


@dataclass(frozen=True)
class Destination:
    """A destination as the relay sees it."""

    id: int
    game_id: int
    name: str
    url: str
    format: str
    timeout_seconds: int
    retry_seconds: tuple[int, ...]
    success: str
    success_expression: str | None
    is_converted: bool
    is_open: bool

    @property
    def longest_delay_seconds(self) -> float:
        """No attempt is scheduled further ahead than this."""
        return max(*self.retry_seconds, LONGEST_RETRY_AFTER_SECONDS) * (1 + JITTER)

    def accepts(self, status: int, answer: bytes) -> bool:
        """Whether an answer of this status and body says that the delivery has arrived."""
        if self.success == "2xx":
            return 200 <= status < 300
        if status != 200:
            return False
        return self.success == "200" or says_yes(self.success_expression or "", answer)


def add(
    tx: Connection,
    vault: Vault,
    slug: str,
    name: str,
    url: str,
    *,
    actor: str,
    events: str = "*",
    format: str = STANDARD.name,
    formats: Mapping[str, Format] = FORMATS,
    retry: str | None = None,
    timeout_seconds: int = 10,
    success: str | None = None,
) -> str:
    """Add a destination and return its signing secret. Raises :class:`DestinationError` or GameError.

    ``events`` is a comma list of patterns, ``format`` the name of one of ``formats``, ``retry`` a comma list of
    seconds; ``success`` is ``2xx``, ``200``, or a JMESPath expression on the JSON of a 200 that must come out as true.
    """
    game = find(tx, slug)
    if not NAME.fullmatch(name):
        raise DestinationError(f"{name!r} is not a name: use up to 63 of a-z, 0-9 and -, not at the ends")
    events = ",".join(checked_events(events))
    made = formats.get(format)
    if made is None:
        raise DestinationError(f"there is no format {format}: use {' or '.join(formats)}")
    if not 1 <= timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise DestinationError(f"timeout: use 1 to {LONGEST_TIMEOUT_SECONDS} seconds")
    rule, expression = checked_success(success or made.success)
    now = clock.stamp()
    changeable = {
        "url": checked_url(url),
        "events": events,
        "format": format,
        "is_converted": int(made.is_converted),
        "keeps_order": int(made.keeps_order),
        "timeout_seconds": timeout_seconds,
        "retry_seconds": ",".join(map(str, made.retry_seconds if retry is None else checked_retry(retry))),
        "success": rule,
        "success_expression": expression,
        "updated_at": now,
    }
    # The name of a removed destination may be used again; its old deliveries do not change.
    row = insert(
        tx,
        "destinations",
        {"game_id": game["id"], "name": name, "created_at": now, **changeable},
        f"""ON CONFLICT (game_id, name) DO UPDATE SET {", ".join(f"{each} = excluded.{each}" for each in changeable)},
                state = 'active', state_reason = NULL, {CLOSED}
            WHERE destinations.state = 'removed' RETURNING id""",
    )
    if row is None:
        raise DestinationError(f"{slug} has a destination {name} already")
    secret = new_secret()
    keyring.put(tx, vault, game, secret_name(name), secret, actor)
    audit.record(tx, game["id"], actor, "destination.add", f"{name} {events}")
    return secret


def set_state(tx: Connection, slug: str, name: str, state: str, actor: str) -> None:
    """Make a destination ``active`` (with its circuit closed), ``paused`` or ``removed``.

    The deliveries of a removed one are dead.
    """
    game = find(tx, slug)
    destination_id = find_id(tx, slug, name)
    tx.execute(
        f"UPDATE destinations SET state = :state, state_reason = NULL, updated_at = :now, {CLOSED} WHERE id = :id",  # noqa: S608
        {"id": destination_id, "state": state, "now": clock.stamp()},
    )
    if state == "removed":
        bury_removed(tx)
        keyring.delete(tx, game, secret_name(name))
    audit.record(tx, game["id"], actor, f"destination.{state}", name)


def bury_removed(tx: Connection) -> bool:
    """End some deliveries of removed destinations: they are dead. Returns whether there may be more."""
    ended = tx.execute(
        """UPDATE deliveries SET state = 'dead', dead_reason = 'the destination was removed', finished_at = :now,
               next_attempt_at = NULL, leased_until = NULL, lease_owner = NULL
           WHERE id IN (SELECT id FROM deliveries
                        WHERE destination_id IN (SELECT id FROM destinations WHERE state = 'removed')
                          AND state = 'waiting' LIMIT :most)""",
        {"now": clock.stamp(), "most": BURIED_AT_ONCE},
    )
    return ended.rowcount >= BURIED_AT_ONCE


def set_success(tx: Connection, slug: str, name: str, success: str, actor: str) -> None:
    """Change what counts as delivered from the next attempt on: ``2xx``, ``200`` or an expression.

    Raises :class:`DestinationError` or GameError.
    """
    rule, expression = checked_success(success)
    tx.execute(
        "UPDATE destinations SET success = :rule, success_expression = :expression, updated_at = :now WHERE id = :id",
        {"id": find_id(tx, slug, name), "rule": rule, "expression": expression, "now": clock.stamp()},
    )
    audit.record(tx, find(tx, slug)["id"], actor, "destination.success", f"{name} {success}")


def find_id(connection: Connection, slug: str, name: str) -> int:
    """Raises :class:`DestinationError` or GameError."""
    row = connection.execute(
        """SELECT id FROM destinations WHERE game_id = :game_id AND name = :name AND state <> 'removed'""",
        {"game_id": find(connection, slug)["id"], "name": name},
    ).fetchone()
    if row is None:
        raise DestinationError(f"{slug} has no destination {name}")
    return int(row["id"])


def listing(connection: Connection, game_id: int) -> list[Row]:
    """The destinations of a game, but for removed ones."""
    return connection.execute(
        "SELECT * FROM destinations WHERE game_id = :game_id AND state <> 'removed' ORDER BY name",
        {"game_id": game_id},
    ).fetchall()


def of_all(connection: Connection) -> list[Row]:
    """The destinations of every game, but for removed ones."""
    return connection.execute("SELECT * FROM destinations WHERE state <> 'removed' ORDER BY game_id, name").fetchall()


def row_of(connection: Connection, destination_id: int) -> Row:
    """A destination, removed or not."""
    row: Row = connection.execute("SELECT * FROM destinations WHERE id = :id", {"id": destination_id}).fetchone()
    return row


def opened(row: Row) -> Destination:
    """A row of the table as the relay uses it. Raises :class:`DestinationError` where it makes no sense."""
    delays = row["retry_seconds"]
    return Destination(
        **{name: row[name] for name in _AS_STORED},
        retry_seconds=STANDARD.retry_seconds if delays is None else checked_retry(delays),
        is_converted=bool(row["is_converted"]),
        is_open=row["circuit_open_since"] is not None,
    )


_AS_STORED = ("id", "game_id", "name", "url", "format", "timeout_seconds", "success", "success_expression")


def wanting(
    connection: Connection, game_id: int, event_types: Collection[str], *, is_converted: bool = False
) -> list[int]:
    """The destinations that want one of these types: as it is, or converted into the game's own format."""
    rows = connection.execute(
        """SELECT id, events FROM destinations
           WHERE game_id = :game_id AND state <> 'removed' AND is_converted = :is_converted ORDER BY name""",
        {"game_id": game_id, "is_converted": int(is_converted)},
    ).fetchall()
    return [row["id"] for row in rows if any(wants(row["events"], each) for each in event_types)]


def is_down(connection: Connection, game_id: int, event_type: str) -> bool:
    """Whether a destination that gets this type unconverted has its circuit open or was paused by its own answer."""
    rows = connection.execute(
        """SELECT events FROM destinations
           WHERE game_id = :game_id AND state <> 'removed' AND is_converted = 0
             AND (circuit_open_since IS NOT NULL OR (state = 'paused' AND state_reason IS NOT NULL))""",
        {"game_id": game_id},
    )
    return any(wants(row["events"], event_type) for row in rows)


def wants(events: str, event_type: str) -> bool:
    """Whether one of a destination's patterns is of this type."""
    return any(fnmatchcase(event_type, pattern) for pattern in events.split(","))


def signing_secrets(connection: Connection, vault: Vault, destination_id: int) -> tuple[SecretValue, ...]:
    """The secret that deliveries are signed with: the current value, and during a rotation the previous one."""
    row = connection.execute(
        """SELECT d.name, d.game_id, g.slug FROM destinations d JOIN games g ON g.id = d.game_id WHERE d.id = :id""",
        {"id": destination_id},
    ).fetchone()
    return keyring.open_one(connection, vault, row["game_id"], row["slug"], secret_name(row["name"]))


def secret_name(name: str) -> str:
    return f"{SECRET_PREFIX}{name}"


def new_secret() -> str:
    """A Standard Webhooks secret: ``whsec_`` and the Base64 of 32 random bytes."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode('ascii')}"
