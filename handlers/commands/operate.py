"""``flask backup`` and ``flask restore``.

Both run whatever state key, schema and file are in: they open what they need themselves.
"""

from pathlib import Path

import click

from coinslot.operations.backup import backup
from coinslot.operations.restore import restore
from handlers.kit.console import Command, stopped_tidily
from handlers.kit.receive import current_installation


@click.command("backup", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
def backup_command(file: Path) -> None:
    """Write a consistent copy of the database, which may be in use, to FILE.

    An earlier copy in FILE is replaced once the new one is complete. The master key is NOT in the copy.
    """
    installation = current_installation()
    with stopped_tidily():
        copy = backup(installation.database, file)
    click.echo(f"Wrote {click.format_filename(copy.path)} ({copy.size_bytes:,} bytes), checked and on the disk.")
    vault = installation.vault
    source = "the variable COINSLOT_MASTER_KEY" if vault.is_from_environment else vault.path
    click.echo(
        f"The master key is NOT in it. Keep {source} (key id {copy.key_id or 'none yet'}) in another place: "
        "without it the copy cannot be restored, with it the copy gives away every secret."
    )


@click.command("restore", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
def restore_command(file: Path) -> None:
    """Check the copy in FILE and serve it in place of the current database. Servers may keep running.

    What was served before is kept beside the database. What was credited after the copy was taken comes back when
    its partner sends it again, under the same transaction id.
    """
    installation = current_installation()
    with stopped_tidily():
        done = restore(installation.database, installation.vault, file)
    click.echo(f"Restored {file} to {installation.database.path}; running servers see it from their next request.")
    if done.kept is not None:
        click.echo(f"What was served before is kept: `flask restore {done.kept}` undoes this restore.")
    if done.aside is not None:
        click.echo(f"The former database could not be used. It is kept, unchanged, as {done.aside}.")
    if done.former_version is not None:
        click.echo(f"The copy had schema version {done.former_version} and was brought up to date.")
    if done.former_key_id is not None:
        click.echo(f"The copy was under master key {done.former_key_id}, and is now sealed under {done.key_id}.")
    click.echo(f"All {done.sealed_values} sealed values open with master key {done.key_id}.")
    click.echo("API tokens, secrets, settings and the owner's password are those of the copy.")
    until = "it holds no transaction" if done.transactions_until is None else f"until {done.transactions_until}"
    click.echo(f"Transactions in it: {until}. What came later must be sent again by its partner.")
    if done.forgotten:
        players = "1 player" if done.forgotten == 1 else f"{done.forgotten:,} players"
        click.echo(f"{players} forgotten since the copy was taken: forgotten in it too.")
    floors = ", ".join(f"{name} above {last_id}" for name, last_id in done.last_ids.items())
    click.echo(f"New feed ids: {floors}. A game keeps its cursor, and reads on from where it was.")


COMMANDS: tuple[click.Command, ...] = (backup_command, restore_command)
