"""The chart of the overview: one metric over a range of days, drawn, and the same figures for a table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from coinslot.base import money
from coinslot.games.games import Game
from coinslot.outbox import attempts
from coinslot.store import counters
from coinslot.store.db import Connection, Row
from handlers.dashboard.frame import charts
from handlers.dashboard.frame.charts import Series
from handlers.dashboard.frame.pages import partner_titles
from handlers.dashboard.integration.checklist import REASONS
from handlers.dashboard.overview.figures import Figures, Key, Range
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
DELIVERED, FAILED = "delivered", "failed attempts"


@dataclass(frozen=True)
class Chart:
    """``rows`` are the days with a figure that is not 0, the newest first; amounts of money are in minor units."""

    title: str
    drawn: Markup | None  # None: there is nothing to draw
    names: list[str]
    rows: list[tuple[str, list[int]]]
    currency: str | None = None


def chart_of(
    connection: Connection, metric: str, of_each: Sequence[tuple[Game, Figures]], period: Range, currency: str | None
) -> Chart:
    """The chart of a metric; ``currency`` is that of what was paid. Its parts are games, or partners of one game."""
    names = {"paid": (counters.GROSS,), "grants": ("credited",), "refusals": (counters.REFUSED,)}
    wanted = names.get(metric, ("delivered", "failed"))
    keys = [
        (game, key)
        for game, each in of_each
        for key in each.sums
        if key[1] in wanted
        and (metric != "paid" or key[2] == currency)
        and (metric != "deliveries" or key[0] == attempts.COUNTED_AS)
    ]
    several = len({game.id for game, _ in keys}) > 1
    found: dict[str, list[int]] = {}
    if metric == "deliveries" and keys:
        found = {DELIVERED: [0] * len(period.days), FAILED: [0] * len(period.days)}  # each keeps its shade
    places = {day: at for at, day in enumerate(period.days)}
    names_of = _names([game for game, _ in of_each])
    for row in _read(connection, period, keys):
        part = _part(metric, row, names_of[row["game_id"]] if several else None)
        found.setdefault(part, [0] * len(places))[places[row["day"]]] += row["value"]
    parts = found if metric == "deliveries" else _largest(found)
    where = of_each[0][0].name if len(of_each) == 1 else "all games"
    unit = f" in {money.unit(currency or '')}" if metric == "paid" else ""
    title = f"{METRICS[metric][0]} per day{unit}, {shown(where, 60)}, {period.title}"
    decimals = (money.exponent(currency or "") or 0) if metric == "paid" else 0
    drawn = _bars(title, period, parts, decimals) if any(map(any, parts.values())) else None
    listed = [(day, [values[at] for values in parts.values()]) for day, at in places.items()]
    listed = [(day, values) for day, values in reversed(listed) if any(values)]
    return Chart(title, drawn, list(parts), listed, currency if metric == "paid" else None)


def took_of(figures: Figures, period: Range) -> tuple[Markup | None, list[tuple[str, int]]]:
    """How long attempts took, drawn; and the words of those that failed, the most frequent first."""
    relay = attempts.COUNTED_AS
    took = [(words, figures.total("took", relay, limit)) for limit, words in TOOK.items()]
    took = [(words, count) for words, count in took if count]
    failures = [(word, figures.total("failed", relay, word)) for word in figures.labels("failed")]
    failures = sorted(((word, count) for word, count in failures if count), key=lambda pair: -pair[1])
    return ranked(f"How long attempts took, {period.title}", took), failures


def ranked(title: str, rows: Sequence[tuple[str, int]]) -> Markup | None:
    """Horizontal bars with their counts; None when there is none."""
    return charts.ranking(shown(title), [(shown(name), count, f"{count:,}") for name, count in rows]) if rows else None


def _read(connection: Connection, period: Range, keys: Sequence[tuple[Game, Key]]) -> list[Row]:
    """What was counted on each day under these keys; nothing is asked where there are none."""
    if not keys:
        return []
    games = {game.id for game, _ in keys}
    partners, names, labels = ({key[at] for _, key in keys} for at in range(3))
    first, last = period.days[0], period.days[-1]
    return counters.list_between(connection, first, last, games, partners, names, labels)


def _part(metric: str, row: Row, game: str | None) -> str:
    """The part of the chart that a figure is counted in; ``game`` is the name of its game, where parts are games."""
    if metric == "deliveries":
        return DELIVERED if row["name"] == "delivered" else FAILED
    if metric == "refusals":
        return _reason(row["label"])
    return game or shown(partner_titles().get(row["partner"], row["partner"]), 40)


def _names(games: Sequence[Game]) -> dict[int, str]:
    """Id -> name; with the slug where another game has the same name."""
    names = Counter(game.name for game in games)
    return {
        game.id: shown(game.name, 40) if names[game.name] == 1 else f"{shown(game.name, 40)} ({game.slug})"
        for game in games
    }


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
