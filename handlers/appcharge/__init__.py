"""Appcharge, the web store. Every call comes in through one door (``door.py``), signed (``signature.py``).

It reports orders (``orders.py``) and what becomes of them (``events.py``), asks who logs in (``auth.py``, ``otp.py``)
and what to show a player (``players.py``); we call it with ``client.py``.

Documentation: docs.appcharge.com and, before 2025, developers.appcharge.com (checked 2026-11). The paths are our own
choice; the owner pastes them into Appcharge's Integration page.
"""

from flask import Blueprint, Response

from handlers import Partner
from handlers.appcharge import (
    auth,
    checkout,
    commands,
    diagnosis,
    door,
    events,
    integration,
    logins,
    orders,
    otp,
    players,
    refresh,
    settings,
)
from handlers.appcharge.report import REPORT
from handlers.appcharge.simulation import simulate

bp = Blueprint("appcharge", __name__, url_prefix="/appcharge")
bp.post("/<game_slug>/orders")(orders.report_order)
bp.post("/<game_slug>/events")(events.receive)
bp.post("/<game_slug>/auth")(auth.authenticate)
bp.post("/<game_slug>/otp")(otp.initiate)
bp.post("/<game_slug>/players")(players.personalize)


@bp.errorhandler(door.RefusedError)
def tell(error: door.RefusedError) -> Response:
    return door.refuse(error.status, error.message)


partner = Partner(
    name=door.PARTNER,
    title="Appcharge",
    blueprint=bp,
    addresses=integration.ADDRESSES,
    keys=(*settings.PAGE_KEYS, *settings.LOGIN_KEYS),
    settings=settings.SETTINGS,
    agreed=settings.AGREED,
    is_configured=door.is_configured,
    missing=integration.missing,
    wrong=integration.wrong,
    unset=integration.unset,
    lacking=integration.lacking,
    simulate=simulate,
    refuse=door.refuse,
    jobs={refresh.JOB: refresh.run},
    profiles_pushed=refresh.profiles_pushed,
    commands=commands.COMMANDS,
    report=REPORT,
    game_calls=(*logins.GAME_CALLS, *checkout.GAME_CALLS),
    diagnose=diagnosis.diagnose,
    send_again="press Retry Award for it in Appcharge's dashboard",
)
