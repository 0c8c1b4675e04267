"""What was counted of each game in a range of days, and the sums of it."""

import re
from calendar import monthrange
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from coinslot.base import clock, money
from coinslot.outbox import attempts
from coinslot.store import counters
from coinslot.store.db import Row

RANGES = (7, 30, 90)  # days
USUAL_RANGE = 30
FIRST_YEAR = 2015  # of the months that can be asked for

# About how many units of a currency make a dollar. It orders games and currencies, and no page shows a sum of it: a
# currency that is not here is taken for a dollar, which is right enough for most.
_UNITS_PER_DOLLAR: Mapping[str, int] = {
    "VND": 25_000,
    "IDR": 16_000,
    "KRW": 1_400,
    "COP": 4_000,
    "CLP": 950,
    "ARS": 1_000,
    "HUF": 360,
    "JPY": 150,
    "INR": 85,
    "RUB": 90,
    "PHP": 57,
    "TWD": 32,
    "THB": 34,
    "TRY": 35,
    "CZK": 23,
    "MXN": 19,
    "ZAR": 18,
    "UAH": 41,
    "NOK": 11,
    "SEK": 10,
    "DKK": 7,
    "CNY": 7,
    "HKD": 8,
    "BRL": 5,
    "PLN": 4,
    "MYR": 4,
    "ILS": 4,
    "SAR": 4,
    "AED": 4,
}


@dataclass(frozen=True)
class Range:
    """UTC days, the oldest first; ``word`` stands for them in an address, ``title`` in a sentence after "in".

    ``earlier`` and ``later`` are the words of the months beside a month.
    """

    word: str
    title: str
    days: list[str]
    has_today: bool
    earlier: str | None = None
    later: str | None = None

    @classmethod
    def of(cls, word: str) -> "Range":
        """The range that a word stands for; the usual one if it stands for none."""
        today = datetime.fromtimestamp(clock.now(), UTC).date()
        month = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", word)
        if month is not None and int(month[1]) >= FIRST_YEAR and word <= f"{today:%Y-%m}":
            return cls._month(date(int(month[1]), int(month[2]), 1), today)
        count = int(word) if word in map(str, RANGES) else USUAL_RANGE
        days = [(today - timedelta(days=back)).isoformat() for back in reversed(range(count))]
        return cls(str(count), f"the last {count} days", days, has_today=True)

    @classmethod
    def _month(cls, first: date, today: date) -> "Range":
        last = first.replace(day=monthrange(first.year, first.month)[1])
        days = [(first + timedelta(days=each)).isoformat() for each in range((min(last, today) - first).days + 1)]
        before, after = first - timedelta(days=1), last + timedelta(days=1)
        return cls(
            f"{first:%Y-%m}",
            f"{first:%B %Y}",
            days,
            has_today=last >= today,
            earlier=f"{before:%Y-%m}" if before.year >= FIRST_YEAR else None,
            later=f"{after:%Y-%m}" if after <= today else None,
        )


@dataclass(frozen=True)
class Paid:
    """What players paid in a currency, in minor units; ``refunded`` is less what disputes brought back."""

    currency: str
    gross: int
    refunded: int
    today: int

    @property
    def worth(self) -> float:
        """About how much it is worth beside another currency. Never shown."""
        minor_per_dollar = _UNITS_PER_DOLLAR.get(self.currency, 1) * 10.0 ** (money.exponent(self.currency) or 0)
        return self.gross / minor_per_dollar


Key = tuple[str, str, str]  # partner, name, label


@dataclass
class Figures:
    """The sums of what was counted of a game in a range, and what of it is of the last day."""

    sums: dict[Key, int] = field(default_factory=dict)
    latest: dict[Key, int] = field(default_factory=dict)

    def total(self, name: str, partner: str | None = None, label: str | None = None) -> int:
        """The sum of a figure. None: of all partners, of all labels."""
        return _total(self.sums, name, partner, label)

    def of_last_day(self, name: str, partner: str | None = None, label: str | None = None) -> int:
        """The part of :meth:`total` that the last day of the range has."""
        return _total(self.latest, name, partner, label)

    def labels(self, name: str) -> list[str]:
        """The labels of every figure of this name."""
        return sorted({label for _, named, label in self.sums if named == name})

    def top_items(self) -> list[tuple[str, int]]:
        """(sku, grants that hold it), the most frequent first; empty where they were not read."""
        items = [(sku, count) for (_, name, sku), count in self.sums.items() if name == counters.TOP_ITEM]
        return sorted(items, key=lambda item: (-item[1], item[0]))

    def paid(self, period: Range) -> list[Paid]:
        """What was paid or refunded in each currency, the one that is worth most first."""
        found = []
        for currency in {*self.labels(counters.GROSS), *self.labels(counters.REFUNDED)}:
            gross, away, back = (
                self.total(name, None, currency) for name in (counters.GROSS, counters.REFUNDED, counters.RETURNED)
            )
            today = self.of_last_day(counters.GROSS, None, currency) if period.has_today else 0
            if gross or away or back:
                found.append(Paid(currency, gross, away - back, today))
        return sorted(found, key=lambda each: (-each.worth, each.currency))


def of_games(rows: Iterable[Row]) -> dict[int, Figures]:
    """Game -> what was counted of it, from the rows of :func:`counters.list_sums`."""
    found: dict[int, Figures] = {}
    for row in rows:
        figures = found.setdefault(row["game_id"], Figures())
        key = (row["partner"], row["name"], row["label"])
        figures.sums[key] = int(row["billions"]) * 10**9 + int(row["rest"])
        figures.latest[key] = row["latest"]
    return found


def together(of_each: Iterable[Figures]) -> Figures:
    """The figures of several games as those of one."""
    found = Figures()
    for figures in of_each:
        for key, value in figures.sums.items():
            found.sums[key] = found.sums.get(key, 0) + value
            found.latest[key] = found.latest.get(key, 0) + figures.latest[key]
    return found


def summed(figures: Figures) -> Mapping[str, int]:
    """The sums that every page of figures has, and each of the last day; those of deliveries are the relay's."""
    relay = attempts.COUNTED_AS
    names: dict[str, tuple[str, str | None]] = {"grants": ("credited", None), "refused": (counters.REFUSED, None)}
    names |= {"delivered": ("delivered", relay), "failed": ("failed", relay)}
    names |= {"duplicates": ("duplicate", None), "conflicts": ("conflict", None)}
    sums = {word: figures.total(name, whose) for word, (name, whose) in names.items()}
    return sums | {f"{word}_today": figures.of_last_day(name, whose) for word, (name, whose) in names.items()}


def _total(values: Mapping[Key, int], name: str, partner: str | None, label: str | None) -> int:
    return sum(
        value
        for (whose, named, labelled), value in values.items()
        if named == name and partner in (None, whose) and label in (None, labelled)
    )
