"""Our calls to PlayCamp's SDK API: one-time tokens, payments, sponsors, coupons, look-ups and webhook registrations.

Calls carry the server key. Only GET is repeated here, after network failures, 429 and 5xx. A caller may send a payment
again, since PlayCamp knows its ``transactionId``; redeeming a coupon must never be repeated. Amounts are sent as exact
decimal numbers. :mod:`handlers.kit.api` makes the calls, ``answers.py`` reads the answers. (Documentation and Go SDK
v0.0.8 checked 2026-11.)

Quirks: success is any 2xx; an invalid coupon may be a 400 or 404 as well as a 200; a payment known before is 409 by
itself and SKIPPED in bulk.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from coinslot.base import exact
from coinslot.base.outbound import Answer, Outbound
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from handlers.kit import api
from handlers.kit.api import ApiError, Caller, NotConfiguredError, Refusal, UnsentError, in_path, is_header
from handlers.playcamp.api import answers
from handlers.playcamp.api.answers import COUPON_ERROR, Coupon, Registration, Webhook
from handlers.playcamp.settings import server_key_doubt

BASE_URLS = {"live": "https://sdk-api.playcamp.io", "sandbox": "https://sandbox-sdk-api.playcamp.io"}

OTT_SECONDS = 5.0  # a token in all: a player is waiting for it
QUICK_PAUSE_SECONDS = 0.2

PAYMENTS_PER_CALL = 1000
CREATOR_KEY = re.compile(r"[A-Z0-9]{5}")

HALF_A_PAIR = "text with half of a surrogate pair cannot be sent"
_UNCONNECTED = ("refused", "dns")
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ITEM = re.compile(r"payments[.\[/]\[?([0-9]{1,4})(?![0-9])")


class Client(Caller):
    """PlayCamp's API for one game. Raises :class:`NotConfiguredError` if the game lacks what calls need.

    ``is_test``: PlayCamp checks everything and stores nothing.
    """

    partner = "PlayCamp"
    prefix = "/v1/server"
    timeout_seconds = 30.0
    largest_answer = 10 * 1024 * 1024
    repeated = ("GET",)
    repeated_when_limited = repeated

    def __init__(self, game: Game, outbound: Outbound, **timing: Any) -> None:
        """``timing``: the other options of :class:`handlers.kit.api.Caller`."""
        pairs = [key.value.decode("utf-8", errors="replace") for key in game.keys("playcamp.api_key")]
        secrets = [part for pair in pairs for part in (pair, pair.partition(":")[2])]
        super().__init__(base_url(game), secrets, outbound, **timing)
        self._key = _key(game)

    # WebView

    def issue_ott(
        self,
        user_id: str,
        campaign_id: str | None = None,
        callback_id: str | None = None,
        code_challenge: str | None = None,
        is_test: bool = False,
    ) -> str:
        """A fresh token. It opens the WebView as that player, once and within a minute, so none is kept for later.

        Asked for once more if no connection was made.
        """
        wanted = _given(
            userId=user_id,
            campaignId=campaign_id,
            codeChallenge=code_challenge,
            callbackId=callback_id,
            isTest=is_test,
        )
        deadline = time.monotonic() + min(OTT_SECONDS, self._patience_seconds)

        def issue() -> str:
            left = max(0.1, deadline - time.monotonic())
            hidden = (callback_id, code_challenge)
            return self.ask(
                answers.read_ott, "POST", "/webview/ott", _body(wanted), hidden=hidden, timeout_seconds=left
            )

        try:
            return issue()
        except ApiError as error:
            if error.failure not in _UNCONNECTED or time.monotonic() + QUICK_PAUSE_SECONDS >= deadline:
                raise
            self._sleep(QUICK_PAUSE_SECONDS)
            return issue()

    # Payments

    def register_payments(
        self, payments: Sequence[Mapping[str, Any]], is_test: bool = False
    ) -> dict[str, Registration]:
        """Register up to 1,000 payments; transaction id -> result, one for each payment.

        A payment has PlayCamp's fields; ``amount`` is a Decimal, an int or decimal text, and is sent with exactly those
        digits. Raises ApiError if PlayCamp refuses the whole call; :func:`item_reasons` may say which payments and why.
        """
        if not payments:
            return {}
        if len(payments) > PAYMENTS_PER_CALL:
            raise UnsentError(f"at most {PAYMENTS_PER_CALL} payments go in one call")
        items = ",".join(_payment_json(payment) for payment in payments)
        wanted = {str(payment["transactionId"]) for payment in payments}
        if len(wanted) < len(payments):
            raise UnsentError("two of the payments have the same transactionId")
        test = ',"isTest":true' if is_test else ""
        return self.ask(
            lambda answer: answers.read_registrations(answer, wanted, self.without_secrets),
            "POST",
            "/payments/bulk",
            _encoded(f'{{"payments":[{items}]{test}}}'),
        )

    def check_payment(self, payment: Mapping[str, Any]) -> None:
        """Send one payment as a test: PlayCamp checks it and stores nothing."""
        self.ask(answers.read_object, "POST", "/payments", _encoded(_payment_json({**payment, "isTest": True})))

    def payment(self, transaction_id: str) -> dict[str, Any] | None:
        """The payment as PlayCamp has it, amounts as ``int`` or ``Decimal``; None if it does not have it."""
        return self._find(f"/payments/{in_path(transaction_id)}")

    def refund(self, transaction_id: str) -> dict[str, Any]:
        """Refund the whole payment. Undocumented: the answer when it is already refunded."""
        return self.ask(answers.read_object, "POST", f"/payments/{in_path(transaction_id)}/refund", _body({}))

    # Sponsors, coupons and creators

    def check_sponsor(self, user_id: str, creator_key: str, campaign_id: str | None = None) -> str:
        """Have a player support a creator, as a test: nothing is stored. Returns the creator's key."""
        if not CREATOR_KEY.fullmatch(creator_key):
            raise UnsentError("a creator's key has five characters of A-Z and 0-9")
        wanted = _given(userId=user_id, creatorKey=creator_key, campaignId=campaign_id, isTest=True)
        return self.ask(answers.read_creator_key, "POST", "/sponsors", _body(wanted))

    def validate_coupon(self, coupon_code: str, user_id: str, is_test: bool = False) -> Coupon:
        """Whether the player could redeem a coupon; it is not used up. A coupon that is not valid is no error."""
        wanted = _given(couponCode=coupon_code, userId=user_id, isTest=is_test)
        return self._coupon("/coupons/validate", wanted, coupon_code)

    def redeem_coupon(
        self, coupon_code: str, user_id: str, game_user_uuid: str | None = None, is_test: bool = False
    ) -> Coupon:
        """Use a coupon up; granting the items is ours to do. A coupon that is not valid is no error.

        Never repeat it after an ApiError that ``is_uncertain``: the coupon may be redeemed.
        """
        wanted = _given(couponCode=coupon_code, userId=user_id, gameUserUuid=game_user_uuid, isTest=is_test)
        return self._coupon("/coupons/redeem", wanted, coupon_code)

    def creator(self, creator_key: str) -> dict[str, Any] | None:
        """The creator with this key; None if there is none."""
        return self._find(f"/creators/{in_path(creator_key)}")

    # Webhook registrations

    def webhooks(self) -> list[Webhook]:
        """All registrations of the project, without their secrets."""
        return self.ask(answers.read_webhooks, "GET", "/webhooks")

    def create_webhook(self, event_type: str, url: str) -> Webhook:
        """Have events of one type sent to an address. Only this answer ever holds the signing secret."""
        wanted = {"eventType": event_type, "url": url}
        return self.ask(answers.read_new_webhook, "POST", "/webhooks", _body(wanted))

    def update_webhook(self, webhook_id: str, is_active: bool) -> Webhook:
        """Switch a registration on or off."""
        return self.ask(answers.read_webhook, "PUT", f"/webhooks/{in_path(webhook_id)}", _body({"isActive": is_active}))

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete a registration; a missing one is no error."""
        try:
            self.ask(lambda answer: None, "DELETE", f"/webhooks/{in_path(webhook_id)}")
        except ApiError as error:
            if not _is_not_found(error):
                raise

    def proof(self, body: bytes | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    def read_refusal(self, answer: Answer, clean: Callable[[str], str]) -> Refusal:
        return answers.read_refusal(answer, clean)

    def _find(self, path: str) -> dict[str, Any] | None:
        try:
            return self.ask(answers.read_object, "GET", path)
        except ApiError as error:
            if _is_not_found(error):
                return None
            raise

    def _coupon(self, path: str, wanted: Mapping[str, Any], coupon_code: str) -> Coupon:
        body, hidden = _body(wanted), (coupon_code,)

        def read(answer: Answer) -> Coupon:
            return answers.read_coupon(answer, coupon_code, lambda words: self.without_secrets(words, body, hidden))

        try:
            return self.ask(read, "POST", path, body, hidden=hidden)
        except ApiError as error:
            is_refused = error.is_permanent and error.status is not None and not error.is_key_refused
            if is_refused and COUPON_ERROR.fullmatch(error.code or ""):
                return Coupon(coupon_code, error.code, error.text)
            raise


def item_reasons(error: ApiError) -> dict[int, str]:
    """Position in the call -> what PlayCamp says is wrong with that payment; empty if it names none."""
    found = ((_ITEM.match(each.path), each) for each in error.details)
    return {int(match.group(1)): f"{each.path}: {each.message}" for match, each in found if match}


def webview_url(
    base: str, ott: str, lang: str | None = None, tabs: str | None = None, primary_color: str | None = None
) -> str:
    """The address to open in the player's browser. It holds a live token: keep it out of logs, caches and referrers."""
    color = primary_color.removeprefix("#") if primary_color else None
    words = _given(ott=ott, lang=lang or None, tabs=tabs or None, primaryColor=color)
    try:
        return f"{base}/webview/?{urlencode(words, quote_via=quote, safe='')}"
    except UnicodeEncodeError:
        raise UnsentError(HALF_A_PAIR) from None


def base_url(game: Game) -> str:
    """The address of PlayCamp for this game, without a slash at the end. Raises :class:`NotConfiguredError`."""
    own, environment = game.settings.get("playcamp.base_url"), game.settings.get("playcamp.environment") or "live"
    return api.base_url("playcamp.base_url", own or BASE_URLS.get(environment, ""), "API key")


def _key(game: Game) -> str:
    keys = game.keys("playcamp.api_key")
    if not keys:
        raise NotConfiguredError("playcamp.api_key is not set, and every call to PlayCamp needs it")
    pair = keys[0].value.decode("utf-8", errors="replace")
    if server_key_doubt(pair):
        raise NotConfiguredError("playcamp.api_key is not of the form keyId:secret")
    if not is_header(pair):
        raise NotConfiguredError("playcamp.api_key has characters that no header can carry")
    return pair


def _is_not_found(error: ApiError) -> bool:
    """Whether PlayCamp itself says so, and not a proxy: that has no code and no text."""
    return error.status == 404 and error.failure is None and (error.code is not None or error.text != "HTTP 404")


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that are neither None nor False."""
    return {name: value for name, value in fields.items() if value is not None and value is not False}


def _payment_json(payment: Mapping[str, Any]) -> str:
    """A payment as JSON, its amount with exactly the digits it has; Python's own encoder knows only floats."""
    transaction_id = payment.get("transactionId")
    if not isinstance(transaction_id, str) or not transaction_id:
        raise UnsentError("a payment has no transactionId")
    try:
        amount = exact.figure(payment.get("amount"))
    except ValueError as error:
        raise UnsentError(f"the amount of payment {shown(transaction_id, 100)}: {error}") from None
    rest = _json({name: value for name, value in payment.items() if name != "amount" and value is not None})
    return f'{rest[:-1]},"amount":{amount}}}'


def _body(content: Mapping[str, Any]) -> bytes:
    return _encoded(_json(content))


def _json(content: Mapping[str, Any]) -> str:
    try:
        return _ENCODER.encode(content)
    except (TypeError, ValueError, RecursionError):
        raise UnsentError("what was to be sent cannot be written as JSON") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UnsentError(HALF_A_PAIR) from None
