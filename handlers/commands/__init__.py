"""What the owner types: ``flask <command>``. Registering touches no disk, so that help and repair always work."""

from flask import Flask

from handlers.commands import deliveries, games, keys, operate, owner, registry, simulate


def register(app: Flask) -> None:
    for room in (games, keys, registry, owner, deliveries, simulate, operate):
        for command in room.COMMANDS:
            app.cli.add_command(command)
