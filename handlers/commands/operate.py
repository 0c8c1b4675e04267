"""``flask backup``, ``flask restore``, ``flask doctor``.

All three run whatever state key, schema and file are in: they open what they need themselves.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from coinslot.games import games
from coinslot.games.games import Game
from coinslot.operations import checks, doctor
from coinslot.operations.backup import backup
from coinslot.operations.findings import NOTE, OK, WARNING, WRONG, Finding, guarded
from coinslot.operations.restore import restore
from coinslot.store.db import Connection
from handlers.kit import trouble_sentences
from handlers.kit.console import Command, stopped_tidily
from handlers.kit.partner import Partner
from handlers.kit.receive import current_installation, partners


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


@click.command("doctor", cls=Command)
@click.pass_context
def doctor_command(context: click.Context) -> None:
    """Check settings, keys, engine, file, ledger, disk, clock, reachability and stuck work; exit 1 if one is WRONG."""
    exit_status = 0
    for finding in _examine():
        click.echo(f"{finding.level:<8} {finding.text}")
        if finding.level == WRONG:
            exit_status = 1
    context.exit(exit_status)


COMMANDS: tuple[click.Command, ...] = (backup_command, restore_command, doctor_command)


def _examine() -> Iterator[Finding]:
    installation = current_installation()
    database, settings = installation.database, installation.settings
    yield from doctor.release()
    yield from guarded(doctor.folder, settings, database, installation.vault)
    yield from doctor.engine()
    connection, found = doctor.open_database(database)
    yield found
    yield from guarded(doctor.master_key, installation.vault, connection)
    if connection is not None:
        yield from guarded(doctor.database_file, connection)
        yield from guarded(doctor.hash_chain, connection)
    yield from guarded(doctor.disk_space, database)
    yield from guarded(doctor.system_clock, connection)
    yield from guarded(doctor.public_url, settings)
    if connection is not None:
        for check in (doctor.owner_password, _games, checks.deliveries, checks.refusals, _troubles):
            yield from guarded(check, connection)
        connection.close()


def _games(connection: Connection) -> Iterator[Finding]:
    slugs = [row["slug"] for row in games.every(connection)]
    for slug in slugs:
        yield from guarded(_game, connection, slug)
    if not slugs:
        yield Finding(WARNING, "there is no game yet: `flask game add SLUG`")


def _troubles(connection: Connection) -> Iterator[Finding]:
    yield from trouble_sentences.findings(connection, games.outlines(connection, current_installation().catalogue))


def _game(connection: Connection, slug: str) -> Iterator[Finding]:
    game = current_installation().games.by_slug(slug)
    if game is None:
        return  # removed just now
    yield Finding(OK, f"game {slug}: every secret opens")
    yield from checks.game_setup(connection, game)
    yield from checks.keys(connection, game)
    for partner in partners():
        for level, sentence in _partner(partner, game):
            yield Finding(level, f"game {slug}: {sentence}")


def _partner(partner: Partner, game: Game) -> Iterator[tuple[str, str]]:
    """A partner that answers may still lack something; one that was begun and does not answer is wrong."""
    is_configured = partner.is_configured(game)
    missing = partner.missing(game)
    yield from ((WARNING if is_configured else WRONG, sentence) for sentence in missing)
    yield from ((WRONG, sentence) for sentence in partner.wrong(game))
    if is_configured:
        yield OK, f"{partner.title} is configured"
        if not game.settings[f"allowlist.{partner.name}"]:
            yield WARNING, f"allowlist.{partner.name} is empty: signed calls are taken from any address"
    elif not missing:
        yield OK, f"{partner.title} is not configured, its calls are answered 404"
    yield from ((NOTE, f"{partner.title}: {sentence}") for sentence in partner.unset(game))
