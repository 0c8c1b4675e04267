"""Refunds that a person asks a partner for: the money of an order goes back, and the partner's event says that it did.

A request is stored before it is sent, in the state ``requested``, and whoever stored it sends it, once. ``sent``: the
partner said that the refund has begun. ``refused``: nothing has begun, and another request may follow. ``unknown``: no
answer came, so it may have begun; nothing sends it again, and only the partner's event or its report decides. A
request that stays ``requested`` is taken for unknown: its process has ended. ``done``: the partner reported the refund.
The items go with the event, by the refund policy (``refunds.py``), and never with a request.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from coinslot.base import clock, exact
from coinslot.base.errors import CoinslotError
from coinslot.store import queries
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, cut

REQUESTED, SENT, REFUSED, UNKNOWN, DONE = "requested", "sent", "refused", "unknown", "done"
ANSWER_SECONDS = 120.0  # no call takes so long: a request without an answer by then will get none
LATE_SECONDS = 3 * clock.DAY_SECONDS  # after which a refund that has begun and not ended is a trouble
LONGEST_DETAIL = 500


class RequestError(CoinslotError):
    """A refund cannot be asked for; the message says why."""


def begin(
    tx: Connection,
    game_id: int,
    partner: str,
    reference: str,
    *,
    actor: str,
    reason: str,
    transaction_id: int | None = None,
) -> int:
    """Store a request, which the caller then sends once; returns its id.

    Raises :class:`RequestError` while another request for the order stands, and once the order was refunded.
    """
    refunded = queries.value(
        tx,
        """SELECT 1 FROM refunds WHERE transaction_id = :id AND reason = 'refund' AND event_id IS NOT NULL
             AND outcome <> 'test' LIMIT 1""",
        {"id": transaction_id},
    )
    if refunded is not None:
        raise RequestError("The refund of this order was reported already.")
    row = {
        "game_id": game_id,
        "partner": partner,
        "reference": reference,
        "transaction_id": transaction_id,
        "state": REQUESTED,
        "actor": actor,
        "reason": reason,
        "detail": "",
        "created_at": clock.stamp(),
    }
    stored = queries.insert(
        *(tx, "refund_requests", row),
        "ON CONFLICT (game_id, partner, reference) WHERE state <> 'refused' DO NOTHING RETURNING id",
    )
    if stored is None:
        (standing_one,) = tx.execute(
            """SELECT state, created_at FROM refund_requests
               WHERE game_id = :game_id AND partner = :partner AND reference = :reference AND state <> 'refused'""",
            row,
        ).fetchall()
        raise RequestError(f"A refund of this order was asked for already, and is {state_of(standing_one)}.")
    return int(stored["id"])


def answered(tx: Connection, request_id: int, state: str, detail: str = "") -> str:
    """Keep what the partner answered: ``sent``, ``refused`` or ``unknown``; returns the state that stands.

    An event that came before the answer counts more.
    """
    _change(tx, state, detail, "id = :id AND state = 'requested'", {"id": request_id, "answered_at": clock.stamp()})
    return str(queries.get(tx, "state", "refund_requests", id=request_id))


def reported(tx: Connection, game_id: int, partner: str, references: Iterable[str]) -> None:
    """The partner has reported the refund of orders, each by its id: their requests are done."""
    for reference in dict.fromkeys(references):
        values = {"game_id": game_id, "partner": partner, "reference": reference, "answered_at": None}
        _change(
            *(tx, DONE, ""),
            f"game_id = :game_id AND partner = :partner AND reference = :reference AND {_IS_OPEN}",
            values,
        )


def decided(tx: Connection, request_id: int, state: str, detail: str) -> bool:
    """The partner's report says what became of a request that stands; returns whether that changed it."""
    values = {"id": request_id, "answered_at": clock.stamp()}
    return _change(tx, state, detail, f"id = :id AND state <> :state AND {_IS_OPEN}", values)


def state_of(row: Mapping[str, Any] | Row) -> str:
    """The state of a request by now: one that was never answered is unknown."""
    state = str(row["state"])
    return UNKNOWN if state == REQUESTED and row["created_at"] < unanswered_before() else state


def unanswered_before() -> str:
    """Requests from before this moment that are still ``requested`` are unknown."""
    return clock.stamp(clock.now() - ANSWER_SECONDS)


def standing(connection: Connection, game_id: int, partner: str, limit: int) -> list[Row]:
    """The oldest requests that have not ended, each with ``paid_at``, when its order was paid; NULL if unknown."""
    return connection.execute(
        f"""SELECT q.*, t.moment AS paid_at FROM refund_requests q LEFT JOIN transactions t ON t.id = q.transaction_id
            WHERE q.game_id = :game_id AND q.partner = :partner AND q.{_IS_OPEN} ORDER BY q.id LIMIT :limit""",  # noqa: S608
        {"game_id": game_id, "partner": partner, "limit": limit},
    ).fetchall()


def listing(connection: Connection, game_id: int, before: int = LAST_ID, limit: int = 50) -> Listed:
    """Requests of a game below an id, the newest first, each with its order's player and amount."""
    rows = connection.execute(
        """SELECT q.*, t.public_id, t.player_id, t.currency, t.gross_minor, t.is_test
           FROM refund_requests q LEFT JOIN transactions t ON t.id = q.transaction_id
           WHERE q.game_id = :game_id AND q.id < :before ORDER BY q.id DESC LIMIT :limit""",
        {"game_id": game_id, "before": before, "limit": limit + 1},
    ).fetchall()
    return cut(rows, limit)


def bounds(now: float) -> dict[str, str]:
    """The values of :data:`UNANSWERED` and :data:`UNENDED`."""
    return {
        "unanswered_before": clock.stamp(now - ANSWER_SECONDS),
        "unended_before": clock.stamp(now - LATE_SECONDS),
    }


# The requests of the game ``g``, for the troubles: those without an answer, and those of which nothing was heard since
# they began. Tests are left out. UNANSWERED_MONEY reads the money of at most ``:most``.
_HAS_NO_ANSWER = """q.state IN ('requested', 'sent', 'unknown')
    AND (q.state = 'unknown' OR (q.state = 'requested' AND q.created_at < :unanswered_before))"""
_IS_NO_TEST = "NOT EXISTS (SELECT 1 FROM transactions t WHERE t.id = q.transaction_id AND t.is_test = 1)"
UNANSWERED = f"""SELECT q.created_at AS at FROM refund_requests q
    WHERE q.game_id = g.id AND {_HAS_NO_ANSWER} AND {_IS_NO_TEST}"""  # noqa: S608  our own words only
UNENDED = f"""SELECT q.created_at AS at FROM refund_requests q
    WHERE q.game_id = g.id AND q.state IN ('requested', 'sent', 'unknown') AND q.state = 'sent'
      AND q.created_at < :unended_before AND {_IS_NO_TEST}"""  # noqa: S608  our own words only
UNANSWERED_MONEY = f"""
    SELECT * FROM (
        SELECT 'refunds_unknown' AS kind, g.slug AS game, t.currency AS currency, t.gross_minor AS minor, NULL AS amount
        FROM games g JOIN refund_requests q ON q.game_id = g.id AND {_HAS_NO_ANSWER}
        JOIN transactions t ON t.id = q.transaction_id
        WHERE t.is_test = 0 AND t.gross_minor IS NOT NULL AND t.currency IS NOT NULL LIMIT :most) unanswered"""  # noqa: S608

_IS_OPEN = "state IN ('requested', 'sent', 'unknown')"


def _change(tx: Connection, state: str, detail: str, which: str, values: Mapping[str, Any]) -> bool:
    now = clock.stamp()
    done = tx.execute(
        f"""UPDATE refund_requests SET state = :state, detail = :detail, ended_at = :ended_at,
               answered_at = coalesce(answered_at, :answered_at)
            WHERE {which}""",  # noqa: S608  our own words only
        {
            **values,
            "state": state,
            "detail": exact.whole_text(detail[:LONGEST_DETAIL]),
            "ended_at": now if state in (REFUSED, DONE) else None,
        },
    )
    return done.rowcount > 0
