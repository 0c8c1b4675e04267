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

# Action -> what it means. Any other action is shown as it is.
MEANINGS = {
    "alert.add": "added an alert target",
    "alert.remove": "removed an alert target",
    "backup.download": "downloaded a backup",
    "config.set": "changed a setting",
    "destination.active": "resumed a destination",
    "destination.add": "added a destination",
    "destination.paused": "paused a destination",
    "destination.removed": "removed a destination",
    "event.reveal": "looked at what is hidden of event",
    "game.add": "added a game",
    "game.token": "made a new API token",
    "game.token.retire": "retired the API token before",
    "heartbeat.off": "switched the heartbeat off",
    "heartbeat.on": "set the heartbeat's URL",
    "item.add": "added an item",
    "item.import": "imported items",
    "item.remove": "removed an item",
    "item.rename": "named an item",
    "key.check": "showed a copy of the master key",
    "key.rotate": "made a new master key",
    "order.refund": "asked to refund an order:",
    "order.refund.refused": "was refused the refund of",
    "order.refund.sent": "had the refund begun of",
    "order.refund.unknown": "got no answer about the refund of",
    "order.reverse": "reversed an order",
    "owner.setup": "set this installation up",
    "pages.zone": "chose the time zone of the pages:",
    "person.accept": "accepted the invitation, as",
    "person.invite": "invited",
    "person.login": "signed in, from",
    "person.password": "set the password of",
    "person.remove": "removed",
    "person.show": "looked at personal data on",
    "player.add": "added a player",
    "player.edit": "changed a player",
    "player.export": "downloaded everything kept about a player",
    "player.forget": "forgot a player",
    "player.import": "imported players",
    "restore": "restored a backup",
    "second-factor.off": "switched the second factor off",
    "second-factor.on": "switched the second factor on",
    "second-factor.recovery": "signed in with a recovery code",
    "second-factor.recovery-codes": "made new recovery codes",
    "secret.retire": "retired an old secret",
    "secret.rotate": "rotated a secret",
    "secret.set": "set a secret",
    "session.end": "signed out",
    "trouble.aside": "set a trouble aside",
    "trouble.new": "noticed",
    "trouble.over": "found over",
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
        named.append(wanted)  # somebody who was removed
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
