"""PlayCamp, creator sponsorship: players enter (``entries/``), its webhooks are converted for the game (``events/``),
and the game's payments are registered there (``payments/``). Our calls to it are in ``api/``.

Documentation: playcamp.io/docs, the guide "Partner Gateway" and the pages next to it (checked 2026-11). What the guide
leaves to an agreement per game is configuration here.
"""

from collections.abc import Mapping

from flask import Blueprint

from coinslot.games.games import Game
from coinslot.installation import Standing
from coinslot.settlement.terms import InGame
from handlers.kit.partner import Address, Partner
from handlers.kit.receive import plain_error
from handlers.playcamp import explain, explain_words, parked, settings, simulation
from handlers.playcamp.entries import entry
from handlers.playcamp.entries import game_call as entry_call
from handlers.playcamp.events import conversion, coupons, sponsors, webhooks
from handlers.playcamp.format import FORMAT
from handlers.playcamp.payments import (
    formulas,
    game_call,
    own_orders,
    polling,
    query,
    rechecking,
    registration,
    sends,
    window_preview,
)
from handlers.playcamp.payments.month_report import REPORT

bp = Blueprint("playcamp", __name__)
bp.get("/api/<game_slug>/sponsor")(entry.enter)
bp.post("/playcamp/<game_slug>/webhook")(webhooks.receive)
bp.post("/playcamp/<game_slug>/webhook/<hook>", endpoint="receive_hook")(webhooks.receive)
bp.get("/playcamp/<game_slug>/payments")(query.payments_between)


def is_configured(game: Game) -> bool:
    """Whether any secret of PlayCamp's is set. Each address checks the secrets it needs itself."""
    return any(name.startswith("playcamp.") for name in game.secrets)


def missing(game: Game) -> list[str]:
    """A sentence for each setting or secret without which another one cannot work, and on what was not carried out."""
    if not is_configured(game):
        return []
    found = []
    if game.keys("playcamp.shared_key") and not game.keys("playcamp.api_key"):
        found.append("playcamp.api_key is not set, so players' entries end on a page that says not now")
    polled = [name for name in ("url", "rows", "map") if game.settings[f"playcamp.payments.{name}"]]
    if polled and len(polled) < 3:
        found.append("playcamp.payments needs .url, .rows and .map before the game's payments are polled")
    return found + own_orders.warnings(game) + parked.warnings(game)


def unset(game: Game) -> list[str]:
    """A sentence for each setting that a game may do without."""
    is_open = game.keys("playcamp.shared_key") and not game.settings["playcamp.campaigns"]
    return ["playcamp.campaigns is empty, so a player may enter any campaign"] if is_open else []


def wrong(game: Game, errors: Mapping[str, str]) -> list[str]:
    """Sentences for the owner about keys that the other side refuses."""
    return registration.wrong(game, errors) + polling.wrong(game, errors)


partner = Partner(
    name="playcamp",
    title="PlayCamp",
    blueprint=bp,
    addresses=(
        Address(
            entry.ENDPOINT,
            "Entry for the game's client",
            "/api/{game}/sponsor",
            "without it no player comes to the creators; the game opens it in a browser",
            lambda game: [] if entry.is_configured(game) else ["playcamp.shared_key"],
            "302, and the WebView with a fresh token",
            is_mandatory=True,
            steps=("copied", "seen", "proved", "accepted"),
            followed_by=(webhooks.ENDPOINT,),
            unsent="A good entry has PlayCamp issue a token, so there is a sample with the sandbox alone: set "
            "playcamp.environment to sandbox and give playcamp.api_key its key.",
        ),
        Address(
            webhooks.ENDPOINT,
            "Webhook",
            "/playcamp/{game}/webhook",
            "without it the game never hears whom a player sponsors",
            lambda game: [] if webhooks.secrets_of(game, None) else ["playcamp.webhook_secret"],
            '200 and {"received": true}',
            is_mandatory=True,
        ),
        Address(
            query.ENDPOINT,
            "Payment query, where PlayCamp runs the gateway",
            "/playcamp/{game}/payments",
            "needed only where PlayCamp asks for the game's payments",
            lambda game: [] if game.keys("playcamp.payments_key") else ["playcamp.payments_key"],
            "200 and a list of payments",
        ),
    ),
    keys=settings.KEYS,
    settings=settings.SETTINGS,
    agreed=settings.AGREED,
    entry=entry_call.recipe,
    is_configured=is_configured,
    missing=missing,
    unset=unset,
    wrong=wrong,
    simulate=simulation.simulate,
    proved=simulation.proved,
    refuse=plain_error,
    roots=("api",),
    commands={"playcamp": "handlers.playcamp.commands"},
    report=REPORT,
    jobs={
        conversion.JOB: Standing(conversion.run),
        polling.JOB: Standing(polling.run),
        polling.REFUNDS: Standing(polling.run_refunds),
        sends.JOB: Standing(registration.run),
        own_orders.JOB: Standing(own_orders.run),
        rechecking.JOB: Standing(rechecking.run),
    },
    job_names={
        conversion.JOB: "Convert events for the game",
        polling.JOB: "Ask the game for its payments",
        polling.REFUNDS: "Ask again for late refunds",
        sends.JOB: "Register payments with PlayCamp",
        own_orders.JOB: "Take Appcharge orders as payments",
        rechecking.JOB: "Read parked payments again after a change",
    },
    game_calls=(*entry_call.GAME_CALLS, *coupons.GAME_CALLS, *sponsors.GAME_CALLS, *game_call.GAME_CALLS),
    diagnose=explain.diagnose,
    claim=webhooks.claim,
    formats=(FORMAT,),
    in_game=InGame(
        "playcamp", "playcamp.payment.created", counts_kept=lambda game: bool(game.keys("playcamp.payments_key"))
    ),
    secret_names=explain_words.SECRETS,
    formulas=formulas.FORMULAS,
    try_window=window_preview.try_window,
)
