"""Coupons: the game has them validated and redeemed at PlayCamp through here, and their rewards are granted.

A redeemed coupon is granted once, whichever comes first: PlayCamp's answer to the game's call, or the webhook
``coupon.redeemed``, which also comes for coupons redeemed in the WebView. Both name it by ``usageId``.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from flask import Response, current_app, jsonify

from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.readers import moment_of
from coinslot.ledger import credit as ledger
from coinslot.ledger import events, reports
from coinslot.store.db import Connection, DatabaseError, EngineError
from handlers.kit.api import ApiError, NotConfiguredError
from handlers.kit.partner import GameCall
from handlers.kit.problems import ProblemError, caller, read_body
from handlers.kit.receive import current_installation, log_credit
from handlers.playcamp.api.answers import Coupon
from handlers.playcamp.api.client import Client
from handlers.playcamp.events.coupon_fields import CouponRedeemed, CouponToRedeem, CouponToValidate, CouponValidity
from handlers.playcamp.events.payload import Redeemed
from handlers.playcamp.events.values import as_items, lines

PARTNER = "playcamp"
PATIENCE_SECONDS = 10.0  # a player waits, and one of our threads with him
UNGRANTED = "playcamp.coupon.ungranted"
REFUSED_STATUSES = (400, 404, 422)  # PlayCamp found a fault in the call itself

# Creators' rewards are set up at PlayCamp: the game need not have registered their players and items.
RULES = reports.Rules(unknown_player="accept", unknown_item="accept", may_be_empty=False)

_to_validate, _to_redeem = CouponToValidate(), CouponToRedeem()


def validate() -> Response:
    """Whether a player could redeem a coupon. One that is not valid is an answer like any other."""
    game = caller()
    wanted = read_body(_to_validate)
    try:
        coupon = _client(game).validate_coupon(wanted["coupon_code"], wanted["player_id"], _asks_for_test(wanted))
    except ApiError as error:
        raise _problem(game, error) from None
    return jsonify(
        valid=coupon.is_accepted, error_code=coupon.error_code, message=coupon.error_text, **_description(coupon)
    )


def redeem() -> Response:
    """Use a coupon up and grant its reward. We never repeat the call; whether it succeeded may stay unknown."""
    game = caller()
    wanted = read_body(_to_redeem)
    player_id, is_marked = wanted["player_id"], _asks_for_test(wanted)
    game_user_uuid = str(wanted["game_user_uuid"]) if "game_user_uuid" in wanted else None
    try:
        coupon = _client(game).redeem_coupon(
            wanted["coupon_code"], player_id, game_user_uuid=game_user_uuid, is_test=is_marked
        )
    except ApiError as error:
        if not error.is_uncertain:
            raise _problem(game, error) from None
        current_app.logger.error("playcamp %s: a coupon may have been redeemed: %s", game.slug, _status(error))
        raise ProblemError(
            502, f"{error}. The coupon may have been redeemed; if so, PlayCamp's webhook brings the grant"
        ) from None
    if not coupon.is_accepted:
        code = str(coupon.error_code)
        text = f"{code}: {coupon.error_text}" if coupon.error_text else code
        raise ProblemError(409, text, [{"path": "coupon_code", "detail": code}])

    transaction_id = _keep(game, coupon, player_id, is_marked)
    return jsonify(
        usage_id=coupon.usage_id,
        transaction_id=transaction_id,
        is_test=_is_test(game, player_id, is_marked, _lines(coupon)),
        **_description(coupon),
    )


def to_credit(
    game: Game,
    redeemed: Redeemed,
    player_id: str,
    is_marked: bool,
    *,
    occurred_at: str | None,
    raw_body: bytes,
    signature: str,
    signed_with: str,
) -> reports.Credit:
    """A redeemed coupon as the ledger credits it, the same from an answer and from a webhook.

    The sandbox and PlayCamp's mock answers count their usages separately, so the id of a test is made another one.
    """
    usage_id = str(redeemed.usage_id)
    is_test = _is_test(game, player_id, is_marked, redeemed.lines)
    return reports.Credit(
        game_id=game.id,
        game_slug=game.slug,
        partner=PARTNER,
        external_id=f"test:{usage_id}:{player_id}" if is_test else usage_id,
        reference=usage_id,
        kind="coupon",
        player_id=player_id,
        lines=redeemed.lines,
        fingerprint=reports.fingerprint(usage_id, player_id, lines=redeemed.lines),
        raw_body=raw_body,
        signature=signature,
        signed_with=signed_with,
        answer_status=200,
        answer_body="",
        environment="sandbox" if is_test else "live",
        occurred_at=occurred_at,
    )


def _keep(game: Game, coupon: Coupon, player_id: str, is_marked: bool) -> str | None:
    """Grant what PlayCamp has just redeemed, or record that it cannot be granted; returns our transaction's id.

    Raises a 409 when the coupon was granted before with other content, and a 503 when nothing could be stored.
    """
    granted, database, log = _lines(coupon), current_installation().database, current_app.logger
    try:
        if coupon.usage_id is None or granted is None:
            database.write(lambda tx: _record_ungranted(tx, game, coupon, player_id, is_marked))
            log.error("playcamp %s: a redeemed coupon cannot be granted from the answer", game.slug)
            return None
        wanted = to_credit(
            game,
            Redeemed(coupon.usage_id, granted),
            player_id,
            is_marked,
            occurred_at=moment_of(coupon.redeemed_at),
            raw_body=json.dumps({"usage_id": coupon.usage_id, "items": as_items(granted)}).encode(),
            signature="",  # the answer to our own call is proved by its connection
            signed_with=game.keys("playcamp.api_key")[0].label,
        )
        credited = database.write(lambda tx: ledger.report_within(tx, wanted, RULES)).credited
    except (DatabaseError, EngineError) as error:
        cause = type(error).__name__
        log.error("playcamp %s: coupon usage %s was not stored: %s", game.slug, coupon.usage_id, cause)
        raise ProblemError(
            503, "The coupon was redeemed, but its reward could not be stored; PlayCamp's webhook brings the grant"
        ) from None
    if credited is None:
        log.error("playcamp %s: coupon usage %s was granted before with other content", game.slug, coupon.usage_id)
        raise ProblemError(409, "The coupon was redeemed, and its usage had been granted before with other content")
    log_credit(PARTNER, game, f"coupon usage {coupon.usage_id}", credited)
    return credited.public_id


def _record_ungranted(tx: Connection, game: Game, coupon: Coupon, player_id: str, is_marked: bool) -> None:
    """Record a redeemed coupon whose usage or reward PlayCamp did not name."""
    about = _description(coupon)
    about.pop("package_name")
    occurred_at = moment_of(coupon.redeemed_at)
    events.record(
        tx,
        game_id=game.id,
        partner=PARTNER,
        type=UNGRANTED,
        dedupe_key=f"ungranted:{uuid.uuid4().hex}",
        data={"player_id": player_id, "usage_id": coupon.usage_id, **about, "occurred_at": occurred_at},
        raw_body=None,
        environment=game.settings["playcamp.environment"],
        is_test=_is_test(game, player_id, is_marked, _lines(coupon)),
        external_id=None if coupon.usage_id is None else str(coupon.usage_id),
        player_id=player_id,
        occurred_at=occurred_at,
        counted_as="event",
    )


def _client(game: Game) -> Client:
    try:
        return Client(game, current_installation().outbound.for_callers, patience_seconds=PATIENCE_SECONDS)
    except NotConfiguredError as error:
        raise ProblemError(409, str(error)) from None


def _asks_for_test(wanted: Mapping[str, Any]) -> bool:
    return wanted.get("is_test") is True or wanted["player_id"] == registry.RESERVED_ID


def _is_test(game: Game, player_id: str, is_marked: bool, granted: tuple[tuple[str, int], ...] | None) -> bool:
    names = (player_id, *(sku for sku, _ in granted or ()))
    return is_marked or registry.RESERVED_ID in names or game.settings["playcamp.environment"] == "sandbox"


def _lines(coupon: Coupon) -> tuple[tuple[str, int], ...] | None:
    return lines((reward.item_id, reward.quantity) for reward in coupon.rewards or ())


def _description(coupon: Coupon) -> dict[str, Any]:
    granted = _lines(coupon)
    return {
        "items": None if granted is None else as_items(granted),
        "package_name": dict(coupon.package_name),
        "creator_key": coupon.creator_key,
        "campaign_id": coupon.campaign_id,
    }


def _problem(game: Game, error: ApiError) -> ProblemError:
    """The answer to the game, in PlayCamp's words. The log has only the status: the words may hold anything."""
    if error.is_permanent and error.status in REFUSED_STATUSES:
        return ProblemError(
            422, str(error), [{"path": each.path or "body", "detail": each.message} for each in error.details]
        )
    current_app.logger.error("playcamp %s: a coupon was not asked for: %s", game.slug, _status(error))
    return ProblemError(502, str(error))


def _status(error: ApiError) -> str:
    return "no answer" if error.status is None else f"answer {error.status}"


GAME_CALLS = tuple(
    GameCall(
        "POST",
        f"/playcamp/coupons/{function.__name__}",
        function,
        summary,
        {200: answer},
        body,
        errors=(400, 409, 413, 422, 502),
    )
    for function, body, answer, summary in (
        (
            validate,
            CouponToValidate,
            CouponValidity,
            "Whether a player could redeem a creator's coupon; nothing is used up",
        ),
        (
            redeem,
            CouponToRedeem,
            CouponRedeemed,
            "Redeem a creator's coupon; what it gives comes as a grant, once. After a 502 it may have been redeemed",
        ),
    )
)
