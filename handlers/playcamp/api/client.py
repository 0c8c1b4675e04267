"""Our calls to PlayCamp's SDK API: one-time tokens, payments, sponsors, coupons, look-ups and webhook registrations.

The server key proves us. Only GET is repeated here, after network failures, 429 and 5xx. A payment may be sent again by
whoever sent it, since PlayCamp knows its ``transactionId``; redeeming a coupon never may. Amounts leave as the exact
decimal numbers they are. What comes back is read in ``answers.py``; of an error only bounded, printable words are told,
never our key or what we sent. (Documentation and Go SDK v0.0.8 checked 2026-11.)

Quirks: success is any 2xx; an invalid coupon may be a 400 or 404 as well as a 200; a payment known before is 409 by
itself and SKIPPED in bulk.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from coinslot.base import exact
from coinslot.base.outbound import Answer, Outbound
from coinslot.base.paths import path_segment
from coinslot.base.spellings import shown
from coinslot.games.games import Game, web_address
from handlers.playcamp.api import answers
from handlers.playcamp.api.answers import (
    COUPON_ERROR,
    AnswerError,
    Coupon,
    Detail,
    Ott,
    Page,
    Registration,
    Sponsor,
    Webhook,
    WebhookTest,
)
from handlers.playcamp.settings import server_key_doubt

BASE_URLS = {"live": "https://sdk-api.playcamp.io", "sandbox": "https://sandbox-sdk-api.playcamp.io"}

TIMEOUT_SECONDS = 30.0  # one attempt
OTT_SECONDS = 5.0  # a token in all: a player is waiting for it
PATIENCE_SECONDS = 60.0  # all attempts of one call, pauses included
TRIES = 4
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)  # after the first attempt, the second, ...; up to 30 % more
QUICK_PAUSE_SECONDS = 0.2
LARGEST_ANSWER = 10 * 1024 * 1024

PAYMENTS_PER_CALL = 1000
ROWS_PER_PAGE = 100
CREATOR_KEY = re.compile(r"[A-Z0-9]{5}")

LONGEST_TEXT = 500  # characters told of an error
LONGEST_READ = 16 * 1024  # characters of an error that are looked at
BODY_BEGINNING = 24
HIDDEN = "[hidden]"

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_UNCONNECTED = ("refused", "dns")
_TRANSIENT = ("timeout", *_UNCONNECTED)
_IN_HEADERS = re.compile(r"[!-~]+")
_ADDRESS = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}")  # of e-mail
_UNTOLD = re.compile(r'"(?:callbackId|codeChallenge|couponCode)":"([^"\\]+)|[?&]callbackId=([^&]+)')
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ITEM = re.compile(r"payments[.\[/]\[?([0-9]{1,4})(?![0-9])")

T = TypeVar("T")


class ApiError(Exception):
    """A call did not succeed. ``status`` is None where there was no proper answer; ``text`` says why, and no secret.

    ``code`` and ``details`` are PlayCamp's where it gave any. ``failure`` is the word of ``coinslot.base.outbound``
    where there was no proper answer; ``retry_after`` the seconds PlayCamp asks us to wait.
    """

    def __init__(
        self,
        status: int | None,
        text: str,
        code: str | None = None,
        details: Sequence[Detail] = (),
        retry_after: float | None = None,
        failure: str | None = None,
    ) -> None:
        answered = f"PlayCamp answered {status}{f' {code}' if code else ''}: {text}"
        named = "; ".join(f"{each.path}: {each.message}" if each.path else each.message for each in details[:5])
        super().__init__(
            f"PlayCamp did not answer: {text}"
            if status is None
            else shown(f"{answered} ({named})" if named else answered, 2 * LONGEST_TEXT)
        )
        self.status = status
        self.text = text
        self.code = code
        self.details = tuple(details)
        self.retry_after = retry_after
        self.failure = failure

    @property
    def is_permanent(self) -> bool:
        """Whether the same call would be refused again; waiting helps against limits and timeouts."""
        is_refused = self.failure is None and self.status is not None and 400 <= self.status < 500
        return is_refused and self.status not in (408, 425, 429)

    @property
    def is_refusal(self) -> bool:
        """Whether this says something of what was sent, in whatever words. A redirect is one: it is not followed."""
        return self.is_permanent or self.failure == "redirect"

    @property
    def is_key_refused(self) -> bool:
        """Whether the key may be at fault: it is where other calls are refused so too. A firewall says it of one."""
        return self.status in (401, 403)

    @property
    def is_uncertain(self) -> bool:
        """Whether what was asked for may have been done all the same."""
        return self.status is None or self.status >= 500 or 200 <= self.status < 300 or self.status == 408

    @property
    def items(self) -> set[int]:
        """Which of the payments sent the details name, counted from 0; empty where they name none."""
        return set(self.item_reasons)

    @property
    def item_reasons(self) -> dict[int, str]:
        """What the details have against which of the payments sent, counted from 0; empty where they name none."""
        found = ((_ITEM.match(each.path), each) for each in self.details)
        return {int(match.group(1)): f"{each.path}: {each.message}" for match, each in found if match}


class UnsentError(ApiError):
    """Nothing was sent, and ``text`` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(None, text)
        self.args = (text,)

    @property
    def is_permanent(self) -> bool:
        return True

    @property
    def is_uncertain(self) -> bool:
        return False


class TurnedAwayError(UnsentError):
    """As many calls as may be are waiting for PlayCamp."""

    @property
    def is_permanent(self) -> bool:
        return False


class NotConfiguredError(UnsentError):
    """The game lacks what every call needs."""


class Client:
    """PlayCamp's API for one game. Raises :class:`NotConfiguredError` at once where the game cannot call it.

    Every call raises :class:`ApiError` unless it succeeded. ``patience_seconds`` bounds each of them, all attempts and
    pauses included. ``is_test`` has PlayCamp check everything and store nothing.
    """

    def __init__(
        self,
        game: Game,
        outbound: Outbound,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = PATIENCE_SECONDS,
        tries: int = TRIES,
    ) -> None:
        self.base_url = base_url(game)
        self._key = _key(game)
        self._outbound = outbound
        self._sleep = sleep
        self._patience_seconds = patience_seconds
        self._tries = tries
        pairs = [key.value.decode("utf-8", errors="replace") for key in game.keys("playcamp.api_key")]
        self._secrets = [part for pair in pairs for part in (pair, pair.partition(":")[2])]

    # WebView

    def issue_ott(
        self,
        user_id: str,
        campaign_id: str | None = None,
        callback_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        code_challenge: str | None = None,
        is_test: bool = False,
    ) -> Ott:
        """A fresh token. Asked for once more only where no connection came about; never to be kept for later."""
        wanted = _given(
            userId=user_id,
            campaignId=campaign_id,
            codeChallenge=code_challenge,
            callbackId=callback_id,
            metadata=None if metadata is None else dict(metadata),
            isTest=is_test,
        )
        deadline = time.monotonic() + min(OTT_SECONDS, self._patience_seconds)
        try:
            return self._ask(answers.read_ott, "POST", "/webview/ott", wanted, deadline - time.monotonic())
        except ApiError as error:
            if error.failure not in _UNCONNECTED or time.monotonic() + QUICK_PAUSE_SECONDS >= deadline:
                raise
            self._sleep(QUICK_PAUSE_SECONDS)
            left = max(0.1, deadline - time.monotonic())
            return self._ask(answers.read_ott, "POST", "/webview/ott", wanted, left)

    # Payments

    def register_payments(
        self, payments: Sequence[Mapping[str, Any]], callback_id: str | None = None, is_test: bool = False
    ) -> dict[str, Registration]:
        """What became of each of up to 1,000 payments, by its ``transactionId``; every one sent is there.

        A payment has PlayCamp's fields; ``amount`` is a Decimal, an int or decimal text, and arrives with just those
        digits. Raises ApiError where PlayCamp refuses all of them together; ``items`` of it may say whose fault it is.
        """
        if not payments:
            return {}
        if len(payments) > PAYMENTS_PER_CALL:
            raise UnsentError(f"at most {PAYMENTS_PER_CALL} payments go in one call")
        written = [_payment_json(payment) for payment in payments]
        wanted = {str(payment["transactionId"]) for payment in payments}
        if len(wanted) < len(payments):
            raise UnsentError("two of the payments have the same transactionId")
        rest = _json(_given(callbackId=callback_id, isTest=is_test))
        body = f'{{"payments":[{",".join(written)}]{"," if rest != "{}" else ""}{rest[1:]}'
        return self._ask(
            lambda answer: answers.read_registrations(answer, wanted, self._told), "POST", "/payments/bulk", body
        )

    def register_payment(
        self, payment: Mapping[str, Any], callback_id: str | None = None, is_test: bool = False
    ) -> Registration:
        """Register one payment. One that PlayCamp knows already is ``SKIPPED``, as it is in bulk."""
        body = _payment_json({**payment, **_given(callbackId=callback_id, isTest=is_test)})
        transaction_id = str(payment["transactionId"])
        try:
            registered = self._ask(answers.read_object, "POST", "/payments", body)
        except ApiError as error:
            if error.status == 409:
                return Registration(transaction_id, "SKIPPED")
            raise
        return Registration(transaction_id, "SUCCESS", None, registered)

    def payment(self, transaction_id: str) -> dict[str, Any] | None:
        """The payment as PlayCamp has it, amounts as ``int`` or ``Decimal``; None when it knows none."""
        return self._find(f"/payments/{_in_path(transaction_id)}")

    def user_payments(self, user_id: str, page: int = 1, limit: int = ROWS_PER_PAGE) -> Page:
        return self._page(f"/payments/user/{_in_path(user_id)}", page, limit)

    def refund(self, transaction_id: str, callback_id: str | None = None, is_test: bool = False) -> dict[str, Any]:
        """The payment, refunded as a whole. Of one refunded before nobody has written down the answer."""
        wanted = _given(callbackId=callback_id, isTest=is_test)
        return self._ask(answers.read_object, "POST", f"/payments/{_in_path(transaction_id)}/refund", wanted)

    # Sponsors

    def put_sponsor(
        self,
        user_id: str,
        creator_key: str,
        campaign_id: str | None = None,
        callback_id: str | None = None,
        is_test: bool = False,
    ) -> Sponsor:
        """Have a player support a creator. Another creator than until now is refused within thirty days (400)."""
        wanted = _given(
            userId=user_id,
            creatorKey=_creator_key(creator_key),
            campaignId=campaign_id,
            callbackId=callback_id,
            isTest=is_test,
        )
        return self._ask(lambda answer: answers.read_sponsor(answer, user_id), "POST", "/sponsors", wanted)

    def sponsors(self, user_id: str) -> list[Sponsor]:
        path = f"/sponsors/user/{_in_path(user_id)}"
        return self._ask(lambda answer: answers.read_sponsors(answer, user_id), "GET", path)

    def change_sponsor(
        self,
        user_id: str,
        new_creator_key: str,
        campaign_id: str | None = None,
        callback_id: str | None = None,
        is_test: bool = False,
    ) -> Sponsor:
        wanted = _given(
            newCreatorKey=_creator_key(new_creator_key),
            campaignId=campaign_id,
            callbackId=callback_id,
            isTest=is_test,
        )
        path = f"/sponsors/user/{_in_path(user_id)}"
        return self._ask(lambda answer: answers.read_sponsor(answer, user_id), "PUT", path, wanted)

    def delete_sponsor(
        self, user_id: str, campaign_id: str | None = None, callback_id: str | None = None, is_test: bool = False
    ) -> None:
        query = _query(campaignId=campaign_id, callbackId=callback_id, isTest=is_test)
        self._call("DELETE", f"/sponsors/user/{_in_path(user_id)}{query}")

    def sponsor_history(
        self, user_id: str, campaign_id: str | None = None, page: int = 1, limit: int = ROWS_PER_PAGE
    ) -> Page:
        return self._page(f"/sponsors/user/{_in_path(user_id)}/history", page, limit, campaignId=campaign_id)

    # Coupons

    def validate_coupon(self, coupon_code: str, user_id: str, is_test: bool = False) -> Coupon:
        """Whether the player could redeem it; nothing is used up. A coupon that is not valid is no error."""
        wanted = _given(couponCode=coupon_code, userId=user_id, isTest=is_test)
        return self._coupon("/coupons/validate", wanted, coupon_code)

    def redeem_coupon(
        self,
        coupon_code: str,
        user_id: str,
        game_user_uuid: str | None = None,
        callback_id: str | None = None,
        is_test: bool = False,
    ) -> Coupon:
        """Use it up; we have to grant the items. A coupon that is not valid is no error.

        Never repeated blindly: after an ApiError that ``is_uncertain`` it may have been redeemed.
        """
        wanted = _given(
            couponCode=coupon_code,
            userId=user_id,
            gameUserUuid=game_user_uuid,
            callbackId=callback_id,
            isTest=is_test,
        )
        return self._coupon("/coupons/redeem", wanted, coupon_code)

    def coupon_usage(self, user_id: str, page: int = 1, limit: int = ROWS_PER_PAGE) -> Page:
        return self._page(f"/coupons/user/{_in_path(user_id)}", page, limit)

    # Campaigns and creators

    def campaigns(self, page: int = 1, limit: int = ROWS_PER_PAGE, is_test: bool = False) -> Page:
        return self._page("/campaigns", page, limit, isTest=is_test)

    def campaign(self, campaign_id: str, is_test: bool = False) -> dict[str, Any] | None:
        """The campaign; None when there is none."""
        return self._find(f"/campaigns/{_in_path(campaign_id)}{_query(isTest=is_test)}")

    def campaign_creators(self, campaign_id: str, is_test: bool = False) -> list[dict[str, Any]]:
        path = f"/campaigns/{_in_path(campaign_id)}/creators{_query(isTest=is_test)}"
        return self._ask(answers.read_objects, "GET", path)

    def search_creators(
        self, keyword: str, campaign_id: str | None = None, limit: int | None = None, is_test: bool = False
    ) -> list[dict[str, Any]]:
        query = _query(keyword=keyword, campaignId=campaign_id, limit=limit, isTest=is_test)
        return self._ask(answers.read_objects, "GET", f"/creators/search{query}")

    def creator(self, creator_key: str, is_test: bool = False) -> dict[str, Any] | None:
        """The creator with this key; None when there is none."""
        return self._find(f"/creators/{_in_path(creator_key)}{_query(isTest=is_test)}")

    # Webhook registrations

    def webhooks(self) -> list[Webhook]:
        return self._ask(answers.read_webhooks, "GET", "/webhooks")

    def create_webhook(
        self, event_type: str, url: str, retry_count: int | None = None, timeout_ms: int | None = None
    ) -> Webhook:
        """Have events of one type sent to an address. The answer holds the signing secret, and no other ever does."""
        wanted = _given(eventType=event_type, url=url, retryCount=retry_count, timeoutMs=timeout_ms)
        return self._ask(answers.read_new_webhook, "POST", "/webhooks", wanted)

    def update_webhook(
        self,
        webhook_id: str,
        url: str | None = None,
        is_active: bool | None = None,
        retry_count: int | None = None,
        timeout_ms: int | None = None,
    ) -> Webhook:
        wanted = _given(url=url, retryCount=retry_count, timeoutMs=timeout_ms)
        if is_active is not None:
            wanted["isActive"] = is_active
        return self._ask(answers.read_webhook, "PUT", f"/webhooks/{_in_path(webhook_id)}", wanted)

    def delete_webhook(self, webhook_id: str) -> None:
        """Afterwards there is no such registration; one that was not there is as good."""
        try:
            self._call("DELETE", f"/webhooks/{_in_path(webhook_id)}")
        except ApiError as error:
            if not _is_not_found(error):
                raise

    def webhook_logs(self, webhook_id: str) -> list[dict[str, Any]]:
        """What PlayCamp sent lately, and how it was answered. Payloads name players: not for a log of ours."""
        return self._ask(answers.read_objects, "GET", f"/webhooks/{_in_path(webhook_id)}/logs")

    def test_webhook(self, webhook_id: str) -> WebhookTest:
        """Have a sample event sent to the address."""
        path = f"/webhooks/{_in_path(webhook_id)}/test"
        return self._ask(lambda answer: answers.read_webhook_test(answer, self._told), "POST", path, {})

    # How

    def _find(self, path: str) -> dict[str, Any] | None:
        try:
            return self._ask(answers.read_object, "GET", path)
        except ApiError as error:
            if _is_not_found(error):
                return None
            raise

    def _page(self, path: str, page: int, limit: int, **more: Any) -> Page:
        query = _query(**more, page=page, limit=limit)
        return self._ask(lambda answer: answers.read_page(answer, page), "GET", f"{path}{query}")

    def _coupon(self, path: str, wanted: Mapping[str, Any], coupon_code: str) -> Coupon:
        sent = _json(wanted)
        try:
            return self._ask(
                lambda answer: answers.read_coupon(answer, coupon_code, lambda words: self._told(words, sent)),
                "POST",
                path,
                sent,
            )
        except ApiError as error:
            is_refused = error.is_permanent and error.status is not None and not error.is_key_refused
            if is_refused and COUPON_ERROR.fullmatch(error.code or ""):
                return Coupon(coupon_code, error.code, error.text)
            raise

    def _ask(
        self,
        read: Callable[[Answer], T],
        method: str,
        path: str,
        content: Mapping[str, Any] | str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> T:
        """What ``read`` makes of the answer."""
        answer = self._call(method, path, content, timeout_seconds)
        try:
            return read(answer)
        except AnswerError as error:
            raise ApiError(answer.status, str(error)) from None

    def _call(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """The answer, with a 2xx. Only GET is tried more than once."""
        body = None if content is None else _encoded(content if isinstance(content, str) else _json(content))
        deadline = time.monotonic() + self._patience_seconds
        attempt = 1
        while True:
            left = max(0.1, deadline - time.monotonic())
            answer = self._outbound.call(
                method,
                f"{self.base_url}/v1/server{path}",
                self._headers(body),
                body,
                min(timeout_seconds, left),
                LARGEST_ANSWER,
            )
            if answer.failure is None and answer.status is not None and 200 <= answer.status < 300:
                return answer
            pause = _pause(answer, attempt)
            is_last = attempt >= self._tries or time.monotonic() + pause >= deadline
            if is_last or not _is_worth_repeating(method, answer):
                raise self._error(answer, path if body is None else body.decode())
            self._sleep(pause)
            attempt += 1

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "Coinslot", "Authorization": f"Bearer {self._key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _error(self, answer: Answer, sent: str) -> ApiError:
        if answer.is_turned_away:
            return TurnedAwayError("PlayCamp was not asked: enough calls to it are waiting already")
        if answer.failure is not None:
            status = answer.status if answer.failure in ("redirect", "too_large") else None
            return ApiError(status, answer.detail or answer.failure, failure=answer.failure)
        refusal = answers.read_refusal(answer, lambda words: self._told(words, sent))
        return ApiError(
            answer.status,
            refusal.text or f"HTTP {answer.status}",
            refusal.code,
            refusal.details,
            answer.retry_after_seconds,
        )

    def _told(self, words: str, sent: str = "") -> str:
        """A stranger's words on one line, bounded, with what must not be seen blotted out.

        ``sent`` is our body, or the path where there was none. Where a body begins in the words they end: it may be
        quoted as a whole or cut anywhere. Proofs and codes that were sent are not told by themselves either.
        """
        beginning = sent[:BODY_BEGINNING] if sent.startswith("{") else ""
        if len(beginning) > 2 and beginning in words:
            words = words[: words.index(beginning)] + HIDDEN
        untold = [in_body or unquote(in_query) for in_body, in_query in _UNTOLD.findall(sent)]
        for each in sorted([*self._secrets, *untold], key=len, reverse=True):
            if len(each) >= 4:  # anything shorter is in every text
                words = words.replace(each, HIDDEN)
        return shown(" ".join(_ADDRESS.sub(HIDDEN, words[:LONGEST_READ]).split()), LONGEST_TEXT)


def webview_url(
    base: str, ott: Ott, lang: str | None = None, tabs: str | None = None, primary_color: str | None = None
) -> str:
    """The address to open in the player's browser. It holds a live token: not for a log, a cache or a referrer."""
    color = primary_color.removeprefix("#") if primary_color else None
    return f"{base}/webview/{_query(ott=ott.token, lang=lang or None, tabs=tabs or None, primaryColor=color)}"


def every(fetch: Callable[[int], Page]) -> Iterator[dict[str, Any]]:
    """Each document of a list, page after page. ``fetch`` gets the page's number, the first is 1."""
    before: list[dict[str, Any]] = []
    number = 1
    while True:
        page = fetch(number)
        if page.documents and page.documents == before:
            raise ApiError(200, "the list repeats a page for ever")
        yield from page.documents
        if not page.documents or not page.has_more:
            return
        before, number = page.documents, number + 1


def base_url(game: Game) -> str:
    """Where PlayCamp is for this game, without a slash at the end. Raises :class:`NotConfiguredError`."""
    own, environment = game.settings.get("playcamp.base_url"), game.settings.get("playcamp.environment") or "live"
    url = own or BASE_URLS.get(environment, "")
    try:
        parts = urlsplit(web_address(url))
        is_whole = parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        is_whole = False
    if not is_whole:
        raise NotConfiguredError("playcamp.base_url: use an https:// address without a user name")
    if "?" in url or "#" in url:
        raise NotConfiguredError("playcamp.base_url: leave out everything from the ? or # on")
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise NotConfiguredError("playcamp.base_url: use https, since the API key goes there")
    return url.rstrip("/")


def _key(game: Game) -> str:
    keys = game.keys("playcamp.api_key")
    if not keys:
        raise NotConfiguredError("playcamp.api_key is not set, and every call to PlayCamp needs it")
    pair = keys[0].value.decode("utf-8", errors="replace")
    if server_key_doubt(pair):
        raise NotConfiguredError("playcamp.api_key is not of the form keyId:secret")
    if not _IN_HEADERS.fullmatch(pair):
        raise NotConfiguredError("playcamp.api_key has characters that no header can carry")
    return pair


def _is_worth_repeating(method: str, answer: Answer) -> bool:
    if method != "GET" or answer.is_turned_away:
        return False
    is_server_error = answer.failure is None and answer.status is not None and answer.status >= 500
    return answer.status == 429 or is_server_error or answer.failure in _TRANSIENT


def _pause(answer: Answer, attempt: int) -> float:
    """Seconds until the next attempt: as many as PlayCamp asks for, else growing and never quite the same."""
    asked = answer.retry_after_seconds
    if asked is not None:
        return asked
    return PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1] * random.uniform(1.0, 1.3)  # noqa: S311 no secret


def _is_not_found(error: ApiError) -> bool:
    """Whether PlayCamp itself says so: the page of a proxy says nothing of what we look for."""
    return error.status == 404 and error.failure is None and (error.code is not None or error.text != "HTTP 404")


# What we send


def _given(**fields: Any) -> dict[str, Any]:
    """What is given; False is as good as nothing."""
    return {name: value for name, value in fields.items() if value is not None and value is not False}


def _query(**fields: Any) -> str:
    """A query string of what is given, each value percent-encoded."""
    told = [(name, "true" if value is True else str(value)) for name, value in _given(**fields).items()]
    try:
        return f"?{urlencode(told, quote_via=quote, safe='')}" if told else ""
    except UnicodeEncodeError:
        raise UnsentError("text with half of a surrogate pair cannot be sent") from None


def _in_path(own_id: str) -> str:
    """An id as one segment of a path. Raises UnsentError."""
    try:
        return path_segment(own_id)
    except ValueError as error:
        raise UnsentError(str(error)) from None


def _creator_key(key: str) -> str:
    if not CREATOR_KEY.fullmatch(key):
        raise UnsentError("a creator's key has five characters of A-Z and 0-9")
    return key


def _payment_json(payment: Mapping[str, Any]) -> str:
    """A payment as JSON, its amount with just the digits it has; Python's own encoder knows only floats."""
    transaction_id = payment.get("transactionId")
    if not isinstance(transaction_id, str) or not transaction_id:
        raise UnsentError("a payment has no transactionId")
    try:
        amount = exact.figure(payment.get("amount"))
    except ValueError as error:
        raise UnsentError(f"the amount of payment {shown(transaction_id, 100)}: {error}") from None
    rest = _json({name: value for name, value in payment.items() if name != "amount" and value is not None})
    return f'{rest[:-1]},"amount":{amount}}}'


def _json(content: Mapping[str, Any]) -> str:
    try:
        return _ENCODER.encode(content)
    except (TypeError, ValueError, RecursionError):
        raise UnsentError("what was to be sent cannot be written as JSON") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UnsentError("text with half of a surrogate pair cannot be sent") from None
