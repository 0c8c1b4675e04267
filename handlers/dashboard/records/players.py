"""Players: the registry, and the page of one with balances, purchases and boosts."""

import json
from collections.abc import Iterator

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.registry import LONGEST_ID
from coinslot.ledger import boosts, dossier, grants, search
from coinslot.ledger.paths import CursorError, Filters
from coinslot.operations import search_all
from handlers.dashboard.frame import masking
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import UPLOADS, PageError, page, read, see_other, who
from handlers.dashboard.frame.timeline import timeline
from handlers.dashboard.frame.times import moment
from handlers.dashboard.frame.words import player_address
from handlers.kit.receive import current_installation

ROWS_AT_ONCE = 500
TRANSACTIONS_SHOWN = 25
EVENTS_SHOWN = 25
CSV_HEADER = ("player_id", "name", "country", "created_at", "updated_at")


def players(game: Game, status: int = 200, at: str = "", problem: str = "", done: str | None = None) -> AnyResponse:
    """The registry, by id, or by the beginning of an id or a name. ``?id=`` is a player whose id fits no path.

    ``problem`` is shown beside the form ``at``: ``player_id``, ``name`` or ``import``.
    """
    if "id" in request.args:
        return _show(game, request.args["id"])
    connection = read()
    wanted = request.args.get("q", "").strip()[:LONGEST_ID]
    after = request.args.get("after", "")[:LONGEST_ID]
    rows = search.players(connection, game.id, wanted, after, search.PAGE_ROWS + 1)
    named = search_all.players_named(connection, game.id, wanted, search.PAGE_ROWS) if wanted and not after else []
    found = {row["player_id"] for row in rows}
    if wanted and not rows and not named and search.has_player(connection, game.id, wanted):
        return redirect(player_address(wanted), 303)  # not in the registry, but in the ledger
    has_more = len(rows) > search.PAGE_ROWS
    rows = rows[: search.PAGE_ROWS]
    return page(
        "players.html",
        status,
        rows=rows,
        named=[row for row in named if row["player_id"] not in found],
        wanted=wanted,
        next=rows[-1]["player_id"] if has_more else None,
        is_first=not after,
        problems={at: problem.splitlines()} if problem else {},
        done=done,
        form=request.form,
        largest_mib=UPLOADS["dashboard.import_players"] // 1024**2,
        unknown=game.settings["players.unknown"],
    )


def players_csv(game: Game) -> Response:
    connection = read()
    wanted = request.args.get("q", "").strip()[:LONGEST_ID]

    def rows() -> Iterator[tuple[object, ...]]:
        after = ""
        while found := search.players(connection, game.id, wanted, after, ROWS_AT_ONCE):
            for row in found:
                yield tuple(row[name] for name in CSV_HEADER)
            after = found[-1]["player_id"]

    return csv_file(f"{game.slug}-players", CSV_HEADER, rows())


def player(game: Game, player_id: str) -> Response:
    return _show(game, player_id)


def forget_player(game: Game) -> AnyResponse:
    """Forget a player; the sums stay. The id has to be typed once more."""
    player_id = request.form.get("player_id", "")
    if request.form.get("confirmation", "").strip() != player_id.strip():
        return _show(game, player_id, 400, problem="That is not the id of this player, so nobody was forgotten.")
    is_known = current_installation().forget_player(game, player_id, who())
    return see_other("players", said="forgotten" if is_known else "nothing")


def _show(game: Game, player_id: str, status: int = 200, problem: str | None = None) -> Response:
    connection = read()
    is_timeline = request.args.get("show") == "timeline"
    if not is_timeline:
        return _show_entry(game, player_id, status, problem)
    if not search.has_player(connection, game.id, player_id):
        raise PageError(404, "This game has no such player")
    history = dossier.of_player(connection, game.id, player_id)
    is_cut = max(len(history.transactions), len(history.events)) >= dossier.MOST_OF_PLAYER
    return page("player_timeline.html", player_id=player_id, moments=timeline(history, moment), is_cut=is_cut)


def _show_entry(game: Game, player_id: str, status: int, problem: str | None) -> Response:
    connection = read()
    entry = registry.player(connection, game.id, player_id)
    try:
        listed = search.transactions(
            connection, game.id, Filters(player_id=player_id), request.args.get("after"), TRANSACTIONS_SHOWN
        )
    except CursorError:
        raise PageError(404, "There is no such page of this list") from None
    events = dossier.events_of_player(connection, game.id, player_id, EVENTS_SHOWN)
    if entry is None and not listed.rows and not events and player_id != registry.RESERVED_ID:
        raise PageError(404, "This game has no such player")
    counted, tested = grants.granted_and_tested(connection, game.id, player_id)
    return page(
        "player.html",
        status,
        problem=problem,
        player_id=player_id,
        entry=entry,
        profile=_profile(entry["profile"]) if entry else [],
        login_name=masking.part_of(entry["login_name"]) if entry else None,
        identities={name: masking.part_of(each, 3) for name, each in entry["identities"].items()} if entry else {},
        counted=sorted(counted.items()),
        tested=sorted(tested.items()),
        rows=listed.rows,
        after=listed.after,
        items_of=search.items_of,
        events=events,
        boosts=boosts.current(connection, game.id, player_id),
        is_reserved=player_id == registry.RESERVED_ID,
    )


def _profile(profile: dict[str, object]) -> list[tuple[str, str]]:
    """What the game pushed of a player beside the columns, as JSON text per field."""
    return [
        (name, json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())
        for name, value in profile.items()
    ]
