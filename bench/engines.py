"""The credit path on SQLite and on PostgreSQL, in turns: ``python -m bench credits --postgres`` or ``--database URL``.

The same server, orders and callers. PostgreSQL is measured at once on the loopback and through a network that takes
some milliseconds (``distance.py``). What is read is the ratio of the two engines in one run.
"""

import argparse
import base64
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench import credits
from bench.credits import DURABLE, WARM_UP_SECONDS, Variant, measure, print_load
from bench.distance import far_away
from bench.load import Load
from bench.orders import MOST_PER_SECOND, prepare_home, write_orders

# Of a database that keeps what it has committed. Sizes and the rest are as PostgreSQL sets them.
DURABLE_SETTINGS = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    credits.add_arguments(command)
    command.add_argument("--postgres", action="store_true", help="SQLite beside PostgreSQL, in a cluster made for it")
    command.add_argument("--database", metavar="URL", help="SQLite beside this PostgreSQL database without Coinslot")
    command.add_argument("--delay", type=float, default=2.0, metavar="MS", help="of the network (default 2)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print; there is no budget for PostgreSQL. Without it, see ``credits.py``."""
    if not arguments.postgres and arguments.database is None:
        return credits.run(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coinslot-bench-")))
        url = arguments.database or stack.enter_context(cluster())
        far = stack.enter_context(far_away(url, arguments.delay))
        key = {"COINSLOT_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode()}
        variants = (
            Variant("SQLite", DURABLE.app, more=key),
            Variant("PostgreSQL", DURABLE.app, more=key | {"COINSLOT_DATABASE": url}),
            Variant(f"PostgreSQL, {arguments.delay:g} ms away", DURABLE.app, more=key | {"COINSLOT_DATABASE": far}),
        )
        _compare(variants, url, folder, arguments)
    return []


def _compare(variants: tuple[Variant, ...], url: str, folder: Path, arguments: argparse.Namespace) -> None:
    loads: dict[str, list[Load]] = {variant.name: [] for variant in variants}
    count = (arguments.seconds + WARM_UP_SECONDS) * MOST_PER_SECOND
    orders = write_orders(folder / "orders", count, "engines")
    for turn in range(arguments.rounds):
        for variant in variants:
            home = folder / "home"
            with fresh(url):
                prepare_home(home, {**variant.more, **_near(variant, url)})
                load = measure(home, variant, orders, arguments.seconds, arguments.callers)
            shutil.rmtree(home)
            loads[variant.name].append(load)
            print_load(f"round {turn + 1}, {variant.name}", load)
    print()
    rate = {name: median(load.per_second for load in runs) for name, runs in loads.items()}
    for name, runs in loads.items():
        p50, p99 = median(load.p50 for load in runs), median(load.p99 for load in runs)
        processor, errors = median(load.processor for load in runs), sum(load.errors for load in runs)
        print(f"median  {name:<25}{rate[name]:>6.0f}/s  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms", end="")
        print(f"  processor of the server {processor:5.0f} us each  errors {errors}")
    for name in list(rate)[1:]:
        print(f"{name} / SQLite  {rate[name] / rate['SQLite']:.2f}")


def _near(variant: Variant, url: str) -> dict[str, str]:
    """To prepare, the database need not be far away."""
    return {"COINSLOT_DATABASE": url} if "COINSLOT_DATABASE" in variant.more else {}


@contextmanager
def cluster() -> Iterator[str]:
    """A PostgreSQL of our own, which keeps what it has committed; its URL."""
    from tests.postgres import Cluster

    with Cluster(**DURABLE_SETTINGS) as made:
        yield made.url


@contextmanager
def fresh(url: str) -> Iterator[None]:
    """The database without Coinslot's tables, before and after. Raises AssertionError when it has some before."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        (is_there,) = connection.execute("SELECT to_regnamespace('coinslot') IS NOT NULL").fetchone()
        if is_there:
            raise AssertionError("the database holds a Coinslot already: name an empty one")
        try:
            yield
        finally:
            connection.execute("DROP SCHEMA IF EXISTS coinslot CASCADE")
