"""What came of a scene: the database file against the journals of the callers and of the game.

It reads with ``sqlite3`` and knows the format from ``schema.sql`` and ``docs/chaos.md``; no line of Coinslot runs here.

* lost: acknowledged, and not credited.
* doubled: credited or handed out more than once, or though no caller sent it.
* not delivered: credited, and neither taken by the game nor a dead letter with a reason.
* wrong: everything else that should not be; each is a sentence.
"""

import csv
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from chaos import hashes
from chaos.journal import facts

Key = tuple[str, str]  # partner, and the order's id
IN_HAND_SECONDS = 15.0  # after a restore, in which a delivery of what is gone may still arrive


@dataclass(frozen=True)
class Evidence:
    """Where a scene left what it did.

    ``restored``: the times between which acknowledged orders may be gone; None without a restore. ``missing``: what
    ``flask settlement differences`` then named, as CSV.
    """

    database: Path
    callers: Path  # folder of journals
    deliveries: Path
    feed: Path
    balances: Path
    restored: tuple[float, float] | None = None
    missing: Path | None = None


@dataclass
class Verdict:
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    not_delivered: int = 0
    gone: int = 0  # acknowledged between backup and restore, and not sent again
    slowest_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)  # what was lost, doubled or not delivered

    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.not_delivered or self.wrong)


@dataclass
class Said:
    """One order, as its caller knows it."""

    player: str
    items: dict[str, int]
    answer: str | None = None  # of the first 200
    answered: list[float] = field(default_factory=list)  # when each 200 came


class Grant(NamedTuple):
    id: int
    kind: str
    public_id: str
    player: str
    items: dict[str, int]


def judge(evidence: Evidence) -> Verdict:
    """Compare everything with everything."""
    verdict = Verdict()
    orders = _said(evidence.callers, verdict)
    verdict.acknowledged = sum(bool(order.answered) for order in orders.values())
    try:
        _compare(evidence, orders, verdict)
    except (sqlite3.DatabaseError, OSError) as error:
        verdict.wrong.append(f"the database cannot be read: {error}")
    return verdict


def _compare(evidence: Evidence, orders: dict[Key, Said], verdict: Verdict) -> None:
    with closing(sqlite3.connect(f"file:{evidence.database}?mode=ro", uri=True)) as connection:
        _check_file(connection, verdict)
        credited = _credited(connection)
        gone = _compare_with_callers(orders, credited, evidence.restored, verdict)
        _compare_with_differences(gone, evidence, verdict)
        _compare_with_game(connection, credited, list(facts(evidence.deliveries)), evidence.restored, verdict)
        _compare_with_feed(credited, list(facts(evidence.feed)), evidence.restored, verdict)
        _compare_with_balances(connection, evidence.balances, verdict)


def _said(folder: Path, verdict: Verdict) -> dict[Key, Said]:
    orders: dict[Key, Said] = {}
    for fact in (fact for path in sorted(folder.glob("*.jsonl")) for fact in facts(path)):
        key = (fact["partner"], fact["id"])
        if fact["what"] == "order":
            orders[key] = Said(fact["player"], fact["items"])
            continue
        order = orders[key]
        if fact["what"] == "given up":
            verdict.wrong.append(f"{_name(key)} was refused, or never acknowledged")
        elif fact["what"] == "answer":
            if fact["status"]:
                verdict.slowest_seconds = max(verdict.slowest_seconds, fact["seconds"])
            if fact["status"] == 200:
                order.answered.append(fact["at"])
                if order.answer not in (None, fact["body"]):
                    verdict.wrong.append(f"the repeat of {_name(key)} was answered differently")
                order.answer = order.answer or fact["body"]
    return orders


def _check_file(connection: sqlite3.Connection, verdict: Verdict) -> None:
    integrity = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    if integrity != ["ok"]:
        verdict.wrong += [f"integrity: {line}" for line in integrity[:5]]
    for table, row_id, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        verdict.wrong.append(f"row {row_id} of {table} refers to none of {parent}")
    verdict.wrong += hashes.broken(connection)


def _credited(connection: sqlite3.Connection) -> dict[Key, list[Grant]]:
    items: dict[int, dict[str, int]] = defaultdict(dict)
    for grant_id, sku, quantity in connection.execute("SELECT grant_id, sku, quantity FROM entries"):
        items[grant_id][sku] = int(quantity)
    credited: dict[Key, list[Grant]] = defaultdict(list)
    for partner, reference, grant_id, kind, public_id, player in connection.execute(
        """SELECT t.partner, t.reference, g.id, g.kind, t.public_id, g.player_id
           FROM transactions t JOIN grants g ON g.transaction_id = t.id ORDER BY g.id"""
    ):
        credited[partner, reference].append(Grant(grant_id, kind, public_id, player, items[grant_id]))
    return credited


def _compare_with_callers(
    orders: dict[Key, Said], credited: dict[Key, list[Grant]], restored: tuple[float, float] | None, verdict: Verdict
) -> set[Key]:
    """Returns what is gone with a restore."""
    gone = set()
    for key, order in orders.items():
        grants = credited.get(key, [])
        if len(grants) > 1:
            verdict.doubled += 1
            verdict.named.append(f"{_name(key)} is credited {len(grants)} times")
        if not grants and order.answered:
            # Gone by nature: every acknowledgement of it came after the copy was taken and before it was served.
            if restored is not None and all(restored[0] <= at <= restored[1] for at in order.answered):
                gone.add(key)
            else:
                verdict.lost += 1
                verdict.named.append(f"{_name(key)} was acknowledged and is not there")
        for grant in grants:
            if (grant.player, grant.items) != (order.player, order.items):
                verdict.wrong.append(f"{_name(key)} is credited with another player or other items")
    for key in credited.keys() - orders.keys():
        verdict.doubled += 1
        verdict.named.append(f"{_name(key)} is credited, and nobody sent it")
    verdict.gone = len(gone)
    return gone


def _compare_with_differences(gone: set[Key], evidence: Evidence, verdict: Verdict) -> None:
    """The comparison with the partner's report names what is gone, and nothing else."""
    if evidence.restored is None or evidence.missing is None:
        return
    with evidence.missing.open(newline="") as rows:
        named = {row["reference"] for row in csv.DictReader(rows)}
    lacking = {order for partner, order in gone if partner == "appcharge"}
    verdict.wrong += [f"appcharge {order} is gone, and the comparison does not name it" for order in lacking - named]
    verdict.wrong += [f"the comparison names appcharge {order}, which is there" for order in named - lacking]


def _compare_with_game(
    connection: sqlite3.Connection,
    credited: dict[Key, list[Grant]],
    taken: list[dict[str, Any]],
    restored: tuple[float, float] | None,
    verdict: Verdict,
) -> None:
    """What was delivered. A game gives out once per (transaction_id, kind), whatever the webhook id."""
    states = defaultdict(list)
    for grant_id, webhook_id, state, reason in connection.execute(
        "SELECT grant_id, webhook_id, state, dead_reason FROM deliveries WHERE grant_id IS NOT NULL"
    ):
        states[grant_id].append((webhook_id, state, reason))
    by_content: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for fact in taken:
        by_content[fact["data"]["transaction_id"], fact["data"]["kind"]].append(fact)
    arrived = {fact["webhook_id"] for fact in taken}

    for key, grants in credited.items():
        for grant in grants:
            owed = states.get(grant.id, [])
            is_dead = bool(owed) and all(state == "dead" and reason for _, state, reason in owed)
            if not (owed and all(webhook_id in arrived for webhook_id, _, _ in owed)) and not is_dead:
                verdict.not_delivered += 1
                said = ", ".join(state for _, state, _ in owed) or "owed to nobody"
                verdict.named.append(f"{_name(key)} did not arrive; its delivery is recorded as: {said}")
            for fact in by_content.pop((grant.public_id, grant.kind), []):
                _compare_content(key, grant, fact["data"], verdict)
                if fact["webhook_id"] not in {each[0] for each in owed} and restored is None:
                    verdict.doubled += 1
                    verdict.named.append(f"{_name(key)} arrived under a webhook id that is not recorded")
    for facts_of_one in by_content.values():  # of no grant that is there
        first = facts_of_one[0]
        if restored is None or first["at"] > restored[1] + IN_HAND_SECONDS:
            verdict.doubled += 1
            verdict.named.append(f"{first['data']['partner']} {first['data']['external_id']} arrived and is no grant")


def _compare_content(key: Key, grant: Grant, data: dict[str, Any], verdict: Verdict) -> None:
    items = {line["sku"]: line["quantity"] for line in data["items"]}
    if (data["partner"], data["external_id"], data["player_id"], items) != (*key, grant.player, grant.items):
        verdict.wrong.append(f"{_name(key)} was handed out as something else")


def _compare_with_feed(
    credited: dict[Key, list[Grant]],
    read: list[dict[str, Any]],
    restored: tuple[float, float] | None,
    verdict: Verdict,
) -> None:
    """A cursor that moves on must have met each grant once, in rising order."""
    ids = [fact["id"] for fact in read]
    if ids != sorted(set(ids)):
        verdict.wrong.append("the feed went back, or gave an id twice")
    there = {grant.id for grants in credited.values() for grant in grants}
    for missing in sorted(there - set(ids))[:5]:
        verdict.wrong.append(f"the feed passed over grant {missing}")
    if restored is None:
        for unknown in sorted(set(ids) - there)[:5]:
            verdict.wrong.append(f"the feed gave grant {unknown}, which is not there")
    for key, count in Counter((fact["transaction_id"], fact["kind"]) for fact in read).items():
        if count > 1 and restored is None:
            verdict.wrong.append(f"the feed gave {key[1]} of {key[0]} {count} times")


def _compare_with_balances(connection: sqlite3.Connection, balances: Path, verdict: Verdict) -> None:
    """The sums that the game API gave in the end are the sums of the entries."""
    if not balances.exists():
        verdict.wrong.append("nobody could read the players' sums in the end")
        return
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for player, sku, quantity in connection.execute(
        """SELECT g.player_id, e.sku, e.quantity FROM grants g JOIN entries e ON e.grant_id = g.id
           WHERE g.is_test = 0"""
    ):
        sums[player][sku] += int(quantity)
    for player, said in json.loads(balances.read_text()).items():
        if said != dict(sums[player]):
            verdict.wrong.append(f"the sums of {player} are not those of the entries")


def _name(key: Key) -> str:
    return " ".join(key)


def sentences(verdict: Verdict) -> Iterator[str]:
    """What was found, for people."""
    yield from verdict.named
    yield from verdict.wrong
