"""How fast a game's payments are polled, converted, stored and registered, with the game and PlayCamp played by fakes.

The fakes of the tests run in a process of their own; what they take is part of the time, as it is in life. Beside the
rate stands the processor's time that the relay's own process spent on a row, which says more on a busy machine.
"""

import argparse
import gc
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import create_app
from coinslot.access import keyring
from coinslot.games import games
from coinslot.installation import Installation

SHAPES = ("numbered", "linked", "nested")  # of the game's API; the last takes most to convert
ROWS_PER_SECOND = 5000
GROWTH_MIB = 30  # of memory, between the first quarter of the rows and the last
DEADLINE_SECONDS = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=100_000, help="payments of the game (default 100000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each shape; medians count (default 3)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the figures; returns the budgets that were missed."""
    missed = []
    for shape in SHAPES:
        rates, growths, costs = [], [], []
        for _ in range(arguments.rounds):
            with _fakes(arguments.rows, shape) as settings:
                rate, growth, cost = _round(arguments.rows, settings)
            rates.append(rate)
            growths.append(growth)
            costs.append(cost)
            print(f"{shape:8} {rate:6.0f} rows/s   {cost:4.0f} us/row   memory grew by {growth:4.1f} MiB", flush=True)
        median, most = sorted(rates)[len(rates) // 2], max(growths)
        print(
            f"{shape:8} median {median:.0f} rows/s (budget {ROWS_PER_SECOND}), {min(costs):.0f} us/row at best, "
            f"{most:.1f} MiB (budget {GROWTH_MIB})"
        )
        if median < ROWS_PER_SECOND:
            missed.append(f"{shape}: {median:.0f} rows/s, not {ROWS_PER_SECOND}")
        if most > GROWTH_MIB:
            missed.append(f"{shape}: memory grew by {most:.1f} MiB, not at most {GROWTH_MIB}")
    return missed


def _round(rows: int, settings: dict[str, str]) -> tuple[float, float, float]:
    """From the relay's start to the last payment registered: rows per second, growth of memory in MiB, microseconds of
    user time of this process per row.
    """
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        app = create_app({"COINSLOT_HOME": folder})
        installation: Installation = app.extensions["coinslot"]
        installation.prepare()

        def add(tx) -> None:
            games.add(tx, "bench", "Bench", "bench")
            for key, value in settings.items():
                if key != "playcamp.api_key":
                    games.set_setting(tx, installation.catalogue, "bench", key, value, "bench")
            row = games.find(tx, "bench")
            keyring.put(tx, installation.vault, row, "playcamp.api_key", settings["playcamp.api_key"], "bench")

        installation.database.write_here(add)
        relay = installation.new_relay()
        gc.freeze()  # as `flask relay` does
        thread = threading.Thread(target=relay.run)
        began, began_cpu = time.perf_counter(), _cpu_seconds()
        early = 0.0
        thread.start()
        try:
            while (done := _settled(installation)) < rows:
                if time.perf_counter() - began > DEADLINE_SECONDS:
                    raise RuntimeError(f"only {done} of {rows} are registered")
                if early == 0.0 and done > rows // 4:
                    early = _memory_mib()
                time.sleep(0.05)
            seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - began_cpu
            if (done := _registered(installation)) != rows:
                raise RuntimeError(f"only {done} of {rows} are registered, and no more are to be")
        finally:
            relay.stop()
            thread.join()
            installation.database.close()
        return rows / seconds, _memory_mib() - (early or _memory_mib()), cpu_seconds / rows * 1e6


def _settled(installation: Installation) -> int:
    """How many no longer wait: those that do are few, and counting the others takes a tenth of what is measured."""
    (count,) = (
        installation.database.read()
        .execute(
            """SELECT (SELECT coalesce(max(id), 0) FROM payments)
                      - (SELECT count(*) FROM payments WHERE game_id = 1 AND state = 'waiting')"""
        )
        .fetchone()
    )
    return int(count)


def _registered(installation: Installation) -> int:
    (count,) = (
        installation.database.read().execute("SELECT count(*) FROM payments WHERE state = 'registered'").fetchone()
    )
    return int(count)


def _cpu_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _fakes(rows: int, shape: str) -> Iterator[dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.payments", str(rows), shape],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = [line.rstrip("\n").partition("=") for line in iter(process.stdout.readline, "\n")]
        yield {key: value for key, _, value in told}
    finally:
        process.stdin.close()
        process.wait(30)


def _serve(rows: int, shape: str) -> None:
    """The game and PlayCamp, until standard input closes; prints the settings that lead there, and an empty line."""
    from tests.fakes.game_payments import GamePayments
    from tests.fakes.playcamp import API_KEY, PlayCamp

    now = time.time()
    with GamePayments(shape) as game, PlayCamp() as playcamp:
        game.is_keeping_requests = playcamp.is_keeping_requests = False
        for number in range(rows):
            game.pay(f"GP-{number}", now - 80_000 + number * 70_000 / rows, user=str(number % 5000), amount="9900.50")
        settings = {**game.settings, **playcamp.settings, "playcamp.api_key": API_KEY}
        for key, value in settings.items():
            print(f"{key}={value}")
        print(flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
