"""PlayCamp, creator sponsorship: players enter (``entry.py``), its webhooks come in (``webhooks.py``), become the
game's own format (``conversion.py``), and the game's payments go out (``polling.py``, ``registration.py``).

Documentation: playcamp.io/docs, the guide "Partner Gateway" and its neighbours (checked 2026-11). What the guide leaves
to be agreed per game is configuration here.
"""

from flask import Blueprint

from coinslot.games import Game
from coinslot.schedules import Standing
from handlers import Partner, plain_error
from handlers.playcamp import (
    commands,
    conversion,
    coupons,
    diagnosis,
    entry,
    entry_call,
    own_orders,
    payments_call,
    polling,
    query,
    rechecking,
    registration,
    settings,
    simulation,
    sponsors,
    webhooks,
)

bp = Blueprint("playcamp", __name__)
bp.get("/api/<game_slug>/sponsor")(entry.enter)
bp.post("/playcamp/<game_slug>/webhook")(webhooks.receive)
bp.post("/playcamp/<game_slug>/webhook/<hook>", endpoint="receive_hook")(webhooks.receive)
bp.get("/playcamp/<game_slug>/payments")(query.payments_between)


def is_configured(game: Game) -> bool:
    """Whether anything of PlayCamp's is set up; each address asks for the secrets it needs by itself."""
    return any(name.startswith("playcamp.") for name in game.secrets)


def missing(game: Game) -> list[str]:
    """Sentences for the owner; empty when nothing is missing or nothing was begun."""
    if not is_configured(game):
        return []
    found = lacking(game)
    if not game.settings["playcamp.campaigns"] and game.keys("playcamp.shared_key"):
        found.append("playcamp.campaigns is empty: a player may enter any campaign")
    return found + own_orders.warnings(game) + conversion.warnings(game) + commands.warnings(game)


def lacking(game: Game) -> list[str]:
    """A sentence for each thing begun that cannot work without another."""
    found = []
    if game.keys("playcamp.shared_key") and not game.keys("playcamp.api_key"):
        found.append("playcamp.api_key is not set, so players' entries end on a page that says not now")
    polled = [name for name in ("url", "rows", "map") if game.settings[f"playcamp.payments.{name}"]]
    if polled and len(polled) < 3:
        found.append("playcamp.payments needs .url, .rows and .map before the game's payments are polled")
    return found


partner = Partner(
    name="playcamp",
    title="PlayCamp",
    blueprint=bp,
    urls={
        "Entry for the game's client": "/api/{game}/sponsor",
        "Webhook": "/playcamp/{game}/webhook",
        "Payment query, where PlayCamp runs the gateway": "/playcamp/{game}/payments",
    },
    secrets=settings.SECRETS,
    settings=settings.SETTINGS,
    is_configured=is_configured,
    missing=missing,
    lacking=lacking,
    simulate=simulation.simulate,
    refuse=plain_error,
    roots=("api",),
    commands=commands.COMMANDS,
    jobs={
        conversion.JOB: Standing(conversion.run),
        polling.JOB: Standing(polling.run),
        polling.REFUNDS: Standing(polling.run_refunds),
        registration.JOB: Standing(registration.run),
        own_orders.JOB: Standing(own_orders.run),
        rechecking.JOB: Standing(rechecking.run),
    },
    game_calls=(*entry_call.GAME_CALLS, *coupons.GAME_CALLS, *sponsors.GAME_CALLS, *payments_call.GAME_CALLS),
    diagnose=diagnosis.diagnose,
)
