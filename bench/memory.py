"""Memory of all processes together after many orders, how soon a started server answers, and what importing takes."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench import imports
from bench.credits import check_stored, stored
from bench.imports import compiling
from bench.load import drive
from bench.orders import MOST_PER_SECOND, prepare_home, write_orders
from bench.server import ROOT, serve

MOST_RSS = 160  # MiB
MOST_PSS = 80
MOST_START_TIMES = 2.5  # of what importing the third-party libraries takes
MOST_DOCTOR_TIMES = 2.0
SECONDS_AT_A_TIME = 10
SETTLE_SECONDS = 3  # until the last worker has started, too
ROUNDS = 9


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--orders", type=int, default=100_000, help="orders to take before looking (default 100,000)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print; returns the budgets missed, as sentences."""
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        template, home = Path(folder, "template"), Path(folder, "home")
        prepare_home(template)
        alone = imports.alone()
        rounds: list[tuple[float, ...]] = []
        for _ in range(ROUNDS):
            with serve(template) as server:
                started = server.start_seconds
            rounds.append((imports.seconds(alone), imports.seconds("import wsgi"), started, examine(template)))
        libraries, whole, start, doctor = (median(seconds) for seconds in zip(*rounds, strict=True))

        shutil.copytree(template, home)
        credited = turns = 0
        with serve(home) as server:
            time.sleep(SETTLE_SECONDS)
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
        check_stored(stored(home), 0, credited, most_in_flight=turns * arguments.callers)

    print(
        f"after {credited:,} orders: RSS {rss:.1f} MiB, PSS {pss:.1f} MiB together  "
        f"(budget: RSS <= {MOST_RSS}, PSS <= {MOST_PSS})"
    )
    missed = []
    print(f"the libraries alone: {libraries:.2f} s; in turns, medians of {ROUNDS}")
    for what, seconds, most in (
        ("import wsgi", whole, imports.MOST_TIMES),
        ("start to first answer", start, MOST_START_TIMES),
        ("flask doctor", doctor, MOST_DOCTOR_TIMES),
    ):
        ratio = seconds / libraries
        print(f"{what}: {seconds:.2f} s, {ratio:.2f} times the libraries  (budget <= {most})")
        if ratio > most:
            missed.append(f"{what} takes {ratio:.2f} times what the libraries take, more than {most}")
    if rss > MOST_RSS:
        missed.append(f"{rss:.0f} MiB RSS, more than {MOST_RSS}")
    if pss > MOST_PSS:
        missed.append(f"{pss:.0f} MiB PSS, more than {MOST_PSS}")
    return missed


def examine(home: Path) -> float:
    """Seconds that ``flask doctor`` takes, whatever it finds."""
    environment = {name: value for name, value in compiling().items() if not name.startswith("COINSLOT_")}
    began = time.perf_counter()
    command = [sys.executable, "-m", "flask", "doctor"]
    home_set = environment | {"COINSLOT_HOME": str(home)}
    subprocess.run(command, cwd=ROOT, env=home_set, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began
