"""The chart of the overview: one metric over a range of days, drawn, and the same figures for a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from coinslot.base import money
from coinslot.games.games import Game
from coinslot.outbox import attempts
from coinslot.store import counters
from handlers.dashboard.frame import charts
from handlers.dashboard.frame.charts import Series
from handlers.dashboard.frame.pages import partner_titles
from handlers.dashboard.integration.checklist import REASONS
from handlers.dashboard.overview.figures import Figures, Range
from handlers.kit.wording import shown

# Word in the address -> what is drawn, and the names of the figures that are read for it alone.
METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "paid": ("Paid", ()),
    "grants": ("Grants", ("duplicate", "conflict")),
    "refusals": ("Refused calls", ()),
    "deliveries": ("Deliveries", ("took",)),
}
# The names that every page of figures needs.
ALWAYS = ("credited", "delivered", "failed", counters.REFUSED, counters.GROSS, counters.REFUNDED, counters.RETURNED)

# What an attempt took, as it is counted, and how that is said.
TOOK = {str(limit): f"up to {limit / 1000:g} s" for limit in attempts.TOOK_MS} | {
    "more": f"longer than {attempts.TOOK_MS[-1] / 1000:g} s"
}
OTHERS = "others"


@dataclass(frozen=True)
class Chart:
    """``rows`` are the days with a figure that is not 0, the newest first; amounts of money are in minor units."""

    title: str
    drawn: Markup | None  # None: there is nothing to draw
    names: list[str]
    rows: list[tuple[str, list[int]]]
    currency: str | None = None


def chart_of(
    metric: str, of_each: Sequence[tuple[Game, Figures]], period: Range, currency: str | None, where: str
) -> Chart:
    """The chart of a metric; ``currency`` is that of what was paid. Its parts are games, or partners of one game."""
    if metric == "deliveries":
        relay = attempts.COUNTED_AS
        found = {
            "delivered": _sum(each.per_day("delivered", period.days, relay) for _, each in of_each),
            "failed attempts": _sum(each.per_day("failed", period.days, relay) for _, each in of_each),
        }
    elif metric == "refusals":
        reasons = {reason for _, each in of_each for reason in each.labels(counters.REFUSED)}
        found = {
            _reason(reason): _sum(each.per_day(counters.REFUSED, period.days, None, reason) for _, each in of_each)
            for reason in sorted(reasons)
        }
    elif metric == "grants":
        found = _parts(of_each, period, "credited", None)
    else:
        found = _parts(of_each, period, counters.GROSS, currency or "")
    parts = {name: values for name, values in found.items() if any(values)}
    if metric == "deliveries" and parts:
        parts = found  # each keeps its shade
    else:
        parts = _largest(parts)
    unit = f" in {money.unit(currency or '')}" if metric == "paid" else ""
    title = f"{METRICS[metric][0]} per day{unit}, {shown(where, 60)}, {period.title}"
    decimals = (money.exponent(currency or "") or 0) if metric == "paid" else 0
    drawn = _bars(title, period, parts, decimals) if parts else None
    rows = [(day, [values[at] for values in parts.values()]) for at, day in enumerate(period.days)]
    rows = [(day, values) for day, values in reversed(rows) if any(values)]
    return Chart(title, drawn, list(parts), rows, currency if metric == "paid" else None)


def took_of(figures: Figures, period: Range) -> tuple[Markup | None, list[tuple[str, int]]]:
    """How long attempts took, drawn; and the words of those that failed, the most frequent first."""
    relay = attempts.COUNTED_AS
    took = [(words, figures.total("took", period.days, relay, limit)) for limit, words in TOOK.items()]
    took = [(words, count) for words, count in took if count]
    failures = [(word, figures.total("failed", period.days, relay, word)) for word in figures.labels("failed")]
    failures = sorted(((word, count) for word, count in failures if count), key=lambda pair: -pair[1])
    return ranked(f"How long attempts took, {period.title}", took), failures


def ranked(title: str, rows: Sequence[tuple[str, int]]) -> Markup | None:
    """Horizontal bars with their counts; None when there is none."""
    return charts.ranking(shown(title), [(shown(name), count, f"{count:,}") for name, count in rows]) if rows else None


def _parts(
    of_each: Sequence[tuple[Game, Figures]], period: Range, name: str, label: str | None
) -> dict[str, list[int]]:
    """A figure by game, or by partner where it is of one game."""
    found: dict[str, list[int]] = {}
    with_any = [(game, each) for game, each in of_each if any(each.per_day(name, period.days, None, label))]
    if len(with_any) > 1:
        for game, each in with_any:
            title = shown(game.name, 40)
            title = title if title not in found else f"{title} ({game.slug})"
            found[title] = each.per_day(name, period.days, None, label)
        return found
    titles = partner_titles()
    for _, each in with_any:
        for who in each.partners(name):
            found[shown(titles.get(who, who), 40)] = each.per_day(name, period.days, who, label)
    return found


def _largest(parts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """As many parts as there are shades, the largest first; what is left is added up as the last."""
    in_order = sorted(parts.items(), key=lambda part: (-sum(part[1]), part[0]))
    if len(in_order) <= charts.MOST_SERIES:
        return dict(in_order)
    kept, left = in_order[: charts.MOST_SERIES - 1], in_order[charts.MOST_SERIES - 1 :]
    return dict(kept) | {OTHERS: _sum(values for _, values in left)}


def _sum(columns: Iterable[Sequence[int]]) -> list[int]:
    """Day by day."""
    return [sum(values) for values in zip(*columns, strict=True)]


def _reason(word: str) -> str:
    return shown(REASONS[word][0] if word in REASONS else word, 40)


def _bars(title: str, period: Range, parts: Mapping[str, Sequence[int]], decimals: int) -> Markup:
    """Bars per day, with a date under some; the day before the last has none, as it would touch the last one's."""
    days = period.days
    step = 2 if len(days) <= 10 else 7 if len(days) <= 31 else 21
    labels = {at: _short(days[at]) for at in range(0, len(days), step)}
    labels = {at: label for at, label in labels.items() if len(days) - 1 - at >= step / 2}
    labels[len(days) - 1] = "today" if period.has_today else _short(days[-1])
    series = [
        Series(name, [float(charts.major(value, decimals)) if decimals else value for value in values])
        for name, values in parts.items()
    ]
    return charts.bars(title, [_short(day) for day in days], series, labels, decimals)


def _short(day: str) -> str:
    return date.fromisoformat(day).strftime("%b %-d")
