"""In-game payments of a month, summed up into lines: one partner settles them.

The store fee depends on the distribution type, the share on the creator. Rows are read as a stream, and one sum per
line and rate is kept. Sums are exact; fee and share are rounded once in each line, so lines always sum to totals. A
purchase that was refunded counts in gross and in refunds, and leaves no fee, net or share.

A payment belongs to the creator the partner named for it; else to the one its player supported when it was made, the
newest if there were several.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from typing import Any

from coinslot.base import money
from coinslot.settlement import lines
from coinslot.settlement.lines import Line
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import InGame, Terms
from coinslot.store.db import Connection
from coinslot.store.paging import plain_rows

REPORTED_BY_GAME = ("poll", "push")  # sources of in-game payments; any other is an order of a web store


@dataclass(slots=True)
class _Sum:
    """Payments of one line that have the same rates. Amounts are exact, in major units."""

    fee: Decimal
    share: Decimal
    count: int = 0
    refund_count: int = 0
    gross: Decimal = Decimal(0)
    refunds: Decimal = Decimal(0)


def lines_of_payments(
    connection: Connection, game_id: int, month: Month, terms: Terms, in_game: InGame
) -> Iterator[Line]:
    """The lines of a month's in-game payments, unsorted. Inside of :func:`coinslot.base.money.exactly`."""
    partner = in_game.partner
    sums: dict[tuple[Any, ...], _Sum] = {}
    apart: Counter[tuple[str, str]] = Counter()  # section and currency
    supporters = _Supporters(connection, game_id)
    values = {**vars(month), "game_id": game_id, "partner": partner, "attribution": in_game.attribution}
    for at, player_id, amount, currency, kind, source, state, is_test, is_refunded, reference, named in plain_rows(
        connection, _PAYMENTS, values
    ):
        is_order = source not in REPORTED_BY_GAME
        if is_order and state == "kept" and not terms.counts_kept:
            continue  # an order that was not sent to the partner, and will not be
        fees = None if kind is None else terms.fee_rates(kind)
        if is_test:
            section = lines.TEST
        elif amount is None or fees is None or currency is None or money.exponent(currency) is None:
            section = lines.INCOMPLETE
        elif amount == "0":
            section = lines.FREE
        elif len(amount) > lines.SHORT and (money.in_minor(Decimal(amount), currency) or 0) > lines.LARGEST_AMOUNT:
            yield Line(month.name, lines.TOO_LARGE, partner, currency, "", None, None, count=1, reference=reference)
            continue
        else:
            section = lines.ORDERS if is_order else lines.COUNTED
        if section not in lines.IN_TOTALS:
            apart[section, currency or ""] += 1
            continue
        creator, campaign = supporters.at(at, player_id) if named is None else _named(named)
        fee = fees.at(at)  # type: ignore[union-attr]
        share = Decimal(0) if creator is None else terms.share_rates(creator, campaign).at(at)
        key = (section, currency, kind, creator, state == "registered", fee, share)
        summed = sums.get(key)
        if summed is None:
            summed = sums[key] = _Sum(fee, share)
        exact = _decimal(amount)
        summed.count += 1
        summed.gross += exact
        if is_refunded:
            summed.refund_count += 1
            summed.refunds += exact
    for (section, currency), count in apart.items():
        yield Line(month.name, section, partner, currency, "", None, None, count=count)
    grouped = sorted(sums.items(), key=lambda item: (*item[0][:3], item[0][3] or "", item[0][4]))
    for (section, currency, kind, creator), group in groupby(grouped, key=lambda item: item[0][:4]):
        about = (month.name, section, partner, currency, kind, creator)
        yield from _registered_or_not(about, list(group), terms)


def _registered_or_not(
    about: tuple[str, str, str, str, str, str | None], group: list[Any], terms: Terms
) -> Iterator[Line]:
    """A line for what is registered and one for what is not. Their sum does not depend on which is which."""
    whole = _rounded(Line(*about, True), [summed for _, summed in group], terms)
    unregistered = _rounded(Line(*about, False), [summed for key, summed in group if not key[4]], terms)
    if unregistered.count:
        yield unregistered
    if whole.count > unregistered.count:
        yield lines.add(whole, lines.negative(unregistered))


def _rounded(line: Line, sums: Sequence[_Sum], terms: Terms) -> Line:
    def in_minor(amounts: Iterator[Decimal]) -> int:
        minor = money.in_minor(sum(amounts, Decimal(0)), line.currency)
        assert minor is not None, "payments of an unknown currency are in no such line"
        return money.rounded(minor)

    gross, refunds = in_minor(each.gross for each in sums), in_minor(each.refunds for each in sums)
    fee = in_minor((each.gross - each.refunds) * each.fee for each in sums)
    is_of_net = terms.share_of == "net"
    share = in_minor((each.gross - each.refunds) * (1 - each.fee if is_of_net else 1) * each.share for each in sums)
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


_PAYMENTS = """
    SELECT p.purchased_at, p.player_id, p.amount, p.currency, p.distribution_type, p.source, p.state, p.is_test,
           p.refunded_at IS NOT NULL, p.transaction_id,
           (SELECT e.data FROM events e
            WHERE e.game_id = p.game_id AND e.partner = :partner AND e.external_id = p.transaction_id
              AND e.type = :attribution AND e.is_test = 0 ORDER BY e.id DESC LIMIT 1)
    FROM payments p
    WHERE p.game_id = :game_id AND p.purchased_at >= :starts_at AND p.purchased_at < :ends_at
    ORDER BY p.purchased_at, p.id"""


@lru_cache(maxsize=8192)  # most payments have one of few prices
def _decimal(amount: str) -> Decimal:
    return Decimal(amount)


def _named(data: str) -> tuple[str | None, str | None]:
    event = json.loads(data)
    return event.get("creator_key") or None, event.get("campaign_id") or None


class _Supporters:
    """Who supports whom at a time that only moves forward. One entry per player that supports a creator."""

    def __init__(self, connection: Connection, game_id: int) -> None:
        self._events = plain_rows(
            connection,
            """SELECT occurred_at, type, player_id, data FROM events
               WHERE game_id = :game_id AND type IN ('sponsor.created', 'sponsor.ended') AND is_test = 0
                 AND occurred_at IS NOT NULL AND player_id IS NOT NULL
               ORDER BY occurred_at, id""",
            {"game_id": game_id},
        )
        self._next = next(self._events, None)
        self._boosts: dict[str, dict[str, str]] = {}  # player -> campaign -> creator, the newest last

    def at(self, moment: str, player_id: str | None) -> tuple[str | None, str | None]:
        """Creator and campaign that a player supports at that time; None, None without one."""
        while self._next is not None and self._next[0] <= moment:
            self._apply(*self._next[1:])
            self._next = next(self._events, None)
        boosts = self._boosts.get(player_id or "")
        if not boosts:
            return None, None
        campaign = next(reversed(boosts))
        return boosts[campaign], campaign or None

    def _apply(self, kind: str, player_id: str, data: str) -> None:
        event = json.loads(data)
        campaign, creator = event.get("campaign_id") or "", event.get("creator_key")
        boosts = self._boosts.setdefault(player_id, {})
        if kind == "sponsor.created" and creator:
            boosts.pop(campaign, None)
            boosts[campaign] = creator
        elif creator and boosts.get(campaign) == creator:  # an event may name no creator
            del boosts[campaign]
        if not boosts:
            del self._boosts[player_id]
