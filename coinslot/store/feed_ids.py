"""The ids of the feeds after a state of the database is served that may lack the newest commits.

No id is used again, so that a game's cursor misses nothing.
"""

from collections.abc import Mapping

from coinslot.base import clock
from coinslot.store.db import Connection

# The ids are raised by this gap, and at least to what this rate would have reached since 1970. Coinslot cannot credit
# at that rate: ids are new even when the database in between is lost and the same old copy is restored twice. Both
# stay far below 2**53, the largest exact JSON number.
ID_GAP = 1_000_000_000
IDS_PER_SECOND = 10_000


def jump(tx: Connection, known_last_ids: Mapping[str, int] | None = None) -> dict[str, int]:
    """Raise every feed's last id far above any that was ever used; returns them.

    ``known_last_ids``: those of the state that was served before, as far as it can be read.
    """
    rows = tx.execute("SELECT name, last_id FROM sequences ORDER BY name").fetchall()
    raised = far_above({row["name"]: row["last_id"] for row in rows}, known_last_ids or {})
    for name, last_id in raised.items():
        tx.execute("UPDATE sequences SET last_id = :last_id WHERE name = :name", {"last_id": last_id, "name": name})
    return raised


def far_above(last_ids: Mapping[str, int], known_last_ids: Mapping[str, int]) -> dict[str, int]:
    """For each name an id far above what two states of the database say was used."""
    least = int(clock.now()) * IDS_PER_SECOND
    return {
        name: max(last_id + ID_GAP, known_last_ids.get(name, 0) + ID_GAP, least) for name, last_id in last_ids.items()
    }
