"""``flask playcamp``: payment history, calls before publishing, webhook registrations, what waits for a person.

Players' ids and PlayCamp's own words are shown; keys, signing secrets and rows never are.
"""

import functools
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import click
from flask.cli import with_appcontext

from coinslot.access import keyring
from coinslot.base import clock, moments
from coinslot.base.spellings import shown
from coinslot.games import games
from coinslot.games.games import Game, GameError
from coinslot.games.registry import RESERVED_ID
from coinslot.operations import unsettled
from coinslot.outbox import conversions, destinations
from coinslot.payments import lists, queue, store
from coinslot.relay import jobs
from coinslot.relay.jobs import JobError
from coinslot.store import audit
from handlers.kit.api import ApiError
from handlers.kit.console import table
from handlers.kit.errors import in_words
from handlers.kit.receive import installation
from handlers.playcamp.api.answers import Webhook
from handlers.playcamp.api.client import Client, base_url
from handlers.playcamp.events.payload import SPONSOR, UNREADABLE
from handlers.playcamp.events.webhooks import PARTNER
from handlers.playcamp.parked import COUPONS
from handlers.playcamp.payments import polling, registration, trying
from handlers.playcamp.payments.source import SourceError, is_configured
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
MOST_LISTED = 1000
LONGEST_CELL = 100
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

P = ParamSpec("P")
R = TypeVar("R")


def told(command: Callable[P, R]) -> Callable[P, R]:
    """For every command here: what PlayCamp or the game refuses, in words like all other trouble."""

    @functools.wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ApiError, JobError, SourceError) as error:
            raise click.ClickException(str(error)) from None

    return in_words(inner)


@click.group("playcamp")
def playcamp() -> None:
    """PlayCamp: payment history, verification, webhooks, what waits for a person."""


@playcamp.command("backfill")
@click.argument("game")
@click.option("--from", "since", metavar="DATE", required=True, help="First day, or a time such as 2026-01-31T12:00.")
@click.option("--to", "until", metavar="DATE", required=True, help="Last day, itself included, or a time before which.")
@with_appcontext
@told
def backfill(game: str, since: str, until: str) -> None:
    """Read a range of GAME's own payment history and register it, beside the polls.

    Days are those of playcamp.payments.zone. What is stored already is not stored again. An interrupted backfill goes
    on where it was when the same command is given again.
    """
    opened = _game(game)
    if not is_configured(opened):
        raise click.ClickException("playcamp.payments needs .url, .rows and .map before payments can be read")
    start, end = _moment(opened, "--from", since), _moment(opened, "--to", until, is_end=True)
    if start >= end:
        raise click.UsageError("--to has to be after --from")
    house = installation()
    _note(opened, "playcamp.backfill", f"{since} to {until}")
    count = 0
    with click.progressbar(length=end - start, label="Reading payments") as bar:

        def tell(progress: polling.Progress, rows: int) -> None:
            nonlocal count
            count += rows
            bar.update(progress.reached - start - bar.pos)

        try:
            warning = polling.backfill(house, opened, _owner(), start, end, tell)
        except SourceError as error:
            raise click.ClickException(
                f"{error}\nWhat was read is stored; the same command goes on from there."
            ) from None
    click.echo(f"{count} rows read.")
    if warning is not None:
        click.echo(f"Warning: {warning}.")
    _register(opened)


@playcamp.command("try")
@click.argument("game")
@click.option("--from", "since", metavar="DATE", help="Where the window begins; left out: the one that ends now.")
@with_appcontext
@told
def try_payments(game: str, since: str | None) -> None:
    """Read one window of GAME's own payments as a poll would, store nothing, and show what comes of it.

    Exit status 1 when nothing can be read, no row of it be sent, or the answer may be the first page of several.
    """
    opened = _game(game)
    start = None if since is None else _moment(opened, "--from", since)
    found = trying.try_window(installation(), opened, start=start, most_pages=trying.MOST_PAGES)
    span = f"{found.start[:19]}Z to {found.end[:19]}Z"
    more = "" if found.next is None else ", and there are more"
    click.echo(f"Payments from {span}: {found.count} row(s) on {found.pages} page(s){more}. Nothing was stored.")
    if found.first is not None:
        click.echo("The first that can be sent:")
        rows = [(name, str(getattr(found.first, name) or "-")) for name in _TRIED]
        click.echo(table([(name, shown(value, LONGEST_CELL)) for name, value in rows], indent="  "))
    problems = [(str(count), shown(reason, 300)) for reason, count in found.parked.items()]
    _section(f"{found.parked_count} row(s) cannot be sent", ("rows", "why"), problems)
    if found.wrong is not None:
        raise click.ClickException(found.wrong)


@playcamp.command("verify")
@click.argument("game")
@click.option("--creator", default=TEST_CREATOR, show_default=True, help="Key of a creator.")
@click.option("--campaign", help="Id of the campaign; left out: the one that is running.")
@with_appcontext
@told
def verify(game: str, creator: str, campaign: str | None) -> None:
    """Make the three calls PlayCamp wants to have seen before GAME's campaign may be published.

    They are tests: PlayCamp checks them and stores nothing. A coupon that is not valid is an answer as good as any.
    """
    opened = _game(game)
    client = Client(opened, installation().outbound)
    payment = registration.sample_payment()

    def sponsor() -> str:
        return f"supports {client.put_sponsor(RESERVED_ID, creator, campaign, is_test=True) or creator}"

    def coupon() -> str:
        found = client.validate_coupon(RESERVED_ID, RESERVED_ID, is_test=True)
        return "valid" if found.is_accepted else f"not valid: {found.error_code}"

    calls: tuple[tuple[str, Callable[[], str]], ...] = (
        ("POST /sponsors", sponsor),
        ("POST /coupons/validate", coupon),
        ("POST /payments", lambda: client.register_payment(payment, is_test=True).status),
    )
    _note(opened, "playcamp.verify", opened.settings["playcamp.environment"])
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


@playcamp.command("webhooks")
@click.argument("game")
@click.option("--replace", is_flag=True, help="Move registrations of this address at another host here.")
@with_appcontext
@told
def webhooks(game: str, replace: bool) -> None:
    """Have PlayCamp send GAME's events here: registers every event type and keeps each signing secret.

    May be run again and again: what is registered and whose secret is here stays as it is; where the secret is
    missing, which is shown only once, the registration is made anew, and the older ones are deleted once it stands.
    An event type that is sent to the same address of another host, as before a move, is left there unless --replace
    is given.
    """
    opened = _game(game)
    client = Client(opened, installation().outbound)
    public_url = installation().settings.public_url
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
    if not destinations.wanting(installation().database.read(), opened.id, SPONSOR, is_converted=True):
        click.echo(
            f"Boosts are stored and answered by GET /game/v1/players/<id>/sponsors and GET /game/v1/events. Nothing is "
            f"sent to the game in its own format before `flask destination add {opened.slug} NAME URL --format "
            "playcamp --events 'sponsor.*'`, and what comes before that is not sent later."
        )
    if has_failed:
        raise click.ClickException("not every event type is registered; run it again")
    if older:
        raise click.ClickException("every event type is registered, and not every older registration is deleted")


@playcamp.command("parked")
@click.argument("game")
@click.option("--limit", type=click.IntRange(1, MOST_LISTED), default=100, show_default=True, help="Rows of each kind.")
@with_appcontext
@told
def parked(game: str, limit: int) -> None:
    """What of GAME's cannot go on by itself, and why: events, coupons, payments, refunds, conflicts.

    Most of it goes on by itself once the configuration knows the creator, the market or the field; a quarantined
    payment after `flask playcamp redrive`.
    """
    opened = _game(game)
    connection = installation().database.read()
    events = [
        (str(row["event_id"]), row["event_type"], row["player_id"], row["parked_at"][:19], row["reason"] or "")
        for row in conversions.parked(connection, opened.id, limit)
    ]
    rows = [
        *lists.listing(connection, opened.id, "parked", None, limit),
        *lists.listing(connection, opened.id, "quarantined", None, limit),
    ]
    refunds = lists.stuck_refunds(connection, opened.id, limit)
    conflicts = lists.conflicts(connection, opened.id, limit)
    _section("Events that cannot be converted", ("event", "type", "player", "since", "why"), events)
    _section(
        "Payments that cannot be registered",
        ("transaction", "state", "since", "why"),
        [(row["transaction_id"], row["state"], row["updated_at"][:19], row["reason"] or "") for row in rows],
    )
    _section(
        "Refunds that PlayCamp does not take",
        ("transaction", "since", "why"),
        [(row["transaction_id"], row["updated_at"][:19], row["reason"] or "") for row in refunds],
    )
    _section(
        "Payments reported again with other content; the first one stands",
        ("transaction", "times", "last", "why"),
        [(row["transaction_id"], str(row["seen"]), row["last_at"][:19], row["reason"] or "") for row in conflicts],
    )
    coupons = unsettled.events_without_grant(connection, opened.id, PARTNER, COUPONS, limit)
    unreadable = unsettled.events_without_grant(connection, opened.id, PARTNER, (UNREADABLE,), limit)
    twice = unsettled.conflicts(connection, opened.id, PARTNER, limit)
    _section(
        "Coupons that were redeemed and could not be granted",
        ("event", "usage", "player", "since"),
        [
            (str(row["id"]), row["external_id"] or "-", row["player_id"] or "-", row["received_at"][:19])
            for row in coupons
        ],
    )
    _section(
        "Events that could not be read",
        ("event", "player", "since", "why"),
        [
            (str(row["id"]), row["player_id"] or "-", row["received_at"][:19], json.loads(row["data"])["reason"])
            for row in unreadable
        ],
    )
    _section(
        "Coupons reported again with other content; the first grant stands",
        ("usage", "player", "last"),
        [(row["external_id"], row["player_id"], row["last_at"][:19]) for row in twice],
    )
    if not (events or rows or refunds or conflicts or coupons or unreadable or twice):
        click.echo("Nothing waits for a person.")


@playcamp.command("payments")
@click.argument("game")
@click.option("--state", type=click.Choice(store.STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, MOST_LISTED), default=100, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="One JSON document per line.")
@with_appcontext
@told
def list_payments(game: str, state: str | None, limit: int, is_json: bool) -> None:
    """GAME's in-game payments, newest first."""
    opened = _game(game)
    rows = lists.listing(installation().database.read(), opened.id, state, None, limit)
    if is_json:
        for row in rows:
            click.echo(json.dumps({name: row[name] for name in _TOLD}))
        return
    if not rows:
        click.echo("There are none.")
        return
    cells = [("transaction", "player", "amount", "market", "paid", "state", "refund", "why")]
    for row in rows:
        amount = f"{row['amount']} {row['currency']}" if row["amount"] and row["currency"] else "-"
        market = row["market"] or row["distribution_type"]
        paid = (row["purchased_at"] or "-")[:19]
        refund = row["refund_state"] or ("yes" if row["refunded_at"] else "-")
        told_of = (row["transaction_id"], row["player_id"], amount, market, paid, row["state"], refund, row["reason"])
        cells.append(tuple(shown(each or "-", LONGEST_CELL) for each in told_of))  # type: ignore[arg-type]
    click.echo(table(cells))


@playcamp.command("redrive")
@click.argument("game")
@click.argument("transaction_ids", metavar="TRANSACTION...", nargs=-1, required=True)
@with_appcontext
@told
def redrive(game: str, transaction_ids: tuple[str, ...]) -> None:
    """Have quarantined payments of GAME, or their refunds, tried anew."""
    opened = _game(game)
    missing = []

    def put_back(tx: Any) -> None:
        for transaction_id in transaction_ids:
            if queue.redrive(tx, opened.id, transaction_id):
                audit.record(tx, opened.id, "command", "playcamp.redrive", transaction_id)
            else:
                missing.append(transaction_id)
        jobs.wake(tx, opened.id, registration.JOB)

    installation().database.write_here(put_back)
    click.echo(f"{len(transaction_ids) - len(missing)} put back.")
    if missing:
        raise click.ClickException(f"not quarantined: {', '.join(shown(each, LONGEST_CELL) for each in missing)}")


COMMANDS: tuple[click.Command, ...] = (playcamp,)


_TRIED = (
    "transaction_id",
    "player_id",
    "product_id",
    "product_name",
    "amount",
    "currency",
    "market",
    "platform",
    "distribution_type",
    "purchased_at",
    "refunded_at",
    "kept_because",
)
_TOLD = (
    "transaction_id",
    "source",
    "player_id",
    "product_id",
    "amount",
    "currency",
    "market",
    "platform",
    "distribution_type",
    "purchased_at",
    "refunded_at",
    "is_test",
    "state",
    "reason",
    "tries",
    "next_try_at",
    "registered_at",
    "refund_state",
)


def _game(slug: str) -> Game:
    game = installation().games.by_slug(slug)
    if game is None:
        raise GameError(f"there is no game {slug}")
    return game


def _owner() -> str:
    return f"command-{os.getpid()}-{secrets.token_hex(4)}"


def _note(game: Game, action: str, subject: str) -> None:
    installation().database.write_here(lambda tx: audit.record(tx, game.id, "command", action, subject))


def _moment(game: Game, option: str, text: str, is_end: bool = False) -> int:
    """Unix seconds of a day or time of the game's; of a last day the first moment after it."""
    zone = game.settings["playcamp.payments.zone"]
    try:
        if is_end and DAY.fullmatch(text):
            text = (date.fromisoformat(text) + timedelta(days=1)).isoformat()
        found = moments.milliseconds(text, zone) // 1000
        if found < 0:
            raise ValueError("before 1970")
    except (ValueError, OverflowError):
        raise click.UsageError(f"{option}: use a day such as 2026-01-31") from None
    return found


def _register(game: Game) -> None:
    """Register what is due, as the relay does, and say how that went."""
    house = installation()
    if not game.keys("playcamp.api_key"):
        click.echo("playcamp.api_key is not set: nothing is registered before it is.")
        return
    waiting = lists.counts(house.database.read(), game.id)["waiting"]
    with click.progressbar(length=max(1, waiting), label="Registering") as bar:
        again: float | None = 0.0
        while again == 0.0:
            with _taken(game) as is_ours:
                if not is_ours:
                    break
                again = registration.run(house, game)
            left = lists.counts(house.database.read(), game.id)["waiting"]
            bar.update(max(0, waiting - left - bar.pos))
    if again == 0.0:
        click.echo("The server is registering them already.")
    found = lists.counts(house.database.read(), game.id)
    click.echo(
        f"{found['waiting']} wait to be registered, {found['parked']} are parked, {found['quarantined']} quarantined"
        f"{'; see `flask playcamp parked`' if found['parked'] or found['quarantined'] else ''}."
    )


@contextmanager
def _taken(game: Game) -> Iterator[bool]:
    """The registration, in this command's hand, unless a relay has it."""
    database = installation().database
    due = database.write_here(lambda tx: jobs.take(tx, _owner(), game.id, registration.JOB))
    if due is None:
        yield False
        return
    error: JobError | None = None
    try:
        yield True
    except JobError as trouble:
        error = trouble
        raise
    finally:
        # Nothing is left to ask the job's own row when it is due: what waits is due by the time it runs.
        again = queue.next_due(database.read(), game.id)
        in_seconds = None if again is None else max(0.0, clock.seconds(again) - clock.now())
        database.write_here(lambda tx: jobs.finished(tx, due, in_seconds, error))


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
    house = installation()
    try:
        house.database.write_here(
            lambda tx: keyring.put(tx, house.vault, games.find(tx, game.slug), name, made.secret or "", "command")
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


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        click.echo(f"{title}:")
        click.echo(table([tuple(head), *(tuple(shown(cell, 300) for cell in row) for row in rows)], indent="  "))
