"""What the owner types: ``flask <command>``. Registering touches no disk, so that help and repair always work."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module

import click
from flask import Flask

from handlers.kit.partner import Partner

# A module is imported when its command, or the list of all commands, is asked for. A server imports none.
MODULES = {
    "admin": "handlers.commands.owner",
    "alert": "handlers.commands.alerts",
    "backup": "handlers.commands.operate",
    "config": "handlers.commands.games",
    "delivery": "handlers.commands.deliveries",
    "demo": "handlers.commands.demo.command",
    "destination": "handlers.commands.deliveries",
    "doctor": "handlers.commands.troubles",
    "game": "handlers.commands.games",
    "item": "handlers.commands.players_and_items",
    "key": "handlers.commands.keys",
    "move": "handlers.commands.move",
    "player": "handlers.commands.players_and_items",
    "proof": "handlers.commands.proof",
    "refund": "handlers.commands.refunds",
    "relay": "handlers.commands.deliveries",
    "restore": "handlers.commands.operate",
    "secret": "handlers.commands.keys",
    "settlement": "handlers.commands.settlement",
    "simulate": "handlers.commands.simulate",
    "trouble": "handlers.commands.troubles",
}


class Commands(Mapping[str, click.Command]):
    """Name -> command, imported on first use."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> click.Command:
        found: tuple[click.Command, ...] = import_module(self._modules[name]).COMMANDS
        return next(command for command in found if command.name == name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


def register(app: Flask, partners: Iterable[Partner]) -> None:
    modules = MODULES | {name: module for partner in partners for name, module in partner.commands.items()}
    app.cli.commands = Commands(modules)  # type: ignore[assignment]  # nothing is added to it
