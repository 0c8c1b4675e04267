"""Appcharge, the web store: it reports orders (``orders.py``), each signed (``signature.py``).

Documentation: docs.appcharge.com and, before 2025, developers.appcharge.com (checked 2026-11). The paths are our own
choice; the owner pastes them into Appcharge's Integration page.
"""

from flask import Blueprint, Response

from coinslot.games import Game
from handlers import Partner
from handlers.appcharge import door, orders, settings
from handlers.appcharge.simulation import simulate

bp = Blueprint("appcharge", __name__, url_prefix="/appcharge")
bp.post("/<game_slug>/orders")(orders.report_order)


@bp.errorhandler(door.RefusedError)
def tell(error: door.RefusedError) -> Response:
    return door.refuse(error.status, error.message)


def missing(game: Game) -> list[str]:
    """Sentences for the owner; empty when nothing is missing or nothing was begun."""
    names = ("appcharge.main_key", "appcharge.publisher_token")
    lacking = [name for name in names if not game.keys(name)]
    if len(lacking) == len(names):
        return []
    return [f"{name} is not set, so Appcharge's calls are answered 404" for name in lacking]


partner = Partner(
    name=door.PARTNER,
    title="Appcharge",
    blueprint=bp,
    urls={"Order Reporting (Grant Award Callback)": "/appcharge/{game}/orders"},
    secrets=settings.SECRETS,
    settings=settings.SETTINGS,
    is_configured=door.is_configured,
    missing=missing,
    simulate=simulate,
    refuse=door.refuse,
)
