"""``flask demo``: fill an empty home with a made-up studio, and say how to serve it."""

import logging
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import click
from flask import current_app

from coinslot.access import key_copy, owner, page_facts
from coinslot.base import clock
from coinslot.installation import Installation
from coinslot.operations import nightly, search_job
from coinslot.operations.alerts import targets
from coinslot.operations.proof_process import Running
from handlers.commands.demo.life import DAYS, FEWEST_DAYS, Life
from handlers.commands.demo.stage import DemoError, Stage, stopped_clock
from handlers.commands.demo.studio import KINGDOMS, MINER, found, people
from handlers.kit import passwords
from handlers.kit.console import Command, stopped_tidily
from handlers.kit.receive import current_installation

HOME = "demo"  # where COINSLOT_HOME names none
SEED = 7
# A backup is a process of its own, with its own clock. The others follow each call, and need not run that often here.
NOT_RELAYED = frozenset({nightly.JOB, search_job.NAME, targets.JOB})
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that look alike


@click.command("demo", cls=Command)
@click.option("--days", type=click.IntRange(FEWEST_DAYS, DAYS), default=DAYS, help=f"How many; {DAYS} when left out.")
def demo(days: int) -> None:
    """Fill COINSLOT_HOME (./demo if unset) with a made-up studio: two games and 60 days of orders.

    It takes less than a minute. All of it is marked as a demo, and a demo calls nobody. A folder that holds anything
    is refused. A demo is always in SQLite: run it without COINSLOT_DATABASE.
    """
    if current_installation().settings.database is not None:
        raise DemoError("a demo is always in SQLite, never in a database of yours; run it without COINSLOT_DATABASE")
    home = Path(os.environ.get("COINSLOT_HOME", HOME)).absolute()
    password = "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(3))
    former = current_installation()
    with stopped_tidily(), _beginning(home):
        made = former.elsewhere(replace(former.settings, home=home, backups=home / "backups"), without=NOT_RELAYED)
        current_app.extensions["coinslot"] = made
        try:
            _make(made, days, password)
        finally:
            with _quiet():
                made.observations.flush()
            made.database.close()
            current_app.extensions["coinslot"] = former
    click.echo(f"The demo is in {home}. Serve it:\n")
    click.echo(f"    COINSLOT_HOME={shlex.quote(str(home))} gunicorn wsgi:app\n")
    click.echo(f"Open {former.settings.public_url} and sign in with the password {password}")
    click.echo("(it is shown this once; `flask admin password` sets another).")


COMMANDS: tuple[click.Command, ...] = (demo,)


def _make(installation: Installation, days: int, password: str) -> None:
    """Live through it, then prove a backup of it, as a relay does every night."""
    database, now = installation.database, clock.now()
    random = Random(SEED)  # noqa: S311  the story is the same each time
    begins = now - now % clock.DAY_SECONDS - (days - 1) * clock.DAY_SECONDS
    with _bar(days) as bar:
        with stopped_clock(), _quiet():
            clock.stop_at(begins)
            installation.prepare()
            database.write_here(page_facts.mark_demo)
            digest = passwords.hash_of(password)
            database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
            stage = Stage(current_app._get_current_object(), installation)  # type: ignore[attr-defined]
            for slug, title in ((MINER, "Space Miner"), (KINGDOMS, "Tiny Kingdoms")):
                found(stage, slug, title)
            key_copy.check(database, installation.vault, installation.vault.current(database.read()))
            Life(stage, random, now, days, {slug: people(slug, random) for slug in (MINER, KINGDOMS)}).plan()
            for at in stage.play():
                bar.update(round(95 * (at - begins) / (now - begins)) - bar.pos)
            clock.stop_at(now)
            stage.end()
            while search_job.has_work(database.read()):
                search_job.fill(database, installation.vault)
        running = Running(installation.settings)
        try:
            for _ in running:
                pass
        finally:
            running.stop()
        if running.proof is None or running.proof.faults:
            raise DemoError(f"the demo's backup could not be proved: {running.error}")
        bar.update(100 - bar.pos)


@contextmanager
def _beginning(home: Path) -> Iterator[None]:
    """A home that was empty. Whatever ends this early, what was begun in it is removed again."""
    was_there = home.is_dir()
    if home.exists() and not (was_there and not any(home.iterdir())):
        raise DemoError(f"{home} holds something already; set COINSLOT_HOME to a folder that is empty or not there yet")
    try:
        yield
    except BaseException:
        for each in list(home.iterdir()) if home.is_dir() else []:
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        if home.is_dir() and not was_there:
            home.rmdir()
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this nothing is logged: what goes wrong in the story is part of it, and anything else is raised."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _bar(days: int) -> Any:
    return click.progressbar(length=100, label=f"{days} days of two games", file=sys.stderr)
