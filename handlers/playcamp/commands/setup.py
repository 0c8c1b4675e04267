"""Set PlayCamp up: make the calls it wants to have seen, and register its webhooks."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import click

from coinslot.access import keyring
from coinslot.base.spellings import shown
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.outbox import destinations
from handlers.kit.api import ApiError
from handlers.kit.console import Command, opened_game, table
from handlers.kit.receive import current_installation
from handlers.playcamp.api.answers import Webhook
from handlers.playcamp.api.client import Client, base_url
from handlers.playcamp.commands.shared import LONGEST_CELL, note
from handlers.playcamp.events.payload import SPONSOR
from handlers.playcamp.payments import registration
from handlers.playcamp.simulation import LOOPBACK

# All that PlayCamp announces. Its reference does not list the last two as events to register.
EVENT_TYPES = (
    "sponsor.created",
    "sponsor.ended",
    "coupon.redeemed",
    "payment.created",
    "payment.bulk_created",
    "sponsor.changed",
    "payment.refunded",
)
UNDOCUMENTED = EVENT_TYPES[-2:]
TEST_CREATOR = "TEST1"  # PlayCamp's own, for test calls
LONGEST_LINE = 300  # of a cell with an address or a reason


@click.command("verify", cls=Command)
@click.argument("game")
@click.option("--creator", default=TEST_CREATOR, show_default=True, help="Key of a creator.")
@click.option("--campaign", help="Id of the campaign; left out: the one that is running.")
def verify(game: str, creator: str, campaign: str | None) -> None:
    """Make the three calls PlayCamp wants to have seen before GAME's campaign may be published.

    They are tests: PlayCamp checks them and stores nothing. A coupon that is not valid is an answer as good as any.
    """
    opened = opened_game(game)
    client = Client(opened, current_installation().outbound)
    environment = opened.settings["playcamp.environment"]

    def sponsor() -> str:
        return f"supports {client.check_sponsor(RESERVED_ID, creator, campaign) or creator}"

    def coupon() -> str:
        found = client.validate_coupon(RESERVED_ID, RESERVED_ID, is_test=True)
        return "valid" if found.is_accepted else f"not valid: {found.error_code}"

    def payment() -> str:
        client.check_payment(registration.sample_payment())
        return "SUCCESS"

    note(opened, "playcamp.verify", environment)
    rows = [("call", "", "answered")]
    for path, call in (("/sponsors", sponsor), ("/coupons/validate", coupon), ("/payments", payment)):
        try:
            rows.append((f"POST {path}", "ok", shown(call(), LONGEST_CELL)))
        except ApiError as error:
            word = "REFUSED" if error.status is not None else "FAILED"
            rows.append((f"POST {path}", word, shown(str(error), LONGEST_LINE)))
    click.echo(f"PlayCamp {environment}, {client.base_url}, as tests:")
    click.echo(table(rows))
    if any(row[1] != "ok" for row in rows[1:]):
        raise click.ClickException("not every call was taken, and PlayCamp counts only those on live that are")
    if environment != "live":
        click.echo("PlayCamp wants to see these calls on live before it publishes a campaign.")


@click.command("webhooks", cls=Command)
@click.argument("game")
@click.option("--replace", is_flag=True, help="Move registrations of this address at another host here.")
def webhooks(game: str, replace: bool) -> None:
    """Have PlayCamp send GAME's events here: registers every event type and stores each signing secret.

    May be run again at any time. A registration whose secret is stored here is kept. PlayCamp shows a secret only once:
    where it is missing, a new registration is made, and the older ones are deleted after that. An event type that is
    registered for the same address at another host, as before a move, is left there unless --replace is given.
    """
    opened = opened_game(game)
    client = Client(opened, current_installation().outbound)
    public_url = current_installation().settings.public_url
    if not public_url.startswith("https://") and urlsplit(base_url(opened)).hostname not in LOOPBACK:
        raise click.ClickException(
            f"COINSLOT_PUBLIC_URL is {public_url}: PlayCamp reaches https addresses on the internet only"
        )
    registered = client.webhooks()
    rows = [("event", "", "address")]
    has_failed = False
    away: list[Webhook] = []
    undeleted: list[tuple[Webhook, ApiError]] = []
    for event_type in EVENT_TYPES:
        path = f"/playcamp/{opened.slug}/webhook/{event_type}"
        url = f"{public_url}{path}"
        of_type = [each for each in registered if each.event_type == event_type]
        ours = [each for each in of_type if each.url == url]
        others = [each for each in of_type if each.url != url and urlsplit(each.url).path.endswith(path)]
        at_others = shown(", ".join(each.url for each in others), LONGEST_LINE)
        if others and not ours and not replace:
            away += others
            rows.append((event_type, "at another host", at_others))
            continue
        try:
            done, outdated = _registered(opened, client, event_type, url, ours)
        except ApiError as error:
            is_offered = event_type not in UNDOCUMENTED or bool(ours)
            is_failure = is_offered or not error.is_permanent or error.is_key_refused
            has_failed |= is_failure
            rows.append((event_type, "FAILED" if is_failure else "not offered", shown(str(error), LONGEST_LINE)))
            if ours:
                rows.append(("", "left alone", f"{len(ours)} older registration(s) of this address"))
            continue
        left = _not_deleted(client, [*outdated, *(others if replace else ())])
        undeleted += left
        rows.append((event_type, "moved here" if others and replace and not left else done, url))
        rows += [("", "NOT DELETED", shown(f"{each.id}: {why}", LONGEST_LINE)) for each, why in left]
        if others and not replace:
            away += others
            rows.append(("", "and at", at_others))
    click.echo(table(rows))
    if undeleted:
        click.echo(
            f"{len(undeleted)} older registration(s) could not be deleted and are still there. Calls that one signs "
            "for an address here are refused (401), since its secret is not stored, and PlayCamp may send no others to "
            "that address; nothing counts twice. Calls to another host still arrive there. Delete the registrations "
            "at PlayCamp, or run this command again."
        )
    if away:
        click.echo(f"{len(away)} registration(s) send to this address at another host: --replace moves them here.")
    elsewhere = [each for each in registered if f"/playcamp/{opened.slug}/webhook" not in each.url and each.is_active]
    if elsewhere:
        click.echo(f"{len(elsewhere)} more registration(s) of this project send elsewhere, and were left alone.")
    if not destinations.wanting(current_installation().database.read(), opened.id, SPONSOR, is_converted=True):
        click.echo(
            f"Boosts are stored and answered by GET /game/v1/players/<id>/sponsors and GET /game/v1/events. Nothing is "
            f"sent to the game in its own format before `flask destination add {opened.slug} NAME URL --format "
            "playcamp --events 'sponsor.*'`, and what comes before that is not sent later."
        )
    if has_failed:
        raise click.ClickException("not every event type is registered; run it again")
    if undeleted:
        raise click.ClickException("every event type is registered, and not every older registration is deleted")


def _registered(
    game: Game, client: Client, event_type: str, url: str, ours: list[Webhook]
) -> tuple[str, list[Webhook]]:
    """Have one registration whose secret we hold; returns what was done, and which ones are to be deleted now.

    Raises ApiError, and then the earlier registrations are unchanged.
    """
    name = f"playcamp.webhook_secret.{event_type}"
    if len(ours) == 1 and game.keys(name):
        if not ours[0].is_active:
            client.update_webhook(ours[0].id, is_active=True)
            return "switched on", []
        return "kept", []
    made = client.create_webhook(event_type, url)
    secret, database, vault = made.secret or "", current_installation().database, current_installation().vault
    try:
        database.write_here(lambda tx: keyring.put(tx, vault, games.find(tx, game.slug), name, secret, "command"))
    except BaseException:
        client.delete_webhook(made.id)
        raise
    return "registered again" if ours else "registered", ours


def _not_deleted(client: Client, old: Sequence[Webhook]) -> list[tuple[Webhook, ApiError]]:
    """Delete registrations; returns those that could not be deleted, and why."""
    left = []
    for each in old:
        try:
            client.delete_webhook(each.id)
        except ApiError as error:
            left.append((each, error))
    return left
