"""What the doctor looks at in each game: its setup and keys, what waits, what is delivered, what is refused."""

from collections.abc import Iterator, Sequence
from typing import Any

from coinslot.access import keyring, rotation
from coinslot.base import clock
from coinslot.games import games
from coinslot.games.erasure import FORGOTTEN
from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.ledger import refunds
from coinslot.operations import observations
from coinslot.operations.findings import NOTE, OK, WARNING, WRONG, Finding
from coinslot.outbox import deliveries as outbox
from coinslot.outbox.destinations import SECRET_PREFIX
from coinslot.payments import lists
from coinslot.relay import jobs
from coinslot.store.db import (
    Connection,
    Row,
)

STUCK_SECONDS = 3600
RECENT_SECONDS = 24 * 3600


def game_setup(connection: Connection, game: Game) -> Iterator[Finding]:
    """What a game needs whoever its partners are."""
    if game.settings["players.unknown"] == "lookup" and not game.settings["players.lookup_url"]:
        yield Finding(WRONG, f"game {game.slug}: players.unknown is lookup, but players.lookup_url is not set")
    for table, setting in (("players", "players.unknown"), ("items", "items.unknown")):
        if game.settings[setting] == "reject" and not _has_rows(connection, table, game.id):
            yield Finding(
                WARNING, f"game {game.slug}: no {table} are registered and {setting} is reject: every credit is refused"
            )


def keys(connection: Connection, game: Game) -> Iterator[Finding]:
    """Secrets that are due to be rotated, and rotations that are due to be ended."""
    told = rotation.advice(keyring.listing_of(connection, game.id, game.secrets), clock.now())
    for name, advices in told.items():
        for advice in advices:
            if advice.is_due and advice.step == "rotate":
                yield Finding(WARNING, f"game {game.slug}: {name} {advice.sentence}: `{_rotation(game, name)}`")
            elif advice.is_due:
                retire = f"`flask secret retire {game.slug} {name}`"
                yield Finding(WARNING, f"game {game.slug}: {name} {advice.sentence}, {retire}")
    replaced_at = games.token_replaced_at(connection, game.id)
    if replaced_at is not None:
        is_due = replaced_at < clock.stamp(clock.now() - rotation.ROTATION_DAYS * 86400)
        yield Finding(
            WARNING if is_due else NOTE,
            f"game {game.slug}: its API token was replaced on {replaced_at[:10]} and the one before is still valid; "
            f"once the game uses the new one: `flask game token {game.slug} --retire`",
        )


def waiting_work(connection: Connection, game: Game, payments_go_to: str) -> Iterator[Finding]:
    """What waits for a person, or for another server. ``payments_go_to`` is the title of who takes in-game payments."""
    (conflicts,) = connection.execute(
        "SELECT count(*) FROM conflicts WHERE game_id = :game_id AND player_id <> :simulated",
        {"game_id": game.id, "simulated": RESERVED_ID},
    ).fetchone()
    if conflicts:
        yield Finding(
            WARNING,
            f"game {game.slug}: {conflicts} conflict(s) wait for a person: a known transaction came with other "
            f"content, as the page /games/{game.slug}/conflicts shows",
        )
    ambiguous, waiting = refunds.unsettled(connection, game.id, clock.stamp(clock.now() - RECENT_SECONDS))
    if ambiguous:
        yield Finding(
            WARNING,
            f"game {game.slug}: {ambiguous} refund(s) name no one order: `flask refund list {game.slug}`, or the page "
            f"/games/{game.slug}/refunds?show=open",
        )
    if waiting:
        yield Finding(
            WARNING,
            f"game {game.slug}: {waiting} refund(s) have waited for their order for over a day: "
            f"`flask refund list {game.slug}`",
        )
    counted = lists.counts(connection, game.id)
    for name, state, words in (
        ("parked", "parked", "payment(s) are parked: they cannot be sent as they are"),
        ("quarantined", "quarantined", "payment(s) were refused too often"),
        ("refunds_quarantined", "refund-refused", "refund(s) of payments were refused too often"),
        ("conflicts", "conflicts", "payment conflict(s): a known payment came with other content"),
    ):
        if counted[name]:
            where = f"the page /games/{game.slug}/payments?state={state}"
            yield Finding(WARNING, f"game {game.slug}: for a person to judge: {counted[name]} {words}; {where}")
    waiting = lists.count_waiting_since(connection, game.id, clock.stamp(clock.now() - RECENT_SECONDS))
    if waiting:
        yield Finding(
            WARNING,
            f"game {game.slug}: {waiting} payment(s) or refund(s) have waited for over a day to be taken by "
            f"{payments_go_to}; "
            f"the page /games/{game.slug}/payments?state=waiting",
        )
    for name, warning in jobs.warnings(connection, game.id).items():
        yield Finding(WARNING, f"game {game.slug}: job {name}: {warning}")
    stuck = connection.execute(
        """SELECT d.name, count(*) AS deliveries FROM deliveries v JOIN destinations d ON d.id = v.destination_id
           WHERE v.game_id = :game_id AND v.state = 'waiting' AND v.next_attempt_at < :since AND d.state = 'active'
             AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.id = v.waits_for AND o.state = 'waiting')
           GROUP BY d.name ORDER BY d.name""",
        {"game_id": game.id, "since": clock.stamp(clock.now() - STUCK_SECONDS)},
    )
    for row in stuck:
        yield Finding(
            WARNING,
            f"game {game.slug}: {row['deliveries']} delivery(s) to {row['name']} have been due for over an hour; "
            "does it answer, and is a relay running?",
        )
    late = connection.execute(
        """SELECT name, failures, last_error, due_at FROM schedules
           WHERE game_id = :game_id AND (failures > 0 OR due_at < :since) ORDER BY name""",
        {"game_id": game.id, "since": clock.stamp(clock.now() - STUCK_SECONDS)},
    )
    for row in late:
        if row["failures"]:
            trouble = f"has failed {row['failures']} time(s) in a row: {row['last_error']}"
        else:
            trouble = "has been due for over an hour; is a relay running?"
        yield Finding(WARNING, f"game {game.slug}: job {row['name']} {trouble}")


def deliveries(connection: Connection) -> Iterator[Finding]:
    """Whether somebody sends, and whether those who are sent to take it."""
    beat = outbox.last_beat(connection)
    is_fresh = beat is not None and clock.now() - beat <= outbox.OLDEST_BEAT_SECONDS
    rows = connection.execute(
        """SELECT d.*, g.slug,
                  (SELECT count(*) FROM deliveries v WHERE v.destination_id = d.id AND v.state = 'dead'
                     AND (v.dead_reason IS NULL OR v.dead_reason <> :forgotten)) AS dead
           FROM destinations d JOIN games g ON g.id = d.game_id WHERE d.state <> 'removed' ORDER BY g.slug, d.name""",
        {"forgotten": FORGOTTEN},
    ).fetchall()
    if is_fresh:
        yield Finding(OK, "a relay is running")
    elif rows:
        since = "never was" if beat is None else f"has not been since {clock.stamp(beat)}"
        yield Finding(WARNING, f"no relay is running, and {since}: nothing is delivered; is the server up?")
    for row in rows:
        name = f"game {row['slug']}: destination {row['name']}"
        if row["circuit_open_since"] is not None:
            yield Finding(WARNING, f"{name} has been down since {row['down_since']} and is probed")
        elif row["state"] == "paused":
            yield Finding(WARNING, f"{name} is paused{': ' + row['state_reason'] if row['state_reason'] else ''}")
        else:
            yield Finding(OK, f"{name} is active")
        if row["dead"]:
            yield Finding(
                WARNING,
                f"{name} has {row['dead']} dead delivery(s): `flask delivery redrive {row['slug']} --all`, or one by "
                f"one on the page /games/{row['slug']}/deliveries?state=dead",
            )


def refusals(connection: Connection) -> Iterator[Finding]:
    """Calls refused in the last 24 hours, as far as the ring of refusals reaches."""
    rows = refused_since(connection)
    for row in rows:
        whose = "no game of ours" if row["slug"] is None else f"game {row['slug']}"
        yield Finding(
            WARNING,
            f"{whose}: {at_least([row])} call(s) of {row['partner']} to {row['endpoint']} refused in 24 hours, "
            f"reason {row['reason']}",
        )
    if not rows:
        yield Finding(OK, "no call was refused in the last 24 hours")


_HAS_ROWS = {
    "players": "SELECT 1 FROM players WHERE game_id = :game_id LIMIT 1",
    "items": "SELECT 1 FROM items WHERE game_id = :game_id LIMIT 1",
}


def refused_since(connection: Connection) -> list[Row]:
    """Recent refusals that are kept, counted, our own simulated calls left out.

    ``has_more``: the ring is full of such, and older ones may be gone.
    """
    return connection.execute(
        """SELECT g.slug, r.partner, r.endpoint, r.reason, count(*) AS calls,
                  (SELECT count(*) FROM refusals k WHERE k.partner = r.partner
                   AND (k.game_id = r.game_id OR (k.game_id IS NULL AND r.game_id IS NULL))
                   AND k.created_at > :since) >= :kept AS has_more
           FROM refusals r LEFT JOIN games g ON g.id = r.game_id
           WHERE r.created_at > :since AND r.is_simulated = 0 GROUP BY r.game_id, r.partner, r.endpoint, r.reason
           ORDER BY g.slug, r.partner, r.endpoint, r.reason""",
        {"since": clock.stamp(clock.now() - RECENT_SECONDS), "kept": observations.KEPT_PER_PARTNER},
    ).fetchall()


def at_least(rows: Sequence[Row]) -> str:
    """How many calls that were, as far as anybody can know."""
    calls = sum(row["calls"] for row in rows)
    return f"{calls} or more" if any(row["has_more"] for row in rows) else str(calls)


def _rotation(game: Game, name: str) -> str:
    if name.startswith(SECRET_PREFIX):
        return f"flask destination rotate {game.slug} {name.removeprefix(SECRET_PREFIX)}"
    return f"flask secret rotate {game.slug} {name}"


def _has_rows(connection: Connection, table: str, game_id: int) -> bool:
    row: Any = connection.execute(_HAS_ROWS[table], {"game_id": game_id}).fetchone()
    return row is not None
