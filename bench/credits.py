"""The credit path: durable as in production, with storage stubbed out, and beside samples that do nothing.

The variants take turns, round after round, each on a fresh copy of one installation, and get the same signed orders.
After every durable run the database is asked whether each 200 stands in it exactly once.
"""

import argparse
import os
import resource
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from bench.load import Load, drive
from bench.orders import LINES_PER_ORDER, MOST_PER_SECOND, Orders, prepare_home, write_orders
from bench.server import serve
from coinslot.store.db import open_database

LEAST_OF_CAREFUL = 0.75
LEAST_OF_SAMPLE = 0.5
MOST_P99_TO_P50 = 3.0
WARM_UP_SECONDS = 1
NOISE = 0.1  # of the machine used by others: said beside a figure


@dataclass(frozen=True)
class Variant:
    name: str
    app: str
    options: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)


DURABLE = Variant("durable", "wsgi:app")
STUBBED = Variant("stubbed", "bench.stubbed:app")
# gunicorn's own defaults, without our gunicorn.conf.py.
PLAIN = ("--config", os.devnull, "--workers", "2")
CAREFUL = (
    Variant("careful, 2 sync workers", "bench.careful:app", (*PLAIN, "--worker-class", "sync")),
    Variant("careful, gthread", "bench.careful:app", (*PLAIN, "--worker-class", "gthread", "--threads", "16")),
)
# As Appcharge ships its Flask agent: its Dockerfile runs gunicorn with one synchronous worker (checked 2026-11).
SHIPPED = Variant(
    "sample as shipped", "bench.sample:app", ("--config", os.devnull, "--worker-class", "sync", "--workers", "1")
)
VARIANTS = (DURABLE, STUBBED, *CAREFUL, SHIPPED)


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=int, default=10, help="per run (default 10)")
    command.add_argument("--rounds", type=int, default=3, help="turns each variant gets (default 3)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print; returns the budgets missed, as sentences."""
    loads: dict[str, list[Load]] = {variant.name: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        template = Path(folder, "template")
        prepare_home(template)
        count = (arguments.seconds + WARM_UP_SECONDS) * MOST_PER_SECOND
        orders = write_orders(Path(folder, "orders"), count, "credits")
        for turn in range(arguments.rounds):
            for variant in VARIANTS:
                home = Path(folder, f"home-{turn}")
                shutil.copytree(template, home)
                load = measure(home, variant, orders, arguments.seconds, arguments.callers)
                loads[variant.name].append(load)
                print_load(f"round {turn + 1}, {variant.name}", load)
                shutil.rmtree(home)

    print()
    rate = {name: median(load.per_second for load in runs) for name, runs in loads.items()}
    for variant in VARIANTS:
        runs = loads[variant.name]
        p50, p99 = median(load.p50 for load in runs), median(load.p99 for load in runs)
        errors = sum(load.errors for load in runs)
        processor = median(load.processor for load in runs)
        print(f"median  {variant.name:<25}{rate[variant.name]:>6.0f}/s  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms", end="")
        print(f"  p99/p50 {p99 / p50:5.2f}  processor {processor:5.0f} us each  errors {errors}")
    of_careful = rate[DURABLE.name] / max(rate[variant.name] for variant in CAREFUL)
    of_shipped = rate[DURABLE.name] / rate[SHIPPED.name]
    spread = median(load.p99 / load.p50 for load in loads[DURABLE.name])
    print(f"durable / better form of careful  {of_careful:5.2f}  (budget >= {LEAST_OF_CAREFUL})")
    print(f"durable / sample as shipped       {of_shipped:5.2f}  (budget >= {LEAST_OF_SAMPLE})")
    print(f"durable / stubbed                 {rate[DURABLE.name] / rate[STUBBED.name]:5.2f}  (no budget)")
    print(f"durable p99 / p50                 {spread:5.2f}  (budget <= {MOST_P99_TO_P50})")

    missed = []
    if of_careful < LEAST_OF_CAREFUL:
        missed.append(f"durable is {of_careful:.2f} of the careful studio's app, not {LEAST_OF_CAREFUL}")
    if of_shipped < LEAST_OF_SAMPLE:
        missed.append(f"durable is {of_shipped:.2f} of the sample, not {LEAST_OF_SAMPLE}")
    if spread > MOST_P99_TO_P50:
        missed.append(f"p99 is {spread:.2f} times p50, more than {MOST_P99_TO_P50}")
    if any(load.errors for load in loads[DURABLE.name]):
        missed.append("some durable calls were not answered 200")
    return missed


def measure(home: Path, variant: Variant, orders: Orders, seconds: int, callers: int) -> Load:
    """One run on one installation. Raises AssertionError when a durable run's database does not match its answers."""
    warm_up = WARM_UP_SECONDS * MOST_PER_SECOND
    before = stored(home, variant)["transactions"]
    quiet = Quiet()
    with serve(home, variant.app, variant.options, variant.more) as server:
        # The first calls open connections and fill caches; they are sent and counted, but not timed.
        first = drive(server.port, orders, WARM_UP_SECONDS, callers, count=warm_up)
        began = server.processor_seconds()
        load = drive(server.port, orders, seconds, callers, first=warm_up)
        load = replace(load, processor=(server.processor_seconds() - began) * 1e6 / max(1, load.credited))
    if variant.app == DURABLE.app:
        check_stored(stored(home, variant), before, first.credited + load.credited, most_in_flight=2 * callers)
    if quiet.others() > NOISE:
        print(f"  (other processes took {quiet.others():.0%} of the machine during the next figure)")
    return load


class Quiet:
    """How much of the machine processes that are not ours took since this was made: such figures deserve no trust."""

    def __init__(self) -> None:
        self._busy, self._total, self._ours = self._look()

    def others(self) -> float:
        """A share of all processors; right only once the server has ended, since then its time is known."""
        busy, total, ours = self._look()
        return max(0.0, (busy - self._busy) - (ours - self._ours)) / max(1.0, total - self._total)

    def _look(self) -> tuple[float, float, float]:
        with open("/proc/stat") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        hertz = os.sysconf("SC_CLK_TCK")
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        used = sum(usage.ru_utime + usage.ru_stime for usage in ours)
        # idle and iowait are the fourth and fifth; interrupts and stolen time count as other people's.
        return (sum(ticks) - ticks[3] - ticks[4]) / hertz, sum(ticks) / hertz, used


def check_stored(rows: dict[str, int], before: int, credited: int, most_in_flight: int) -> None:
    """Every 200 was stored, once, with its grant and entries; beyond them only what wrk left in flight twice."""
    new = rows["transactions"] - before
    if not credited <= new <= credited + most_in_flight:
        raise AssertionError(f"{credited} orders were answered 200, but {new} are stored")
    if rows["grants"] != rows["transactions"] or rows["entries"] != LINES_PER_ORDER * rows["transactions"]:
        raise AssertionError(f"transactions, grants and entries do not belong together: {rows}")


def stored(home: Path, variant: Variant = DURABLE) -> dict[str, int]:
    database = open_database(home, variant.more.get("COINSLOT_DATABASE"))
    try:
        counts = ((each, f"SELECT count(*) FROM {each}") for each in ("transactions", "grants", "entries"))
        return {table: database.read().execute(sql).fetchone()[0] for table, sql in counts}
    finally:
        database.close()


def print_load(title: str, load: Load) -> None:
    print(
        f"{title:<32}{load.per_second:>7.0f}/s  p50 {load.p50:6.2f} ms  p99 {load.p99:6.2f} ms"
        f"  longest {load.longest:7.2f} ms  processor {load.processor:5.0f} us each  errors {load.errors}",
        flush=True,
    )
