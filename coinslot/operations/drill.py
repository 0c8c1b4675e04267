"""The restore drill: a backup is restored in a folder of its own, and what it holds is checked row by row.

It runs on the copy alone and reads from the beginning to the end, with no large list: a file of any size takes the same
memory. Each check says what holds, or the first few things that are wrong. None of its sentences names a player.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from coinslot.access.vault import Vault
from coinslot.base.errors import CoinslotError
from coinslot.games.registry import RESERVED_ID
from coinslot.ledger import chain
from coinslot.operations.restore import restore
from coinslot.store import counters, engine, queries
from coinslot.store.db import Connection, EngineError
from coinslot.store.sqlite import SqliteDatabase, connect, creation_script

SENTENCES = 5  # about one check; the rest is counted
AT_END = 2**63 - 1  # where a counter stays


@dataclass(frozen=True)
class Checked:
    """One check: what it was about, and what was wrong; ``count`` is how many things that are."""

    what: str
    faults: tuple[str, ...] = ()
    count: int = 0

    @classmethod
    def of(cls, what: str, faults: Iterable[str]) -> "Checked":
        named: list[str] = []
        count = 0
        for fault in faults:
            count += 1
            if count <= SENTENCES:
                named.append(fault)
        return cls(what, tuple(named), count)


@dataclass(frozen=True)
class Newest:
    """The newest rows that were committed when a backup began: a hash each, by which they are found in the copy."""

    transaction: str | None
    grant: str | None

    @classmethod
    def of(cls, connection: Connection) -> "Newest":
        return cls(
            queries.value(connection, "SELECT row_hash FROM transactions ORDER BY id DESC LIMIT 1", {}),
            queries.value(connection, "SELECT grant_hash FROM grants ORDER BY id DESC LIMIT 1", {}),
        )


def drill(
    place: Path,
    file: Path,
    vault: Vault,
    newest: Newest,
    copy_file: Callable[[Path, Path], object],
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Checked]:
    """Restore ``file`` in the folder ``place`` and check it. After a fault the checks that can still be made are made.

    ``progress`` is called with the share of the work that is done.
    """
    database = SqliteDatabase(place)
    try:
        restored = restore(database, vault, file, copy_file)
    except CoinslotError as error:  # of the file, or a sealed value
        yield Checked.of("the backup can be restored", [str(error)])
        return
    progress(0.5)
    yield Checked("it can be restored: the file is sound, and every row refers to rows that are there")
    values = "its one sealed value opens" if restored.sealed_values == 1 else f"its {restored.sealed_values:,} opened"
    yield Checked(f"every sealed value opens with master key {restored.key_id} ({values})")
    with closing(connect(database.path)) as connection:
        connection.execute("PRAGMA query_only = ON")
        checks: tuple[tuple[str, Callable[[Connection], Iterable[str]], float], ...] = (
            ("tables, indexes and triggers are those of this version", _schema, 0.52),
            ("the newest transaction of the moment when the backup began is in it", newest_faults(newest), 0.54),
            ("the hash chain of the ledger is whole", chain.verify, 0.8),
            ("no order is there twice", _doubled, 0.85),
            ("every grant agrees with its transaction, and the counters with both", _counted, 1.0),
        )
        for what, check, share in checks:
            try:
                yield Checked.of(what, check(connection))
            except (EngineError, ValueError) as error:  # the file was sound, but a value cannot be read
                yield Checked.of(what, [f"it cannot be read: {error}"])
            progress(share)


def newest_faults(newest: Newest) -> Callable[[Connection], Iterator[str]]:
    """Whether the newest rows are in a copy, as they were."""

    def faults(connection: Connection) -> Iterator[str]:
        for table, column, wanted in (
            ("transactions", "row_hash", newest.transaction),
            ("grants", "grant_hash", newest.grant),
        ):
            # From the end: the row is among the newest few, and there is no index for this.
            query = f"SELECT 1 FROM {table} WHERE {column} = :wanted ORDER BY id DESC LIMIT 1"  # noqa: S608
            if wanted is not None and connection.execute(query, {"wanted": wanted}).fetchone() is None:
                yield f"the newest of the {table} is missing from it, or was changed"

    return faults


def _schema(connection: Connection) -> Iterator[str]:
    """A trigger that is gone protects nothing, and an index that is gone may be a promise, such as once per order."""
    query = "SELECT type, name FROM sqlite_schema"
    with closing(engine.private()) as fresh:
        fresh.executescript(creation_script())
        wanted = {tuple(row) for row in fresh.execute(query)}
    for kind, name in sorted(wanted - {tuple(row) for row in connection.execute(query)}):
        yield f"the {kind} {name} is missing"


def _doubled(connection: Connection) -> Iterator[str]:
    """Through the unique indexes, which the check of the file has compared with their tables."""
    for row in connection.execute(
        """SELECT g.slug, t.partner, t.external_id FROM (
               SELECT game_id, partner, external_id FROM transactions
               GROUP BY game_id, partner, external_id HAVING count(*) > 1) t
           JOIN games g ON g.id = t.game_id"""
    ):
        yield f"the order {row['external_id']} of {row['partner']} in game {row['slug']} is there twice"
    for row in connection.execute("SELECT public_id FROM transactions GROUP BY public_id HAVING count(*) > 1"):
        yield f"the transaction {row['public_id']} is there twice"
    for row in connection.execute(
        """SELECT t.public_id FROM (
               SELECT transaction_id, kind FROM grants GROUP BY transaction_id, kind HAVING count(*) > 1) g
           JOIN transactions t ON t.id = g.transaction_id"""
    ):
        yield f"the transaction {row['public_id']} was granted twice"
    for row in connection.execute(
        """SELECT count(*) AS times FROM transaction_keys WHERE kind = 'signature'
           GROUP BY game_id, partner, value HAVING count(*) > 1"""
    ):
        yield f"one signature has credited {row['times']} times"


Figure = tuple[int, str, str, str]  # game, partner, name, label


def _counted(connection: Connection) -> Iterator[str]:
    """Compare grants with their transactions; and over all days what was counted with what the rows say.

    Not day by day: a credit at midnight may be counted on the day after its row. Counters of what is not stored for
    ever (calls, refusals, deliveries) are not compared.
    """
    expected: Counter[Figure] = Counter()
    rows = connection.execute(
        """SELECT g.id, g.kind, g.game_id, g.player_id, g.is_test, t.public_id, t.partner, t.kind AS reported,
                  t.currency, t.gross_minor, e.sku,
                  t.game_id = g.game_id AND t.player_id = g.player_id AND t.is_test = g.is_test AS agrees
           FROM grants g JOIN transactions t ON t.id = g.transaction_id LEFT JOIN entries e ON e.grant_id = g.id
           ORDER BY g.id"""
    )
    for _, lines in groupby(rows, lambda row: row["id"]):
        row = next(lines)
        skus = [each["sku"] for each in (row, *lines) if each["sku"] is not None]
        if not row["agrees"] or row["kind"] not in (row["reported"], "reversal"):
            yield f"grant {row['id']} does not agree with its transaction {row['public_id']}"
        expected.update(_figures(row, skus))
    counted: Counter[Figure] = Counter()
    is_at_end: set[Figure] = set()
    for row in connection.execute("SELECT game_id, partner, name, label, value FROM counters"):
        if row["name"] in _NAMES:
            figure = (row["game_id"], row["partner"], row["name"], row["label"])
            counted[figure] += row["value"]
            if row["value"] == AT_END:
                is_at_end.add(figure)
    slugs = {row["id"]: row["slug"] for row in connection.execute("SELECT id, slug FROM games")}
    for figure in sorted(expected.keys() | counted.keys()):
        if expected[figure] != counted[figure] and figure not in is_at_end:
            game_id, partner, name, label = figure
            what = f"{name} {label}".strip()
            yield (
                f"the counter {what} of {partner} in game {slugs.get(game_id, game_id)} says {counted[figure]:,}, "
                f"the rows say {expected[figure]:,}"
            )


_NAMES = frozenset(
    [f"{name}{test}" for name in ("credited", "reversed", "restored") for test in ("", ".test")]
    + [counters.ITEM, counters.GROSS]
)


def _figures(row: Any, skus: list[str]) -> dict[Figure, int]:
    """What a grant has counted as in ``credit.py`` and ``reversals.py``; the reserved player and item count nothing."""
    game_id, partner, test = row["game_id"], row["partner"], ".test" if row["is_test"] else ""
    if row["player_id"] == RESERVED_ID:
        return {}
    if row["kind"] in ("reversal", "adjustment"):
        name = "reversed" if row["kind"] == "reversal" else "restored"
        return {(game_id, partner, f"{name}{test}", ""): 1}
    if RESERVED_ID in skus:
        return {}
    figures: dict[Figure, int] = {(game_id, partner, f"credited{test}", ""): 1}
    if not test:
        figures |= {(game_id, partner, counters.ITEM, sku): 1 for sku in skus}
        if row["gross_minor"] and row["currency"]:
            figures[game_id, partner, counters.GROSS, row["currency"]] = row["gross_minor"]
    return figures
