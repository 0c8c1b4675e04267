"""The owner's pages: what came in, what was credited, what is stuck and why, with the button that mends it.

Rendered on the server from the same tables as everything else; nothing is computed twice, and every page works without
JavaScript. ``frame/pages.py`` checks who is signed in and lays out every page; each other folder has the pages of a
subject.
"""

from handlers.dashboard.account import activity, login, security, setup
from handlers.dashboard.frame.pages import bp, refuse
from handlers.dashboard.integration import addresses, mapping, refusals, send_test, snippets
from handlers.dashboard.overview import home
from handlers.dashboard.records import conflicts, deliveries, destinations, payments, players, transactions
from handlers.dashboard.settings import game, players_and_items
from handlers.dashboard.settlement import differences, documents, months, uploads

__all__ = ["ROOTS", "bp", "refuse"]

# Each adds its routes to bp when it is imported.
ROOMS = (
    security,
    activity,
    conflicts,
    deliveries,
    destinations,
    differences,
    addresses,
    login,
    mapping,
    home,
    payments,
    players,
    refusals,
    players_and_items,
    game,
    months,
    setup,
    snippets,
    documents,
    send_test,
    uploads,
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
