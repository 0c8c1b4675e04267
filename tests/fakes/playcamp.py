"""PlayCamp, as far as its SDK API and webhooks go: real HTTP over loopback, written by hand after the documentation.

    with PlayCamp() as playcamp:
        playcamp.set_up(studio)
        playcamp.trouble("POST", "/v1/server/payments/bulk", too_many(2))
        ...
        playcamp.deliver([sponsor_event("sponsor.created", "100001", "AAA11")])

What was asked is in ``requests``, what PlayCamp has in ``payments``, ``usages``, ``hooks``. A redeemed coupon leaves
its event in ``events``. ``trouble`` has the next calls of an address answered by a behaviour of
``tests/fakes/http.py``, instead of the work or after it. The switches below choose where PlayCamp's sources disagree.
Creators ``AAA11`` (11) and ``BBB22`` (22), campaign ``camp_1``, one coupon for each of PlayCamp's refusals, and
``WELCOME``, which is good.
"""

import hashlib
import hmac
import http.client
import itertools
import json
import re
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fakes.http import Behaviour, FakeServer, Handler, Request, status

API_KEY = "ak_server_fake:s3cret:with-a-colon"
DAY = 86400
PLATFORMS = ("iOS", "Android", "Web", "Roblox", "Other")
DISTRIBUTION_TYPES = ("MOBILE_STORE", "PC_STORE", "MOBILE_SELF_STORE", "PC_SELF_STORE")
DOCUMENTED_EVENT_TYPES = tuple(
    "coupon.redeemed payment.created payment.bulk_created sponsor.created sponsor.ended".split()
)

Reply = tuple[int, Any]


@dataclass
class Token:
    body: Mapping[str, Any]
    expires_at: float
    is_used: bool = False


@dataclass
class Coupon:
    code: str
    reward: list[dict[str, Any]] = field(default_factory=list)
    package_id: str = "package_1"
    creator_key: str = "AAA11"
    campaign_id: str = "camp_1"
    package_name: Any = field(default_factory=lambda: {"ko": "환영 선물", "en": "Welcome gift"})
    is_active: bool = True
    starts_at: float = 0
    ends_at: float = float("inf")
    per_user: int = 1
    per_package: int = 100
    in_all: int = 100


@dataclass(frozen=True)
class Delivered:
    """One webhook call; ``status`` is None if it was not answered."""

    body: bytes
    status: int | None


@dataclass
class _Trouble:
    behaviour: Behaviour
    is_stored: bool
    left: float


class RefusedError(Exception):
    def __init__(self, status: int, code: str, text: str, details: Any = None) -> None:
        super().__init__(text)
        self.status = status
        self.document = {"error": text, "code": code} | ({} if details is None else {"details": details})


class PlayCamp(FakeServer):
    def __init__(self, api_key: str = API_KEY) -> None:
        super().__init__()
        self.api_key = api_key
        # Where the sources disagree
        self.invalid_coupon = "valid"  # 200 with valid false; "status": 4xx with errorCode
        self.has_item_paths = True  # whether the refusal of a call says which payment is bad
        self.refunded_again = 409  # or 400, or 200
        self.event_types = set(DOCUMENTED_EVENT_TYPES)  # that can be subscribed
        # What goes wrong with single payments, by transactionId
        self.failing: dict[str, str] = {}  # FAILED with this text, and not stored
        self.forgotten: set[str] = set()  # stored, and left out of the results
        self.invalid: dict[str, tuple[str, str]] = {}  # field and message: what is wrong with it
        # What is known
        self.tokens: dict[str, Token] = {}
        self.sessions: list[dict[str, Any]] = []  # of the WebView: what its token was made for, and the query
        self.payments: dict[str, dict[str, Any]] = {}
        self.usages: list[dict[str, Any]] = []
        self.hooks: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.creators = {key: _creator(number, key) for number, key in ((11, "AAA11"), (22, "BBB22"))}
        self.campaigns = {"camp_1": _campaign("camp_1")}
        self.coupons = {coupon.code: coupon for coupon in _coupons()}
        self.post: Callable[[str, Mapping[str, str], bytes], tuple[int, bytes]] = post
        self._hook_ids = itertools.count(1)
        self._troubles: dict[tuple[str, str], deque[_Trouble]] = defaultdict(deque)

    @property
    def settings(self) -> dict[str, str]:
        return {"playcamp.base_url": self.url}

    @property
    def secrets(self) -> dict[str, str]:
        return {"playcamp.api_key": self.api_key}

    def set_up(self, studio: Any, **changed: str) -> None:
        """Configure a studio's game for this PlayCamp; ``changed`` are settings without their ``playcamp.``."""
        for key, value in (self.settings | {f"playcamp.{key}": value for key, value in changed.items()}).items():
            studio.config(key, value)
        for name, value in self.secrets.items():
            studio.secret(name, value)

    def trouble(
        self, method: str, path: str, *behaviours: Behaviour, is_stored: bool = False, times: float = 1
    ) -> None:
        """Have the next calls of an address answered so, each behaviour ``times``; ``is_stored``: after the work."""
        with self.mutex:
            self._troubles[method, path].extend(_Trouble(each, is_stored, times) for each in behaviours)

    def end_troubles(self) -> None:
        with self.mutex:
            self._troubles.clear()

    def next_trouble(self, method: str, path: str) -> _Trouble | None:
        waiting = self._troubles[method, path]
        if not waiting:
            return None
        first = waiting[0]
        first.left -= 1
        if first.left <= 0:
            waiting.popleft()
        return first

    def asked(self, path: str) -> list[Request]:
        with self.mutex:
            return [request for request in self.requests if request.path == path]

    # Webhooks out

    def hook(self, event_type: str, url: str, secret: str | None = None) -> dict[str, Any]:
        """A registration as if made on the dashboard; its secret is in it."""
        hook = {"id": next(self._hook_ids), "eventType": event_type, "url": url, "isActive": True}
        hook |= {"retryCount": 3, "timeoutMs": 5000, "secret": secret or f"whsec_{secrets.token_hex(16)}"}
        with self.mutex:
            self.hooks[hook["id"]] = hook
        return hook

    def deliver(self, events: Iterable[Mapping[str, Any]], webhook_id: int | None = None) -> list[Delivered]:
        """Send a batch to the registrations for its event types, once to each address.

        A ``webhook_id`` sends all of them there, whatever it is registered for.
        """
        with self.mutex:
            batch = [dict(event) for event in events]
            hooks = [hook for hook in self.hooks.values() if hook["isActive"] or hook["id"] == webhook_id]
            if webhook_id is not None:
                hooks = [hook for hook in hooks if hook["id"] == webhook_id]
        delivered = []
        for url in dict.fromkeys(hook["url"] for hook in hooks):
            here = [hook for hook in hooks if hook["url"] == url]
            types = {hook["eventType"] for hook in here}
            wanted = [event for event in batch if event["event"] in types or webhook_id is not None]
            if wanted:
                first = next((hook for hook in here if hook["eventType"] == wanted[0]["event"]), here[0])
                delivered.append(self._send(first, wanted))
        return delivered

    def _send(self, hook: Mapping[str, Any], events: list[dict[str, Any]]) -> Delivered:
        body = as_json({"events": events})
        headers = {"X-Webhook-Signature": signed(body, hook["secret"]), "X-Webhook-Count": str(len(events))}
        headers |= {"Content-Type": "application/json", "X-Webhook-Batch": "true"}
        with suppress(OSError, http.client.HTTPException):
            return Delivered(body, self.post(hook["url"], headers, body)[0])
        return Delivered(body, None)

    # The API

    def answer(self, handler: Handler, request: Request) -> None:
        with self.mutex:
            trouble = self.next_trouble(request.method, request.path)
        if trouble is None:
            self.send(handler, self.reply(request))
        else:
            if trouble.is_stored:
                self.reply(request)
            trouble.behaviour(handler)

    def reply(self, request: Request) -> Any:
        parts = [unquote(part) for part in request.path.split("/")[1:]]
        with self.mutex:
            if parts[:1] == ["webview"]:
                code, page = self._webview(request)
                return status(code, page.encode(), Content_Type="text/html; charset=utf-8")
            try:
                self._check_caller(request, parts)
                code, document = self._route(request, parts[2:])
            except RefusedError as refused:
                code, document = refused.status, refused.document
            return code, b"" if document is None else as_json(document)

    def _check_caller(self, request: Request, parts: list[str]) -> None:
        if parts[:2] != ["v1", "server"]:
            raise RefusedError(404, "NOT_FOUND", "Not found")
        given = request.headers.get("authorization")
        if given != f"Bearer {self.api_key}":
            raise RefusedError(401, "UNAUTHORIZED", "Invalid API key")
        if request.body and request.headers.get("content-type") != "application/json":
            raise RefusedError(400, "BAD_REQUEST", "Content-Type must be application/json")

    def _route(self, request: Request, parts: list[str]) -> Reply:
        given: Any = {}
        if request.body:
            try:
                given = request.json
            except ValueError:
                raise RefusedError(400, "BAD_REQUEST", "Invalid JSON") from None
            if not isinstance(given, dict):
                raise RefusedError(400, "BAD_REQUEST", "Invalid JSON")
        match request.method, *parts:
            case "POST", "webview", "ott":
                return self._issue_ott(given)
            case "POST", "payments", "bulk":
                return self._register_many(given)
            case "POST", "payments":
                if problem := self._problem(given):
                    raise _invalid(*problem)
                return 201, {"data": self._store(given, given)}
            case "GET", "payments", transaction_id:
                return 200, {"data": _known(self.payments, transaction_id, "Payment")}
            case "POST", "payments", transaction_id, "refund":
                return self._refund(transaction_id)
            case "POST", "sponsors":
                return self._check_sponsor(given)
            case "POST", "coupons", "validate":
                return self._coupon(given, is_redeeming=False)
            case "POST", "coupons", "redeem":
                return self._coupon(given, is_redeeming=True)
            case "GET", "creators", creator_key:
                return 200, {"data": _known(self.creators, creator_key, "Creator")}
            case _, "webhooks", *rest:
                return self._webhooks(request.method, rest, given)
        raise RefusedError(404, "NOT_FOUND", "Not found")

    # WebView

    def _issue_ott(self, given: dict[str, Any]) -> Reply:
        _text(given, "userId")
        challenge = given.get("codeChallenge")
        if challenge is not None and (not isinstance(challenge, str) or not 43 <= len(challenge) <= 128):
            raise _invalid("codeChallenge", "must have 43 to 128 characters")
        if given.get("campaignId") is not None:
            _known(self.campaigns, given["campaignId"], "Campaign")
        token = secrets.token_hex(32)
        self.tokens[token] = Token(given, time.time() + 60)
        return 201, {"data": {"ott": token, "expiresIn": 60}}

    def _webview(self, request: Request) -> tuple[int, str]:
        token = self.tokens.get(request.query.get("ott", ""))
        if request.path != "/webview/" or token is None or token.is_used or time.time() >= token.expires_at:
            return 401, "<!doctype html><title>PlayCamp</title><p>This link is not valid any more.</p>"
        token.is_used = True
        rest = {name: value for name, value in request.query.items() if name != "ott"}
        self.sessions.append({**token.body, "query": rest})
        return 200, "<!doctype html><title>PlayCamp</title><p>Choose a creator.</p>"

    # Payments

    def _register_many(self, given: dict[str, Any]) -> Reply:
        items = given.get("payments")
        if not isinstance(items, list) or not 1 <= len(items) <= 1000:
            raise _invalid("payments", "must have 1 to 1000 items")
        problems = {i: problem for i, item in enumerate(items) if (problem := self._problem(item)) is not None}
        if problems:
            paths = {
                i: f"payments.{i}.{name}" if self.has_item_paths else "payments" for i, (name, _) in problems.items()
            }
            details = [{"path": paths[i], "message": text, "target": "body"} for i, (_, text) in problems.items()]
            raise RefusedError(400, "VALIDATION_ERROR", "Validation Error", details)
        results = []
        for item in items:
            result = {"transactionId": item["transactionId"]}
            error = self.failing.get(item["transactionId"])
            if error is not None:
                result |= {"status": "FAILED", "error": error}
            elif item["transactionId"] in self.payments:
                result |= {"status": "SKIPPED"}
            else:
                result |= {"status": "SUCCESS", "data": self._store(item, given)}
            if item["transactionId"] not in self.forgotten:
                results.append(result)
        return 201, {"data": {"results": results}}

    def _refund(self, transaction_id: str) -> Reply:
        payment = _known(self.payments, transaction_id, "Payment")
        if payment["status"] == "REFUNDED" and self.refunded_again != 200:
            code = "CONFLICT" if self.refunded_again == 409 else "BAD_REQUEST"
            raise RefusedError(self.refunded_again, code, "Payment is already refunded")
        payment["status"] = "REFUNDED"
        return 200, {"data": payment}

    def _problem(self, item: Any) -> tuple[str, str] | None:
        """The first wrong field of a payment, and what is wrong with it."""
        if not isinstance(item, dict):
            return "", "must be an object"
        for name in ("userId", "transactionId", "productId"):
            if not isinstance(item.get(name), str) or not item[name]:
                return name, "Required"
        if item["transactionId"] in self.invalid:
            return self.invalid[item["transactionId"]]
        amount, moment = item.get("amount"), item.get("purchasedAt")
        is_amount = isinstance(amount, int | Decimal) and not isinstance(amount, bool) and amount >= Decimal("0.01")
        checks = {
            "amount": (is_amount, "must be a number of at least 0.01"),
            "currency": (re.fullmatch(r"[A-Z]{3}", str(item.get("currency"))), "must be an ISO 4217 code"),
            "platform": (item.get("platform") in PLATFORMS, "Invalid enum value"),
            "distributionType": (item.get("distributionType") in DISTRIBUTION_TYPES, "Invalid enum value"),
            "purchasedAt": (
                re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", str(moment)),
                "Invalid datetime",
            ),
        }
        return next(((name, text) for name, (is_right, text) in checks.items() if not is_right), None)

    def _store(self, item: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        payment = {name: value for name, value in item.items() if name != "isTest"}
        payment |= {"id": len(self.payments) + 1, "status": "COMPLETED", "createdAt": stamp()}
        if not fields.get("isTest"):
            self.payments[item["transactionId"]] = payment
        return payment

    # Sponsors

    def _check_sponsor(self, given: dict[str, Any]) -> Reply:
        """A call that is marked as a test: nothing is stored."""
        assert given.get("isTest") is True, "the product only makes tests of this call"
        running = [key for key, each in self.campaigns.items() if each["status"] == "IN_PROGRESS"]
        campaign_id = given.get("campaignId")
        if campaign_id is not None:
            _known(self.campaigns, campaign_id, "Campaign")
        elif len(running) != 1:
            raise RefusedError(400, "BAD_REQUEST", "campaignId is required" if running else "No active campaign")
        if given["creatorKey"] not in ("TEST1", "TEST2", "TEST3"):
            _known(self.creators, given["creatorKey"], "Creator")
        names = {"userId": _text(given, "userId"), "creatorKey": given["creatorKey"]}
        return 201, {"data": {**names, "campaignId": campaign_id or running[0], "isActive": True}}

    # Coupons

    def _coupon(self, given: dict[str, Any], is_redeeming: bool) -> Reply:
        code, user_id = _text(given, "couponCode").upper(), _text(given, "userId")
        coupon = self.coupons.get(code)
        refusal = self._coupon_refusal(coupon, user_id)
        if coupon is None or refusal is not None:
            error_code, text = refusal or ("COUPON_NOT_FOUND", "Coupon not found")
            if self.invalid_coupon == "status":
                return (404 if coupon is None else 400), {"error": text, "errorCode": error_code}
            verdict = {"success" if is_redeeming else "valid": False}
            return 200, {"data": {**verdict, "couponCode": code, "errorCode": error_code, "errorMessage": text}}
        about = {"couponCode": code, "reward": coupon.reward, "packageName": coupon.package_name}
        about |= {"creatorKey": coupon.creator_key, "campaignId": coupon.campaign_id}
        if not is_redeeming:
            return 200, {"data": {"valid": True, **about}}
        usage_id = 5678 + len(self.usages)
        if not given.get("isTest"):
            self.usages.append({"userId": user_id, "couponCode": code, "packageId": coupon.package_id})
            data = {"couponCode": code, "userId": user_id, "usageId": usage_id, "reward": coupon.reward}
            self.events.append(_event("coupon.redeemed", data, given.get("callbackId"), given.get("isTest")))
        return 200, {"data": {"success": True, "usageId": usage_id, **about, "redeemedAt": stamp()}}

    def _coupon_refusal(self, coupon: Coupon | None, user_id: str) -> tuple[str, str] | None:
        if coupon is None:
            return "COUPON_NOT_FOUND", "Coupon not found"
        own = [each for each in self.usages if each["userId"] == user_id]
        of_code = [each for each in self.usages if each["couponCode"] == coupon.code]
        of_package = [each for each in own if each["packageId"] == coupon.package_id]
        refusals = (
            (not coupon.is_active, "COUPON_INACTIVE", "Coupon is not active"),
            (time.time() < coupon.starts_at, "COUPON_NOT_YET_VALID", "Coupon is not valid yet"),
            (time.time() >= coupon.ends_at, "COUPON_EXPIRED", "Coupon has expired"),
            (sum(each in own for each in of_code) >= coupon.per_user, "USER_CODE_LIMIT", "Coupon was already used"),
            (len(of_package) >= coupon.per_package, "USER_PACKAGE_LIMIT", "Package limit reached"),
            (len(of_code) >= coupon.in_all, "TOTAL_USAGE_LIMIT", "Coupon is used up"),
        )
        return next(((code, text) for is_refused, code, text in refusals if is_refused), None)

    # Webhook registrations

    def _webhooks(self, method: str, parts: list[str], given: dict[str, Any]) -> Reply:
        if not parts:
            if method == "GET":
                return 200, {"data": [_without_secret(hook) for hook in self.hooks.values()]}
            if given.get("eventType") not in self.event_types:
                raise _invalid("eventType", "Invalid enum value")
            return 201, {"data": self.hook(given["eventType"], _text(given, "url"))}
        hook = _known(self.hooks, int(parts[0]) if parts[0].isdecimal() else parts[0], "Webhook")
        match method, *parts[1:]:
            case ["PUT"]:
                hook |= {name: given[name] for name in ("url", "isActive") if name in given}
                return 200, {"data": _without_secret(hook)}
            case ["DELETE"]:
                del self.hooks[hook["id"]]
                return 204, None
        raise RefusedError(404, "NOT_FOUND", "Not found")


# What goes wrong: behaviours for PlayCamp.trouble, beside those of tests/fakes/http.py


def answers(code: int, document: Any, **headers: str) -> Behaviour:
    """Any status with any document, or with bytes; ``Retry_After="5"`` is the header ``Retry-After``."""
    body = document if isinstance(document, bytes) else as_json(document)
    return status(code, body, Content_Type="application/json", **headers)


def too_many(retry_after: float | str | None = None) -> Behaviour:
    """429, with ``Retry-After`` where it is given."""
    headers = {} if retry_after is None else {"Retry_After": str(retry_after)}
    return answers(429, {"error": "Too many requests", "code": "RATE_LIMITED"}, **headers)


def broken(code: int = 500) -> Behaviour:
    return answers(code, {"error": "Internal server error", "code": "INTERNAL_ERROR"})


# A 200 that is not PlayCamp's.
garbage = status(200, b"<html>Welcome to nginx!</html>\xff", Content_Type="text/html")


# Webhooks


def signed(body: bytes, secret: str, form: str = "simple", at: float | None = None) -> str:
    """The ``X-Webhook-Signature`` of a body, in one of PlayCamp's two forms."""
    if form == "simple":
        return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    t = str(int(time.time() if at is None else at))
    return f"t={t},v1={hmac.new(secret.encode(), f'{t}.'.encode() + body, hashlib.sha256).hexdigest()}"


def sponsor_event(event: str, user_id: str, *creator_keys: str, campaign_id: str = "camp_1", **fields: Any) -> Any:
    """An event about a boost; ``sponsor.changed`` takes the old and the new key. ``told``: callbackId, isTest."""
    names = ("oldCreatorKey", "newCreatorKey") if event == "sponsor.changed" else ("creatorKey",)
    data = {"userId": user_id, "campaignId": campaign_id, **dict(zip(names, creator_keys, strict=True))}
    return _event(event, data, fields.get("callbackId"), fields.get("isTest"))


def post(url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("POST", f"{parts.path}?{parts.query}" if parts.query else parts.path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def stamp(seconds: float | None = None) -> str:
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(document: Any) -> bytes:
    """JSON with the exact digits of each Decimal."""
    text = json.dumps(document, default=lambda number: f"\0{number:f}\0", separators=(",", ":"))
    return re.sub(r'"\\u0000([^"]*)\\u0000"', r"\1", text).encode()


def _event(event: str, data: Mapping[str, Any], callback_id: Any, is_test: Any) -> dict[str, Any]:
    fields = {} if callback_id is None else {"callbackId": callback_id}
    if is_test is not None:
        fields["isTest"] = bool(is_test)
    return {"event": event, "timestamp": stamp(), **fields, "data": dict(data)}


def _known(found: Mapping[Any, Any], key: Any, what: str) -> Any:
    if not isinstance(key, str | int) or key not in found:
        raise RefusedError(404, "NOT_FOUND", f"{what} not found")
    return found[key]


def _text(given: Mapping[str, Any], name: str) -> str:
    if not isinstance(given.get(name), str) or not given[name]:
        raise _invalid(name, "Required")
    return str(given[name])


def _invalid(path: str, message: str) -> RefusedError:
    details = [{"message": message, "path": path, "target": "body"}]
    return RefusedError(400, "VALIDATION_ERROR", "Validation Error", details)


def _without_secret(hook: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in hook.items() if name != "secret"}


def _creator(number: int, key: str, name: str | None = None) -> dict[str, Any]:
    return {"creatorId": number, "creatorName": name or f"Creator {key}", "creatorKey": key, "status": "ACTIVE"}


def _campaign(campaign_id: str) -> dict[str, Any]:
    names = {"ko": "캠페인", "en": "Campaign"}
    return {"campaignId": campaign_id, "projectId": "project_1", "campaignName": names, "status": "IN_PROGRESS"}


def _coupons() -> list[Coupon]:
    reward = [{"itemId": "gems", "itemQuantity": 100, "itemName": {"ko": "보석", "en": "Gems"}}]
    return [
        Coupon("WELCOME", reward),
        Coupon("INACTIVE", reward, is_active=False),
        Coupon("TOMORROW", reward, starts_at=time.time() + DAY),
        Coupon("YESTERDAY", reward, ends_at=time.time() - DAY),
        Coupon("USEDCODE", reward, per_user=0),
        Coupon("USEDPACKAGE", reward, package_id="package_2", per_package=0),
        Coupon("USEDUP", reward, in_all=0),
    ]
