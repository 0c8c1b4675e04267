"""The credit path with Litestream beside it, and without, in turns on fresh copies of one installation."""

import argparse
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path
from statistics import median

from bench.credits import DURABLE, WARM_UP_SECONDS, measure, print_load
from bench.load import Load
from bench.orders import MOST_PER_SECOND, prepare_home, write_orders
from tests.litestream import Litestream


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=int, default=5, help="per run (default 5)")
    command.add_argument("--rounds", type=int, default=3, help="turns each variant gets (default 3)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print. There is no budget: Litestream takes processor time of the same machine."""
    loads: dict[str, list[Load]] = {"alone": [], "followed": []}
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        template = Path(folder, "template")
        prepare_home(template)
        count = (arguments.seconds + WARM_UP_SECONDS) * MOST_PER_SECOND
        orders = write_orders(Path(folder, "orders"), count, "follower")
        for turn in range(arguments.rounds):
            for name, runs in loads.items():
                place = Path(folder, f"{name}-{turn}")
                place.mkdir()
                home = place / "home"
                shutil.copytree(template, home)
                with Litestream(home, place / "copy") if name == "followed" else nullcontext():
                    load = measure(home, DURABLE, orders, arguments.seconds, arguments.callers)
                    wal = Path(f"{home}/coinslot.db-wal")
                    size = f", WAL {wal.stat().st_size / 1e6:.0f} MB" if wal.exists() else ""
                runs.append(load)
                print_load(f"round {turn + 1}, {name}{size}", load)
                shutil.rmtree(place)
    rate = {name: median(load.per_second for load in runs) for name, runs in loads.items()}
    p99 = {name: median(load.p99 for load in runs) for name, runs in loads.items()}
    print(f"\nfollowed / alone  {rate['followed'] / rate['alone']:5.2f} of the credits per second", end="")
    print(f", p99 {p99['followed']:.1f} ms and {p99['alone']:.1f} ms")
    return ["some calls were not answered 200"] if any(load.errors for runs in loads.values() for load in runs) else []
