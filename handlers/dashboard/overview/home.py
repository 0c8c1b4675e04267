"""The first page: what is wrong, and the figures of the games."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from flask import Response, current_app, redirect, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import clock, csv_text, money
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.operations import asides, backup_folder, contacts, proofs
from coinslot.operations.proofs import Proof
from coinslot.outbox import attempts, deliveries, lists
from coinslot.relay import jobs as schedules
from coinslot.store import counters
from coinslot.store.db import DatabaseError, EngineError, Row
from handlers.dashboard.frame import charts
from handlers.dashboard.frame.charts import Series
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import PageError, every_game, page, who, write
from handlers.dashboard.frame.times import day, moment
from handlers.dashboard.frame.words import days_back
from handlers.kit import troubles
from handlers.kit.receive import current_installation, partners
from handlers.kit.wording import shown as readable

DAYS = 30
TOP_ITEMS = 8
ITEM_DAYS = 7  # a catalogue may be long, and each item has a figure per day
MOST_CURRENCIES = 4  # with a chart of their own; the table has them all
CHARTS_OPEN = 3  # games whose charts are there to be seen at once
ROWS_AT_ONCE = 1000

# What an attempt took, as it is counted, and how that is said.
TOOK = {str(limit): f"up to {limit / 1000:g} s" for limit in attempts.TOOK_MS} | {
    "more": f"longer than {attempts.TOOK_MS[-1] / 1000:g} s"
}

T = TypeVar("T")


@dataclass
class Figures:
    """What was counted of a game: (partner, name, label) -> day -> value."""

    counted: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict)

    def per_day(
        self, name: str, days: Sequence[str], partner: str | None = None, label: str | None = None
    ) -> list[int]:
        """A figure on each of the days. None: of all partners, of all labels."""
        found: dict[str, int] = {}
        for (whose, named, labelled), values in self.counted.items():
            if named == name and partner in (None, whose) and label in (None, labelled):
                for day, value in values.items():
                    found[day] = found.get(day, 0) + value
        return [found.get(day, 0) for day in days]

    def total(self, name: str, days: Sequence[str], partner: str | None = None, label: str | None = None) -> int:
        """The sum of :meth:`per_day`."""
        return sum(self.per_day(name, days, partner, label))

    def labels(self, name: str) -> list[tuple[str, str]]:
        """(label, partner) of every figure of this name."""
        return sorted({(label, who) for who, named, label in self.counted if named == name})


def overview() -> Response:
    """What is wrong, and the figures of every game."""
    return _overview(None)


def game_overview(game: Game) -> Response:
    """The same of one game."""
    return _overview(game)


def _overview(only: Game | None) -> Response:
    installation = current_installation()
    connection = installation.database.read()
    days = days_back(DAYS)
    outlines = (
        [only]
        if only is not None
        else _tried(lambda: games.outlines(connection, installation.catalogue, every_game()), "games")
    )
    if outlines is None:
        return page(
            "overview.html",
            games_to_switch=(),
            troubles=[troubles.UNREADABLE],
            names={},
            games=None,
            relay=None,
            proof=None,
        )
    counted = _tried(lambda: _counted(counters.list_since(connection, days[0])), "counters")
    items = _tried(lambda: counters.top_items(connection, days[-ITEM_DAYS], TOP_ITEMS), "items")
    known = _tried(lambda: contacts.of_all(connection), "contacts")
    queues = _tried(lambda: lists.queues(connection), "queues")
    jobs = _tried(lambda: schedules.listing(connection), "schedules")
    background = _tried(lambda: proofs.last_and_beat(connection), "proofs and heartbeat")
    shown = [
        {
            "game": game,
            "is_new": not troubles.is_begun(game),
            "figures": None if counted is None else _figures(counted.get(game.id, Figures()), days),
            "charts": None if counted is None else _charts(game, counted.get(game.id, Figures()), days),
            "items": _items(game, items),
            "contacts": None if known is None else _contacts(game, [row for row in known if row["game_id"] == game.id]),
            "queue": None if queues is None else queues.get(game.id, {"waiting": 0, "dead": 0}),
            "jobs": None if jobs is None else [row for row in jobs if row["game_id"] == game.id],
            "is_open": number < CHARTS_OPEN,
        }
        for number, game in enumerate(outlines)
    ]
    found = troubles.list_troubles(installation, outlines, known)
    return page(
        "overview.html",
        troubles=[each for each in found if only is None or each.game == only.slug],
        names={game.slug: game.name for game in outlines},
        games=shown,
        relay=None if background is None else _relay(background[1]),
        proof=None if background is None else _proof(background[0]),
        legend=charts.legend,
    )


def set_trouble_aside() -> AnyResponse:
    """Set a trouble aside, with a note; it comes back when it happens again."""
    key, note = request.form.get("key", "")[:500], request.form.get("note", "").strip()[:500]
    if not note:
        raise PageError(400, "The note says nothing. Say why nothing is left to do.")
    if key not in {each.key for each in troubles.list_troubles(current_installation())}:
        raise PageError(404, "This trouble is over, or was set aside already.")
    write(lambda tx: asides.add(tx, key, note, who()))
    return redirect(url_for("dashboard.overview"), 303)


def figures_csv(game: Game) -> Response:
    """Every figure of the game per day, from the first on; money in major units."""
    database = current_installation().database

    def rows() -> Iterator[tuple[object, ...]]:
        after = ("", "", "", "")
        while True:
            found = counters.list_days(database.read(), game.id, after, ROWS_AT_ONCE)
            for row in found:
                text, partner, figure, label, value = row
                day = date.fromisoformat(text)
                if figure in (counters.GROSS, counters.REFUNDED, counters.RETURNED):
                    yield day, partner, figure, label, csv_text.number(money.in_major(value, label))
                elif figure == counters.ITEM:
                    yield day, partner, figure, label, value
                else:
                    yield day, partner, ".".join(filter(None, (figure, label))), "", value
            if len(found) < ROWS_AT_ONCE:
                return
            after = tuple(found[-1])[:4]

    header = ("day", "partner", "figure", "currency_or_item", "value")
    return csv_file(f"{game.slug}-figures", header, rows())


def _tried(read: Callable[[], T], what: str) -> T | None:
    """The value, or None when it could not be read: the page then says unknown, and shows the rest."""
    try:
        return read()
    except (EngineError, DatabaseError, OSError) as error:
        current_app.logger.error("the overview could not read %s: %s", what, error)
        return None


def _counted(rows: Iterable[Row]) -> dict[int, Figures]:
    found: dict[int, Figures] = {}
    for row in rows:
        by_name = found.setdefault(row["game_id"], Figures()).counted
        by_name.setdefault((row["partner"], row["name"], row["label"]), {})[row["day"]] = row["value"]
    return found


def _figures(figures: Figures, days: Sequence[str]) -> dict[str, object]:
    """Today and all the days of each figure, and the money by partner and currency."""

    def both(name: str, partner: str | None = None, label: str | None = None) -> tuple[int, int]:
        return figures.total(name, days[-1:], partner, label), figures.total(name, days, partner, label)

    relay = attempts.COUNTED_AS
    pairs = {*figures.labels(counters.GROSS), *figures.labels(counters.REFUNDED)}
    sums = []
    for currency, partner in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        names = (counters.GROSS, counters.REFUNDED, counters.RETURNED)
        gross, away, back = (both(each, partner, currency) for each in names)
        refunded = tuple(one - other for one, other in zip(away, back, strict=True))
        sums.append({"partner": _title(partner), "currency": currency, "gross": gross, "refunded": refunded})
    return {
        "money": sums,
        "grants": both("credited"),
        "duplicates": both("duplicate"),
        "conflicts": both("conflict"),
        "refusals": both(counters.REFUSED),
        "delivered": both("delivered", relay),
        "failed": both("failed", relay),
    }


def _charts(game: Game, figures: Figures, days: Sequence[str]) -> dict[str, object]:
    """The charts, each with the rows of the table beside it; None when there is nothing to draw."""
    about = f"{readable(game.name, 60)}, the last {DAYS} days"
    relay = attempts.COUNTED_AS
    outcomes = {
        "delivered": figures.per_day("delivered", days, relay),
        "failed attempts": figures.per_day("failed", days, relay),
    }
    took = [(words, figures.total("took", days, relay, limit)) for limit, words in TOOK.items()]
    failures = [(word, figures.total("failed", days, relay, word)) for word, _ in figures.labels("failed")]
    drawn: dict[str, object] = {"deliveries": None, "took": None}
    if any(map(any, outcomes.values())):
        drawn["deliveries"] = _bars(f"Deliveries per day, {about}", days, outcomes)
        drawn["took"] = charts.ranking(
            f"How long attempts took, {about}", [(words, count, f"{count:,}") for words, count in took]
        )
    currencies = {currency for currency, _ in figures.labels(counters.GROSS)}
    by_size = sorted(currencies, key=lambda each: (-figures.total(counters.GROSS, days, label=each), each))
    return drawn | {
        "revenue": [_revenue(figures, days, currency, about) for currency in by_size[:MOST_CURRENCIES]],
        "outcomes": list(outcomes),
        "delivery_rows": _rows(days, list(outcomes.values())),
        "took_rows": took,
        "failures": sorted(failures, key=lambda pair: -pair[1]),
    }


def _revenue(figures: Figures, days: Sequence[str], currency: str, about: str) -> dict[str, object]:
    exponent = money.exponent(currency) or 0
    whose = [who for each, who in figures.labels(counters.GROSS) if each == currency]
    per_day = [figures.per_day(counters.GROSS, days, who, currency) for who in whose]
    names = [readable(_title(who), 40) for who in whose]
    amounts = [[float(charts.major(value, exponent)) for value in values] for values in per_day]
    title = f"Paid per day in {money.unit(currency)}, {about}"
    drawn = _bars(title, days, dict(zip(names, amounts, strict=True)), exponent)
    return {"currency": currency, "svg": drawn, "names": names, "rows": _rows(days, per_day)}


def _bars(title: str, days: Sequence[str], values: Mapping[str, Sequence[float]], decimals: int = 0) -> Markup:
    """Bars per day, with a date under each seventh; the day before today has none, it would touch today's."""
    labels = {at: _short(days[at]) for at in range(0, len(days), 7)} | {len(days) - 1: "today"}
    labels.pop(len(days) - 2, None)
    series = [Series(name, each) for name, each in values.items()]
    return charts.bars(title, [_short(day) for day in days], series, labels, decimals)


def _rows(days: Sequence[str], columns: Sequence[Sequence[int]]) -> list[tuple[str, list[int]]]:
    """The days with a figure that is not 0, the newest first."""
    rows = [(day, [column[at] for column in columns]) for at, day in enumerate(days)]
    return [(day, values) for day, values in reversed(rows) if any(values)]


def _items(game: Game, items: dict[int, list[tuple[str, int]]] | None) -> dict[str, object] | None:
    if items is None:
        return None
    rows = items.get(game.id, [])
    drawn = charts.ranking(
        f"Items in most grants, {readable(game.name, 60)}, the last {ITEM_DAYS} days",
        [(readable(sku), count, f"{count:,}") for sku, count in rows],
    )
    return {"svg": drawn if rows else None, "rows": rows}


def _contacts(game: Game, known: Sequence[Row]) -> list[dict[str, object]]:
    """Per partner that is set up or has called: when a call last proved itself, and when one was last refused."""
    found: list[dict[str, object]] = []
    for partner in partners():
        rows = [row for row in known if row["partner"] == partner.name]
        if rows or partner.is_configured(game):
            refused = max((row for row in rows if row["refused_at"]), key=lambda row: row["refused_at"], default=None)
            proved_at = max((row["proved_at"] for row in rows if row["proved_at"]), default=None)
            link = f"/games/{game.slug}/integration/{partner.name}"
            about = {"name": partner.name, "title": partner.title, "link": link}
            found.append(about | {"proved_at": proved_at, "refused": refused})
    return found


def _relay(beat_at: str | None) -> dict[str, object]:
    beat = deliveries.read_beat(beat_at)
    is_fresh = beat is not None and clock.now() - beat <= deliveries.OLDEST_BEAT_SECONDS
    return {"is_fresh": is_fresh, "beat_at": None if beat is None else clock.stamp(beat)}


def _proof(last: Proof | None) -> dict[str, object]:
    """The last proof of a backup, in a sentence."""
    if last is None:
        return {"is_good": None, "sentence": "none yet"}
    when = moment(last.ended_at)[:16].replace(day(clock.stamp()), "today")
    if last.fault is not None:
        return {"is_good": False, "sentence": f"{when}, {last.fault}"}
    size, took = backup_folder.in_bytes(last.size_bytes or 0), f"{last.took_ms / 1000:,.0f}"
    how = f"restored aside and checked in {took if last.took_ms >= 500 else 'less than 1'} s"
    return {"is_good": True, "sentence": f"{when}, backup of {size} {how}"}


def _title(partner: str) -> str:
    return next((each.title for each in partners() if each.name == partner), partner)


def _short(day: str) -> str:
    return date.fromisoformat(day).strftime("%b %-d")
