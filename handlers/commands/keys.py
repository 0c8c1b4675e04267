"""``flask secret`` and ``flask key``: values come from standard input or a hidden prompt, and are never shown."""

import click

from coinslot.access import key_copy, keyring
from coinslot.access.keyring import SecretError, SecretRow
from coinslot.access.vault import MasterKey, VaultError
from coinslot.base.spellings import shown
from coinslot.games import games, options
from coinslot.outbox import destinations
from coinslot.outbox.destinations import SECRET_PREFIX
from handlers.kit.console import Group, read_value, table
from handlers.kit.receive import current_installation, partners


@click.group("secret", cls=Group)
def secret() -> None:
    """Secrets of a game, sealed under the master key."""


@secret.command("set")
@click.argument("game")
@click.argument("name")
@click.argument("rest", nargs=-1, metavar="")
def set_secret(game: str, name: str, rest: tuple[str, ...]) -> None:
    """Set secret NAME of GAME to a value from standard input or a hidden prompt."""
    installation = current_installation()
    _refuse_values(rest)
    _check_names(game, name)
    value = read_value(name)
    installation.database.write_here(
        lambda tx: keyring.put(tx, installation.vault, games.find(tx, game), name, value, actor="command")
    )
    click.echo(f"{name} of {game} is set.")
    _doubt(name, value)


@secret.command("rotate")
@click.argument("game")
@click.argument("name")
@click.argument("rest", nargs=-1, metavar="")
def rotate(game: str, name: str, rest: tuple[str, ...]) -> None:
    """Give secret NAME of GAME a new value; the one it has stays valid as previous until it is retired.

    Rotated again before the new value was used, as after a mistake in typing it, the previous one stays as it is.
    """
    installation = current_installation()
    _refuse_values(rest)
    _check_names(game, name)
    value = read_value(name)
    was_mistyped = installation.database.write_here(
        lambda tx: keyring.rotate(tx, installation.vault, games.find(tx, game), name, value, actor="command")
    )
    old = "the value before was never used and is gone; the one before that" if was_mistyped else "the old one"
    click.echo(f"{name} of {game} has a new value; {old} stays valid until `flask secret retire {game} {name}`.")
    _doubt(name, value)


@secret.command("retire")
@click.argument("game")
@click.argument("name")
def retire(game: str, name: str) -> None:
    """End the previous value of secret NAME of GAME."""
    _check_names(game, name)
    current_installation().database.write_here(
        lambda tx: keyring.retire(tx, games.find(tx, game), name, actor="command")
    )
    click.echo(f"The previous value of {name} of {game} is no longer valid.")


@secret.command("list")
@click.argument("game")
def list_secrets(game: str) -> None:
    """Names, dates and last characters of GAME's secrets; never a value."""
    installation = current_installation()
    connection = installation.database.read()
    rows = keyring.listing(connection, installation.vault, games.find(connection, game))
    if rows:
        head = ("name", "slot", "set", "last used", "ends with")
        click.echo(table([head, *(_cells(row) for row in rows)]))
    lacking = sorted(
        name for name in installation.secret_names.keys() - {row.name for row in rows} if not name.endswith(".*")
    )
    if lacking:
        click.echo(f"Not set: {', '.join(lacking)}")


@click.group("key", cls=Group)
def key() -> None:
    """The master key that every secret is sealed under."""


@key.command("rotate")
def rotate_key() -> None:
    """Put everything under a new master key, in one transaction.

    With a key file the new key is made here and the old file is kept aside. With COINSLOT_MASTER_KEY the new key,
    the Base64 of 32 bytes, is read from standard input or a hidden prompt.

    No call fails when every server has both keys in COINSLOT_MASTER_KEY before, with a space between them, and was
    restarted with them. Take the old one out afterwards.
    """
    installation = current_installation()
    vault = installation.vault
    old = vault.current(installation.database.read())
    if vault.is_from_environment:
        new = MasterKey.parse(read_value("new master key"), "the value given")
        if new.id == old.id:
            raise VaultError("that is the master key already")
        is_known = new.id in {key.id for key in vault.candidates()}
    else:
        new = MasterKey.generate()
    count = keyring.rotate_master_key(installation.database, vault, new, actor="command")
    click.echo(f"Everything sealed ({count} values) is under master key {new.id} now.")
    if vault.is_from_environment:
        click.echo(
            "Servers that have both keys in COINSLOT_MASTER_KEY go on; take the old one out of it."
            if is_known
            else "Put the new key into COINSLOT_MASTER_KEY of every server and restart each now: the old one opens "
            "nothing any more."
        )
        click.echo(f"Keep the old key, {old.id}: backups made before now need it.")
    else:
        kept = vault.file_put_aside(old.id) or f"{vault.path}.old-..."
        click.echo(f"The old key, {old.id}, is kept as {kept}: backups made before now need it.")
        click.echo("The server needs no restart.")


@key.command("check")
@click.argument("rest", nargs=-1, metavar="")
def check_key(rest: tuple[str, ...]) -> None:
    """Say whether a copy of the master key, the Base64 of 32 bytes, opens this installation; exit 1 if not.

    The copy is read from standard input or a hidden prompt, and is not kept: take it from where you keep it, not from
    the key file of this machine.
    """
    _refuse_values(rest)
    installation = current_installation()
    copy = MasterKey.parse(read_value("copy of the master key", is_new=False), "the value given")
    count = key_copy.check(installation.database, installation.vault, copy)
    values = "the one sealed value" if count == 1 else f"all {count:,} sealed values"
    click.echo(f"This copy opens the installation: it is master key {copy.id}, and {values} opened.")


def _refuse_values(rest: tuple[str, ...]) -> None:
    """Without repeating them, as click would: what was typed there may be the secret."""
    if rest:
        raise click.UsageError("a value is never given on the command line, where others can read it")


def _check_names(game: str, name: str) -> None:
    """Refuse an unknown game or secret before the value is asked for."""
    installation = current_installation()
    games.find(installation.database.read(), game)
    if name.startswith(SECRET_PREFIX):
        destinations.find_id(installation.database.read(), game, name.removeprefix(SECRET_PREFIX))
    elif options.declared(installation.secret_names, name) is None:
        raise SecretError(f"there is no secret {name}; there are: {', '.join(sorted(installation.secret_names))}")


def _doubt(name: str, value: str) -> None:
    """Warn about a value whose form the partner does not take; it is stored all the same."""
    for key in (key for partner in partners() for key in partner.keys if key.secret == name):
        words = key.doubt(value)
        if words:
            click.echo(f"WARNING: {name}: {words}.")


def _cells(row: SecretRow) -> tuple[str, ...]:
    if row.last_characters is None:
        ending = "(does not open under the master key)"
    elif row.last_characters:
        ending = f"…{shown(row.last_characters, 4)}"
    else:
        ending = "(too short to show any)"
    return row.name, row.slot, _to_the_second(row.created_at), _to_the_second(row.last_used_at), ending


def _to_the_second(stamp: str | None) -> str:
    return "never" if stamp is None else f"{stamp[:19]}Z"


COMMANDS: tuple[click.Command, ...] = (secret, key)
