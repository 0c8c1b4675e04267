"""What a refused call reports, if a key of the game signed or encrypted it, whatever else is wrong with it."""

from contextlib import suppress
from typing import Any

from flask import request

from coinslot.base import exact
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.readers import id_of
from coinslot.ledger import refused, statuses
from coinslot.ledger.refused import Claim
from handlers.appcharge.order_body import minor_if_whole, parse_order
from handlers.appcharge.orders import to_credit
from handlers.appcharge.receive import ORDER_IDS, Entered, enter_encrypted, is_configured, signing_keys
from handlers.appcharge.signature import SignatureError, verify

QUESTIONS = ("auth", "otp", "players")  # addresses that report nothing


def claim(game: Game, endpoint: str) -> Claim | None:
    """The claim of the current request; None if no key of this game proves it."""
    call = _proved(game, endpoint) if is_configured(game) else None
    if call is None:
        return None
    try:
        order = parse_order(call.body)
    except ValueError:
        return _unreadable(game, endpoint, call.body)
    wanted = refused.claim_of(to_credit(order, game, call))
    status = statuses.plain(order["status"]) or statuses.COMPLETED
    failed = game.settings["appcharge.failed_statuses"]
    is_failed = statuses.meaning(status, game.settings["appcharge.completed_statuses"], failed) == statuses.FAILED
    return Claim(**{**vars(wanted), "currency": None, "amount_minor": None}) if is_failed else wanted


def _proved(game: Game, endpoint: str) -> Entered | None:
    """The call, if the game's key signed it at any time and with any token, or encrypted it.

    An encrypted call needs the right token as well: a commit for those that can be decrypted would be a padding oracle.
    """
    body = request.get_data(cache=True)
    try:
        if game.settings["appcharge.payload"] == "aes":
            return enter_encrypted(game)
        header = request.headers.get("signature", "")
        return Entered(game, body, header, (verify(body, header, signing_keys(game, endpoint), float("inf")),))
    except SignatureError:
        return None


def _unreadable(game: Game, endpoint: str, body: bytes) -> Claim:
    """The claim of what is no order that can be read: an event, a question, or an order with a field amiss."""
    document: Any = None
    with suppress(ValueError):
        document = exact.parse_json(body, allow_half_pairs=True, is_lenient=True)
    known = document if isinstance(document, dict) else {}
    is_order = "products" in known or (endpoint == "orders" and "event" not in known and "eventName" not in known)
    if endpoint in QUESTIONS and not is_order and not ("event" in known or "eventName" in known):
        name = refused.question_name(endpoint, body)
        return Claim(game.id, (name,), is_report=False, is_simulated=_is_reserved(known))
    ids = {name: id_of(known.get(name)) for name in ORDER_IDS}
    prefixes = ("", "payment:", "external:")
    names = [f"{prefix}{ids[name]}" for prefix, name in zip(prefixes, ORDER_IDS, strict=True) if ids[name]]
    currency = known.get("currency")
    has_code = isinstance(currency, str) and len(currency.strip()) == 3
    return Claim(
        game.id,
        tuple(names) if is_order and names else (refused.body_name(body),),
        reference=next((each for each in ids.values() if each), None) or "",
        player_id=id_of(known.get("playerId")),
        currency=str(currency).strip().upper() if is_order and has_code else None,
        amount_minor=_amount(known.get("priceInCents")) if is_order and has_code else None,
        is_test=game.settings["appcharge.environment"] == "sandbox",
        is_simulated=_is_reserved(known),
    )


def _amount(value: Any) -> int | None:
    try:
        amount = minor_if_whole(exact.figure(value))
    except ValueError:
        return None
    return amount if amount is not None and amount >= 0 else None


def _is_reserved(document: dict[str, Any]) -> bool:
    return document.get("playerId") == registry.RESERVED_ID
