"""What the owner types: ``flask <command>``. Registering touches no disk, so that help and repair always work."""

from collections.abc import Iterable

from flask import Flask

from handlers.commands import deliveries, games, keys, operate, owner, refunds, registry, settlement, simulate
from handlers.kit.partner import Partner


def register(app: Flask, partners: Iterable[Partner]) -> None:
    for room in (games, keys, registry, owner, deliveries, refunds, settlement, simulate, operate):
        for command in room.COMMANDS:
            app.cli.add_command(command)
    for partner in partners:
        for command in partner.commands:
            app.cli.add_command(command)
