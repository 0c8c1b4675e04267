"""What PlayCamp's SDK API answers, read into our own terms; ``client.py`` asks for it.

An answer is a stranger's: each is bounded and checked, a field of another type counts as left out, and what nothing can
be done without raises :class:`AnswerError`. Amounts arrive as the exact decimal numbers they are. Words for people go
through a function the reader is given, which takes out what must not be seen.

Quirks: a list or object may stand in ``data`` or by itself; 200 may say ``valid: false``; ids are numbers or text;
errors have their text in ``message`` or ``error``, their code in ``code`` or ``errorCode``; a token's end is
``expiresIn`` or ``expiresAt``. (Documentation and Go SDK v0.0.8 checked 2026-11.)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from coinslot.base import clock, exact
from coinslot.base.outbound import Answer
from coinslot.base.spellings import shown
from handlers.kit.api import AnswerError, Detail, Refusal, message, read_json

OTT_LIFE_SECONDS = 60
LONGEST_OTT = 4096
LONGEST_CODE = 64
MOST_DETAILS = 100

COUPON_ERROR = re.compile(r"COUPON_[A-Z_]{1,50}|[A-Z_]{1,50}_LIMIT")

_REGISTERED = ("SUCCESS", "SKIPPED")


@dataclass(frozen=True)
class Ott:
    """A one-time token for the WebView. Whoever has it opens the WebView as that player, once."""

    token: str = field(repr=False)
    expires_at: float  # Unix seconds


@dataclass(frozen=True)
class Registration:
    """What became of one payment: ``SUCCESS``, ``SKIPPED`` (known before), ``FAILED``, or ``UNKNOWN``: not told.

    ``error`` says why it failed, or what was told in place of a known word. ``payment`` is PlayCamp's object where it
    sent one.
    """

    transaction_id: str
    status: str
    error: str | None = None
    payment: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_registered(self) -> bool:
        return self.status in _REGISTERED


@dataclass(frozen=True)
class Reward:
    item_id: str
    quantity: int
    name: Mapping[str, str]  # language -> text


@dataclass(frozen=True)
class Coupon:
    """What PlayCamp says of a coupon. ``error_code`` is None where it is valid, or was redeemed.

    ``rewards`` is None where PlayCamp did not list them, or not so that they can be read; ``usage_id`` is the redeemed
    coupon's, None where it did not tell. ``package_name`` is language -> text, under ``""`` where it has no language.
    """

    coupon_code: str = field(repr=False)
    error_code: str | None
    error_text: str | None = None
    rewards: tuple[Reward, ...] | None = None
    package_name: Mapping[str, str] = field(default_factory=dict)
    creator_key: str | None = None
    campaign_id: str | None = None
    usage_id: int | None = None
    redeemed_at: str | None = None

    @property
    def is_accepted(self) -> bool:
        return self.error_code is None


@dataclass(frozen=True)
class Webhook:
    """A registration of one event type. ``secret`` is only there when it has just been made."""

    id: str
    event_type: str
    url: str
    is_active: bool
    retry_count: int | None
    timeout_ms: int | None
    secret: str | None = field(default=None, repr=False)


# One for each thing we ask for


def read_ott(answer: Answer) -> Ott:
    answered = read_object(answer)
    token = answered.get("ott")
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_OTT or not token.isprintable():
        raise AnswerError("the answer holds no token")
    return Ott(token, _expires_at(answered))


def read_registrations(answer: Answer, wanted: set[str], clean: Callable[[str], str]) -> dict[str, Registration]:
    """What became of each of the payments with the ids ``wanted``; every one of them is there, and no other."""
    results = read_object(answer).get("results")
    if not isinstance(results, list):
        raise AnswerError("the answer has no list of results")
    found: dict[str, Registration] = {}
    for each in results:
        transaction_id = _text(each.get("transactionId")) if isinstance(each, dict) else None
        if transaction_id not in wanted:
            continue
        word = each["status"].strip() if isinstance(each.get("status"), str) else ""
        status = word.upper() if word.upper() in (*_REGISTERED, "FAILED") else "UNKNOWN"
        error = None
        if status == "FAILED":
            error = clean(_message(each.get("error")) or _message(each.get("message"))) or "no reason was given"
        elif status == "UNKNOWN" and word:
            error = f"its status is {shown(clean(word), LONGEST_CODE)!r}"
        before = found.get(transaction_id)
        if before is not None and before.is_registered != (status in _REGISTERED):
            status, error = "UNKNOWN", "it has two results that differ"
        stored = each.get("data")
        found[transaction_id] = Registration(
            transaction_id, status, error, stored if isinstance(stored, dict) else None
        )
    return {each: found.get(each) or Registration(each, "UNKNOWN") for each in wanted}


def read_creator_key(answer: Answer) -> str:
    """The key of the creator that the player supports now; empty where PlayCamp does not say."""
    return _text(read_object(answer).get("creatorKey")) or ""


def read_coupon(answer: Answer, coupon_code: str, clean: Callable[[str], str]) -> Coupon:
    """The coupon, accepted or not."""
    answered = read_object(answer)
    verdicts = [answered[name] for name in ("valid", "success", "redeemed") if isinstance(answered.get(name), bool)]
    usage_id = _whole(answered.get("usageId"))
    if not verdicts and usage_id is None:
        raise AnswerError("the answer does not say what became of the coupon")
    if not all(verdicts):
        error_code = _code(answered, ("errorCode", "code"), clean) or "UNKNOWN"
        found = (_message(answered.get(name)) for name in ("errorMessage", "message", "error"))
        words = next((each for each in found if each), "")
        return Coupon(coupon_code, error_code, clean(words) or None)
    return Coupon(
        coupon_code,
        None,
        rewards=_rewards(answered.get("reward")),
        package_name=_names(answered.get("packageName") or answered.get("itemName")),
        creator_key=_text(answered.get("creatorKey")),
        campaign_id=_text(answered.get("campaignId")),
        usage_id=usage_id,
        redeemed_at=_text(answered.get("redeemedAt")),
    )


def read_webhook(answer: Answer) -> Webhook:
    return _webhook(read_object(answer))


def read_new_webhook(answer: Answer) -> Webhook:
    """A webhook just registered, with its signing secret."""
    answered = read_object(answer)
    secret = answered.get("secret")
    if not isinstance(secret, str) or not secret:
        raise AnswerError("the answer holds no signing secret")
    return _webhook(answered, secret)


def read_webhooks(answer: Answer) -> list[Webhook]:
    return [_webhook(each) for each in read_objects(answer)]


def read_object(answer: Answer) -> dict[str, Any]:
    answered = _unwrapped(answer)
    if not isinstance(answered, dict):
        raise AnswerError("the answer is not a JSON object")
    return answered


def read_objects(answer: Answer) -> list[dict[str, Any]]:
    """The list in an answer; what in it is no object is passed over."""
    answered = _unwrapped(answer)
    if not isinstance(answered, list):
        raise AnswerError("the answer is not a list")
    return [each for each in answered if isinstance(each, dict)]


def read_refusal(answer: Answer, clean: Callable[[str], str]) -> Refusal:
    """What an answer other than a 2xx says, as far as it says anything."""
    try:
        document = _document(answer)
    except AnswerError:
        document = None
    document = document if isinstance(document, dict) else {}
    words = _message(document.get("message")) or _message(document.get("error"))
    # A coupon's own code says more than the BAD_REQUEST beside it.
    code = _code(document, ("errorCode", "code"), clean) or None
    if not COUPON_ERROR.fullmatch(code or ""):
        code = _code(document, ("code", "errorCode"), clean) or None
    details = document.get("details")
    return Refusal(
        clean(words),
        code,
        tuple(
            Detail(*(clean(text) for text in (_path(each.get("path")), _message(each.get("message")))))
            for each in (details if isinstance(details, list) else [])[:MOST_DETAILS]
            if isinstance(each, dict)
        ),
    )


# How


def _document(answer: Answer) -> Any:
    """The answer's JSON, numbers exact; text that was cut within a character has U+FFFD there, and can be kept."""
    if exact.is_crowded(answer.body):
        raise AnswerError("the answer has too many parts")
    document = read_json(answer)
    return _mended(document) if exact.may_be_unkept(answer.body) else document


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return exact.whole_text(value)
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list) else value


def _unwrapped(answer: Answer) -> Any:
    document = _document(answer)
    return document["data"] if isinstance(document, dict) and "data" in document else document


def _expires_at(answered: Mapping[str, Any]) -> float:
    told = answered.get("expiresAt")
    try:
        moment = datetime.fromisoformat(told) if isinstance(told, str) else None
        if moment is not None:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        pass
    seconds = _whole(answered.get("expiresIn"))
    return clock.now() + (OTT_LIFE_SECONDS if seconds is None else seconds)


def _rewards(listed: Any) -> tuple[Reward, ...] | None:
    """All of the rewards, or None: half of them would be a wrong grant."""
    if not isinstance(listed, list):
        return None
    rewards = []
    for each in listed:
        item_id = _text(each.get("itemId")) if isinstance(each, dict) else None
        quantity = _whole(each.get("itemQuantity"), exact.QUANTITY_DIGITS) if isinstance(each, dict) else None
        if not item_id or not quantity:
            return None
        rewards.append(Reward(item_id, quantity, _names(each.get("itemName"))))
    return tuple(rewards)


def _names(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return {"": value}
    if not isinstance(value, dict):
        return {}
    return {language: text for language, text in value.items() if isinstance(text, str)}


def _webhook(document: Mapping[str, Any], secret: str | None = None) -> Webhook:
    webhook_id = _text(document.get("id"))
    if not webhook_id:
        raise AnswerError("the answer holds a webhook without an id")
    return Webhook(
        webhook_id,
        _text(document.get("eventType")) or "",
        _text(document.get("url")) or "",
        document.get("isActive") is not False,
        _whole(document.get("retryCount")),
        _whole(document.get("timeoutMs")),
        secret,
    )


def _code(document: Mapping[str, Any], names: Sequence[str], clean: Callable[[str], str]) -> str:
    """The first of these that is text; a coupon's error codes as they are, though its code may be part of one."""
    code = next((document[name] for name in names if isinstance(document.get(name), str) and document[name]), "")
    return code if COUPON_ERROR.fullmatch(code) else shown(clean(code), LONGEST_CODE)


def _text(value: Any) -> str | None:
    """Text, or a whole number as text: ids are written both ways. None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**exact.MINOR_DIGITS:
        return str(value)
    return value if isinstance(value, str) else None


def _whole(value: Any, digits: int = exact.MINOR_DIGITS) -> int | None:
    """A whole number from 0 on; None for anything else."""
    try:
        number = exact.whole(value, digits)
    except ValueError:
        return None
    return number if number >= 0 else None


def _path(value: Any) -> str:
    """The path of a field as text, however it is given: ``payments.3.amount``."""
    if isinstance(value, list):
        return ".".join(text for text in (_text(each) for each in value) if text is not None)
    return _text(value) or ""


def _message(value: Any) -> str:
    return message(value, ("message", "error"))
