"""The command line: ``python -m bench COMMAND``."""

import argparse
import shutil
import signal
import sys

from bench import engines, follower, memory, move, pages, payments, profile, relay, settlement, size, year


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Coinslot against its budgets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, room, about in (
        ("credits", engines, "the credit path: durable, with storage stubbed out, and a sample that does nothing"),
        ("profile", profile, "where the processor time of one credit goes, in one process"),
        (
            "memory",
            memory,
            "memory of all processes after many orders, start to first answer, and what importing takes",
        ),
        ("follower", follower, "the credit path with Litestream beside it, and without, in turns"),
        ("size", size, "the credit path with many transactions stored, against an empty database"),
        ("relay", relay, "deliveries per second: alone, and beside a destination that is dead and one that is slow"),
        ("payments", payments, "a game's payments per second: polled, converted, stored and registered"),
        ("pages", pages, "the owner's pages with many transactions stored: milliseconds and queries of each"),
        ("year", year, "a year of a busy game: bytes of each table, pages, and retention beside credits"),
        ("move", move, "an installation of many transactions, moved to PostgreSQL and back"),
        ("settlement", settlement, "a month of purchases: closed, and reconciled against a report"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        room.add_arguments(command)
        command.add_argument("--callers", type=int, default=16, help="concurrent connections (default 16)")
        command.add_argument("--check", action="store_true", help="exit 1 when a budget is missed")
        command.set_defaults(run=room.run)
    arguments = parser.parse_args()

    if (
        arguments.run not in (profile.run, relay.run, payments.run, pages.run, settlement.run, move.run)
        and shutil.which("wrk") is None
    ):
        parser.error("wrk is not on the PATH; Debian's package is called wrk")
    # Ended from outside, the servers and folders must go too: SystemExit runs every `finally`, a bare SIGTERM none.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missed: list[str] = arguments.run(arguments)
    for sentence in missed:
        print(f"BUDGET MISSED: {sentence}")
    return 1 if missed and arguments.check else 0


sys.exit(main())
