"""Playtem, item credit: one GET per purchase, every detail in the query string.

The answer is an empty 200 or a small JSON error. ``payload`` is Base64 of a JSON object ``AppId, AppName, UserId,
Items, TransactionId, Signature``. The guide (Playtem Integration Guide, checked 2026-11) leaves much open, so these are
accepted:

* Base64 in either alphabet, with or without padding, with line breaks, with ``+`` that became a blank, encoded twice.
* JSON with double quotes, or the guide's own single quotes and no braces. Ids as numbers or text, digits as sent.
* PHP programs of the time send Latin-1, and pad it with NUL.
* The signature is HMAC-SHA1 over ``AppId + UserId + Items + TransactionId``, but how a list becomes text is not said:
  the formats of ``playtem.formats`` are tried, and the log names the one that matched.
* Nothing separates the four parts, so a genuine signature also fits the same characters cut elsewhere, under another
  transaction id. Hence a signature credits once, whatever else the call says.
* A call carries no time: a captured URL stays valid forever, and is harmless once it has credited.
* Every error is HTTP 500; the body has the error's code.
"""

from flask import Blueprint

from handlers.kit.partner import STEPS, Address, Partner
from handlers.playtem import credit, explain, explain_words
from handlers.playtem.settings import KEYS, SETTINGS, unset
from handlers.playtem.simulation import proved, simulate

bp = Blueprint("playtem", __name__, url_prefix="/playtem")
bp.get("/<game_slug>/credit")(credit.credit_to_game)
bp.get("/credit")(credit.credit_by_app_id)


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
    keys=KEYS,
    settings=SETTINGS,
    is_configured=credit.is_configured,
    missing=lambda game: [],
    unset=unset,
    agreed=tuple(SETTINGS),
    simulate=simulate,
    proved=proved,
    refuse=credit.refuse_http,
    diagnose=explain.diagnose,
    claim=credit.claim,
    secret_names=explain_words.SECRETS,
)
