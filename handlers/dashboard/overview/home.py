"""The first page, and that of a game: what is wrong, one chart, and the games, the one that earns most first."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, TypeVar

from flask import Response, current_app, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import clock, csv_text, money
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.operations import asides, backup_folder, contacts, glance, proofs, retention
from coinslot.operations.findings import NOTE
from coinslot.operations.proofs import Proof
from coinslot.outbox import deliveries
from coinslot.relay import jobs as schedules
from coinslot.store import counters
from coinslot.store.db import Connection, DatabaseError, EngineError, Row
from handlers.dashboard.frame import charts
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import MOST_OPEN_SHOWN, PageError, every_game, page, who, write
from handlers.dashboard.frame.times import day, moment
from handlers.dashboard.overview import chart, figures
from handlers.dashboard.overview.figures import Figures, Range
from handlers.dashboard.overview.steps import Step, steps
from handlers.kit import troubles
from handlers.kit.receive import current_installation, partners

ITEM_DAYS = 7  # a catalogue may be long, and each item has a figure per day
ROWS_AT_ONCE = 1000

T = TypeVar("T")


def overview() -> Response:
    """What is wrong, and the figures of every game."""
    return _overview(None)


def game_overview(game: Game) -> Response:
    """The same of one game."""
    return _overview(game)


def _overview(only: Game | None) -> Response:
    installation = current_installation()
    connection = installation.database.read()
    outlines = (
        [only]
        if only is not None
        else _tried(lambda: games.outlines(connection, installation.catalogue, every_game()), "games")
    )
    if outlines is None:
        return page(
            "overview.html", games_to_switch=(), troubles=[troubles.UNREADABLE], names={}, games=None, is_well=False
        )
    period = Range.of(request.args.get("range", ""))
    metric = request.args.get("metric", "")
    metric = metric if metric in chart.METRICS else "paid"
    known = _tried(lambda: contacts.of_all(connection), "contacts")
    counted = _tried(lambda: _counted(connection, period, metric), "counters")
    seen = _tried(lambda: glance.of_all(connection, MOST_OPEN_SHOWN), "players, items and deliveries")
    rows = [_row(game, counted, period, known, seen) for game in outlines]
    rows.sort(key=lambda row: (-sum(each.worth for each in row["paid"]), row["game"].name.lower()))
    running = [row for row in rows if row["steps"] is None]
    behind = _behind(connection, outlines, is_all=only is None)
    found = troubles.list_troubles(installation, outlines, known)
    found = [each for each in found if only is None or each.game == only.slug]
    is_unknown = None in (counted, known, seen)
    return page(
        "overview.html",
        open_calls=0 if only is None or seen is None else seen[only.id]["open_calls"],
        troubles=found,
        names={game.slug: game.name for game in outlines},
        games=running,
        beginning=[row for row in rows if row["steps"] is not None],
        is_unknown=is_unknown,
        is_well=not is_unknown and behind["is_well"] and all(each.severity == NOTE for each in found),
        period=period,
        ranges=figures.RANGES,
        metric=metric,
        chart=None if counted is None or not running else _drawn(connection, running, period, metric),
        legend=charts.legend,
        behind=behind,
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


def _counted(connection: Connection, period: Range, metric: str) -> dict[int, Figures]:
    names = (*chart.ALWAYS, *chart.METRICS[metric][1])
    since = Range.of(str(ITEM_DAYS)).days[0] if metric == "grants" and period.has_today else None
    return figures.of_games(counters.list_sums(connection, period.days[0], period.days[-1], names, since))


def _row(
    game: Game,
    counted: dict[int, Figures] | None,
    period: Range,
    known: Sequence[Row] | None,
    seen: dict[int, Row] | None,
) -> dict[str, Any]:
    """A game as the page lists it. ``steps`` is None for one that has credited something; other values may be None."""
    own = None if counted is None else counted.get(game.id, Figures())
    paid = [] if own is None else own.paid(period)
    calls = None if known is None else [row for row in known if row["game_id"] == game.id]
    left: list[Step] | None = None
    if not paid and seen is not None and not seen[game.id]["has_credits"]:
        left = steps(game, seen[game.id], calls or [])
    return {
        "game": game,
        "figures": own,
        "sums": None if own is None else figures.summed(own),
        "paid": paid,
        "contacts": None if calls is None else _contacts(game, calls),
        "queue": None if seen is None else seen[game.id],
        "steps": left,
    }


def _drawn(connection: Connection, running: Sequence[dict[str, Any]], period: Range, metric: str) -> dict[str, object]:
    """What the chart's card shows: sums in words, the chart, and what belongs to its metric."""
    of_each = [(row["game"], row["figures"]) for row in running]
    own = figures.together(each for _, each in of_each)
    paid = own.paid(period)
    currencies = [each.currency for each in paid if each.gross]
    asked = request.args.get("currency", "")
    currency = asked if asked in currencies else next(iter(currencies), None)
    is_one = len(running) == 1
    where = running[0]["game"].name if is_one else "all games"
    found: dict[str, object] = {
        "sums": figures.summed(own),
        "paid": paid,
        "currency": currency,
        "drawn": chart.chart_of(connection, metric, of_each, period, currency),
        "of": running[0] if is_one else None,
    }
    if metric == "deliveries":
        took, failures = chart.took_of(own, period)
        found |= {"took": took, "failures": failures}
    if is_one and (items := own.top_items()):
        found |= {"top_items": chart.ranked(f"Items in most grants, {where}, {ITEM_DAYS} days", items)}
    return found


def _contacts(game: Game, known: Sequence[Row]) -> list[dict[str, object]]:
    """Per partner that is set up or has called: when a call last proved itself, and when one was refused after that."""
    found: list[dict[str, object]] = []
    for partner in partners():
        rows = [row for row in known if row["partner"] == partner.name]
        if rows or partner.is_configured(game):
            refused = max((row for row in rows if row["refused_at"]), key=lambda row: row["refused_at"], default=None)
            proved_at = max((row["proved_at"] for row in rows if row["proved_at"]), default=None)
            if refused is not None and (proved_at or "") > refused["refused_at"]:
                refused = None  # calls have been right since
            link = f"/games/{game.slug}/integration/{partner.name}"
            about = {"name": partner.name, "title": partner.title, "link": link}
            found.append(about | {"proved_at": proved_at, "refused": refused})
    return found


def _behind(connection: Connection, shown: Sequence[Game], *, is_all: bool) -> dict[str, Any]:
    """The relay, the last proof of a backup, and the jobs of partners that are set up. ``is_well``: none has failed."""
    background = _tried(lambda: proofs.last_and_beat(connection), "proofs and heartbeat")
    rows = _tried(lambda: schedules.listing(connection), "schedules")
    by_id = {game.id: game for game in shown}
    idle = {
        (game.id, name) for game in shown for each in partners() if not each.is_configured(game) for name in each.jobs
    }
    jobs, deleted = None, []
    if rows is not None:
        cursor = next((row["cursor"] for row in rows if row["name"] == retention.JOB), None)
        rows = [row for row in rows if row["game_id"] in by_id or (is_all and row["game_id"] == schedules.INSTALLATION)]
        rows = [row for row in rows if (row["game_id"], row["name"]) not in idle]
        jobs = [(row, by_id.get(row["game_id"])) for row in rows]
        deleted = [(game, "; ".join(retention.said(cursor, game.id))) for game in shown]
    relay = None if background is None else _relay(background[1])
    proof = None if background is None else _proof(background[0])
    failing = [job for job, _ in jobs or [] if job["failures"]]
    is_down = relay is not None and bool(relay["beat_at"]) and not relay["is_fresh"]
    is_well = None not in (relay, proof, jobs) and not failing and not is_down and (proof or {})["is_good"] is not False
    ran = [job["last_ran_at"] for job, _ in jobs or [] if job["last_ran_at"]]
    return {
        "relay": relay,
        "proof": proof,
        "jobs": jobs,
        "failing": failing,
        "deleted": [(game, sentence) for game, sentence in deleted if sentence],
        "last_ran_at": max(ran, default=None),
        "is_well": is_well,
    }


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
