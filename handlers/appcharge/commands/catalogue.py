"""Reading and changing what the store sells."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import click

from coinslot.base import exact
from coinslot.base.spellings import shown
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.store import audit
from handlers.appcharge.api import catalogue
from handlers.appcharge.api.catalogue import CatalogueError, Offer, dollars
from handlers.appcharge.api.client import Client, as_json
from handlers.appcharge.api.offers import Changed, UncertainError, as_new, change_offer, create_offer
from handlers.appcharge.commands.shared import audited, cell, checked, game_and_client
from handlers.kit.api import ApiError
from handlers.kit.console import Command, table
from handlers.kit.receive import current_installation

LARGEST_FILE = 1024 * 1024
WARNINGS_TOLD = 50


@click.command("offers", cls=Command)
@click.argument("game")
@click.option("--id", "offer_ids", multiple=True, help="List these alone; may be given again.")
@click.option("--json", "is_json", is_flag=True, help="As Appcharge tells them, one JSON document per line.")
@click.option("--activate", metavar="ID", help="Switch an offer on.")
@click.option("--deactivate", metavar="ID", help="Switch an offer off.")
@click.option("--create", metavar="FILE", type=click.File("rb"), help="Create the offer of a JSON file, switched off.")
@click.option("--update", metavar="ID FILE", nargs=2, type=(str, click.File("rb")), help="Change the fields of a file.")
@click.option("--delete", metavar="ID", help="Delete an offer; asks first.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
def offers(
    game: str,
    offer_ids: tuple[str, ...],
    is_json: bool,
    activate: str | None,
    deactivate: str | None,
    create: IO[bytes] | None,
    update: tuple[str, IO[bytes]] | None,
    delete: str | None,
    is_sure: bool,
) -> None:
    """List the offers of GAME's store, or change one.

    A change is read back, and compared with what was there before: exit status 1 when more has changed than was
    asked for. Open stores show it once they reload (`flask appcharge refresh`).
    """
    if [activate, deactivate, create, update, delete].count(None) < 4:
        raise click.UsageError("make one change at a time")
    opened, client = game_and_client(game)
    if activate is not None or deactivate is not None:
        offer_id = checked(activate if activate is not None else deactivate)
        _change(opened, client, offer_id, {"active": activate is not None})
    elif create is not None:
        document = _read_file(create)
        _create(opened, client, as_new(document) if "offerId" in document else document)
    elif update is not None:
        _change(opened, client, checked(update[0]), _read_file(update[1]), has_to_show_before=True)
    elif delete is not None:
        _delete(opened, client, checked(delete), is_sure)
    else:
        _list(client, [checked(each) for each in offer_ids], is_json)


@click.command("items", cls=Command)
@click.argument("game")
@click.option("--dry-run", is_flag=True, help="Say what would be registered, and register nothing.")
@click.option("--offer", "offer_ids", multiple=True, help="Id of an offer to look at should the list be partial.")
def items(game: str, dry_run: bool, offer_ids: tuple[str, ...]) -> None:
    """Register the products of GAME's store that are no items yet. Nothing is renamed or removed."""
    opened, client = game_and_client(game)
    found = catalogue.read(client, [checked(each) for each in offer_ids])
    database = current_installation().database
    before = {row["sku"]: row["name"] for row in registry.items(database.read(), opened.id)}
    missing = {product.id: product.name for product in found.products if product.id not in before}
    if not dry_run:

        def store(tx: Any) -> list[str]:
            new = catalogue.fill_items(tx, opened.id, found)
            audit.record(tx, opened.id, "command", "item.import", f"Appcharge's catalogue ({len(new)} new)")
            return new

        missing = {sku: missing.get(sku) for sku in database.write_here(store)}
    for sku, name in missing.items():
        click.echo(f"{'would be registered' if dry_run else 'registered'}: {shown(sku, 80)}  {shown(name or '', 80)}")
    listed = {product.id for product in found.products}
    for sku in before:
        if sku not in listed:
            click.echo(f"not in the catalogue, and kept: {shown(sku, 80)}")
    _warn(found.warnings)
    click.echo(f"{len(listed)} products in {len(found.offers)} offers; {len(missing)} new items.")


@click.command("price-points", cls=Command)
@click.argument("game")
@click.argument("prices", metavar="[CENTS]...", type=click.IntRange(1, 10**9), nargs=-1)
@click.option("--country", help="Two letters: what the prices are there.")
def price_points(game: str, prices: tuple[int, ...], country: str | None) -> None:
    """The price points of GAME's account; with CENTS (US), what each of these prices is in other countries."""
    if country is not None and not re.fullmatch("[A-Za-z]{2}", country):
        raise click.UsageError("--country: use two letters (ISO 3166-1)")
    if country is not None and not 1 <= len(prices) <= 50:
        raise click.UsageError("--country: name 1 to 50 prices in US cents")
    _, client = game_and_client(game)
    if country is not None:
        _print_local_prices(client.local_prices(prices, country.upper()), prices)
        return
    if not prices:
        rows = [(cell(each.get("priceInUsdCents")), cell(each.get("lastUpdate"))) for each in client.price_points()]
        click.echo(table([("US cents", "last update"), *rows]) if rows else "There are none.")
        return
    head = ("US cents", "country", "price", "currency", "taxes", "rate", "overridden")
    names = ("countryCode2", "price", "currencyCode", "taxModel", "taxRate", "isOverridden")
    cells = [head]
    for price in prices:
        countries = client.price_point(price).get("priceByCountry")
        for each in countries if isinstance(countries, list) else []:
            if isinstance(each, dict):
                cells.append((str(price), *(cell(each.get(name)) for name in names)))  # type: ignore[arg-type]
    click.echo(table(cells))


def _read_file(file: IO[bytes]) -> dict[str, Any]:
    content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise click.ClickException(f"the file is larger than {LARGEST_FILE} bytes")
    try:
        document = exact.parse_json(content.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise click.ClickException(f"the file cannot be read: {error}") from None
    if not isinstance(document, dict) or exact.is_deeper(document, 64):
        raise click.ClickException("the file holds no JSON object that is an offer")
    return document


def _list(client: Client, offer_ids: Sequence[str], is_json: bool) -> None:
    if offer_ids:
        documents, is_partial = client.some_offers(offer_ids), False
    else:
        documents, is_partial = catalogue.read_offers(client)
    if is_partial:
        click.echo("Appcharge did not say that these are all offers; there may be more.", err=True)
    if is_json:
        for document in documents:
            click.echo(as_json(document))
        return
    rows = []
    for document in documents:
        offer = catalogue.parse_offer(document, str(document.get("publisherOfferId") or "-"))
        active = {True: "active", False: "off", None: "?"}[offer.is_active]
        kind = "/".join(filter(None, (offer.kind, offer.sub_kind))) or "?"
        cells = (offer.id, kind, active, _prices(offer), _contents(offer), offer.name or "-")
        rows.append(tuple(shown(cell, 60) for cell in cells))
    click.echo(table([("id", "kind", "state", "US dollars", "items", "name"), *rows]) if rows else "There are none.")


def _prices(offer: Offer) -> str:
    found = [entry.price_usd_cents for entry in offer.entries]
    return ", ".join("?" if price is None else "free" if price == 0 else dollars(price) for price in found) or "-"


def _contents(offer: Offer) -> str:
    lines = [line for entry in offer.entries for line in entry.lines]
    return ", ".join(f"{'?' if each.quantity is None else each.quantity} {each.product_id or '?'}" for each in lines)


def _create(game: Game, client: Client, document: Mapping[str, Any]) -> None:
    with audited(game, "appcharge.offer.create", str(document.get("publisherOfferId"))[: registry.LONGEST_ID]):
        changed = create_offer(client, document)
    offer_id = str(document["publisherOfferId"])
    _warn_about_prices(client, document)
    _tell_unexpected(changed)
    click.echo(f"Offer {offer_id} is created and switched off; `flask appcharge offers {game.slug} --activate ...`")


def _change(
    game: Game, client: Client, offer_id: str, changes: Mapping[str, Any], has_to_show_before: bool = False
) -> None:
    try:
        with audited(game, "appcharge.offer.update", offer_id):
            changed = change_offer(client, offer_id, changes)
    except UncertainError as error:
        _show_before(error.before)
        raise
    if has_to_show_before and changed.before is not None:
        _show_before(changed.before)
    if "productsSequence" in changes:
        _warn_about_prices(client, changes)
    _tell_unexpected(changed, is_before_shown=has_to_show_before)
    state = "active" if changed.after.get("active") is True else "switched off"
    click.echo(f"Offer {offer_id} is changed, and {state}.")
    if changes.get("active") is True:
        click.echo(
            "A player sees it within its schedule, in its segments, and where the profile does not leave it out."
        )


def _delete(game: Game, client: Client, offer_id: str, is_sure: bool) -> None:
    before = client.offer(offer_id)
    if before is None:
        raise CatalogueError(f"there is no offer {offer_id}")
    if not is_sure:
        click.confirm(
            f"Delete offer {shown(offer_id, 80)}? --deactivate can be undone, this perhaps cannot", abort=True
        )
    _show_before(before, "--create")
    with audited(game, "appcharge.offer.delete", offer_id):
        client.delete_offer(offer_id)
    said = f"Appcharge said that offer {shown(offer_id, 80)} is deleted, but"
    try:
        is_gone = client.offer(offer_id) is None
    except ApiError as error:
        raise click.ClickException(f"{error}\n{said} whether it is could not be read") from None
    if not is_gone:
        raise click.ClickException(
            f"{said} it is still there: look again (`flask appcharge offers {game.slug}`), and ask Appcharge"
        )
    click.echo(f"Offer {offer_id} is deleted.")


def _show_before(document: Mapping[str, Any], way_back: str = "--update") -> None:
    """Print the offer as it was to standard error; a file of it may be given to that option."""
    click.echo(f"The offer as it was, for `{way_back}` to go back to:\n{as_json(document)}", err=True)


def _tell_unexpected(changed: Changed, is_before_shown: bool = False) -> None:
    """Raises a ClickException when something is not as it should be."""
    if not changed.unexpected:
        return
    if changed.before is not None and not is_before_shown:
        _show_before(changed.before)
    raise click.ClickException(
        "\n".join(["it was done, and the offer is not as it should be now:", *changed.unexpected])
    )


def _warn_about_prices(client: Client, document: Mapping[str, Any]) -> None:
    try:
        known = client.price_points()
    except ApiError:
        return  # a remark, not worth failing a change that is made
    _warn(catalogue.price_warnings(document, known))


def _warn(warnings: Iterable[str]) -> None:
    found = list(warnings)
    for each in found[:WARNINGS_TOLD]:
        click.echo(f"warning: {shown(each, 300)}", err=True)
    if len(found) > WARNINGS_TOLD:
        click.echo(f"and {len(found) - WARNINGS_TOLD} more warnings", err=True)


def _print_local_prices(answered: Mapping[str, Any], prices: Sequence[int]) -> None:
    points = answered.get("pricePoints")
    rows = [("US cents", "lowest unit", "shown as", "currency")]
    for price in prices:
        point = points.get(str(price)) if isinstance(points, dict) else None
        if isinstance(point, dict):
            cells = (point.get("price"), point.get("displayPrice"), answered.get("currencyCode"))
            rows.append((str(price), *(cell(each) for each in cells)))  # type: ignore[arg-type]
        else:
            rows.append((str(price), "-", "no price point here", "-"))
    click.echo(table(rows))
