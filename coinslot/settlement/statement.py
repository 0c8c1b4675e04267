"""What a month consists of: its purchases reckoned up into lines, exactly, from the rows as they are now.

Two kinds of purchases make a month. In-game payments (``payments``) are what one partner settles: the store fee is by
distribution type, the share by creator. Partners' own orders (``transactions``) are in ``orders.py``.

Rows are read as a stream, and what is kept of them is one sum per line. Sums are exact; fee, net and share are rounded
once, in each line, so that lines always sum to totals. The partner's own figures are rounded there too, to whole cents:
an adjustment is the difference of two rounded sums, and nothing is left behind when all is given back. A purchase that
was given back counts in gross and in refunds, and leaves no fee, net or share.

Who a payment is attributed to is that partner's word where it has told, else whoever the player supported at the time
of the purchase, the newest support where there were several.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from typing import Any

from coinslot.base import money
from coinslot.settlement.figures import (
    COUNTED,
    FREE,
    IN_TOTALS,
    INCOMPLETE,
    LARGEST_AMOUNT,
    ORDERS,
    ROWS_AT_ONCE,
    SHORT,
    TEST,
    TOO_LARGE,
    Line,
    added,
    negative,
)
from coinslot.settlement.orders import lines_of_orders
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import InGame, Rates, Terms
from coinslot.store.db import Connection

GAMES_OWN = ("poll", "push")  # sources of what the game itself told; of any other, it is the order of a web store


def lines(connection: Connection, game_id: int, month: Month, terms: Terms, in_game: InGame) -> list[Line]:
    """The lines of a month, in the order of the documents. The connection holds one state of the database."""
    with money.exactly():
        found = [
            *_payment_lines(connection, game_id, month, terms, in_game),
            *lines_of_orders(connection, game_id, month),
        ]
    return sorted(found, key=lambda line: line.order)


@dataclass(slots=True)
class _Sum:
    """Payments of one line that have the same rates. Amounts are exact, in major units."""

    fee: Decimal
    share: Decimal
    count: int = 0
    refund_count: int = 0
    gross: Decimal = Decimal(0)
    refunds: Decimal = Decimal(0)


def _payment_lines(connection: Connection, game_id: int, month: Month, terms: Terms, in_game: InGame) -> Iterator[Line]:
    partner = in_game.partner
    sums: dict[tuple[Any, ...], _Sum] = {}
    counts: dict[tuple[str, str], int] = {}  # of what is apart: section and currency
    fees: dict[str, Rates | None] = {}
    shares: dict[tuple[str, str | None], Rates] = {}
    known: dict[str, bool] = {}  # currency -> whether it is in the table
    amounts: dict[str, Decimal] = {}
    supporters = _Supporters(connection, game_id)
    for at, player_id, amount, currency, kind, source, state, is_test, is_refunded, reference, told in _payments(
        connection, game_id, month, in_game
    ):
        is_order = source not in GAMES_OWN
        if is_order and state == "kept" and not terms.counts_kept:
            continue  # an order that the partner was not told of, and will not be
        if kind not in fees:
            fees[kind] = None if kind is None else terms.fee_rates(kind)
        if currency not in known:
            known[currency] = currency is not None and money.exponent(currency) is not None
        fee_rates = fees[kind]
        if is_test:
            section = TEST
        elif amount is None or fee_rates is None or not known[currency]:
            section = INCOMPLETE
        elif amount == "0":
            section = FREE
        elif len(amount) > SHORT and (money.in_minor(Decimal(amount), currency) or 0) > LARGEST_AMOUNT:
            yield Line(month.name, TOO_LARGE, partner, currency, "", None, None, count=1, reference=reference)
            continue
        else:
            section = ORDERS if is_order else COUNTED
        if section not in IN_TOTALS:
            apart = (section, currency or "")
            counts[apart] = counts.get(apart, 0) + 1
            continue
        creator, campaign = supporters.at(at, player_id) if told is None else _told(told)
        fee = fee_rates.at(at)  # type: ignore[union-attr]
        share = Decimal(0)
        if creator is not None:
            who = (creator, campaign)
            if who not in shares:
                shares[who] = terms.share_rates(creator, campaign)
            share = shares[who].at(at)
        key = (section, currency, kind, creator, state == "registered", fee, share)
        summed = sums.get(key)
        if summed is None:
            summed = sums[key] = _Sum(fee, share)
        exact = amounts.get(amount)
        if exact is None:
            if len(amounts) >= ROWS_AT_ONCE:
                amounts.clear()
            exact = amounts[amount] = Decimal(amount)
        summed.count += 1
        summed.gross += exact
        if is_refunded:
            summed.refund_count += 1
            summed.refunds += exact
    for (section, currency), count in counts.items():
        yield Line(month.name, section, partner, currency, "", None, None, count=count)
    grouped = sorted(sums.items(), key=lambda item: (item[0][0], item[0][1], item[0][2], item[0][3] or "", item[0][4]))
    for (section, currency, kind, creator), group in groupby(grouped, key=lambda item: item[0][:4]):
        yield from _registered_or_not((month.name, section, partner, currency, kind, creator), list(group), terms)


def _registered_or_not(
    name: tuple[str, str, str, str, str, str | None], group: list[Any], terms: Terms
) -> Iterator[Line]:
    """A line for what is registered and one for what is not. Their sum does not depend on which is which."""
    waiting = [summed for key, summed in group if not key[4]]
    whole = _rounded(Line(*name, True), [summed for _, summed in group], terms)
    unregistered = _rounded(Line(*name, False), waiting, terms)
    if unregistered.count:
        yield unregistered
    if whole.count > unregistered.count:
        yield added(whole, negative(unregistered))


def _rounded(line: Line, sums: list[_Sum], terms: Terms) -> Line:
    def in_minor(amount: Decimal) -> int:
        found = money.in_minor(amount, line.currency)
        assert found is not None, "its currency is in the table, else it would stand apart"
        return money.rounded(found)

    gross = in_minor(sum((each.gross for each in sums), Decimal(0)))
    refunds = in_minor(sum((each.refunds for each in sums), Decimal(0)))
    fee = in_minor(sum(((each.gross - each.refunds) * each.fee for each in sums), Decimal(0)))
    is_of_net = terms.share_of == "net"
    share = in_minor(
        sum(
            ((each.gross - each.refunds) * (1 - each.fee if is_of_net else 1) * each.share for each in sums),
            Decimal(0),
        )
    )
    return replace(
        line,
        count=sum(each.count for each in sums),
        refund_count=sum(each.refund_count for each in sums),
        gross_minor=gross,
        refunds_minor=refunds,
        fee_minor=fee,
        net_minor=gross - refunds - fee,
        share_minor=share,
    )


def _payments(connection: Connection, game_id: int, month: Month, in_game: InGame) -> Iterator[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.row_factory = None  # plain tuples: there may be millions
    cursor.execute(
        """SELECT p.purchased_at, p.player_id, p.amount, p.currency, p.distribution_type, p.source, p.state, p.is_test,
                  p.refunded_at IS NOT NULL, p.transaction_id,
                  (SELECT e.data FROM events e
                   WHERE e.game_id = p.game_id AND e.partner = :partner AND e.external_id = p.transaction_id
                     AND e.type = :attribution AND e.is_test = 0 ORDER BY e.id DESC LIMIT 1)
           FROM payments p
           WHERE p.game_id = :game_id AND p.purchased_at >= :starts_at AND p.purchased_at < :ends_at
           ORDER BY p.purchased_at, p.id""",
        {
            "game_id": game_id,
            "partner": in_game.partner,
            "attribution": in_game.attribution,
            "starts_at": month.starts_at,
            "ends_at": month.ends_at,
        },
    )
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield from rows


def _told(data: str) -> tuple[str | None, str | None]:
    told = json.loads(data)
    return told.get("creator_key") or None, told.get("campaign_id") or None


class _Supporters:
    """Who supported whom at a time that only moves forward. One entry per player that supports anybody."""

    def __init__(self, connection: Connection, game_id: int) -> None:
        cursor = connection.cursor()
        cursor.row_factory = None
        cursor.execute(
            """SELECT occurred_at, type, player_id, data FROM events
               WHERE game_id = :game_id AND type IN ('sponsor.created', 'sponsor.ended') AND is_test = 0
                 AND occurred_at IS NOT NULL AND player_id IS NOT NULL
               ORDER BY occurred_at, id""",
            {"game_id": game_id},
        )
        self._events = iter(cursor.fetchone, None)
        self._next = next(self._events, None)
        self._boosts: dict[str, dict[str, str]] = {}  # player -> campaign -> creator, the newest last

    def at(self, moment: str, player_id: str | None) -> tuple[str | None, str | None]:
        """Creator and campaign."""
        while self._next is not None and self._next[0] <= moment:
            self._apply(*self._next[1:])
            self._next = next(self._events, None)
        boosts = self._boosts.get(player_id or "")
        if not boosts:
            return None, None
        campaign = next(reversed(boosts))
        return boosts[campaign], campaign or None

    def _apply(self, kind: str, player_id: str, data: str) -> None:
        told = json.loads(data)
        campaign, creator = told.get("campaign_id") or "", told.get("creator_key")
        boosts = self._boosts.setdefault(player_id, {})
        if kind == "sponsor.created" and creator:
            boosts.pop(campaign, None)
            boosts[campaign] = creator
        elif boosts.get(campaign) == creator:
            del boosts[campaign]
        if not boosts:
            del self._boosts[player_id]
