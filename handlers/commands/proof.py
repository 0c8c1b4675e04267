"""``flask proof``: a backup now, restored aside and checked."""

import sys

import click

from coinslot.operations.backup import BackupError
from coinslot.operations.backup_folder import in_bytes
from coinslot.operations.drill import Checked
from coinslot.operations.findings import WRONG
from coinslot.operations.proof_process import Running
from handlers.kit.console import Command, stopped_tidily
from handlers.kit.receive import current_installation
from handlers.kit.wording import shown


@click.command("proof", cls=Command)
@click.pass_context
def proof_command(context: click.Context) -> None:
    """Back up into COINSLOT_BACKUPS now, restore it in a folder of its own, check it; exit 1 if something is wrong.

    A relay does the same every night. What is served is not touched, and credits go on. It may be stopped at any time.
    """
    settings = current_installation().settings
    with stopped_tidily():
        running = Running(settings)
        try:
            _follow(running)
        finally:
            running.stop()
    proof = running.proof
    if proof is None:
        raise BackupError(running.error)
    if proof.file is not None:
        size = in_bytes(proof.size_bytes or 0)
        click.echo(f"Backup: {settings.backups / proof.file} ({size}). The master key is NOT in it.")
    took = f"{proof.took_ms / 1000:.1f} s"
    if proof.faults:
        things = "1 thing is" if proof.faults == 1 else f"{proof.faults:,} things are"
        click.echo(f"NOT proved: {things} wrong. It took {took}; backups kept from before: {proof.kept}.")
        context.exit(1)
    click.echo(f"Proved in {took}; backups kept: {proof.kept}.")
    if proof.is_short:
        click.echo("The disk is short: fewer backups are kept than seven daily and four weekly ones.")


COMMANDS: tuple[click.Command, ...] = (proof_command,)


def _follow(running: Running) -> None:
    """Print each check; at a terminal a bar shows how far it has come, and the checks follow it."""
    if not sys.stdout.isatty():
        for said in running:
            if isinstance(said, Checked):
                _print(said)
        return
    checks = []
    with click.progressbar(length=100, label="Back up, restore, check") as bar:
        for said in running:
            if isinstance(said, Checked):
                checks.append(said)
            else:
                bar.update(round(said * 100) - bar.pos)
    for check in checks:
        _print(check)


def _print(check: Checked) -> None:
    if not check.faults:
        click.echo(f"{'ok':<6} {check.what}")
    for fault in check.faults:
        click.echo(f"{WRONG:<6} {check.what}: {shown(fault, 500)}")
    if check.count > len(check.faults):
        click.echo(f"{WRONG:<6} {check.what}: and {check.count - len(check.faults):,} more")
