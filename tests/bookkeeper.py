"""A second bookkeeper: what months come to, calculated slowly with fractions from what happened.

It shares nothing with ``coinslot/``: it has its own calendar, currencies, rates and rounding. A test tells it what
happened (orders, refunds, payments, boosts) and which month was closed under which terms.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

DECIMALS = {"USD": 2, "EUR": 2, "KRW": 0, "JPY": 0, "KWD": 3, "CLF": 4, "HRK": 2, "SLL": 2, "BYR": 0}
KINDS = ("count", "gross", "refunds", "fee", "net", "creator_share", "without_figures")
Key = tuple[str, str, str, str]  # partner, currency, distribution type or "of EUR", creator or ""


@dataclass(frozen=True)
class Agreed:
    """The terms of a month: rates in percent as (first day or None, percent)."""

    zone: str
    fees: Mapping[str, tuple[tuple[str | None, Fraction], ...]]
    share: tuple[tuple[str | None, Fraction], ...]

    def rate(self, rates: tuple[tuple[str | None, Fraction], ...], at: datetime) -> Fraction:
        day = at.astimezone(ZoneInfo(self.zone)).date().isoformat()
        return [percent for since, percent in rates if since is None or since <= day][-1] / 100


@dataclass
class Order:
    currency: str
    gross: int
    at: datetime
    fee: Fraction | None
    net: Fraction | None


@dataclass
class Payment:
    currency: str
    amount: Fraction
    kind: str | None
    at: datetime
    player: str
    is_refunded: bool = False


@dataclass
class Bookkeeper:
    orders: dict[str, Order] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    money_back: dict[str, list[tuple[str, datetime | None]]] = field(default_factory=lambda: defaultdict(list))
    boosts: list[tuple[datetime, str, str, str]] = field(default_factory=list)  # when, player, kind, creator
    closed: dict[str, tuple[datetime, datetime, Agreed]] = field(default_factory=dict)

    def close(self, month: str, agreed: Agreed) -> None:
        """A month is closed under these terms; one that is closed stays as it is."""
        if month in self.closed:
            return
        starts, ends = midnight(month, agreed.zone), midnight(following(month), agreed.zone)
        for other, (begins, stops, _) in self.closed.items():
            if following(other) == month:
                starts = stops
            if following(month) == other:
                ends = begins
        self.closed[month] = (starts, ends, agreed)

    def reopen(self, month: str) -> None:
        del self.closed[month]

    def figures(self, month: str) -> dict[Key, dict[str, Fraction]]:
        """What all statements together should say of a closed month, in major units; lines that are all 0 left out."""
        starts, ends, agreed = self.closed[month]
        sums: dict[Key, dict[str, Fraction]] = defaultdict(lambda: dict.fromkeys(KINDS, Fraction(0)))
        for key, name, amount in self._facts(starts, ends, agreed):
            sums[key][name] += amount
        for (_, currency, _, _), line in sums.items():
            for name in KINDS[1:]:
                line[name] = rounded(line[name], DECIMALS[currency])
        for (partner, _, _, _), line in sums.items():
            if partner == "playcamp":
                line["net"] = line["gross"] - line["refunds"] - line["fee"]
        return {key: line for key, line in sums.items() if any(line.values())}

    def _facts(self, starts: datetime, ends: datetime, agreed: Agreed) -> Iterator[tuple[Key, str, Fraction]]:
        for name, order in self.orders.items():
            if not starts <= order.at < ends or order.currency not in DECIMALS or not order.gross:
                continue
            gross = Fraction(order.gross, 10 ** DECIMALS[order.currency])
            key = ("appcharge", order.currency, "", "")
            yield key, "count", Fraction(1)
            yield key, "gross", gross
            if self.is_refunded(name):
                yield key, "refunds", gross
                continue
            if order.fee is None or order.net is None:
                yield key, "without_figures", gross
            told = key if order.currency == "USD" else ("appcharge", "USD", f"of {order.currency}", "")
            yield told, "fee", (order.fee or 0) / Fraction(100)
            yield told, "net", (order.net or 0) / Fraction(100)
        for payment in self.payments.values():
            if not starts <= payment.at < ends or payment.currency not in DECIMALS or not payment.amount:
                continue
            if not payment.kind:
                continue
            creator = self.supported(payment.player, payment.at)
            key = ("playcamp", payment.currency, payment.kind, creator)
            yield key, "count", Fraction(1)
            yield key, "gross", payment.amount
            if payment.is_refunded:
                yield key, "refunds", payment.amount
                continue
            fee = payment.amount * agreed.rate(agreed.fees[payment.kind], payment.at)
            yield key, "fee", fee
            if creator:
                yield key, "creator_share", (payment.amount - fee) * agreed.rate(agreed.share, payment.at)

    def is_refunded(self, order: str) -> bool:
        """A refund stands for ever; a dispute that is lost stands unless it was won at that second or later."""
        facts = self.money_back[order]
        for number, (reason, at) in enumerate(facts):
            later = [
                won
                for place, (word, won) in enumerate(facts)
                if word == "reinstated" and (place > number if at is None or won is None else won >= at)
            ]
            if reason == "refund" or (reason == "chargeback" and not later):
                return True
        return False

    def supported(self, player: str, at: datetime) -> str:
        now = ""
        for when, who, kind, creator in sorted(self.boosts, key=lambda boost: boost[0]):
            if who == player and when <= at:
                now = creator if kind == "created" else "" if now == creator else now
        return now


def midnight(month: str, zone: str) -> datetime:
    return datetime.fromisoformat(f"{month}-01T00:00:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def following(month: str) -> str:
    return (date.fromisoformat(f"{month}-28") + timedelta(days=7)).isoformat()[:7]


def rounded(amount: Fraction, decimals: int) -> Fraction:
    """Halves away from zero."""
    scaled = abs(amount) * 10**decimals
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Fraction(whole if amount >= 0 else -whole, 10**decimals)


def added_up(rows: list[dict[str, str]]) -> dict[str, dict[Key, dict[str, Fraction]]]:
    """Month -> line -> figures, of the rows of any number of statements; those of other sections are left out."""
    months: dict[str, dict[Key, dict[str, Fraction]]] = defaultdict(dict)
    for row in rows:
        if row.get("section", "counted") != "counted":
            continue
        key = (row["partner"], row["currency"], row["distribution_type"], row["creator"])
        line = months[row["month"]].setdefault(key, dict.fromkeys(KINDS, Fraction(0)))
        for name in KINDS:
            line[name] += Fraction(row[name] or 0)
    found = {month: {key: line for key, line in lines.items() if any(line.values())} for month, lines in months.items()}
    return {month: lines for month, lines in found.items() if lines}


def balances(text: str) -> dict[tuple[str, str], Fraction]:
    """(account, currency) -> sum, out of a file for beancount; each transaction of it must come to nothing."""
    found: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for block in text.split("\n\n"):
        here: dict[str, Any] = defaultdict(Fraction)
        for line in block.splitlines():
            words = line.split()
            if line.startswith("  ") and len(words) == 3 and not words[0].endswith(":"):
                found[words[0], words[2]] += Fraction(words[1])
                here[words[2]] += Fraction(words[1])
        assert not any(here.values()), block
    return found
