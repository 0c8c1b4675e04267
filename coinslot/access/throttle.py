"""Slowing down guesses: failures are counted per key, and after ten in a row attempts are refused for a while.

An attempt is counted before it is checked, so that a hundred at once get no further than ten one after the other.
Failures are in a row while less than a quarter of an hour lies between one and the next.
"""

import hashlib

from coinslot.base import clock, spellings
from coinslot.store import queries
from coinslot.store.db import Connection

OWNER = 0  # in place of a game: the owner's own login
MOST_FAILURES = 10
WINDOW_SECONDS = 900.0
MOST_PRUNED = 50  # old rows that one attempt deletes


class ThrottledError(Exception):
    """Too many failures. Nothing was counted; ``retry_after_seconds`` from now the next attempt may be made."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("too many failures")
        self.retry_after_seconds = retry_after_seconds


def key(kind: str, value: str) -> str:
    """The key of a caller: a hash, since the value may be what a person has typed in."""
    return f"{kind}:{hashlib.sha256(value.encode()).hexdigest()}"


def password_keys(login_name: str, player_id: str | None) -> list[str]:
    """The keys of a password: one for all spellings of the name, and one for the player, where the name has one here.

    The game's own server may take Alice for alice, so another spelling must not get more attempts.
    """
    shared = key("password-of-name", spellings.login_names_alike(login_name))
    return [shared] if player_id is None else [shared, key("password", player_id)]


def begin(tx: Connection, game_id: int, key: str) -> None:
    """Count an attempt as failed, until :func:`clear` or :func:`take_back`. Raises :class:`ThrottledError`."""
    now = clock.now()
    sql = "SELECT failures, last_failed_at FROM throttles WHERE game_id = :game_id AND key = :key"
    row = queries.row(tx, sql, {"game_id": game_id, "key": key})
    failures = 0
    # Both ways: a clock that was set back by a day must not lock out for a day.
    if row is not None and abs(since := now - clock.seconds(row["last_failed_at"])) < WINDOW_SECONDS:
        failures = row["failures"]
        if failures >= MOST_FAILURES:
            raise ThrottledError(WINDOW_SECONDS - max(since, 0.0))
    queries.insert(
        tx,
        "throttles",
        {"game_id": game_id, "key": key, "failures": failures + 1, "last_failed_at": clock.stamp(now)},
        """ON CONFLICT (game_id, key)
           DO UPDATE SET failures = excluded.failures, last_failed_at = excluded.last_failed_at""",
    )
    tx.execute(
        """DELETE FROM throttles WHERE (game_id, key) IN
               (SELECT game_id, key FROM throttles WHERE last_failed_at < :old ORDER BY last_failed_at LIMIT :most)""",
        {"old": clock.stamp(now - WINDOW_SECONDS), "most": MOST_PRUNED},
    )


def failures(connection: Connection, game_id: int, key: str) -> int:
    """How many attempts count against a key, old ones included."""
    return queries.get(connection, "failures", "throttles", game_id=game_id, key=key) or 0


def take_back(tx: Connection, game_id: int, key: str) -> None:
    """The attempt could not be checked: it no longer counts."""
    tx.execute(
        "UPDATE throttles SET failures = failures - 1 WHERE game_id = :game_id AND key = :key AND failures > 0",
        {"game_id": game_id, "key": key},
    )


def clear(tx: Connection, game_id: int, key: str) -> None:
    """The attempt succeeded: no failure of this key counts any more."""
    tx.execute("DELETE FROM throttles WHERE game_id = :game_id AND key = :key", {"game_id": game_id, "key": key})
