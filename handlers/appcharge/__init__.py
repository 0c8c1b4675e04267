"""Appcharge, the web store: it reports orders (``orders.py``), each signed (``signature.py``).

Documentation: docs.appcharge.com and, before 2025, developers.appcharge.com (checked 2026-11). The paths are our own
choice; the owner pastes them into Appcharge's Integration page.
"""

from flask import Blueprint

from coinslot.games import Game, Setting, networks, one_of, text, whole_number
from handlers import WHEN_GAME_DOWN, Partner
from handlers.appcharge import orders
from handlers.appcharge.simulation import simulate

bp = Blueprint("appcharge", __name__, url_prefix="/appcharge")
bp.post("/<game_slug>/orders")(orders.report_order)


def missing(game: Game) -> list[str]:
    """Sentences for the owner; empty when nothing is missing or nothing was begun."""
    names = ("appcharge.main_key", "appcharge.publisher_token")
    lacking = [name for name in names if not game.keys(name)]
    if len(lacking) == len(names):
        return []
    return [f"{name} is not set, so Appcharge's calls are answered 404" for name in lacking]


partner = Partner(
    name=orders.PARTNER,
    title="Appcharge",
    blueprint=bp,
    urls={"Order Reporting (Grant Award Callback)": "/appcharge/{game}/orders"},
    secrets={
        "appcharge.main_key": "Main Key: signs every call",
        "appcharge.secondary_key": "Secondary Key: signs too, where appcharge.secondary_role is backup",
        "appcharge.publisher_token": "Publisher Token: sent with every call",
    },
    settings={
        "appcharge.environment": Setting("everything from a sandbox is a test", one_of("live", "sandbox"), "live"),
        "appcharge.tolerance_seconds": Setting("accepted age of a signature", whole_number(1, 86400), "300"),
        "appcharge.secondary_role": Setting(
            "backup: the secondary key verifies too; iv: it does not (a leftover of encrypted payloads)",
            one_of("backup", "iv"),
            "backup",
        ),
        "appcharge.project_id": Setting("x-project-id to insist on where a call carries one", text(64)),
        "appcharge.dollar_fields_are_cents": Setting(
            "on since 2025; off for accounts whose ...InDollar fields are dollars", one_of("on", "off"), "on"
        ),
        "appcharge.when_game_down": WHEN_GAME_DOWN,
        "allowlist.appcharge": Setting("CIDR blocks Appcharge calls from; empty: any", networks),
    },
    is_configured=orders.is_configured,
    missing=missing,
    simulate=simulate,
    refuse=orders.refuse,
)
