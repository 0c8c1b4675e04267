"""``flask backup`` and ``flask restore``.

Both run whatever state key, schema and file are in: they open what they need themselves.
"""

import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import click

from coinslot.operations.backup import backup, copy_to_send, received
from coinslot.operations.restore import IncompleteCopyError, restore
from handlers.kit.console import Command, stopped_tidily
from handlers.kit.receive import current_installation


@click.command("backup", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
def backup_command(file: Path) -> None:
    """Write a consistent copy of the database, which may be in use, to FILE.

    An earlier copy in FILE is replaced once the new one is complete. The master key is NOT in the copy. FILE may be -
    for standard output.
    """
    installation = current_installation()
    is_piped = str(file) == "-"
    if is_piped and sys.stdout.isatty():
        raise click.ClickException("standard output is a terminal; send it to a file")
    with stopped_tidily():
        if is_piped:
            copy, opened = copy_to_send(installation.database)
            with opened:
                shutil.copyfileobj(opened, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            click.echo(f"Wrote {copy.size_bytes:,} bytes, checked, to standard output.", err=True)
        else:
            copy = backup(installation.database, file)
            click.echo(
                f"Wrote {click.format_filename(copy.path)} ({copy.size_bytes:,} bytes), checked and on the disk."
            )
    vault = installation.vault
    source = "the variable COINSLOT_MASTER_KEY" if vault.is_from_environment else vault.path
    click.echo(
        f"The master key is NOT in it. Keep {source} (key id {copy.key_id or 'none yet'}) in another place: "
        "without it the copy cannot be restored, with it the copy gives away every secret.",
        err=is_piped,
    )


@click.command("restore", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", "is_sure", is_flag=True, help="Also a copy that may lack what was committed last.")
def restore_command(file: Path, is_sure: bool) -> None:
    """Check the copy in FILE and serve it in place of the current database. Servers may keep running.

    What was served before is kept beside the database. What was credited after the copy was taken comes back when
    its partner sends it again, under the same transaction id. FILE may be - for standard input.
    """
    installation = current_installation()
    is_piped = str(file) == "-"
    with (
        stopped_tidily(),
        received(installation.database.home, sys.stdin.buffer) if is_piped else nullcontext(file) as copy,
    ):
        try:
            done = restore(installation.database, installation.vault, copy, may_be_incomplete=is_sure)
        except IncompleteCopyError as error:
            if is_piped or not sys.stdin.isatty():
                raise click.ClickException(f"{error}. Nothing was changed; --yes restores it all the same") from None
            click.confirm(f"{error}.\nRestore it all the same?", abort=True, err=True)
            done = restore(installation.database, installation.vault, copy, may_be_incomplete=True)
    click.echo(f"Restored {file} to {installation.database.name}; running servers see it from their next request.")
    if done.kept is not None:
        click.echo(f"What was served before is kept: `flask restore {done.kept}` undoes this restore.")
    if done.kept_schema is not None:
        click.echo(f"What was served before is kept in the schema {done.kept_schema}, and nothing uses it.")
        click.echo(f"Once you do not need it, in psql: DROP SCHEMA {done.kept_schema} CASCADE;")
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
