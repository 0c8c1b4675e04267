"""Items: what there is to give. Listed, found, named, imported, and removed where none was ever granted."""

from collections.abc import Iterator

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games import csv_files, registry
from coinslot.games.games import Game
from coinslot.games.registry import LONGEST_ID, RegistryError, checked_id, checked_text
from coinslot.ledger import items as catalogue
from coinslot.ledger.search import PAGE_ROWS
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import UPLOADS, PageError, page, read, see_other, who, write
from handlers.kit.receive import current_installation

ROWS_AT_ONCE = 500
CSV_HEADER = ("sku", "name", "created_at", "updated_at")


def items(game: Game, status: int = 200, at: str = "", problem: str = "", done: str | None = None) -> Response:
    """The list. ``problem`` is shown beside the form ``at``: ``sku``, ``name``, ``import`` or ``list``."""
    connection = read()
    wanted = request.args.get("q", "").strip()[:LONGEST_ID]
    after = request.args.get("after", "")[:LONGEST_ID]
    rows = catalogue.listed(connection, game.id, wanted, after, PAGE_ROWS + 1)
    found = {row["sku"] for row in rows}
    named = catalogue.named(connection, game.id, wanted) if wanted and not after else []
    return page(
        "items.html",
        status,
        rows=rows[:PAGE_ROWS],
        named=[row for row in named if row["sku"] not in found],
        looked_at=catalogue.LOOKED_AT,
        wanted=wanted,
        next=rows[PAGE_ROWS - 1]["sku"] if len(rows) > PAGE_ROWS else None,
        problems={at: problem.splitlines()} if problem else {},
        done=done,
        form=request.form,
        renaming=request.form.get("renaming") or request.args.get("rename"),
        largest_mib=UPLOADS["dashboard.import_items"] // 1024**2,
        unknown=game.settings["items.unknown"],
    )


def items_csv(game: Game) -> Response:
    """All items, or those whose sku begins so. The file can be imported again."""
    connection = read()
    wanted = request.args.get("q", "").strip()[:LONGEST_ID]

    def rows() -> Iterator[tuple[object, ...]]:
        after = ""
        while found := catalogue.listed(connection, game.id, wanted, after, ROWS_AT_ONCE):
            for row in found:
                yield tuple(row[name] for name in CSV_HEADER)
            after = found[-1]["sku"]

    return csv_file(f"{game.slug}-items", CSV_HEADER, rows())


def add_item(game: Game) -> AnyResponse:
    """Register an item; one that is there takes the name."""
    sku, name = request.form.get("sku", "").strip(), request.form.get("name", "").strip()
    at = "sku"
    try:
        checked_id(sku)
        at = "name"
        checked_text(name, LONGEST_ID)
    except ValueError as error:
        return items(game, 400, at, f"Please {error}.")

    def add(tx: Connection) -> None:
        registry.register_item(tx, game.id, sku, name or None)
        audit.record(tx, game.id, who(), "item.add", sku)

    write(add)
    return see_other("items", "added", q=sku)


def rename_item(game: Game) -> AnyResponse:
    """Give an item another name, or none."""
    sku, name = request.form.get("sku", ""), request.form.get("name", "").strip()
    try:
        checked_text(name, LONGEST_ID)
    except ValueError as error:
        return items(game, 400, "list", f"Please {error}.")

    def rename(tx: Connection) -> bool:
        is_there = registry.has_item(tx, game.id, sku) and sku != registry.RESERVED_ID
        if is_there:
            registry.put_item(tx, game.id, sku, name or None)
            audit.record(tx, game.id, who(), "item.rename", sku)
        return is_there

    if not write(rename):
        raise PageError(404, "This game has no such item")
    return see_other("items", "saved", q=sku)


def remove_item(game: Game) -> AnyResponse:
    """Remove an item that was never granted."""
    sku, connection = request.form.get("sku", ""), read()
    through = catalogue.last_grant(connection)
    if catalogue.is_granted(connection, game.id, sku):
        return items(game, 409, "list", catalogue.GRANTED)

    def remove(tx: Connection) -> bool:
        is_there = catalogue.remove(tx, game.id, sku, through)
        if is_there:
            audit.record(tx, game.id, who(), "item.remove", sku)
        return is_there

    try:
        is_removed = write(remove)
    except RegistryError as error:
        return items(game, 409, "list", str(error))
    return see_other("items", "removed" if is_removed else "nothing")


def import_items(game: Game) -> Response:
    """Register the items of a file. Every line is checked before the first is stored."""
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return items(game, 400, "import", "Please choose a file.")
    # In this thread, which has read the file: it is asked to wait until all is stored, however long that takes.
    write_here = current_installation().database.write_here
    try:
        done = csv_files.import_items(write_here, game.id, upload.stream, who())
    except RegistryError as error:
        return items(game, 400, "import", str(error))
    return items(game, done=f"{done.count:,} items imported, {done.new:,} of them new.")
