"""``flask admin``: the people who may sign in to the pages."""

import click

from coinslot.access import owner, people, second_factor
from coinslot.access.people import FIRST, ROLES, SUPPORT
from coinslot.base import clock
from coinslot.store.db import Connection, Row
from handlers.kit import passwords
from handlers.kit.console import Group, read_value, table
from handlers.kit.receive import current_installation
from handlers.kit.wording import ago, utc_moment


@click.group("admin", cls=Group)
def admin() -> None:
    """The people who may sign in to the pages."""


@admin.command("password")
@click.argument("name", required=False)
def password(name: str | None) -> None:
    """Set the password of a person, of the first owner without NAME; from standard input or a hidden prompt.

    The person's browsers are signed out. A setup link ends with the first owner's password.
    """
    chosen = passwords.hash_of(people.checked_password(read_value("password")))

    def change(tx: Connection) -> str:
        person = owner.first(tx) if name is None else people.named(tx, name)
        people.set_password(tx, person, chosen, actor="command")
        return person.name

    changed = current_installation().database.write_here(change)
    click.echo("The owner's password is set." if changed == FIRST else f"The password of {changed} is set.")


@admin.command("invite")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default=SUPPORT, show_default=True)
def invite(name: str, role: str) -> None:
    """Invite a person; prints the link alone, which is good for one day and for one use."""
    installation = current_installation()
    token = installation.database.write_here(lambda tx: people.invite(tx, name, role, actor="command"))
    click.echo(people.link(installation.settings.public_url, token))


@admin.command("people")
def list_people() -> None:
    """List who may sign in, and who is invited."""
    rows = people.every(current_installation().database.read())
    if not rows:
        click.echo("Nobody may sign in yet. Start the server for a setup link, or use `flask admin password`.")
        return
    lines = [(row["name"], row["role"], _state(row), f"second factor {_switch(row)}") for row in rows]
    click.echo(table([("NAME", "ROLE", "STATE", ""), *lines]))


@admin.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Remove a person, or an invitation. Their browsers are signed out at once."""

    def take_away(tx: Connection) -> str:
        person = people.named(tx, name)
        people.remove(tx, person, actor="command")
        return person.name

    click.echo(f"{current_installation().database.write_here(take_away)} is removed.")


@admin.group("second-factor")
def second_factor_group() -> None:
    """The code that is asked for after the password."""


@second_factor_group.command("off")
@click.argument("name", default=FIRST)
def second_factor_off(name: str) -> None:
    """Ask for the password alone from now on: for a lost phone. Recovery codes end with it. NAME: the first owner."""

    def turn_off(tx: Connection) -> bool:
        return second_factor.turn_off(tx, people.named(tx, name), actor="command")

    was_on = current_installation().database.write_here(turn_off)
    click.echo("The second factor is off." if was_on else "There is no second factor; nothing was changed.")


def _state(row: Row) -> str:
    if not row["is_invited"]:
        return f"last seen {ago(row['last_seen_at'])}" if row["browsers"] else "signed out"
    if row["invitation_ends_at"] is None or row["invitation_ends_at"] <= clock.stamp():
        return "invited, but the link works no more"
    return f"invited until {utc_moment(row['invitation_ends_at'])} UTC"


def _switch(row: Row) -> str:
    return "off" if row["totp_step"] is None else "on"


COMMANDS: tuple[click.Command, ...] = (admin,)
