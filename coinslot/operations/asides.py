"""Troubles that a person set aside, with a note that says why."""

from collections.abc import Iterable, Mapping

from coinslot.base import clock, exact
from coinslot.ledger import refused
from coinslot.operations import troubles
from coinslot.operations.findings import Trouble
from coinslot.store import audit, queries
from coinslot.store.db import Connection


def add(tx: Connection, key: str, note: str, actor: str) -> None:
    """Set a trouble aside. The refused calls that it counts need nobody any more, each with this note."""
    refused.set_aside(tx, troubles.refused_ids(tx, key), note)
    queries.insert(
        tx,
        "asides",
        {"trouble": key, "note": exact.whole_text(note), "created_at": clock.stamp()},
        "ON CONFLICT (trouble) DO UPDATE SET note = excluded.note, created_at = excluded.created_at",
    )
    audit.record(tx, None, actor, "trouble.aside", key)


def without(aside: Mapping[str, str], found: Iterable[Trouble]) -> list[Trouble]:
    """The troubles that were not set aside, and those that have happened again since. ``aside``: key -> when."""
    return [each for each in found if each.key not in aside or (each.latest or "") > aside[each.key]]


def end(tx: Connection, keys: Iterable[str]) -> None:
    """Forget that these were set aside: they are over, and would be new."""
    for key in keys:
        tx.execute("DELETE FROM asides WHERE trouble = :trouble", {"trouble": key})
