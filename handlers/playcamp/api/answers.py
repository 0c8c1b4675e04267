"""What PlayCamp's SDK API answers, read into our own terms; ``client.py`` makes the calls.

Nothing in an answer is trusted: each is bounded and checked, a field of another type counts as missing, and an answer
without what is needed raises :class:`AnswerError`. Amounts stay exact decimal numbers. Texts for people go through the
function ``clean``, which removes secrets.

Quirks: a list or object may be in ``data`` or by itself; 200 may say ``valid: false``; ids are numbers or text; errors
have their text in ``message`` or ``error``, their code in ``code`` or ``errorCode``. (Documentation and Go SDK v0.0.8
checked 2026-11.)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coinslot.base import exact
from coinslot.base.outbound import Answer
from coinslot.base.spellings import shown
from coinslot.games.readers import text_of, whole_of
from handlers.kit.api import AnswerError, Detail, Refusal, message, read_json

LONGEST_OTT = 4096
LONGEST_CODE = 64
MOST_DETAILS = 100

COUPON_ERROR = re.compile(r"COUPON_[A-Z_]{1,50}|[A-Z_]{1,50}_LIMIT")

_REGISTERED = ("SUCCESS", "SKIPPED")


@dataclass(frozen=True)
class Registration:
    """The result of one payment: ``SUCCESS``, ``SKIPPED`` (PlayCamp had it), ``FAILED``, or ``UNKNOWN``.

    ``error`` says why it failed, or quotes an unknown status.
    """

    status: str
    error: str | None = None

    @property
    def is_registered(self) -> bool:
        return self.status in _REGISTERED


@dataclass(frozen=True)
class Reward:
    """An item of a coupon; ``quantity`` is exact and above 0."""

    item_id: str
    quantity: int


@dataclass(frozen=True)
class Coupon:
    """What PlayCamp says of a coupon. ``error_code`` is None if it is valid, or was redeemed.

    ``rewards`` is None if they are missing, or one cannot be read. ``usage_id`` is None unless the coupon was redeemed.
    ``package_name`` is language -> text, under ``""`` if PlayCamp sent plain text.
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
    """A registration of one event type. Only a new one has its ``secret``."""

    id: str
    event_type: str
    url: str
    is_active: bool
    secret: str | None = field(default=None, repr=False)


def read_ott(answer: Answer) -> str:
    """A one-time token for the WebView: opaque, and secret until it is used."""
    token = read_object(answer).get("ott")
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_OTT or not token.isprintable():
        raise AnswerError("the answer holds no token")
    return token


def read_registrations(answer: Answer, wanted: set[str], clean: Callable[[str], str]) -> dict[str, Registration]:
    """Transaction id -> result: one for each of the ids ``wanted``, and no other."""
    results = read_object(answer).get("results")
    if not isinstance(results, list):
        raise AnswerError("the answer has no list of results")
    found: dict[str, Registration] = {}
    for each in results:
        transaction_id = text_of(each.get("transactionId")) if isinstance(each, dict) else None
        if transaction_id not in wanted:
            continue
        word = each["status"].strip() if isinstance(each.get("status"), str) else ""
        status = word.upper() if word.upper() in (*_REGISTERED, "FAILED") else "UNKNOWN"
        error = None
        if status == "FAILED":
            error = clean(_message(each.get("error")) or _message(each.get("message"))) or "no reason was given"
        elif status == "UNKNOWN" and word:
            error = f"its status is {shown(clean(word), LONGEST_CODE)!r}"
        result, before = Registration(status, error), found.get(transaction_id)
        if before is not None and before.is_registered != result.is_registered:
            result = Registration("UNKNOWN", "it has two results that differ")
        found[transaction_id] = result
    return {each: found.get(each) or Registration("UNKNOWN") for each in wanted}


def read_creator_key(answer: Answer) -> str:
    """The key of the creator that the player supports now; empty if PlayCamp does not say."""
    return text_of(read_object(answer).get("creatorKey")) or ""


def read_coupon(answer: Answer, coupon_code: str, clean: Callable[[str], str]) -> Coupon:
    """A coupon, accepted or refused."""
    answered = read_object(answer)
    verdicts = [answered[name] for name in ("valid", "success", "redeemed") if isinstance(answered.get(name), bool)]
    usage_id = whole_of(answered.get("usageId"))
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
        creator_key=text_of(answered.get("creatorKey")),
        campaign_id=text_of(answered.get("campaignId")),
        usage_id=usage_id,
        redeemed_at=text_of(answered.get("redeemedAt")),
    )


def read_webhook(answer: Answer) -> Webhook:
    """A registration, without its secret."""
    return _webhook(read_object(answer))


def read_new_webhook(answer: Answer) -> Webhook:
    """A webhook just registered, with its signing secret."""
    answered = read_object(answer)
    secret = answered.get("secret")
    if not isinstance(secret, str) or not secret:
        raise AnswerError("the answer holds no signing secret")
    return _webhook(answered, secret)


def read_webhooks(answer: Answer) -> list[Webhook]:
    """All registrations; elements that are no objects are left out."""
    answered = _unwrapped(answer)
    if not isinstance(answered, list):
        raise AnswerError("the answer is not a list")
    return [_webhook(each) for each in answered if isinstance(each, dict)]


def read_object(answer: Answer) -> dict[str, Any]:
    """The object in an answer."""
    answered = _unwrapped(answer)
    if not isinstance(answered, dict):
        raise AnswerError("the answer is not a JSON object")
    return answered


def read_refusal(answer: Answer, clean: Callable[[str], str]) -> Refusal:
    """Text, code and details of an answer other than a 2xx; each may be empty."""
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


def _document(answer: Answer) -> Any:
    """The answer's JSON, numbers exact; half of a surrogate pair becomes U+FFFD, so that the text can be stored."""
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


def _rewards(listed: Any) -> tuple[Reward, ...] | None:
    """All of the rewards, or None: some of them would be a wrong grant."""
    if not isinstance(listed, list):
        return None
    rewards = []
    for each in listed:
        item_id = text_of(each.get("itemId")) if isinstance(each, dict) else None
        quantity = whole_of(each.get("itemQuantity"), exact.QUANTITY_DIGITS) if isinstance(each, dict) else None
        if not item_id or not quantity:
            return None
        rewards.append(Reward(item_id, quantity))
    return tuple(rewards)


def _names(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return {"": value}
    if not isinstance(value, dict):
        return {}
    return {language: text for language, text in value.items() if isinstance(text, str)}


def _webhook(document: Mapping[str, Any], secret: str | None = None) -> Webhook:
    webhook_id = text_of(document.get("id"))
    if not webhook_id:
        raise AnswerError("the answer holds a webhook without an id")
    return Webhook(
        webhook_id,
        text_of(document.get("eventType")) or "",
        text_of(document.get("url")) or "",
        document.get("isActive") is not False,
        secret,
    )


def _code(document: Mapping[str, Any], names: Sequence[str], clean: Callable[[str], str]) -> str:
    """The first of these that is text. A coupon's error code stays as it is: the coupon's own code may be in it."""
    code = next((document[name] for name in names if isinstance(document.get(name), str) and document[name]), "")
    return code if COUPON_ERROR.fullmatch(code) else shown(clean(code), LONGEST_CODE)


def _path(value: Any) -> str:
    """The path of a field as text, however it is given: ``payments.3.amount``."""
    if isinstance(value, list):
        return ".".join(text for text in (text_of(each) for each in value) if text is not None)
    return text_of(value) or ""


def _message(value: Any) -> str:
    return message(value, ("message", "error"))
