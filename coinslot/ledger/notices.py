"""What a proved report showed that a person has to look at, and that no other table knows.

A notice is written in the same commit as what it is about, or before the refusal it is about is answered. It never
holds a player's id: order ids, the partner's own words and amounts only.
"""

from coinslot.base import clock, exact
from coinslot.store.db import Connection

LONGEST_SUBJECT = 255
LONGEST_DETAIL = 500


def note(
    tx: Connection,
    game_id: int,
    partner: str,
    kind: str,
    subject: str,
    detail: str = "",
    *,
    transaction_id: int | None = None,
    other_id: int | None = None,
) -> None:
    """Keep a notice, once per subject however often it is noted; the newest detail stands."""
    tx.execute(
        """INSERT INTO notices (game_id, partner, kind, subject, detail, transaction_id, other_id, seen, first_at,
                                last_at)
           VALUES (:game_id, :partner, :kind, :subject, :detail, :transaction_id, :other_id, 1, :now, :now)
           ON CONFLICT (game_id, partner, kind, subject)
           DO UPDATE SET seen = notices.seen + 1, last_at = excluded.last_at, detail = excluded.detail""",
        {
            "game_id": game_id,
            "partner": partner,
            "kind": kind,
            "subject": exact.whole_text(subject[:LONGEST_SUBJECT]),
            "detail": exact.whole_text(detail[:LONGEST_DETAIL]),
            "transaction_id": transaction_id,
            "other_id": other_id,
            "now": clock.stamp(),
        },
    )


def restored(tx: Connection) -> None:
    """A backup has just been restored: what was credited after it was made may come again."""
    tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES ('restored_at', :now, :now)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
        {"now": clock.stamp()},
    )


def restored_at(connection: Connection) -> str | None:
    """When a backup was restored last; None if none ever was."""
    row = connection.execute("SELECT value FROM installation WHERE name = 'restored_at'").fetchone()
    return None if row is None else str(row["value"])
