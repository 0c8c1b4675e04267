"""``flask game`` and ``flask config``: games, their API tokens and their plain settings."""

import json
import textwrap
from functools import partial

import click

from coinslot.games import games, options
from coinslot.games.registry import checked_text
from coinslot.settlement import months
from coinslot.settlement.terms import ZONE
from handlers.kit.console import Group, checked_option, table
from handlers.kit.partner import addresses_of
from handlers.kit.receive import current_installation, partners

TEXT_WIDTH = 100  # columns of a terminal that `config show` fills with prose


@click.group("game", cls=Group)
def game() -> None:
    """Games and their API tokens."""


@game.command("add")
@click.argument("slug")
@click.option("--name", help="What people read; the slug when left out.")
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON and nothing else.")
def add(slug: str, name: str | None, is_json: bool) -> None:
    """Add a game and print its API token, this once. Makes the home folder and the master key where missing."""
    installation = current_installation()
    chosen = checked_option("--name", partial(checked_text, longest=games.LONGEST_NAME), name) if name else slug
    installation.prepare()
    token = installation.database.write_here(lambda tx: games.add(tx, slug, chosen, actor="command"))
    if is_json:
        _print_token_as_json(slug, token)
        return
    click.echo(f"{slug} is added.\n")
    _print_token(slug, token)
    click.echo("\nPaste into the partners' dashboards:")
    click.echo(_table(slug, indent="  "))


@game.command("list")
def list_games() -> None:
    """Every game with the URLs its partners call."""
    rows = games.every(current_installation().database.read())
    if not rows:
        click.echo("There is no game yet; `flask game add SLUG` adds one.")
    for row in rows:
        click.echo(f"{row['slug']}  {row['name']}")
        click.echo(_table(row["slug"], indent="    "))


@game.command("token")
@click.argument("slug")
@click.option("--retire", "is_retiring", is_flag=True, help="Make no token; end every token but the newest.")
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON and nothing else.")
def token(slug: str, is_retiring: bool, is_json: bool) -> None:
    """Make a new API token for a game and print it, this once. The one before stays valid until --retire."""
    database = current_installation().database
    if is_retiring:
        count = database.write_here(lambda tx: games.retire_tokens(tx, slug, actor="command"))
        if is_json:
            click.echo(json.dumps({"game": slug, "retired": count}))
        else:
            click.echo(f"{'The token' if count == 1 else f'The {count} tokens'} before the newest one ended.")
        return
    fresh = database.write_here(lambda tx: games.replace_token(tx, slug, actor="command"))
    if is_json:
        _print_token_as_json(slug, fresh)
    else:
        _print_token(slug, fresh)
        click.echo(f"\nThe one before stays valid. Once the game uses the new one: flask game token {slug} --retire")


@click.group("config", cls=Group)
def config() -> None:
    """Plain settings of a game."""


# A value may begin with a dash; as there are no options here, nothing is mistaken for one.
@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("game")
@click.argument("key")
@click.argument("value")
def set_setting(game: str, key: str, value: str) -> None:
    """Set KEY of GAME to VALUE; it holds from the next request."""
    installation = current_installation()
    stored = installation.database.write_here(
        lambda tx: games.set_setting(tx, installation.catalogue, game, key, value, actor="command")
    )
    click.echo(f"{key} = {_readable(stored)}")
    changed = installation.games.by_slug(game)
    if key == ZONE and changed is not None:
        for each in months.zone_changes(installation.database.read(), changed):
            click.echo(each.sentence)


@config.command("show")
@click.argument("game")
def show(game: str) -> None:
    """Every setting there is, with its value for GAME and what it means."""
    installation = current_installation()
    connection = installation.database.read()
    stored = games.stored_settings(connection, games.find(connection, game)["id"])
    width = max(len(key) for key in {*installation.catalogue, *stored})
    for key, setting in sorted(installation.catalogue.items()):
        is_default = key not in stored
        value = _readable(setting.default if is_default else stored[key])
        note = "  (a family: any name in place of *)" if key.endswith(".*") else "  (default)" if is_default else ""
        click.echo(f"{key:<{width}}  {value}{note}")
        margin = " " * (width + 2)
        click.echo(textwrap.fill(setting.about, TEXT_WIDTH, initial_indent=margin, subsequent_indent=margin))
    for key in sorted(stored.keys() - installation.catalogue.keys()):
        is_known = options.declared(installation.catalogue, key) is not None
        click.echo(f"{key:<{width}}  {_readable(stored[key])}{'' if is_known else '  (no longer a setting)'}")


def _print_token(slug: str, token: str) -> None:
    click.echo(f"API token, shown this once (`flask game token {slug}` makes another):\n  {token}")


def _print_token_as_json(slug: str, token: str) -> None:
    click.echo(json.dumps({"game": slug, "api_token": token}))


def _table(slug: str, indent: str) -> str:
    return table(addresses_of(slug, partners(), current_installation().settings.public_url), indent=indent)


def _readable(value: str) -> str:
    if not value:
        return "(empty)"
    return value if value == value.strip() else repr(value)


COMMANDS: tuple[click.Command, ...] = (game, config)
