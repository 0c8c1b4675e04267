"""The players and items of a game, out of a file, and one item by hand."""

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games import csv_files, registry
from coinslot.games.games import Game
from coinslot.games.registry import RegistryError, checked_id, checked_text
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import UPLOADS, PageError, page, see_other, who, write
from handlers.kit.receive import current_installation


def registry_page(game: Game, status: int = 200, at: str = "", problem: str = "", done: str | None = None) -> Response:
    """The page; ``problem`` is shown beside the form ``at``."""
    return page(
        "registry.html",
        status,
        problems={at: problem.splitlines()} if problem else {},
        done=done,
        form=request.form,
        largest_mib=UPLOADS["dashboard.import_registry"] // 1024**2,
        unknown_players=game.settings["players.unknown"],
        unknown_items=game.settings["items.unknown"],
    )


def add_item(game: Game) -> AnyResponse:
    """Register an item; one that is there takes the name."""
    sku, name = request.form.get("sku", "").strip(), request.form.get("name", "").strip()
    at = "sku"
    try:
        checked_id(sku)
        at = "name"
        checked_text(name, registry.LONGEST_ID)
    except ValueError as error:
        return registry_page(game, 400, at, f"Please {error}.")

    def add(tx: Connection) -> None:
        registry.register_item(tx, game.id, sku, name or None)
        audit.record(tx, game.id, who(), "item.add", sku)

    write(add)
    return see_other("registry_page", "added")


def import_registry(game: Game) -> Response:
    """Register the players or items of a file. Every line is checked before the first is stored."""
    database = current_installation().database
    kind, upload = request.form.get("kind", ""), request.files.get("file")
    if kind not in ("players", "items"):
        raise PageError(400, "Say whether these are players or items")
    if upload is None or not upload.filename:
        return registry_page(game, 400, kind, "Please choose a file.")
    file = upload.stream
    try:
        # In this thread, which has read the file: it is asked to wait until all is stored, however long that takes.
        if kind == "players":
            done = csv_files.import_players(database, database.write_here, game.id, file, who())
        else:
            done = csv_files.import_items(database.write_here, game.id, file, who())
    except RegistryError as error:
        return registry_page(game, 400, kind, str(error))
    return registry_page(game, done=f"{done.count:,} {kind} imported, {done.new:,} of them new.")
