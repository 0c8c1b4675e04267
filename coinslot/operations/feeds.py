"""Feeds: grants that nobody has taken: no destination got them, and the game has neither read nor acknowledged them.

How long a game usually takes is learned from its own reading. All of it is done by a job, outside of every request;
:func:`find` then looks at a bounded number of grants.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from coinslot.base import clock
from coinslot.operations import pauses
from coinslot.store.db import Connection, Database, Row
from coinslot.store.queries import insert, value

JOB = "feeds"
GAME = "game"  # what reads, among the partners of ``pauses``
ENDPOINT = "grants"
NOTED_EVERY_SECONDS = 60.0  # reading without new grants
WATCH_SECONDS = 60.0
WORKS_SECONDS = 10.0  # at a time
FIRST_LATE_SECONDS = 3600.0  # while it is not known how long the game takes
LEAST_LATE_SECONDS = 900.0
MOST_LATE_SECONDS = 3 * clock.DAY_SECONDS
TIMES_USUAL = 2.7
FEWEST_DAYS = 3  # on which it has read, before it is known how long it takes
MOST = 1000  # untaken grants that are kept per game; there may be more
UNJUDGED = 2000  # ids that are looked at beyond those that the job has come to
JUDGED_AT_ONCE = 500
JUDGED_AFTER_SECONDS = 60.0  # a destination has most grants by then


@dataclass(frozen=True)
class Untaken:
    """What a game has not taken: of a ``count`` above :data:`MOST` there may be more. ``money`` is currency -> minor
    units of the purchases among those counted.

    ``since`` and ``latest`` are when the oldest and the newest were granted; ``read_at`` when the game last read or
    acknowledged, None: never. ``usual_seconds`` is how long it takes at most, None: not known.
    """

    game: str
    count: int
    since: str
    latest: str
    read_at: str | None
    usual_seconds: int | None
    money: dict[str, int] = field(default_factory=dict)


def note_read(tx: Connection, game_id: int, after: int, at: str) -> None:
    """The game has asked for the grants after an id; one that no grant has yet says nothing of what it has read."""
    last_id = value(tx, "SELECT last_id FROM sequences WHERE name = 'grants'", {})
    insert(
        tx,
        "feeds",
        {"game_id": game_id, "read_through": after if after <= last_id else 0, "read_at": at},
        """ON CONFLICT (game_id) DO UPDATE SET read_at = excluded.read_at,
               read_through = CASE WHEN feeds.read_through < excluded.read_through
                                   THEN excluded.read_through ELSE feeds.read_through END""",
    )


def watch(database: Database) -> float:
    """A job: learn how long each game takes, and note what nobody has taken. Returns when to run again, in seconds."""
    deadline = time.monotonic() + WORKS_SECONDS
    for game in database.read().execute(_GAMES).fetchall():
        _learn(database, game)
        _forget_taken(database, game)
    has_more = True
    while has_more and time.monotonic() < deadline:
        has_more = sum(_judge(database, game) for game in database.read().execute(_GAMES).fetchall()) > 0
    return 0.0 if has_more else WATCH_SECONDS


def find(rows: Iterable[Row]) -> list[Untaken]:
    """The games that have not taken a grant for longer than they usually need, with all that they have not taken.

    ``rows`` are those of :data:`UNTAKEN`.
    """
    now = clock.now()
    by_game: dict[str, list[tuple[Row, list[str]]]] = {}
    for row in rows:
        by_game.setdefault(row["game"], []).append((row, row["detail"].split("|")))
    found = []
    for slug, of_game in by_game.items():
        since, latest = min(row["since"] for row, _ in of_game), max(row["latest"] for row, _ in of_game)
        _, _, late, usual, read_at = of_game[0][1]
        if clock.seconds(since) + float(late or FIRST_LATE_SECONDS) < now:
            money = {currency: int(paid) for _, (currency, paid, *_) in of_game if currency and paid}
            count = sum(row["count"] for row, _ in of_game)
            found.append(Untaken(slug, count, since, latest, read_at or None, int(usual) if usual else None, money))
    return found


def bounds(now: float) -> dict[str, object]:
    """The parameters of :data:`UNTAKEN`."""
    return {"untaken_before": clock.stamp(now - LEAST_LATE_SECONDS), "unjudged": UNJUDGED}


def _learn(database: Database, game: Row) -> None:
    passed = game["passed"]
    if passed <= game["learned_through"]:
        return

    def learn(tx: Connection) -> None:
        oldest = value(
            tx,
            """SELECT created_at FROM grants WHERE game_id = :id AND id > :learned AND id <= :passed AND is_test = 0
               ORDER BY id LIMIT 1""",
            {"id": game["id"], "learned": game["learned_through"], "passed": passed},
        )
        columns = {"learned_through": passed}
        if oldest is not None and game["learned_through"] > 0:  # the first time it takes what had waited for it
            took = clock.seconds(game["taken_at"]) - clock.seconds(oldest)
            pauses.note(tx, game["id"], GAME, ENDPOINT, took, 1)
            known = pauses.days(tx, game["id"], GAME, ENDPOINT)
            usual, _ = pauses.usual(known, pauses.today())
            least = LEAST_LATE_SECONDS if len(known) >= FEWEST_DAYS else FIRST_LATE_SECONDS
            columns["usual_seconds"] = round(usual)
            columns["late_after_seconds"] = round(min(max(least, TIMES_USUAL * usual), MOST_LATE_SECONDS))
        _set(tx, game["id"], columns)

    database.write(learn)


def _forget_taken(database: Database, game: Row) -> None:
    """Drop from the noted grants those that were taken since."""
    taken = f"game_id = :id AND (grant_id <= :passed OR {_DELIVERED.format(grant_id='grant_id')})"
    values = {"id": game["id"], "passed": game["passed"]}
    if value(database.read(), f"SELECT 1 FROM untaken_grants WHERE {taken} LIMIT 1", values) is not None:  # noqa: S608
        database.write(lambda tx: tx.execute(f"DELETE FROM untaken_grants WHERE {taken}", values))  # noqa: S608  our own


def _judge(database: Database, game: Row) -> bool:
    """Note which of the next grants nobody has taken; returns whether there are more to judge."""
    connection = database.read()
    rows = connection.execute(
        f"""SELECT g.id, g.is_test = 0 AND g.id > :passed AND NOT {_DELIVERED.format(grant_id="g.id")} AS is_untaken
           FROM grants g WHERE g.game_id = :id AND g.id > :judged AND g.created_at < :before
           ORDER BY g.id LIMIT :limit""",  # noqa: S608  our own words only
        {
            "id": game["id"],
            "passed": game["passed"],
            "judged": game["judged_through"],
            "before": clock.stamp(clock.now() - JUDGED_AFTER_SECONDS),
            "limit": JUDGED_AT_ONCE,
        },
    ).fetchall()
    if not rows:
        return False
    kept = value(connection, "SELECT count(*) FROM untaken_grants WHERE game_id = :id", {"id": game["id"]})
    untaken: list[int] = []
    judged = game["judged_through"]
    for row in rows:
        if row["is_untaken"]:
            if kept + len(untaken) > MOST:
                break
            untaken.append(row["id"])
        judged = row["id"]
    if judged == game["judged_through"]:
        return False

    def note(tx: Connection) -> None:
        for grant_id in untaken:
            its_columns = {"game_id": game["id"], "grant_id": grant_id}
            insert(tx, "untaken_grants", its_columns, "ON CONFLICT (game_id, grant_id) DO NOTHING")
        _set(tx, game["id"], {"judged_through": judged})

    database.write(note)
    return len(rows) == JUDGED_AT_ONCE and judged == rows[-1]["id"]


def _set(tx: Connection, game_id: int, columns: dict[str, int]) -> None:
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
    insert(tx, "feeds", {"game_id": game_id, **columns}, f"ON CONFLICT (game_id) DO UPDATE SET {changes}")


# How far the game has come, by its own word or by what it asked for, and when it said so.
_PASSED = """CASE WHEN coalesce(f.read_through, 0) > m.acked_through THEN f.read_through ELSE m.acked_through END"""
_GAMES = f"""
    SELECT m.id, {_PASSED} AS passed, coalesce(f.learned_through, 0) AS learned_through,
           coalesce(f.judged_through, 0) AS judged_through,
           CASE WHEN coalesce(f.read_through, 0) > m.acked_through THEN f.read_at ELSE m.acked_at END AS taken_at
    FROM games m LEFT JOIN feeds f ON f.game_id = m.id ORDER BY m.id
"""  # noqa: S608  our own words only
_DELIVERED = "EXISTS (SELECT 1 FROM deliveries d WHERE d.grant_id = {grant_id} AND d.state = 'delivered')"
# What no game has taken, by game and currency, in the columns of the list of troubles. ``detail`` is the currency, what
# was paid, late_after_seconds, usual_seconds and when the game last read, each perhaps empty. A grant that waits for a
# destination, or is a dead letter there, is another trouble.
UNTAKEN = f"""
    SELECT 'unread' AS kind, m.slug AS game, count(*) AS count,
           coalesce(t.currency, '') || '|'
           || coalesce(CAST(sum(CASE WHEN g.kind = 'purchase' THEN t.gross_minor END) AS TEXT), '') || '|'
           || coalesce(CAST(f.late_after_seconds AS TEXT), '') || '|' || coalesce(CAST(f.usual_seconds AS TEXT), '')
           || '|' || coalesce(CASE WHEN f.read_at IS NULL OR f.read_at < m.acked_at THEN m.acked_at ELSE f.read_at END,
                              '') AS detail,
           NULL AS subject, min(g.created_at) AS since, max(g.created_at) AS latest
    FROM (
        SELECT u.game_id, u.grant_id FROM untaken_grants u
        UNION
        SELECT a.id, n.id
        FROM (SELECT z.id, coalesce(y.judged_through, 0) AS judged
              FROM games z LEFT JOIN feeds y ON y.game_id = z.id) a
        CROSS JOIN /* hint */ grants n
            ON n.game_id = a.id AND n.id > a.judged AND n.id <= a.judged + :unjudged) c
    JOIN games m ON m.id = c.game_id LEFT JOIN feeds f ON f.game_id = m.id
    JOIN grants g ON g.id = c.grant_id JOIN transactions t ON t.id = g.transaction_id
    WHERE g.created_at < :untaken_before AND g.is_test = 0 AND g.id > {_PASSED}
      AND NOT EXISTS (
          SELECT 1 FROM deliveries d JOIN destinations o ON o.id = d.destination_id
          WHERE d.grant_id = g.id AND (d.state = 'delivered' OR o.state <> 'removed'))
    GROUP BY m.slug, f.late_after_seconds, f.usual_seconds, t.currency, m.acked_at, f.read_at
"""  # noqa: S608  our own words only
