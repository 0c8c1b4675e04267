"""Who changed what, in all games, newest first; and the same as CSV."""

from flask import Response, request

from coinslot.access import people
from coinslot.games import games
from coinslot.store import audit
from coinslot.store.audit import Wanted
from coinslot.store.db import Connection, Row
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import PageError, below, page, read

ACTORS = {
    "command": "a command on the server",
    "game": "the game's server",
    "server": "this server",
}
INSTALLATION = "-"  # in the filter of games; no short name looks like it
LONGEST_WORD = 100

# Action -> how its sentence begins, which its subject ends. Any other action is shown as it is.
MEANINGS = {
    "address.copied": "noted as pasted at the partner: the address",
    "address.test": "sent a test to the address",
    "address.not_copied": "took back as pasted: the address",
    "alert.add": "added the alert target",
    "alert.remove": "removed the alert target",
    "appcharge.offer.create": "created at Appcharge the offer",
    "appcharge.offer.delete": "deleted at Appcharge the offer",
    "appcharge.offer.update": "changed at Appcharge the offer",
    "backup.download": "downloaded a backup",
    "config.set": "changed the setting",
    "delivery.redrive": "redrove the delivery",
    "destination.active": "resumed the destination",
    "destination.add": "added the destination",
    "destination.paused": "paused the destination",
    "destination.removed": "removed the destination",
    "destination.success": "changed what counts as delivered at",
    "event.reveal": "looked at what is hidden of event",
    "game.add": "added the game",
    "game.token": "made a new API token for",
    "game.token.retire": "retired the earlier API tokens of",
    "heartbeat.off": "switched the heartbeat off",
    "heartbeat.on": "set the heartbeat's URL",
    "item.add": "added the item",
    "item.import": "imported",
    "item.remove": "removed the item",
    "item.rename": "named the item",
    "key.check": "showed a copy of the master key",
    "key.rotate": "made a new master key:",
    "order.refund": "asked to refund the order",
    "order.refund.refused": "was refused the refund of",
    "order.refund.sent": "had the refund begun of",
    "order.refund.unknown": "got no answer about the refund of",
    "order.reverse": "reversed the order",
    "owner.setup": "set this installation up",
    "pages.zone": "chose the time zone of the pages:",
    "payment.move": "moved the payment to another month:",
    "payment.redrive": "redrove the payment",
    "person.accept": "accepted the invitation, as",
    "person.invite": "invited",
    "person.login": "signed in, from",
    "person.password": "set the password of",
    "person.remove": "removed",
    "person.show": "looked at personal data on",
    "playcamp.redrive": "redrove events that were parked:",
    "player.add": "added the player",
    "player.edit": "changed the player",
    "player.export": "downloaded everything kept about the player",
    "player.forget": "forgot the player",
    "player.import": "imported",
    "refusal.aside": "set the refused call aside:",
    "refusal.body": "looked at the body of the refused call",
    "refusal.reopen": "opened the refused call again:",
    "restore": "restored a backup",
    "second-factor.off": "switched the second factor off",
    "second-factor.on": "switched the second factor on",
    "second-factor.recovery": "signed in with a recovery code:",
    "second-factor.recovery-codes": "made new recovery codes",
    "secret.retire": "retired the previous value of",
    "secret.rotate": "rotated the key",
    "secret.set": "set the key",
    "session.end": "signed out",
    "settlement.reconcile": "began to compare the month",
    "settlement.skip": "passed over a step of the month",
    "settlement.state": "brought the month to its next state:",
    "transaction.redeliver": "delivered the order again:",
    "transaction.reveal": "looked at what is hidden of the order",
    "transaction.reverse": "reversed the order",
    "trouble.aside": "set the trouble aside:",
    "trouble.new": "noticed:",
    "trouble.over": "found over:",
}


def activity() -> Response:
    connection = read()
    every = games.every(connection)
    wanted = _wanted(every)
    entries, following = audit.entries(connection, wanted, below())
    return page(
        "activity.html",
        entries=entries,
        following=following,
        games=every,
        names={row["id"]: row["name"] for row in every},
        actors=_actors(connection),
        meanings=MEANINGS,
        installation_word=INSTALLATION,
        filters={name: request.args.get(name, "") for name in ("game", "actor", "action")},
    )


def activity_csv() -> Response:
    """All entries of the filters."""
    connection = read()
    every = games.every(connection)
    slugs = {row["id"]: row["slug"] for row in every}
    rows = (
        (each["id"], each["created_at"], slugs.get(each["game_id"]), each["actor"], each["action"], each["subject"])
        for each in audit.every_entry(connection, _wanted(every))
    )
    return csv_file("activity", ("id", "time", "game", "actor", "action", "subject"), rows)


def _actors(connection: Connection) -> dict[str, str]:
    """Word in the audit -> what the filter calls it: everybody there is, whom the address names, and no person."""
    named = [row["name"] for row in people.every(connection)]
    wanted = request.args.get("actor", "").strip()[:LONGEST_WORD]
    if wanted and wanted not in named and wanted not in ACTORS:
        named.append(wanted)  # a person who was removed
    return dict(zip(named, named, strict=True)) | ACTORS


def _wanted(every: list[Row]) -> Wanted:
    slug, actor, word = (request.args.get(name, "").strip() for name in ("game", "actor", "action"))
    game_id = next((row["id"] for row in every if row["slug"] == slug), None)
    if slug not in ("", INSTALLATION) and game_id is None:
        raise PageError(404, "There is no such game")
    return Wanted(
        game_id=game_id,
        is_installation=slug == INSTALLATION,
        actor=actor[:LONGEST_WORD] or None,
        word=word[:LONGEST_WORD].lower() or None,
    )
