"""Setting PlayCamp up: the calls it wants to have seen, and its webhooks registered."""

from collections.abc import Callable, Sequence
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

# What PlayCamp announces; its own reference does not offer the last two to be registered.
EVENT_TYPES = (
    "sponsor.created",
    "sponsor.ended",
    "coupon.redeemed",
    "payment.created",
    "payment.bulk_created",
    "sponsor.changed",
    "payment.refunded",
)
UNDOCUMENTED = ("sponsor.changed", "payment.refunded")
TEST_CREATOR = "TEST1"  # PlayCamp's own, for test calls


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

    def sponsor() -> str:
        return f"supports {client.check_sponsor(RESERVED_ID, creator, campaign) or creator}"

    def coupon() -> str:
        found = client.validate_coupon(RESERVED_ID, RESERVED_ID, is_test=True)
        return "valid" if found.is_accepted else f"not valid: {found.error_code}"

    def payment() -> str:
        client.check_payment(registration.sample_payment())
        return "SUCCESS"

    calls: tuple[tuple[str, Callable[[], str]], ...] = (
        ("POST /sponsors", sponsor),
        ("POST /coupons/validate", coupon),
        ("POST /payments", payment),
    )
    note(opened, "playcamp.verify", opened.settings["playcamp.environment"])
    rows = [("call", "", "answered")]
    for title, call in calls:
        try:
            rows.append((title, "ok", shown(call(), LONGEST_CELL)))
        except ApiError as error:
            rows.append((title, "REFUSED" if error.status is not None else "FAILED", shown(str(error), 300)))
    click.echo(f"PlayCamp {opened.settings['playcamp.environment']}, {client.base_url}, as tests:")
    click.echo(table(rows))
    if any(row[1] != "ok" for row in rows[1:]):
        raise click.ClickException("not every call was taken, and PlayCamp counts only those on live that are")
    if opened.settings["playcamp.environment"] != "live":
        click.echo("PlayCamp wants to see these calls on live before it publishes a campaign.")


@click.command("webhooks", cls=Command)
@click.argument("game")
@click.option("--replace", is_flag=True, help="Move registrations of this address at another host here.")
def webhooks(game: str, replace: bool) -> None:
    """Have PlayCamp send GAME's events here: registers every event type and keeps each signing secret.

    May be run again and again: what is registered and whose secret is here stays as it is; where the secret is
    missing, which is shown only once, the registration is made anew, and the older ones are deleted once it stands.
    An event type that is sent to the same address of another host, as before a move, is left there unless --replace
    is given.
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
    older: list[tuple[Webhook, ApiError]] = []
    for event_type in EVENT_TYPES:
        path = f"/playcamp/{opened.slug}/webhook/{event_type}"
        url = f"{public_url}{path}"
        of_type = [each for each in registered if each.event_type == event_type]
        ours = [each for each in of_type if each.url == url]
        others = [each for each in of_type if each.url != url and urlsplit(each.url).path.endswith(path)]
        if others and not ours and not replace:
            away += others
            rows.append((event_type, "at another host", shown(", ".join(each.url for each in others), 300)))
            continue
        try:
            done, outdated = _registered(opened, client, event_type, url, ours)
        except ApiError as error:
            # What is registered already is offered.
            is_expected = event_type in UNDOCUMENTED and not ours and error.is_permanent and not error.is_key_refused
            has_failed |= not is_expected
            rows.append((event_type, "not offered" if is_expected else "FAILED", shown(str(error), 300)))
            if ours:
                rows.append(("", "left alone", f"{len(ours)} older registration(s) of this address"))
            continue
        left = _not_deleted(client, [*outdated, *(others if replace else ())])
        older += left
        rows.append((event_type, "moved here" if others and replace and not left else done, url))
        rows += [("", "NOT DELETED", shown(f"{each.id}: {why}", 300)) for each, why in left]
        if others and not replace:
            away += others
            rows.append(("", "and at", shown(", ".join(each.url for each in others), 300)))
    click.echo(table(rows))
    if older:
        click.echo(
            f"{len(older)} older registration(s) could not be deleted and are still there. What one signs for an "
            "address here is refused (401), since its secret is not kept, and that may be all that PlayCamp sends to "
            "the address; nothing counts twice. What one sends to another host still arrives there. Delete them at "
            "PlayCamp, or run it again."
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
    if older:
        raise click.ClickException("every event type is registered, and not every older registration is deleted")


def _registered(
    game: Game, client: Client, event_type: str, url: str, ours: list[Webhook]
) -> tuple[str, list[Webhook]]:
    """Have one registration whose secret we hold; returns what was done, and which ones are to be deleted now.

    Raises ApiError, and then what was registered before is as it was.
    """
    name = f"playcamp.webhook_secret.{event_type}"
    if len(ours) == 1 and game.keys(name):
        if not ours[0].is_active:
            client.update_webhook(ours[0].id, is_active=True)
            return "switched on", []
        return "kept", []
    made = client.create_webhook(event_type, url)
    installation = current_installation()
    try:
        installation.database.write_here(
            lambda tx: keyring.put(
                tx, installation.vault, games.find(tx, game.slug), name, made.secret or "", "command"
            )
        )
    except BaseException:
        client.delete_webhook(made.id)
        raise
    return "registered anew" if ours else "registered", ours


def _not_deleted(client: Client, old: Sequence[Webhook]) -> list[tuple[Webhook, ApiError]]:
    """Delete registrations; returns those that are still there, and why."""
    left = []
    for each in old:
        try:
            client.delete_webhook(each.id)
        except ApiError as error:
            left.append((each, error))
    return left
