"""What a proved report showed that a person has to look at, and that no other table knows.

A notice is written in the same commit as what it is about, or before the refusal it is about is answered. It holds
order ids, the partner's own words and amounts, and never a player's id.
"""

from coinslot.base import clock, exact
from coinslot.store import queries
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
    currency: str | None = None,
    amount_minor: int | None = None,
) -> None:
    """Keep a notice, once per subject however often it is noted, with the newest detail.

    The amount, in minor units of the currency, is the money at stake; None: there is none, or it is not known.
    """
    now = clock.stamp()
    row = {
        "game_id": game_id,
        "partner": partner,
        "kind": kind,
        "subject": exact.whole_text(subject[:LONGEST_SUBJECT]),
        "detail": exact.whole_text(detail[:LONGEST_DETAIL]),
        "transaction_id": transaction_id,
        "other_id": other_id,
        "currency": currency,
        "amount_minor": amount_minor,
        "seen": 1,
        "first_at": now,
        "last_at": now,
    }
    queries.insert(
        tx,
        "notices",
        row,
        """ON CONFLICT (game_id, partner, kind, subject)
           DO UPDATE SET seen = notices.seen + 1, last_at = excluded.last_at, detail = excluded.detail""",
    )


def set_restored(tx: Connection) -> None:
    """A backup has just been restored: what was credited after it was made may come again."""
    queries.set_fact(tx, "restored_at", clock.stamp())
