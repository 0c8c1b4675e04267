"""``flask admin``: the one person who runs this installation."""

import click
from flask.cli import with_appcontext
from werkzeug.security import generate_password_hash

from coinslot import owner
from handlers import installation
from handlers.console import read_value
from handlers.trouble import in_words


@click.group("admin")
def admin() -> None:
    """The owner of this installation."""


@admin.command("password")
@with_appcontext
@in_words
def password() -> None:
    """Set the owner's password, from standard input or a hidden prompt. A setup link ends with it."""
    chosen = generate_password_hash(owner.checked_password(read_value("password")), method="scrypt")
    installation().database.write_here(lambda tx: owner.set_password(tx, chosen, actor="command"))
    click.echo("The owner's password is set.")


COMMANDS: tuple[click.Command, ...] = (admin,)
