"""Names that users, partners' dashboards and games rely on, held against the lists in ``tests/surface/``.

A name that comes or goes shows as a difference here. ``python -m tests.test_surface`` writes the lists anew: do that
for what is meant, and read the difference before it is committed.
"""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from app import create_app
from handlers.dashboard.frame import roles

FOLDER = Path(__file__).parent / "surface"


def urls(app: Any) -> str:
    found = (f"{','.join(sorted(rule.methods - {'HEAD'}))} {rule.rule}" for rule in app.url_map.iter_rules())
    return "".join(f"{line}\n" for line in sorted(found))


def people(app: Any) -> str:
    """Who may ask for each address of the owner's pages: anybody, support and owners, or owners alone."""
    found = []
    for rule in app.url_map.iter_rules():
        blueprint, _, endpoint = rule.endpoint.partition(".")
        if blueprint == "dashboard":
            who = "anybody" if endpoint in roles.OPEN else "support" if endpoint in roles.SUPPORT_MAY else "owner"
            found.append(f"{who} {','.join(sorted(rule.methods - {'HEAD', 'OPTIONS'}))} {rule.rule}")
    return "".join(f"{line}\n" for line in sorted(found))


def command_lines(app: Any) -> str:
    found: list[str] = []

    def walk(command: click.Command, path: str) -> None:
        if isinstance(command, click.Group):
            for name in command.commands:
                walk(command.commands[name], f"{path} {name}")
            return
        words = [
            "/".join(each.opts + each.secondary_opts) if isinstance(each, click.Option) else str(each.name).upper()
            for each in command.params
        ]
        found.append(" ".join([path, *words]))

    for name, command in app.cli.commands.items():
        walk(command, f"flask {name}")
    return "".join(f"{line}\n" for line in sorted(found))


def settings(app: Any) -> str:
    catalogue = app.extensions["coinslot"].catalogue
    return "".join(f"{name} = {catalogue[name].default or ''}".rstrip(" =") + "\n" for name in sorted(catalogue))


def secrets(app: Any) -> str:
    return "".join(f"{name}\n" for name in sorted(app.extensions["coinslot"].secret_names))


def openapi(app: Any) -> str:
    """A line per operation and per schema, so that a difference names what has changed."""
    document = app.test_client().get("/game/v1/openapi.json").get_json()
    document.pop("info")
    parts = {
        f"{method.upper()} {path}": each for path, of in document.pop("paths").items() for method, each in of.items()
    }
    parts |= {f"{kind} {name}": each for kind, of in document.pop("components").items() for name, each in of.items()}
    parts |= document
    return "".join(f"{name} {json.dumps(parts[name], sort_keys=True, ensure_ascii=False)}\n" for name in sorted(parts))


LISTS = {
    "urls.txt": urls,
    "people.txt": people,
    "commands.txt": command_lines,
    "settings.txt": settings,
    "secrets.txt": secrets,
    "openapi.txt": openapi,
}


@pytest.mark.parametrize("name", LISTS)
def test_the_surface_is_what_is_written_down(name):
    app = create_app({"COINSLOT_HOME": "/nonexistent"})

    assert LISTS[name](app) == (FOLDER / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    written = create_app({"COINSLOT_HOME": "/nonexistent"})
    for file, made in LISTS.items():
        (FOLDER / file).write_text(made(written), encoding="utf-8")
