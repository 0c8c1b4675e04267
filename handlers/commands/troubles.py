"""``flask doctor`` and ``flask trouble``: the list of troubles that the overview and the alerts have too.

Doctor runs whatever state key, schema and file are in: it opens what it needs itself.
"""

import json
from collections.abc import Iterable

import click

from coinslot.base.errors import CoinslotError
from coinslot.games import games
from coinslot.operations import asides, doctor, retention
from coinslot.operations.findings import WRONG, Checked, Trouble, guarded, in_order
from handlers.kit import troubles
from handlers.kit.console import Command, Group
from handlers.kit.receive import current_installation
from handlers.kit.wording import amount, shown


@click.command("doctor", cls=Command)
@click.option("--json", "is_json", is_flag=True, help="Print the troubles alone, as a list in JSON.")
@click.pass_context
def doctor_command(context: click.Context, is_json: bool) -> None:
    """Print what is wrong, the worst first, then what was checked and is well; exit 1 if something is wrong."""
    found, well = _examine()
    if is_json:
        click.echo(json.dumps([each.as_json() for each in found], indent=1))
    else:
        _print(found)
        for sentence in well:
            click.echo(f"{'ok':<6} {sentence}")
    context.exit(int(any(each.severity == WRONG for each in found)))


@click.group("trouble", cls=Group)
def trouble_group() -> None:
    """What is wrong, and what a person has set aside."""


@trouble_group.command("list")
@click.option("--json", "is_json", is_flag=True, help="Print a list in JSON, each trouble with its key.")
def list_command(is_json: bool) -> None:
    """Print the troubles with their keys, without the slow checks of flask doctor."""
    found = troubles.list_troubles(current_installation())
    if is_json:
        click.echo(json.dumps([each.as_json() for each in found], indent=1))
    else:
        _print(found, has_keys=True)
        if not found:
            click.echo("Nothing is wrong.")


@trouble_group.command("aside")
@click.argument("key")
@click.option("--note", required=True, help="Why nothing is left to do.")
def aside_command(key: str, note: str) -> None:
    """Set a trouble aside by its KEY. It comes back when it happens again."""
    installation = current_installation()
    if not note.strip():
        raise CoinslotError("the note says nothing: say why nothing is left to do")
    if key not in {each.key for each in troubles.list_troubles(installation)}:
        raise CoinslotError(f"there is no trouble {shown(key)!r} now; `flask trouble list` has the keys")
    installation.database.write_here(lambda tx: asides.add(tx, key, note.strip(), "command"))
    click.echo("Set aside. It comes back when it happens again.")


COMMANDS: tuple[click.Command, ...] = (doctor_command, trouble_group)


def _examine() -> tuple[list[Trouble], list[str]]:
    """The list of troubles, with the slow checks; also where the database cannot be used."""
    installation = current_installation()
    connection, opened = doctor.open_database(installation.database)
    checked: list[Checked] = [opened]
    if connection is None:
        checked += troubles.check_machine(installation, None)
    else:
        found, well, _ = troubles.list_checked(installation)
        checked += [*well, *found]
        checked += [*guarded(doctor.soundness, installation.database, connection)]
        checked += guarded(doctor.hash_chain, connection)
        checked += guarded(doctor.secrets, installation.games)
        checked += guarded(retention.sentences, connection, games.outlines(connection, installation.catalogue))
        connection.close()
    checked += guarded(doctor.reachable, installation.settings)
    by_key = {each.key: each for each in checked if isinstance(each, Trouble)}
    return in_order(list(by_key.values())), [each for each in checked if isinstance(each, str)]


def _print(found: Iterable[Trouble], has_keys: bool = False) -> None:
    for each in found:
        parts = [f"game {each.game}:" if each.game else "", each.sentence]
        if each.money:
            parts.append(f"At stake: {', '.join(amount(major, code) for code, major in each.money.items())}.")
        parts += [each.whole_remedy, f"[{each.key}]" if has_keys else ""]
        click.echo(f"{each.severity:<6} {' '.join(filter(None, parts))}")
