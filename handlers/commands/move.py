"""``flask move``: the installation goes from SQLite to PostgreSQL, or back."""

import sys

import click

from coinslot.operations.moving import move
from coinslot.store.copying import total_of
from coinslot.store.db import open_database
from handlers.kit.console import Command, stopped_tidily
from handlers.kit.receive import current_installation
from handlers.kit.wording import shown


@click.command("move", cls=Command)
@click.argument("to", metavar="URL")
def move_command(to: str) -> None:
    """Move this installation to the database at URL: postgresql://... from SQLite, and sqlite: from PostgreSQL.

    What COINSLOT_DATABASE names now is copied, compared row by row, and refuses to be served from then on; nothing of
    it is deleted. Servers may keep running: their partners are answered 503 meanwhile, and try again. A password in URL
    shows in the list of processes: PGPASSWORD or ~/.pgpass keep it out. Stopped at any time, it may be run again.
    """
    installation = current_installation()
    if to != "sqlite:" and not to.startswith(("postgresql://", "postgres://")):
        raise click.UsageError("URL: use a postgresql:// address, or sqlite: for the file in COINSLOT_HOME")
    try:
        target = open_database(installation.settings.home, None if to == "sqlite:" else to)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    with stopped_tidily(), click.progressbar(length=100, label="Copy", file=sys.stderr) as bar:
        done = move(
            installation.database, installation.vault, target, lambda share: bar.update(int(share * 100) - bar.pos)
        )
    if done.rows:
        click.echo(f"Moved to {target.name}: {total_of(done.rows)}, each compared with its original.")
        faults = "; ".join(shown(fault, 200) for fault in done.chain_faults)
        if faults:
            click.echo(f"WARNING: the hash chain is not whole, here as in what was moved: {faults}.")
        else:
            click.echo(f"The hash chain of its {done.rows['transactions']:,} transactions is whole.")
        click.echo(f"It took {done.seconds:.1f} s.")
    else:
        click.echo(f"The move to {target.name} had been cut short after everything was compared; it is ended now.")
    if to == "sqlite:":
        click.echo(
            "Now start the servers without COINSLOT_DATABASE, on this machine alone. Those that still run refuse."
        )
        click.echo(f"They need the same master key: COINSLOT_MASTER_KEY, or its value in {installation.vault.path}.")
    else:
        click.echo(
            "Now start every server with COINSLOT_DATABASE and COINSLOT_MASTER_KEY. Those that still run refuse."
        )
        click.echo("`flask move sqlite:`, with COINSLOT_DATABASE set, goes back.")
    if done.kept is not None:
        click.echo(f"Kept, and never served by itself: {done.kept}")


COMMANDS: tuple[click.Command, ...] = (move_command,)
