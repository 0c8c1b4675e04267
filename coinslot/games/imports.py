"""Registering many players or items at once.

The rows of a file are staged in a private table while they are checked, and then stored in short portions, so that a
large import holds up no credit.
"""

from collections.abc import Iterator, Mapping

from coinslot.base import clock, spellings
from coinslot.games.registry import RegistryError
from coinslot.store import engine, queries
from coinslot.store.db import Connection


def staging() -> Connection:
    """A private table for the rows of an import, on the disk, so that a million rows need no memory.

    Closing the connection deletes it.
    """
    connection = engine.private()
    connection.execute("PRAGMA cache_size = -32768")
    connection.execute(
        """CREATE TABLE staged (id TEXT NOT NULL PRIMARY KEY, line INTEGER NOT NULL, name TEXT, profile_image TEXT,
                                country TEXT, login_name TEXT, login_key TEXT UNIQUE) STRICT, WITHOUT ROWID"""
    )
    connection.execute("CREATE TABLE portions (number INTEGER PRIMARY KEY, entries TEXT NOT NULL) STRICT")
    connection.execute("BEGIN")  # never committed: nothing here has to last
    return connection


def stage(staged: Connection, line: int, row: Mapping[str, str]) -> None:
    """Keep one row: ``id`` and any of ``name``, ``profile_image``, ``country``, ``login_name``.

    Raises :class:`RegistryError` when an earlier line has the id or the login name.
    """
    values = {column: row.get(column) for column in ("id", "name", "profile_image", "country", "login_name")}
    login_name = values["login_name"]
    values["login_key"] = None if login_name is None else spellings.login_name(login_name)
    is_stored = queries.insert(
        staged,
        "staged",
        {**values, "line": line},
        "ON CONFLICT DO NOTHING RETURNING 1",
    )
    if is_stored:
        return
    if earlier := queries.get(staged, "line", "staged", id=row["id"]):
        raise RegistryError(f"{row['id']} is on line {earlier} already")
    earlier = queries.get(staged, "line", "staged", login_key=values["login_key"])
    raise RegistryError(f"login_name {row['login_name']} is on line {earlier} already")


def staged_login_names_taken(connection: Connection, game_id: int, staged: Connection) -> Iterator[tuple[int, str]]:
    """Line and login name of each staged player whose login name another player has."""
    for row in staged.execute(
        "SELECT id, line, login_name, login_key FROM staged WHERE login_key IS NOT NULL ORDER BY line"
    ):
        taken = connection.execute(
            """SELECT 1 FROM players
               WHERE game_id = :game_id AND login_key = :login_key AND player_id <> :player_id""",
            {"game_id": game_id, "login_key": row["login_key"], "player_id": row["id"]},
        ).fetchone()
        if taken:
            yield row["line"], row["login_name"]


def portion(staged: Connection) -> int:
    """Once every row is staged, make portions of them; returns how many rows there are.

    A portion is the JSON of many rows, in the order of the index. It is written in a third of the time of as many
    statements, in which nobody else can write.
    """
    staged.execute(
        """INSERT INTO portions (number, entries)
           SELECT place / 500, json_group_array(json_array(id, name, profile_image, country, login_name, login_key))
           FROM (SELECT *, row_number() OVER (ORDER BY id) AS place FROM staged) s GROUP BY place / 500"""
    )
    return int(queries.value(staged, "SELECT count(*) FROM staged", {}))


def numbers(staged: Connection) -> list[int]:
    """The numbers of all portions."""
    return [each["number"] for each in staged.execute("SELECT number FROM portions ORDER BY number")]


def _entries(staged: Connection, number: int) -> str:
    return str(queries.get(staged, "entries", "portions", number=number))


def import_players(tx: Connection, game_id: int, staged: Connection, number: int) -> int:
    """Register the players of a :func:`portion`; returns how many are new.

    A registered player takes what the row says and keeps everything else; where it says nothing new, nothing is
    written. Raises :class:`RegistryError` when a login name has another player by now.
    """
    values = {"game_id": game_id, "now": clock.stamp(), "entries": _entries(staged, number)}
    counts = tx.execute(
        """SELECT coalesce(sum(CASE WHEN EXISTS (
                      SELECT 1 FROM players WHERE game_id = :game_id AND player_id = json_extract(e.value, '$[0]'))
                  THEN 0 ELSE 1 END), 0) AS new,
                  coalesce(sum(CASE WHEN EXISTS (
                      SELECT 1 FROM players WHERE game_id = :game_id AND login_key = json_extract(e.value, '$[5]')
                        AND player_id <> json_extract(e.value, '$[0]'))
                  THEN 1 ELSE 0 END), 0) AS taken
           FROM json_each(:entries) e""",
        values,
    ).fetchone()
    if counts["taken"]:
        raise RegistryError("a login_name went to another player in this moment; import again")
    tx.execute(
        """INSERT INTO players (game_id, player_id, name, profile_image, country, login_name, login_key,
                                created_at, updated_at)
           SELECT :game_id, json_extract(value, '$[0]'), json_extract(value, '$[1]'),
                  json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),
                  json_extract(value, '$[5]'), :now, :now
           FROM json_each(:entries) WHERE true
           ON CONFLICT (game_id, player_id) DO UPDATE SET
               name = coalesce(excluded.name, players.name),
               profile_image = coalesce(excluded.profile_image, players.profile_image),
               country = coalesce(excluded.country, players.country),
               login_name = coalesce(excluded.login_name, players.login_name),
               login_key = coalesce(excluded.login_key, players.login_key),
               updated_at = excluded.updated_at, is_in_search = 0
           WHERE excluded.name <> players.name
              OR excluded.profile_image <> players.profile_image
              OR excluded.country <> players.country
              OR excluded.login_name <> players.login_name
              OR (excluded.name IS NOT NULL AND players.name IS NULL)
              OR (excluded.profile_image IS NOT NULL AND players.profile_image IS NULL)
              OR (excluded.country IS NOT NULL AND players.country IS NULL)
              OR (excluded.login_name IS NOT NULL AND players.login_name IS NULL)""",
        values,
    )
    return int(counts["new"])


def import_items(tx: Connection, game_id: int, staged: Connection, number: int) -> int:
    """Register the items of a :func:`portion`; returns how many are new. No name leaves the name that is there."""
    values = {"game_id": game_id, "now": clock.stamp(), "entries": _entries(staged, number)}
    new = queries.value(
        tx,
        """SELECT count(*) FROM json_each(:entries) e WHERE NOT EXISTS (
               SELECT 1 FROM items WHERE game_id = :game_id AND sku = json_extract(e.value, '$[0]'))""",
        values,
    )
    tx.execute(
        """INSERT INTO items (game_id, sku, name, created_at, updated_at)
           SELECT :game_id, json_extract(value, '$[0]'), json_extract(value, '$[1]'), :now, :now
           FROM json_each(:entries) WHERE true
           ON CONFLICT (game_id, sku) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at
           WHERE excluded.name <> items.name OR (excluded.name IS NOT NULL AND items.name IS NULL)""",
        values,
    )
    return int(new)
