"""How fast a relay delivers: alone, and beside a destination that is dead and one that is slow."""

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coinslot.access.vault import Vault
from coinslot.base.outbound import Outbound
from coinslot.games import games
from coinslot.ledger import credit as ledger
from coinslot.ledger import reports
from coinslot.outbox import destinations
from coinslot.relay.loop import Relay
from coinslot.store.db import Database, open_database

DELIVERIES_PER_SECOND = 500
SHARE_BESIDE_TROUBLE = 0.9
NEIGHBOURS_OWED = 200  # to each of the dead and the slow destination
DEADLINE_SECONDS = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deliveries", type=int, default=2000, help="grants to deliver (default 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both runs; the median counts (default 3)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the figures; returns the budgets that were missed."""
    alone, beside = [], []
    with _receiver() as port:
        for _ in range(arguments.rounds):
            alone.append(_rate(port, arguments.deliveries, has_trouble=False))
            beside.append(_rate(port, arguments.deliveries, has_trouble=True))
            print(f"alone {alone[-1]:5.0f}/s   beside one dead and one slow {beside[-1]:5.0f}/s")
    rate = sorted(alone)[len(alone) // 2]
    share = sorted(beside)[len(beside) // 2] / rate
    print(
        f"median alone {rate:.0f}/s (budget {DELIVERIES_PER_SECOND}), beside {share:.2f} of it ({SHARE_BESIDE_TROUBLE})"
    )
    missed = []
    if rate < DELIVERIES_PER_SECOND:
        missed.append(f"{rate:.0f} deliveries/s, not {DELIVERIES_PER_SECOND}")
    if share < SHARE_BESIDE_TROUBLE:
        missed.append(f"beside trouble {share:.2f} of the rate alone, not {SHARE_BESIDE_TROUBLE}")
    return missed


def main(arguments: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(prog="python -m bench relay")
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def _rate(port: int, count: int, has_trouble: bool) -> float:
    """Deliveries per second to the healthy destination, from the relay's start to the last one recorded."""
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        database = open_database(Path(folder))
        vault = Vault(Path(folder), None)
        database.prepare()
        vault.prepare(database)
        _owe(database, vault, "healthy", f"http://127.0.0.1:{port}/", count)
        if has_trouble:
            _owe(database, vault, "dead", "http://127.0.0.1:1/", NEIGHBOURS_OWED)
            _owe(database, vault, "slow", f"http://127.0.0.1:{port}/slow", NEIGHBOURS_OWED)

        relay = Relay(database, vault, Outbound())
        thread = threading.Thread(target=relay.run)
        began = time.perf_counter()
        thread.start()
        try:
            while _delivered(database) < count:
                if time.perf_counter() - began > DEADLINE_SECONDS:
                    raise RuntimeError("the relay does not deliver")
                time.sleep(0.01)
            seconds = time.perf_counter() - began
        finally:
            relay.stop()
            thread.join()
            database.close()
        return count / seconds


def _owe(database: Database, vault: Vault, slug: str, url: str, count: int) -> None:
    """A game of its own, so that only its destination is owed its grants."""

    def add(tx) -> int:
        games.add(tx, slug, slug, "bench")
        destinations.add(tx, vault, slug, slug, url, actor="bench")
        return games.find(tx, slug)["id"]

    game_id = database.write_here(add)
    sample = reports.Credit(
        game_id=game_id,
        game_slug=slug,
        partner="appcharge",
        external_id="",
        reference="",
        kind="purchase",
        player_id="alice",
        lines=(("coins", 1000), ("gems", 5)),
        fingerprint="bench",
        raw_body=b"{}",
        signature="none",
        signed_with="none",
        answer_status=200,
        answer_body="{}",
    )
    rules = reports.Rules(unknown_player="accept", unknown_item="accept")

    def credit(tx) -> None:
        for number in range(count):
            ledger.credit(tx, dataclasses.replace(sample, external_id=f"{number}", reference=f"{number}"), rules)

    database.write_here(credit)


def _delivered(database: Database) -> int:
    (count,) = (
        database.read()
        .execute(
            """SELECT count(*) FROM deliveries d JOIN destinations t ON t.id = d.destination_id
           WHERE t.name = 'healthy' AND d.state = 'delivered'"""
        )
        .fetchone()
    )
    return count


@contextmanager
def _receiver() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.receiver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
    )
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)
