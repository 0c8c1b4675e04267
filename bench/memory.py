"""Memory of all processes together after many orders, how soon a started server answers, and what importing takes."""

import argparse
import shutil
import tempfile
from pathlib import Path
from statistics import median

from bench import imports
from bench.credits import check_stored
from bench.load import drive
from bench.orders import MOST_PER_SECOND, prepare_home, write_orders
from bench.server import serve

MOST_MEBIBYTES = 160
MOST_START_SECONDS = 1.5
SECONDS_AT_A_TIME = 10
STARTS = 5


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--orders", type=int, default=100_000, help="orders to take before looking (default 100,000)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print; returns the budgets missed, as sentences."""
    libraries, whole = imports.measure()
    times = whole / libraries
    print(
        f"import wsgi: {whole:.2f} s, {times:.2f} times its libraries alone ({libraries:.2f} s), medians of "
        f"{imports.RUNS}  (budget <= {imports.MOST_TIMES})",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        template, home = Path(folder, "template"), Path(folder, "home")
        prepare_home(template)
        starts = []
        for _ in range(STARTS):
            with serve(template) as server:
                starts.append(server.start_seconds)

        shutil.copytree(template, home)
        credited = turns = 0
        with serve(home) as server:
            rss, pss = server.memory()
            print(f"after the start: RSS {rss:.1f} MiB, PSS {pss:.1f} MiB together", flush=True)
            while credited < arguments.orders:
                count = SECONDS_AT_A_TIME * MOST_PER_SECOND
                orders = write_orders(Path(folder, "orders"), count, f"memory-{turns}")
                load = drive(server.port, orders, SECONDS_AT_A_TIME, arguments.callers)
                if load.credited == 0:
                    raise RuntimeError("nothing is credited")
                credited, turns = credited + load.credited, turns + 1
            rss, pss = server.memory()
        check_stored(home, 0, credited, most_in_flight=turns * arguments.callers)

    start = median(starts)
    print(
        f"after {credited:,} orders: RSS {rss:.1f} MiB, PSS {pss:.1f} MiB together  (budget: RSS <= {MOST_MEBIBYTES})"
    )
    print(f"start to first answer: {start:.2f} s, median of {STARTS}  (budget <= {MOST_START_SECONDS})")
    missed = []
    if rss > MOST_MEBIBYTES:
        missed.append(f"{rss:.0f} MiB, more than {MOST_MEBIBYTES}")
    if start > MOST_START_SECONDS:
        missed.append(f"the first answer took {start:.2f} s, more than {MOST_START_SECONDS}")
    if times > imports.MOST_TIMES:
        missed.append(f"import wsgi takes {times:.2f} times what its libraries take, more than {imports.MOST_TIMES}")
    return missed
