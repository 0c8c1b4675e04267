"""The owner's pages: what came in, what was credited, what is stuck and why, with the button that mends it.

Rendered on the server from the same tables as everything else; nothing is computed twice, and every page works without
JavaScript. ``pages.py`` is the guard and the frame; each other module here is a page or a few that belong together.
"""

from handlers.dashboard import (
    account,
    activity,
    conflicts,
    deliveries,
    destinations,
    differences,
    integration,
    login,
    mapping,
    overview,
    payments,
    players,
    refusals,
    registry,
    settings,
    settlements,
    setup,
    snippets,
    statements,
    transactions,
)
from handlers.dashboard.pages import bp, refuse

__all__ = ["ROOTS", "bp", "refuse"]

# Each adds its routes to bp when it is imported.
ROOMS = (
    account,
    activity,
    conflicts,
    deliveries,
    destinations,
    differences,
    integration,
    login,
    mapping,
    overview,
    payments,
    players,
    refusals,
    registry,
    settings,
    settlements,
    setup,
    snippets,
    statements,
    transactions,
)
ROOTS = (
    "",
    "account",
    "activity",
    "games",
    "login",
    "logout",
    "refusals",
    "setup",
    "static",
)  # first words of their addresses
