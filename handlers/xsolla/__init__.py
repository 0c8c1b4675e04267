"""Xsolla, web shop and payments: one address for all its webhooks.

Documentation: developers.xsolla.com/webhooks and developers.xsolla.com/solutions/payments/integration-guide (checked
2026-11). Where its pages of different years disagree, both are accepted:

* A call is proved by ``Authorization: Signature <SHA-1 of body and secret key>``. It carries no time: a webhook may be
  repeated for ever, and credits once.
* Projects since 2025-01-22 get ``order_paid`` and ``order_canceled`` with the payment inside (in ``billing``). Older
  ones get ``payment`` and ``refund``, and for orders of the store then ``order_paid`` and ``order_canceled`` as well.
* The player is ``user.id`` in a payment and ``user.external_id`` in an order; ids are numbers or text.
* ``payment`` of the older in-game store lists ``purchase.virtual_items`` and ``purchase.virtual_currency``.
* Test payments say ``transaction.dry_run`` 1 or ``order.mode`` sandbox; they never count.
* 200, 201 and 204 are success. 400 ends the matter, 5xx has the webhook sent again (up to 20 times in 12 hours).
* ``partial_refund`` does not say what its amount is; what the player got back by the payment details is taken.
* Calls come from 185.30.20.0/22 and some single addresses, which change: see the documentation for the allowlist.
"""

from flask import Blueprint, Response

from handlers.kit.partner import STEPS, Address, Partner
from handlers.xsolla import explain, explain_words, webhook
from handlers.xsolla.settings import KEYS, SETTINGS, SIGNING_KEY
from handlers.xsolla.simulation import proved, simulate

bp = Blueprint("xsolla", __name__, url_prefix="/xsolla")
bp.post("/<game_slug>/webhook")(webhook.receive)


@bp.errorhandler(webhook.RefusedError)
def answer_refused(error: webhook.RefusedError) -> Response:
    return webhook.refuse(error.status, error.message, error.code)


partner = Partner(
    name=webhook.PARTNER,
    title="Xsolla",
    blueprint=bp,
    addresses=(
        Address(
            webhook.ENDPOINT,
            "Webhook URL",
            "/xsolla/{game}/webhook",
            "without it nobody can pay, and nothing that is bought is credited",
            lambda game: [] if webhook.is_configured(game) else [SIGNING_KEY],
            "an empty 204",
            is_mandatory=True,
            steps=STEPS,
        ),
    ),
    keys=KEYS,
    settings=SETTINGS,
    is_configured=webhook.is_configured,
    missing=lambda game: [],
    simulate=simulate,
    proved=proved,
    refuse=webhook.refuse,
    diagnose=explain.diagnose,
    claim=webhook.claim,
    secret_names=explain_words.SECRETS,
    send_again="ask Xsolla's support to send the webhook again",
)
