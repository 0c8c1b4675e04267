"""What an id, a name or an e-mail address leads to, over all games: the owner's search.

Ids in small letters, as most are, are found by the unique keys of their tables; the others by indexes that fold them
(``schema.sql``). So what was committed is found at once. Players are found by ``search_keys``, which a job fills.

Each question is asked twice: for exactly this id, and for ids that begin so. Of the latter each branch takes the first
:data:`MOST_OF_BRANCH` rows of its index, so that no search is slow, however short the text.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from coinslot.access.vault import Vault, VaultError
from coinslot.base import exact, spellings
from coinslot.games import search_keys
from coinslot.ledger import search
from coinslot.store.db import Connection, Row

LONGEST = 256  # characters of a search
MOST_OF_BRANCH = 25
MOST_SHOWN = 50  # of each kind

_LAST = "\U0010ffff"
_NAME_KINDS = tuple(f"{kind}:" for kind in search.KEY_KINDS)  # before the names of a refused order
_LONGEST_NUMBER = 18  # digits


@dataclass(frozen=True)
class Hit:
    """Something that the text leads to. ``what`` is transaction, grant, event, delivery, payment, player or call: a
    refused one that had proved itself.

    ``matched`` is the id or the name that was found; None where that was an e-mail address, or a call's player.
    """

    what: str
    game_id: int
    matched: str | None
    is_exact: bool
    at: str  # empty where no time is known
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """Exact hits first, then the newest first. ``is_cut``: more begins so than is here."""

    hits: list[Hit]
    is_cut: bool


def find(connection: Connection, vault: Vault, text: str) -> Found:
    """Everything that the text leads to. A text of more than :data:`LONGEST` characters leads to nothing."""
    wanted = exact.whole_text(text.strip())
    if not wanted or len(wanted) > LONGEST:
        return Found([], is_cut=False)
    pairs = [tuple(row) for row in connection.execute(_PAIRS)]
    named: dict[tuple[str, int], str] = {}  # what and its id -> the id that matched
    is_cut = False
    for is_prefix in (False, True):
        rows = connection.execute(_IDS, _ways(wanted, pairs, is_prefix)).fetchall()
        is_cut = is_cut or _is_cut(rows)
        for row in rows:
            matched = _bare(row["matched"], wanted) if row["what"] == "call" else row["matched"]
            named.setdefault((row["what"], row["id"]), matched)
    rows = connection.execute(_KEYS, _keys(connection, vault, wanted)).fetchall()
    is_cut = is_cut or _is_cut(rows) or max(Counter(what for what, _ in named).values(), default=0) > MOST_SHOWN
    players: dict[tuple[int, str], str | None] = {}
    for row in rows:
        players.setdefault((row["game_id"], row["player_id"]), row["matched"])
    folded = spellings.searched(wanted)
    hits = [
        *_transactions(connection, named),
        *_others(connection, named),
        *_described(connection, players),
        *_calls(connection, named, players, folded),
    ]
    hits = [hit if hit.matched is None else _judged(hit, folded) for hit in hits]
    hits.sort(key=lambda hit: hit.at, reverse=True)
    hits.sort(key=lambda hit: not hit.is_exact)
    return Found(hits, is_cut)


def is_address(text: str) -> bool:
    """Whether the text is a whole e-mail address."""
    return search_keys.address(text) is not None


def players_named(connection: Connection, game_id: int, text: str, limit: int) -> list[Row]:
    """Registered players of a game whose name has a word from which on it begins so, in the order of their names."""
    key = spellings.searched(text)[: search_keys.LONGEST_KEY]
    return connection.execute(
        """SELECT p.player_id, p.name, p.country, p.created_at, p.updated_at
           FROM search_keys k CROSS JOIN /* hint */ players p ON p.game_id = k.game_id AND p.player_id = k.player_id
           WHERE k.kind = 'name' AND k.key BETWEEN :low AND :high AND k.game_id = :game_id
           ORDER BY k.key LIMIT :limit""",
        {"game_id": game_id, "low": key, "high": key + _LAST, "limit": limit},
    ).fetchall()


# Every game with an empty partner, and with each that something in the ledger is of: a step through an index for each.
_PAIRS = """
    WITH RECURSIVE known (game_id, partner) AS (
        SELECT games.id, (SELECT min(t.partner) FROM transactions t WHERE t.game_id = games.id) FROM games
        UNION ALL
        SELECT k.game_id, (SELECT min(t.partner) FROM transactions t
                           WHERE t.game_id = k.game_id AND t.partner > k.partner)
        FROM known k WHERE k.partner IS NOT NULL),
    heard (game_id, partner) AS (
        SELECT games.id, (SELECT min(e.partner) FROM events e WHERE e.game_id = games.id) FROM games
        UNION ALL
        SELECT h.game_id, (SELECT min(e.partner) FROM events e WHERE e.game_id = h.game_id AND e.partner > h.partner)
        FROM heard h WHERE h.partner IS NOT NULL)
    SELECT id, '' FROM games
    UNION SELECT game_id, partner FROM known WHERE partner IS NOT NULL
    UNION SELECT game_id, partner FROM heard WHERE partner IS NOT NULL ORDER BY 1, 2"""


def _branch(what: str, columns: str, ways: str, table: str, condition: str) -> str:
    return f"""SELECT '{what} {columns} {ways}' AS branch, '{what}' AS what, b.id, b.matched FROM (
        SELECT {columns} FROM json_each(:{ways}) w CROSS JOIN /* hint */ {table} ON {condition}
        LIMIT :most) b"""  # noqa: S608  our own words only


def _given(column: str, place: int) -> str:
    """What a way says for a column."""
    text = f"json_extract(w.value, '$[{place}]')"
    return f"CAST({text} AS INTEGER)" if column in ("t.id", "t.game_id") else text


def _between(column: str, low: int) -> str:
    return f"{column} BETWEEN {_given(column, low)} AND {_given(column, low + 1)}"


def _has(*columns: str) -> str:
    return " AND ".join(f"{column} = {_given(column, place)}" for place, column in enumerate(columns))


_OF_PARTNER = _has("t.game_id", "t.partner")
_IDS = "\nUNION ALL\n".join(
    _branch(*each)
    for each in (
        ("transaction", "t.id, t.external_id AS matched", "partners", "transactions t",
         f"{_OF_PARTNER} AND {_between('t.external_id', 2)}"),
        ("transaction", "t.id, t.reference AS matched", "texts", "transactions t",
         f"{_between('lower(t.reference)', 0)} AND t.reference <> lower(t.reference)"),
        ("transaction", "t.id, t.public_id AS matched", "texts", "transactions t", _between("t.public_id", 0)),
        ("transaction", "t.transaction_id AS id, t.value AS matched", "kinds", "transaction_keys t",
         f"{_has('t.game_id', 't.partner', 't.kind')} AND {_between('t.value', 3)}"),
        ("transaction", "t.transaction_id AS id, t.value AS matched", "texts", "transaction_keys t",
         f"{_between('lower(t.value)', 0)} AND t.value <> lower(t.value)"),
        ("event", "t.id, t.dedupe_key AS matched", "partners", "events t",
         f"{_OF_PARTNER} AND {_between('t.dedupe_key', 2)}"),
        ("event", "t.id, t.dedupe_key AS matched", "texts", "events t",
         f"{_between('lower(t.dedupe_key)', 0)} AND t.dedupe_key <> lower(t.dedupe_key)"),
        ("event", "t.id, t.external_id AS matched", "partners", "events t",
         f"{_OF_PARTNER} AND {_between('t.external_id', 2)}"),
        ("event", "t.id, t.external_id AS matched", "texts", "events t",
         f"{_between('lower(t.external_id)', 0)} AND t.external_id <> lower(t.external_id)"),
        ("payment", "t.id, t.transaction_id AS matched", "games", "payments t",
         f"{_has('t.game_id')} AND {_between('t.transaction_id', 1)}"),
        ("payment", "t.id, t.transaction_id AS matched", "texts", "payments t",
         f"{_between('lower(t.transaction_id)', 0)} AND t.transaction_id <> lower(t.transaction_id)"),
        ("delivery", "t.id, t.webhook_id AS matched", "texts", "deliveries t", _between("t.webhook_id", 0)),
        ("delivery", "t.id, CAST(t.id AS TEXT) AS matched", "numbers", "deliveries t", _between("t.id", 0)),
        ("grant", "t.id, CAST(t.id AS TEXT) AS matched", "numbers", "grants t", _between("t.id", 0)),
        ("event", "t.id, CAST(t.id AS TEXT) AS matched", "numbers", "events t", _between("t.id", 0)),
        ("call", "t.refusal_id AS id, t.name AS matched", "names", "refusal_names t", _between("lower(t.name)", 0)),
    )
)  # fmt: skip


def _ways(wanted: str, pairs: list[tuple[int, str]], is_prefix: bool) -> dict[str, object]:
    """Where to look, as JSON for each branch: the columns before, and the bounds of what is looked for."""
    # The engine's lower() knows only ASCII.
    lower = "".join(each.lower() if each.isascii() else each for each in wanted)
    spelled = dict.fromkeys((wanted, lower, wanted.lower()))
    bounds = [(each, each + _LAST if is_prefix else each) for each in spelled]
    ways = {
        "texts": bounds,
        "partners": [(*pair, *each) for pair in pairs for each in bounds],
        "kinds": [(*pair, kind, *each) for pair in pairs for kind in search.KEY_KINDS for each in bounds],
        "games": [(game_id, *each) for game_id in dict.fromkeys(game_id for game_id, _ in pairs) for each in bounds],
        "names": [(f"{kind}{low}", f"{kind}{high}") for kind in ("", *_NAME_KINDS) for low, high in bounds],
        "numbers": _number_bounds(wanted, is_prefix),
    }
    return {name: json.dumps(way) for name, way in ways.items()} | {"most": MOST_OF_BRANCH}


def _bare(name: str, wanted: str) -> str:
    """A name of an order without the kind of id before it, unless that was searched too."""
    kind = next((kind for kind in _NAME_KINDS if name.startswith(kind)), "")
    return name if wanted.lower().startswith(kind) else name.removeprefix(kind)


def _number_bounds(wanted: str, is_prefix: bool) -> list[tuple[int, int]]:
    """The numbers that are written so, or that begin so, the largest first."""
    if not re.fullmatch(f"[0-9]{{1,{_LONGEST_NUMBER}}}", wanted) or (is_prefix and wanted.startswith("0")):
        return []
    if not is_prefix:
        return [(int(wanted), int(wanted))]
    tens = [10**power for power in range(1, _LONGEST_NUMBER - len(wanted) + 1)]
    return [(int(wanted) * ten, int(wanted) * ten + ten - 1) for ten in reversed(tens)]


def _is_cut(rows: Iterable[Row]) -> bool:
    return max(Counter(row["branch"] for row in rows).values(), default=0) >= MOST_OF_BRANCH


def _keys(connection: Connection, vault: Vault, wanted: str) -> dict[str, object]:
    key = spellings.searched(wanted)[: search_keys.LONGEST_KEY]
    hashed = None
    if (address := search_keys.address(wanted)) is not None:
        with suppress(VaultError):  # without the master key only ids and names are found
            secret = search_keys.secret(connection, vault)
            hashed = None if secret is None else search_keys.of_address(secret, address)
    high = key + _LAST if key else ""
    return {"text": wanted, "low": key, "high": high, "hash": hashed, "most": MOST_OF_BRANCH}


# Game and player, and the id or the name that matched; NULL for an address. Exactly this id is looked for in the tables
# too: the job may not have been there yet.
_KEYS = """
    SELECT 0 AS branch, k.game_id, k.player_id, NULL AS matched FROM (
        SELECT game_id, player_id FROM search_keys k WHERE k.kind = 'address' AND k.key = :hash LIMIT :most) k
    UNION ALL
    SELECT 1, games.id, :text, :text FROM games
    WHERE EXISTS (SELECT 1 FROM players WHERE game_id = games.id AND player_id = :text)
       OR EXISTS (SELECT 1 FROM transactions WHERE game_id = games.id AND player_id = :text)
       OR EXISTS (SELECT 1 FROM events WHERE game_id = games.id AND player_id = :text)
       OR EXISTS (SELECT 1 FROM payments WHERE game_id = games.id AND player_id = :text)
       OR EXISTS (SELECT 1 FROM refusals WHERE game_id = games.id AND player_id = :text)
    UNION ALL
    SELECT 2, ids.game_id, ids.player_id, ids.player_id FROM (
        SELECT game_id, player_id FROM search_keys WHERE kind = 'id' AND key BETWEEN :low AND :high
        ORDER BY key LIMIT :most) ids
    UNION ALL
    SELECT 3, names.game_id, names.player_id, p.name FROM (
        SELECT game_id, player_id FROM search_keys WHERE kind = 'name' AND key BETWEEN :low AND :high
        ORDER BY key LIMIT :most) names
    JOIN players p ON p.game_id = names.game_id AND p.player_id = names.player_id"""


def _transactions(connection: Connection, named: dict[tuple[str, int], str]) -> Iterable[Hit]:
    ids = sorted((each for what, each in named if what == "transaction"), reverse=True)
    for row in search.by_ids(connection, ids[:MOST_SHOWN]) if ids else ():
        yield Hit("transaction", row["game_id"], named["transaction", row["id"]], False, row["received_at"], dict(row))


def _others(connection: Connection, named: dict[tuple[str, int], str]) -> Iterable[Hit]:
    ids = {
        what: json.dumps(sorted((each for kind, each in named if kind == what), reverse=True)[:MOST_SHOWN])
        for what in ("grant", "event", "delivery", "payment")
    }
    if set(ids.values()) != {"[]"}:
        for row in connection.execute(_DETAILS, ids):
            yield Hit(row["what"], row["game_id"], named[row["what"], row["id"]], False, row["at"], dict(row))


_DETAILS = """
    SELECT 'grant' AS what, g.id, g.game_id, t.partner, g.kind AS type, g.player_id, t.gross_minor, t.currency,
           NULL AS amount, g.created_at AS at, NULL AS state, g.is_test, t.public_id, NULL AS target
    FROM json_each(:grant) /* numbers */ i CROSS JOIN /* hint */ grants g ON g.id = i.value
    JOIN transactions t ON t.id = g.transaction_id
    UNION ALL
    SELECT 'event', e.id, e.game_id, e.partner, e.type, e.player_id, t.gross_minor, t.currency,
           NULL, e.received_at, NULL, e.is_test, t.public_id, NULL
    FROM json_each(:event) /* numbers */ i CROSS JOIN /* hint */ events e ON e.id = i.value
    LEFT JOIN transactions t ON t.game_id = e.game_id AND t.partner = e.partner AND t.external_id = e.external_id
    UNION ALL
    SELECT 'delivery', d.id, d.game_id, s.name, d.event_type, coalesce(g.player_id, e.player_id), NULL, NULL,
           NULL, d.created_at, d.state, coalesce(g.is_test, e.is_test), NULL, NULL
    FROM json_each(:delivery) /* numbers */ i CROSS JOIN /* hint */ deliveries d ON d.id = i.value
    JOIN destinations s ON s.id = d.destination_id LEFT JOIN grants g ON g.id = d.grant_id
    LEFT JOIN events e ON e.id = d.event_id
    UNION ALL
    SELECT 'payment', p.id, p.game_id, p.source, p.product_id, p.player_id, NULL, p.currency,
           p.amount, p.created_at, p.state, p.is_test, NULL, p.transaction_id
    FROM json_each(:payment) /* numbers */ i CROSS JOIN /* hint */ payments p ON p.id = i.value"""


def _described(connection: Connection, players: dict[tuple[int, str], str | None]) -> Iterable[Hit]:
    """Players with their last transaction."""
    some = list(players)[:MOST_SHOWN]
    for row in connection.execute(_OF_PLAYERS, {"players": json.dumps(some)}) if some else ():
        matched = players[row["game_id"], row["player_id"]]
        if not any(row[each] for each in ("is_registered", "is_in_ledger", "is_paying", "is_refused")):
            continue  # a refused call named the player, and is deleted
        yield Hit(
            "player", row["game_id"], matched, matched is None, row["received_at"] or row["created_at"] or "", row
        )


_OF_PLAYERS = """
    SELECT w.game_id, w.player_id, p.name, p.created_at, t.received_at, t.gross_minor, t.currency, t.reference,
           t.is_test, CASE WHEN p.player_id IS NULL THEN 0 ELSE 1 END AS is_registered,
           CASE WHEN t.id IS NULL AND NOT EXISTS (
               SELECT 1 FROM events e WHERE e.game_id = w.game_id AND e.player_id = w.player_id)
           THEN 0 ELSE 1 END AS is_in_ledger,
           EXISTS (SELECT 1 FROM payments y WHERE y.game_id = w.game_id AND y.player_id = w.player_id) AS is_paying,
           EXISTS (SELECT 1 FROM refusals r WHERE r.game_id = w.game_id AND r.player_id = w.player_id) AS is_refused
    FROM (SELECT CAST(json_extract(value, '$[0]') AS INTEGER) AS game_id, json_extract(value, '$[1]') AS player_id
          FROM json_each(:players)) w
    LEFT JOIN players p ON p.game_id = w.game_id AND p.player_id = w.player_id
    LEFT JOIN transactions t ON t.id = (
        SELECT max(x.id) FROM transactions x WHERE x.game_id = w.game_id AND x.player_id = w.player_id)"""


def _calls(
    connection: Connection,
    named: dict[tuple[str, int], str],
    players: dict[tuple[int, str], str | None],
    folded: str,
) -> Iterable[Hit]:
    """Refused calls with this order, and those that name a player who is meant exactly."""
    exactly = [each for each, matched in players.items() if matched is None or spellings.searched(matched) == folded]
    ids = [each for what, each in named if what == "call"]
    if not ids and not exactly:
        return
    values = {"calls": json.dumps(ids[:MOST_SHOWN]), "players": json.dumps(exactly[:MOST_SHOWN]), "most": MOST_SHOWN}
    for row in connection.execute(_OF_CALLS, values):
        matched = named.get(("call", row["id"]))
        yield Hit("call", row["game_id"], matched, matched is None, row["last_at"], dict(row))


_OF_CALLS = """
    SELECT r.id, r.game_id, r.partner, r.endpoint, r.reason, r.detail, r.reference, r.player_id, r.currency,
           r.amount_minor, r.state, r.is_test, r.last_at
    FROM (
        SELECT i.value AS id FROM json_each(:calls) /* numbers */ i
        UNION
        SELECT x.id FROM json_each(:players) w CROSS JOIN /* hint */ refusals x
            ON x.game_id = CAST(json_extract(w.value, '$[0]') AS INTEGER)
               AND x.player_id = json_extract(w.value, '$[1]')) found
    CROSS JOIN /* hint */ refusals r ON r.id = found.id
    WHERE r.state IS NOT NULL ORDER BY r.id DESC LIMIT :most"""


def _judged(hit: Hit, folded: str) -> Hit:
    return Hit(hit.what, hit.game_id, hit.matched, spellings.searched(hit.matched or "") == folded, hit.at, hit.row)
