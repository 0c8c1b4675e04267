"""Forgetting a player: personal data is deleted, sums stay. A restored copy forgets again who was forgotten since.

``erasure.forget_player`` empties the rows that name the player in a column. The others are found by their content, the
player's id or any id of an order of the player: refused calls, which only the vault can open, events without a player,
and payments that could not be read.

Who was forgotten is stored twice, as hashes: in the database, for what this state of it has forgotten, and in a file
beside it, which a restore does not change.
"""

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from coinslot.access.vault import MasterKey, Vault
from coinslot.base import clock, exact
from coinslot.games import erasure, registry
from coinslot.games.games import Game
from coinslot.ledger.search import FALLBACKS, KEY_KINDS, partners
from coinslot.operations import refusals, uploads
from coinslot.store import audit, portions
from coinslot.store.db import Connection, Database, Row
from coinslot.store.lock import hand_over

FILE = "forgotten"
EMPTIED_WITH_THE_PLAYER = 200  # orders or events; if there are more, they are emptied before, in portions
MOST_WORDS = 300  # of one text that are looked up as ids of orders, each in every index
SHORT_NUMBER = 4  # digits; a player's id so short is recognized only in a field whose name says that it is an id

_EMPTIED_ROW = json.dumps({"unmapped": None})  # of a payment of which nothing can be made
_ID_FIELD = re.compile("id|key|user|player|usn|order|purchase|payment|transaction|reference|sign", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[\s\"'`,;:=&?!()<>{}\[\]|\\]+")
_HEX = re.compile("[0-9a-fA-F]{32,}")

Words = list[tuple[str, str]]  # a field's name and its value; words outside of fields get the name "id"


@dataclass(frozen=True)
class _Found:
    """Ids of rows that name a player, or an order of the player, in no column."""

    refusals: list[int]
    events: list[int]
    payments: list[int]
    payment_conflicts: list[int]

    def __bool__(self) -> bool:
        return bool(self.refusals or self.events or self.payments or self.payment_conflicts)


def forget(database: Database, vault: Vault, game: Game, player_id: str, actor: str) -> bool:
    """Forget a player of a game now; returns whether there was anything to forget.

    Afterwards neither the database nor the files beside it hold the player's data, except backups, and a WAL that a
    reader keeps in use: it is cut later.
    """
    connection = database.read()
    found = _find(connection, vault.current(connection), game.id, player_id)
    _empty_much(database, game.id, player_id)

    def store(tx: Connection) -> bool:
        is_known = _empty(tx, game.id, player_id, found)
        if is_known:
            audit.record(tx, game.id, actor, "player.forget", player_id)
            _remember(tx, database.home, _hash(game.slug, player_id))
            uploads.clear(tx)  # which may name anybody
        return is_known

    is_known = database.write(store)
    if is_known:
        database.tidy()
    return is_known


def _empty_much(database: Database, game_id: int, player_id: str) -> None:
    """Empty the rows of a player with very many orders or events in portions, so that the write that forgets the player
    is short. Of other players nothing is emptied here.
    """
    for table, statements in _MUCH.items():
        rows = database.read().execute(
            f"SELECT id FROM {table} WHERE game_id = :game_id AND player_id = :player_id ORDER BY id",  # noqa: S608
            {"game_id": game_id, "player_id": player_id},
        )
        ids = [row["id"] for row in rows]

        def empty(tx: Connection, some: Sequence[int], statements: tuple[str, ...] = statements) -> None:
            for statement in statements:
                tx.executemany(statement, [{"id": each} for each in some])

        if len(ids) > EMPTIED_WITH_THE_PLAYER:
            portions.write_each(database.write, portions.ready_made(ids, 50), empty)


_MUCH = {
    "transactions": (
        """UPDATE transactions SET raw_body = NULL, signature = NULL, session_metadata = NULL
           WHERE id = :id AND (raw_body IS NOT NULL OR signature IS NOT NULL OR session_metadata IS NOT NULL)""",
        """UPDATE attempts SET answer = NULL, detail = NULL WHERE delivery_id IN (
               SELECT d.id FROM grants g JOIN deliveries d ON d.grant_id = g.id WHERE g.transaction_id = :id)""",
    ),
    "events": (
        "UPDATE events SET raw_body = NULL WHERE id = :id AND raw_body IS NOT NULL",
        """UPDATE attempts SET answer = NULL, detail = NULL WHERE delivery_id IN (
               SELECT id FROM deliveries WHERE event_id = :id)""",
        *erasure.EMPTY_CONVERTED_OF_EVENT,
    ),
}


def forget_again(tx: Connection, key: MasterKey, home: Path, listed: Mapping[str, str]) -> int:
    """In a copy that is being restored, forget the players who were forgotten since it was taken; returns how many.

    ``listed`` are those of the state that was served before (:func:`known`): other servers have files of their own.

    A player who was forgotten and came back before the copy was taken stays.
    """
    remembered = dict(listed)
    for each, at in _read(home / FILE).items():
        remembered[each] = max(at, remembered.get(each, ""))
    done = dict(tx.execute("SELECT hash, forgotten_at FROM forgotten").fetchall())
    since = {each for each, at in remembered.items() if done.get(each) != at}
    count = 0
    for game in tx.execute("SELECT id, slug FROM games").fetchall() if since else ():
        for player_id in [each for each in _players(tx, game["id"]) if _hash(game["slug"], each) in since]:
            _empty(tx, game["id"], player_id, _find(tx, key, game["id"], player_id))
            count += 1
    tx.executemany(_REMEMBER, [{"hash": each, "at": remembered[each]} for each in since])
    uploads.clear(tx)
    return count


_REMEMBER = """INSERT INTO forgotten (hash, forgotten_at) VALUES (:hash, :at)
               ON CONFLICT (hash) DO UPDATE SET forgotten_at = excluded.forgotten_at"""


def _empty(tx: Connection, game_id: int, player_id: str, found: _Found) -> bool:
    is_known = erasure.forget_player(tx, game_id, player_id)
    for statement, ids in (
        ("DELETE FROM refusals WHERE id = :id", found.refusals),
        ("UPDATE events SET raw_body = NULL WHERE id = :id", found.events),
        ("UPDATE payments SET reported = :emptied WHERE id = :id", found.payments),
        ("UPDATE payment_conflicts SET reported = :emptied WHERE id = :id", found.payment_conflicts),
    ):
        tx.executemany(statement, [{"id": each, "emptied": _EMPTIED_ROW} for each in ids])
    # A refused call without a body that names the player, such as one that never came, loses the id alone.
    unnamed = tx.execute(
        "UPDATE refusals SET player_id = NULL WHERE game_id = :game_id AND player_id = :player_id",
        {"game_id": game_id, "player_id": player_id},
    ).rowcount
    return is_known or bool(found) or unnamed > 0


def known(connection: Connection) -> dict[str, str]:
    """Who was forgotten in this state of a database: hash -> when, the last time."""
    return dict(connection.execute("SELECT hash, forgotten_at FROM forgotten").fetchall())


def remember_all(connection: Connection, home: Path) -> None:
    """Bring the file of a folder up to date that gets this database: players may have been forgotten elsewhere."""
    listed = _read(home / FILE)
    for player_hash, at in known(connection).items():
        if listed.get(player_hash, "") < at:
            _append(home, player_hash, at)


def _remember(tx: Connection, home: Path, player_hash: str) -> None:
    """Write to the file before the commit: after a crash between the two, a restore still forgets the player."""
    now = clock.stamp()
    _append(home, player_hash, now)
    tx.execute(_REMEMBER, {"hash": player_hash, "at": now})


def _append(home: Path, player_hash: str, at: str) -> None:
    descriptor = os.open(home / FILE, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        hand_over(home / FILE, descriptor)
        os.write(descriptor, f"{player_hash} {at}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(file: Path) -> dict[str, str]:
    """Hash -> when it was last forgotten. An incomplete line is left out."""
    if not file.exists():
        return {}
    lines = (line.split(" ") for line in file.read_text(encoding="ascii", errors="replace").splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2 and len(line[0]) == 64}


def _hash(slug: str, player_id: str) -> str:
    return hashlib.sha256(f"{slug}\n{player_id}".encode("utf-8", errors="surrogatepass")).hexdigest()


def _players(connection: Connection, game_id: int) -> Iterator[str]:
    """Every player whom a game's rows name."""
    rows = connection.execute(
        """SELECT player_id FROM players WHERE game_id = :id
           UNION SELECT player_id FROM transactions WHERE game_id = :id
           UNION SELECT player_id FROM events WHERE game_id = :id AND player_id IS NOT NULL
           UNION SELECT player_id FROM conflicts WHERE game_id = :id
           UNION SELECT player_id FROM boosts WHERE game_id = :id
           UNION SELECT player_id FROM payments WHERE game_id = :id AND player_id IS NOT NULL
           UNION SELECT player_id FROM refusals WHERE game_id = :id AND player_id IS NOT NULL
           ORDER BY player_id""",
        {"id": game_id},
    )
    return (row["player_id"] for row in rows.fetchall())


def _find(connection: Connection, key: MasterKey, game_id: int, player_id: str) -> _Found:
    known = partners(connection, game_id)

    def is_named(words: Words) -> bool:
        return _is_player(words, player_id) or _is_order(connection, game_id, player_id, known, words)

    values = {"game_id": game_id, "player_id": player_id, "unmapped": '{"unmapped"'}

    def ids(query: str, is_meant: Callable[[Row], bool] = lambda row: True) -> list[int]:
        return [row["id"] for row in connection.execute(query, values) if is_meant(row)]

    def may_name(row: Row) -> bool:
        words = words_of_call(refusals.opened(key, row))
        return words is None or is_named(words)

    return _Found(
        refusals=ids("SELECT * FROM refusals WHERE game_id = :game_id OR game_id IS NULL", may_name),
        events=ids(
            """SELECT id, raw_body FROM events
               WHERE game_id = :game_id AND player_id IS NULL AND raw_body IS NOT NULL ORDER BY id""",
            lambda row: is_named(_of_body(row["raw_body"])),
        ),
        # Of a payment that could be read only the fields of its columns are stored.
        payments=ids(
            """SELECT id, player_id, reported FROM payments
               WHERE game_id = :game_id AND player_id = :player_id AND substr(reported, 1, 11) = :unmapped
               UNION ALL SELECT id, player_id, reported FROM payments
               WHERE game_id = :game_id AND state = 'parked' AND player_id IS NULL
                 AND substr(reported, 1, 11) = :unmapped""",
            lambda row: row["player_id"] is not None or is_named(_of_body(row["reported"].encode())),
        ),
        payment_conflicts=ids(
            """SELECT c.id FROM payments p JOIN payment_conflicts c ON c.payment_id = p.id
               WHERE p.game_id = :game_id AND p.player_id = :player_id AND substr(c.reported, 1, 11) = :unmapped"""
        ),
    )


def _is_player(words: Words, player_id: str) -> bool:
    is_short = player_id.isdigit() and len(player_id) <= SHORT_NUMBER
    return any(word == player_id and (not is_short or _ID_FIELD.search(field)) for field, word in words)


def _is_order(connection: Connection, game_id: int, player_id: str, known: list[str], words: Words) -> bool:
    """Whether a word is any id of a transaction of the player."""
    ids = (word for field, word in words if len(word) <= registry.LONGEST_ID and _ID_FIELD.search(field))
    values = list(dict.fromkeys(filter(exact.is_whole, ids)))[:MOST_WORDS]
    row = connection.execute(
        """SELECT 1 FROM json_each(:values) v CROSS JOIN /* hint */ transactions t ON t.public_id = v.value
           WHERE t.game_id = :game_id AND t.player_id = :player_id
           UNION ALL
           SELECT 1 FROM json_each(:partners) p CROSS JOIN json_each(:external_ids) v
           CROSS JOIN /* hint */ transactions t
               ON t.game_id = :game_id AND t.partner = p.value AND t.external_id = v.value
           WHERE t.player_id = :player_id
           UNION ALL
           SELECT 1 FROM json_each(:partners) p CROSS JOIN json_each(:kinds) k CROSS JOIN json_each(:values) v
           CROSS JOIN /* hint */ transaction_keys x
               ON x.game_id = :game_id AND x.partner = p.value AND x.kind = k.value AND x.value = v.value
           CROSS JOIN /* hint */ transactions t ON t.id = x.transaction_id
           WHERE t.player_id = :player_id LIMIT 1""",
        {
            "game_id": game_id,
            "player_id": player_id,
            "partners": json.dumps(known),
            "kinds": json.dumps(KEY_KINDS),
            "values": json.dumps(values),
            "external_ids": json.dumps([*values, *(f"{kind}:{each}" for kind in FALLBACKS for each in values)]),
        },
    ).fetchone()
    return row is not None


def words_of_call(call: refusals.Refused) -> Words | None:
    """The words of a refused call; None where it cannot be read, and may say anything."""
    body = call.body.strip()
    if not call.is_opened or _HEX.fullmatch(body.decode("latin-1")):
        return None
    words = [*_of_body(body), *_of_text(unquote(call.text("path")))]
    for field, value in [*parse_qsl(call.text("query"), keep_blank_values=True), *call.found.items()]:
        words += [(field, value), *_of_text(value), *_of_body(_from_base64(value))]
    return words


def _of_body(body: bytes) -> Words:
    """Every value of a JSON document; of any other text every word."""
    try:
        document = exact.parse_json(body, allow_half_pairs=True)
    except ValueError:
        return _of_text(unquote(body.decode("utf-8", errors="replace")))
    words: Words = []
    for field, value in exact.leaves(document):
        if isinstance(value, str):
            words += [(field, value), *((field, word) for _, word in _of_text(value))]
        elif value is not None and not isinstance(value, bool):
            words.append((field, str(value)))
    return words


def _of_text(text: str) -> Words:
    return [("id", word) for word in _BETWEEN_WORDS.split(text) if word]


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "==")
    except (binascii.Error, ValueError):
        return b""
