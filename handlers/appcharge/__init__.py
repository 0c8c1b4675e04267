"""Appcharge, the web store. Every call is checked in one place (``receive.py``), its signature in ``signature.py``.

It reports orders (``orders.py``) and what becomes of them (``events.py``), asks who logs in (``logins/``) and what to
show a player (``players.py``); our calls to it are in ``api/``.

Documentation: docs.appcharge.com and, before 2025, developers.appcharge.com (checked 2026-11). The paths are our own
choice; the owner pastes them into Appcharge's Integration page.
"""

from flask import Blueprint, Response

from handlers.appcharge import addresses, claims, events, explain, explain_words, orders, players, receive, settings
from handlers.appcharge.api import checkout, never_came, refresh, refunding
from handlers.appcharge.api.month_report import REPORT
from handlers.appcharge.logins import auth, game_calls, otp
from handlers.appcharge.simulation import proved, simulate
from handlers.kit.partner import Partner

bp = Blueprint("appcharge", __name__, url_prefix="/appcharge")
bp.post("/<game_slug>/orders")(orders.report_order)
bp.post("/<game_slug>/events")(events.receive)
bp.post("/<game_slug>/auth")(auth.authenticate)
bp.post("/<game_slug>/otp")(otp.initiate)
bp.post("/<game_slug>/players")(players.personalize)


@bp.errorhandler(receive.RefusedError)
def tell(error: receive.RefusedError) -> Response:
    return receive.refuse(error.status, error.message)


partner = Partner(
    name=receive.PARTNER,
    title="Appcharge",
    blueprint=bp,
    addresses=addresses.ADDRESSES,
    keys=(*settings.PAGE_KEYS, *settings.LOGIN_KEYS),
    settings=settings.SETTINGS,
    agreed=settings.AGREED,
    is_configured=receive.is_configured,
    missing=addresses.missing,
    wrong=addresses.wrong,
    unset=addresses.unset,
    simulate=simulate,
    proved=proved,
    refuse=receive.refuse,
    jobs={refresh.JOB: refresh.run, never_came.JOB: never_came.job, refunding.JOB: refunding.run},
    job_names={
        refresh.JOB: "Update players at Appcharge",
        never_came.JOB: "Look for orders that never came",
        refunding.JOB: "Send refunds to Appcharge",
    },
    profiles_pushed=refresh.profiles_pushed,
    commands={"appcharge": "handlers.appcharge.commands"},
    report=REPORT,
    game_calls=(*game_calls.GAME_CALLS, *checkout.GAME_CALLS),
    diagnose=explain.diagnose,
    secret_names=explain_words.SECRETS,
    claim=claims.claim,
    refunds=refunding.REFUNDS,
    send_again="press Retry Award for it in Appcharge's dashboard",
)
