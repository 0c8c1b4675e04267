"""``flask admin``: the one person who runs this installation."""

import click

from coinslot.access import owner, second_factor
from handlers.kit import passwords
from handlers.kit.console import Group, read_value
from handlers.kit.receive import current_installation


@click.group("admin", cls=Group)
def admin() -> None:
    """The owner of this installation."""


@admin.command("password")
def password() -> None:
    """Set the owner's password, from standard input or a hidden prompt. A setup link ends with it."""
    chosen = passwords.hash_of(owner.checked_password(read_value("password")))
    current_installation().database.write_here(lambda tx: owner.set_password(tx, chosen, actor="command"))
    click.echo("The owner's password is set.")


@admin.group("second-factor")
def second_factor_group() -> None:
    """The code that is asked for after the password."""


@second_factor_group.command("off")
def second_factor_off() -> None:
    """Ask for the password alone from now on: for a lost phone. Recovery codes end with it."""
    was_on = current_installation().database.write_here(lambda tx: second_factor.turn_off(tx, actor="command"))
    click.echo("The second factor is off." if was_on else "There is no second factor; nothing was changed.")


COMMANDS: tuple[click.Command, ...] = (admin,)
