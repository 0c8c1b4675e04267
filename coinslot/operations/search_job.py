"""The job that fills ``search_keys``: it follows the commits, so that no credit waits for it.

It reads each table on from where it stopped last time, since ids rise in the order of commits, and the players that are
new or have changed, whose rows say so. It reads outside of a write; the write checks again that a body is still there,
so that nobody who is forgotten meanwhile comes back.
"""

import json
import time
from dataclasses import dataclass, field

from coinslot.access.vault import Vault
from coinslot.games import search_keys
from coinslot.ledger import packing
from coinslot.operations import refusals
from coinslot.relay import jobs
from coinslot.store import queries
from coinslot.store.db import Connection, Database, Row

NAME = "search"
AGAIN_SECONDS = 1.0  # after a run, if something is committed meanwhile
ROWS_AT_ONCE = 500
RUN_SECONDS = 5.0  # of one run; a job ends well before its lease
PAUSE_SECONDS = 0.01  # between portions, for the threads that answer calls

# Table -> the columns that are read, and which rows still have the body that was read. An event need not name a player.
_TABLES = {
    "transactions": ("id, game_id, player_id, raw_body", "raw_body IS NOT NULL"),
    "events": ("id, game_id, player_id, raw_body", "raw_body IS NOT NULL"),
    "payments": ("id, game_id, player_id", "id IS NULL"),  # has none
    "refusals": ("*", "state IS NOT NULL"),  # those of the ring proved nothing, and name no player in a column
}

_NOW_IN_SEARCH = """UPDATE players SET is_in_search = 1
    WHERE game_id = :game_id AND player_id = :player_id AND updated_at = :updated_at AND is_in_search = 0"""


@dataclass
class _Portion:
    """What was read, and what it leads to. ``cursors`` is how far each table has been read."""

    cursors: dict[str, int]
    players: list[Row]
    ids: set[tuple[int, str]] = field(default_factory=set)  # game and player
    addresses: list[tuple[str, Row, str]] = field(default_factory=list)  # table, row, address


def has_work(connection: Connection) -> bool:
    """Whether something was committed that the job has not read."""
    row = queries.row(
        connection,
        """SELECT (SELECT max(id) FROM transactions) AS transactions, (SELECT max(id) FROM events) AS events,
                  (SELECT max(id) FROM payments) AS payments, (SELECT max(id) FROM refusals) AS refusals,
                  (SELECT cursor FROM schedules WHERE game_id = :game_id AND name = :name) AS cursor,
                  EXISTS (SELECT 1 FROM players WHERE is_in_search = 0) AS has_players""",
        {"game_id": jobs.INSTALLATION, "name": NAME},
    )
    assert row is not None, "a SELECT without FROM has one row"
    cursors = _parsed(row["cursor"])
    return bool(row["has_players"]) or any((row[table] or 0) != cursors.get(table, 0) for table in _TABLES)


def fill(database: Database, vault: Vault) -> float:
    """Read what is new for some seconds; returns in how many the job wants to run again."""
    until = time.monotonic() + RUN_SECONDS
    while _fill_portion(database, vault):
        if time.monotonic() >= until:
            return 0.0
        time.sleep(PAUSE_SECONDS)
    return AGAIN_SECONDS


def _fill_portion(database: Database, vault: Vault) -> bool:
    """Returns whether there may be more."""
    connection = database.read()
    before = _parsed(jobs.cursor(connection, jobs.INSTALLATION, NAME))
    portion = _read(connection, vault, before)
    if portion.cursors == before and not portion.players:
        return False
    secret = search_keys.secret(connection, vault)
    if secret is None and (
        portion.addresses or any(search_keys.addresses_in(row["profile"]) for row in portion.players)
    ):
        secret = database.write(lambda tx: search_keys.make_secret(tx, vault))
    database.write(lambda tx: _store(tx, portion, secret or b""))
    return True


def _read(connection: Connection, vault: Vault, before: dict[str, int]) -> _Portion:
    players = connection.execute(
        """SELECT game_id, player_id, name, profile, updated_at FROM players
           WHERE is_in_search = 0 ORDER BY game_id, player_id LIMIT :most""",
        {"most": ROWS_AT_ONCE},
    ).fetchall()
    portion = _Portion(dict(before), players)
    for table, (columns, _) in _TABLES.items():
        rows = connection.execute(
            f"SELECT {columns} FROM {table} WHERE id > :after ORDER BY id LIMIT :most",  # noqa: S608  our own words only
            {"after": before.get(table, 0), "most": ROWS_AT_ONCE},
        ).fetchall()
        if not rows:  # the newest rows may be deleted, and the next ones get their ids
            last = queries.value(connection, f"SELECT max(id) FROM {table}", {})  # noqa: S608  our own words only
            portion.cursors[table] = last or 0
        for row in rows:
            portion.cursors[table] = row["id"]
            if row["player_id"] is None:
                continue
            portion.ids.add((row["game_id"], row["player_id"]))
            for address in search_keys.addresses_in(_body(table, row, vault, connection)):
                portion.addresses.append((table, row, address))
    return portion


def _body(table: str, row: Row, vault: Vault, connection: Connection) -> bytes | None:
    if table == "refusals":
        return refusals.opened(vault.current(connection), row).body
    if table == "transactions":
        return packing.body(row["raw_body"])
    return row["raw_body"] if table != "payments" else None


def _store(tx: Connection, portion: _Portion, secret: bytes) -> None:
    for game_id, player_id in sorted(portion.ids):
        search_keys.put(tx, "id", search_keys.of_id(player_id), game_id, player_id)
    kept = {table: _with_body(tx, table, portion) for table in {table for table, _, _ in portion.addresses}}
    for table, row, address in portion.addresses:
        if row["id"] in kept[table]:
            key = search_keys.of_address(secret, address)
            search_keys.put(tx, "address", key, row["game_id"], row["player_id"])
    # All before the first is asked what it did: over a network they go out together.
    updated = [tx.execute(_NOW_IN_SEARCH, dict(row)) for row in portion.players]
    for row, result in zip(portion.players, updated, strict=True):
        if result.rowcount:  # else it was changed or deleted since it was read: then it is read again, or is gone
            _store_player(tx, row, secret)
    jobs.put_cursor(tx, jobs.INSTALLATION, NAME, json.dumps(portion.cursors))


def _with_body(tx: Connection, table: str, portion: _Portion) -> set[int]:
    """The ids of the rows in which an address was read that still have their body."""
    ids = {row["id"] for each, row, _ in portion.addresses if each == table}
    found = tx.execute(
        f"""SELECT t.id FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ {table} t ON t.id = i.value
            WHERE t.{_TABLES[table][1]}""",  # noqa: S608  our own words only
        {"ids": json.dumps(sorted(ids))},
    )
    return {row["id"] for row in found}


def _store_player(tx: Connection, row: Row, secret: bytes) -> None:
    search_keys.put(tx, "id", search_keys.of_id(row["player_id"]), row["game_id"], row["player_id"])
    search_keys.put_names(tx, row["game_id"], row["player_id"], row["name"])
    for address in search_keys.addresses_in(row["profile"]):
        key = search_keys.of_address(secret, address)
        search_keys.put(tx, "address", key, row["game_id"], row["player_id"])


def _parsed(cursor: str | None) -> dict[str, int]:
    found: dict[str, int] = json.loads(cursor or "{}")
    return found
