"""What ``flask doctor`` checks in the games beside their troubles: setup, keys, destinations, refused calls."""

from collections.abc import Iterator, Sequence

from coinslot.access import keyring, rotation
from coinslot.base import clock
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.operations import observations
from coinslot.operations.findings import Finding, note, ok, warning, wrong
from coinslot.outbox.deliveries import is_relay_running
from coinslot.outbox.destinations import SECRET_PREFIX
from coinslot.store.db import Connection, Row

RECENT_SECONDS = 24 * 3600


def game_setup(connection: Connection, game: Game) -> Iterator[Finding]:
    """What a game needs with any partner."""
    if game.settings["players.unknown"] == "lookup" and not game.settings["players.lookup_url"]:
        yield wrong(f"game {game.slug}: players.unknown is lookup, but players.lookup_url is not set")
    for what, setting, query in (
        ("players", "players.unknown", "SELECT 1 FROM players WHERE game_id = :game_id LIMIT 1"),
        ("items", "items.unknown", "SELECT 1 FROM items WHERE game_id = :game_id LIMIT 1"),
    ):
        if game.settings[setting] == "reject" and connection.execute(query, {"game_id": game.id}).fetchone() is None:
            text = f"no {what} are registered and {setting} is reject: every credit is refused"
            yield warning(f"game {game.slug}: {text}")


def keys(connection: Connection, game: Game) -> Iterator[Finding]:
    """Secrets that are due to be rotated, and rotations that are due to be ended."""
    all_advice = rotation.advice(keyring.listing_of(connection, game.id, game.secrets), clock.now())
    for name, advices in all_advice.items():
        for advice in advices:
            if not advice.is_due:
                continue
            if advice.step != "rotate":
                remedy = f", `flask secret retire {game.slug} {name}`"
            elif name.startswith(SECRET_PREFIX):
                remedy = f": `flask destination rotate {game.slug} {name.removeprefix(SECRET_PREFIX)}`"
            else:
                remedy = f": `flask secret rotate {game.slug} {name}`"
            yield warning(f"game {game.slug}: {name} {advice.sentence}{remedy}")
    replaced_at = games.token_replaced_at(connection, game.id)
    if replaced_at is not None:
        is_due = replaced_at < clock.stamp(clock.now() - rotation.ROTATION_DAYS * 86400)
        yield (warning if is_due else note)(
            f"game {game.slug}: its API token was replaced on {replaced_at[:10]} and the one before is still valid; "
            f"once the game uses the new one: `flask game token {game.slug} --retire`",
        )


def deliveries(connection: Connection) -> Iterator[Finding]:
    """Whether a relay runs, and which destinations are sent to or paused by the owner. The others are troubles."""
    if is_relay_running(connection):
        yield ok("a relay is running")
    for row in connection.execute(
        """SELECT d.name, d.state, d.state_reason, d.circuit_open_since, g.slug
           FROM destinations d JOIN games g ON g.id = d.game_id WHERE d.state <> 'removed' ORDER BY g.slug, d.name"""
    ).fetchall():
        if row["state_reason"] is None and row["circuit_open_since"] is None:
            level = ok if row["state"] == "active" else warning
            yield level(f"game {row['slug']}: destination {row['name']} is {row['state']}")


def refusals(connection: Connection) -> Iterator[Finding]:
    """Calls refused in the last 24 hours, as far as the ring of refusals reaches."""
    rows = refused_since(connection)
    for row in rows:
        whose = "no game of ours" if row["slug"] is None else f"game {row['slug']}"
        calls = f"{at_least([row])} call(s) of {row['partner']} to {row['endpoint']}"
        yield warning(f"{whose}: {calls} refused in 24 hours, reason {row['reason']}")
    if not rows:
        yield ok("no call was refused in the last 24 hours")


def refused_since(connection: Connection) -> list[Row]:
    """Refusals of the last 24 hours that are kept, counted, without our own simulated calls.

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
    """How many calls that were, as far as it is known: ``3``, or ``3 or more``."""
    calls = sum(row["calls"] for row in rows)
    return f"{calls} or more" if any(row["has_more"] for row in rows) else str(calls)
