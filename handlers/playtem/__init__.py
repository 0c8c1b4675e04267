"""Playtem, item credit: one GET per purchase, every detail in the query string.

The answer is an empty 200 or a small JSON error. ``payload`` is Base64 of a JSON object ``AppId, AppName, UserId,
Items, TransactionId, Signature``. The guide (Playtem Integration Guide, checked 2026-11) is short and silent on much;
what is accepted because of that:

* Base64 in either alphabet, with or without padding, with line breaks, with ``+`` that became a blank, encoded twice.
* JSON with double quotes, or the guide's own single quotes and no braces. Ids as numbers or text, digits as sent.
* PHP programs of the time send Latin-1, and pad it with NUL.
* The signature is HMAC-SHA1 over ``AppId + UserId + Items + TransactionId``, but how a list becomes text is not said:
  the formats of ``playtem.formats`` are tried, and the log names the one that matched.
* Nothing separates the four parts, so a genuine signature also fits the same characters cut elsewhere, under another
  transaction id. Hence a signature credits once, whatever else the call says.
* A call carries no time: a captured URL stays good for ever, and is harmless once it has credited.
* Every error is HTTP 500; the code that matters is in the body.
"""

from flask import Blueprint

from coinslot.games.games import Game, Setting, networks, one_of, text
from coinslot.games.registry import checked_id
from handlers.kit.partner import STEPS, WHEN_GAME_DOWN, Address, Key, Partner
from handlers.playtem import credit, explain
from handlers.playtem.payload import FORMATS
from handlers.playtem.simulation import simulate

bp = Blueprint("playtem", __name__, url_prefix="/playtem")
bp.get("/<game_slug>/credit")(credit.credit_to_game)
bp.get("/credit")(credit.credit_by_app_id)


def _formats(value: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names or any(name not in FORMATS for name in names):
        raise ValueError(f"use a comma list out of: {', '.join(FORMATS)}")
    return ",".join(dict.fromkeys(names))


def missing(game: Game) -> list[str]:
    if credit.is_configured(game) and not game.settings["playtem.app_id"]:
        return ["playtem.app_id is not set; the first real call will set it"]
    return []


partner = Partner(
    name=credit.PARTNER,
    title="Playtem",
    blueprint=bp,
    addresses=(
        Address(
            "credit",
            "Item credit endpoint",
            "/playtem/{game}/credit",
            "without it nothing that players earn with ads is credited",
            lambda game: [] if credit.is_configured(game) else ["playtem.secret"],
            "an empty 200",
            is_mandatory=True,
            steps=STEPS,
        ),
    ),
    keys=(
        Key(
            "playtem.secret", "Signature key", "key of the HMAC-SHA1 signature, agreed with Playtem", is_mandatory=True
        ),
    ),
    settings={
        "playtem.app_id": Setting("AppId of this game; empty: learned from the first real call", checked_id),
        "playtem.parameter": Setting("query parameter that carries the payload", text(32), "payload"),
        "playtem.formats": Setting(
            "how Items may enter the signed text; narrow it to the one your log names",
            _formats,
            ",".join(FORMATS),
        ),
        "playtem.items_separator": Setting("between item ids in format concat", text(8)),
        "playtem.field_separator": Setting("between the four signed parts", text(8)),
        "playtem.accept_single_quotes": Setting(
            "also read the guide's single-quoted notation", one_of("on", "off"), "on"
        ),
        "playtem.user_id": Setting(
            "what UserId is: the player's id, a Facebook id, or a Facebook id and else the player's",
            one_of("player", "facebook", "facebook_or_player"),
            "player",
        ),
        "playtem.when_game_down": WHEN_GAME_DOWN,
        "allowlist.playtem": Setting("CIDR blocks Playtem calls from; empty: any", networks),
    },
    is_configured=credit.is_configured,
    missing=missing,
    agreed=(
        "playtem.app_id",
        "playtem.parameter",
        "playtem.formats",
        "playtem.items_separator",
        "playtem.field_separator",
        "playtem.accept_single_quotes",
        "playtem.user_id",
        "playtem.when_game_down",
        "allowlist.playtem",
    ),
    simulate=simulate,
    refuse=credit.refuse_http,
    diagnose=explain.diagnose,
)
