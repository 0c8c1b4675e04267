"""PlayCamp, as far as its SDK API and webhooks go: real HTTP over loopback, written by hand after the documentation.

    with PlayCamp() as playcamp:
        playcamp.set_up(studio)
        playcamp.trouble("POST", "/v1/server/payments/bulk", too_many(2))
        ...
        playcamp.deliver([sponsor_event("sponsor.created", "100001", "AAA11")])

What was asked is in ``requests``, what PlayCamp knows in ``payments``, ``sponsors``, ``usages``, ``hooks``. Calls that
PlayCamp announces leave their events in ``events``; ``deliver()`` without any sends those. ``trouble`` has the next
calls of an address answered by a behaviour of ``tests/receivers.py`` instead, or after the work is done. The switches
below choose where PlayCamp's sources disagree. The cast: creators ``AAA11`` (11) and ``BBB22`` (22), campaign
``camp_1``, one coupon for each of PlayCamp's refusals, and ``WELCOME`` that is good.
"""

import hashlib
import hmac
import http.client
import itertools
import json
import re
import secrets
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

API_KEY = "ak_server_fake:s3cret:with-a-colon"
CLIENT_KEY = "ak_client_fake:s3cret-for-clients"
DAY = 86400
PLATFORMS = ("iOS", "Android", "Web", "Roblox", "Other")
DISTRIBUTION_TYPES = ("MOBILE_STORE", "PC_STORE", "MOBILE_SELF_STORE", "PC_SELF_STORE")
DOCUMENTED_EVENT_TYPES = (
    "coupon.redeemed",
    "payment.created",
    "payment.bulk_created",
    "sponsor.created",
    "sponsor.ended",
)

Behaviour = Callable[[Any], None]
Reply = tuple[int, Any]


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # as it was sent, without its query
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)


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
    """One webhook call, and how it was answered; ``status`` is None where it was not."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None
    answer: bytes


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


class PlayCamp:
    def __init__(self, api_key: str = API_KEY) -> None:
        self.api_key = api_key
        # Where the sources disagree
        self.ott_field = "expiresIn"  # or "expiresAt"
        self.created_status = 201  # or 200
        self.invalid_coupon = "valid"  # 200 with valid false; "status": 4xx with errorCode
        self.invalid_item = "request"  # one bad payment refuses all of them; "item": it alone is FAILED
        self.has_item_paths = True  # whether that refusal says which one
        self.refunded_again = 409  # or 400, or 200
        self.event_types = set(DOCUMENTED_EVENT_TYPES)  # that can be subscribed
        # What goes wrong with single payments, by transactionId
        self.failing: dict[str, str] = {}  # FAILED with this text, and not stored
        self.forgotten: set[str] = set()  # stored, and left out of the results
        self.invalid: dict[str, tuple[str, str]] = {}  # field and message: what is wrong with it
        # What is known
        self.requests: list[Request] = []
        self.is_keeping_requests = True
        self.tokens: dict[str, Token] = {}
        self.sessions: list[dict[str, Any]] = []  # of the WebView: what its token was made for, and the query
        self.payments: dict[str, dict[str, Any]] = {}
        self.sponsors: dict[tuple[str, str], dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.usages: list[dict[str, Any]] = []
        self.hooks: dict[int, dict[str, Any]] = {}
        self.logs: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.events: list[dict[str, Any]] = []
        self.creators = {key: _creator(number, key) for number, key in ((11, "AAA11"), (22, "BBB22"))}
        self.campaigns = {"camp_1": _campaign("camp_1")}
        self.coupons = {coupon.code: coupon for coupon in _coupons()}
        self.post: Callable[[str, Mapping[str, str], bytes], tuple[int, bytes]] = post
        self.mutex = threading.RLock()
        self.is_closing = threading.Event()
        self._hook_ids = itertools.count(1)
        self._troubles: dict[tuple[str, str], deque[_Trouble]] = defaultdict(deque)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.002,), daemon=True)

    def __enter__(self) -> "PlayCamp":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

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

    def paths(self) -> list[str]:
        with self.mutex:
            return [f"{request.method} {request.path}" for request in self.requests]

    def asked(self, path: str) -> list[Request]:
        with self.mutex:
            return [request for request in self.requests if request.path == path]

    # Webhooks out

    def hook(self, event_type: str, url: str, secret: str | None = None) -> dict[str, Any]:
        """A registration as if made on the dashboard; its secret is in it."""
        with self.mutex:
            hook_id = next(self._hook_ids)
            self.hooks[hook_id] = {
                "id": hook_id,
                "projectId": "project_1",
                "eventType": event_type,
                "url": url,
                "isActive": True,
                "retryCount": 3,
                "timeoutMs": 5000,
                "createdAt": stamp(),
                "secret": secret or f"whsec_{secrets.token_hex(16)}",
            }
            return self.hooks[hook_id]

    def deliver(
        self,
        events: Iterable[Mapping[str, Any]] | None = None,
        form: str = "simple",
        webhook_id: int | None = None,
        at: float | None = None,
    ) -> list[Delivered]:
        """Send a batch, signed ``simple`` or ``timestamped``, to who is registered for it; once each address.

        Without events: those that calls have caused. A ``webhook_id`` sends all of them there, whatever it is
        registered for.
        """
        with self.mutex:
            if events is None:
                events, self.events = self.events, []
            batch = [dict(event) for event in events]
            hooks = [hook for hook in self.hooks.values() if hook["isActive"] or hook["id"] == webhook_id]
            if webhook_id is not None:
                hooks = [hook for hook in hooks if hook["id"] == webhook_id]
        delivered = []
        for url in dict.fromkeys(hook["url"] for hook in hooks):
            here = [hook for hook in hooks if hook["url"] == url]
            types = {hook["eventType"] for hook in here}
            wanted = [event for event in batch if event["event"] in types or webhook_id is not None]
            if wanted or not batch:
                first = next((h for h in here if wanted and h["eventType"] == wanted[0]["event"]), here[0])
                delivered.append(self._send(first, wanted, form, at))
        return delivered

    def _send(self, hook: Mapping[str, Any], events: list[dict[str, Any]], form: str, at: float | None) -> Delivered:
        body = as_json({"events": events})
        headers = {
            "Content-Type": "application/json",
            "X-Webhook-Signature": signed(body, hook["secret"], form, at),
            "X-Webhook-Batch": "true",
            "X-Webhook-Count": str(len(events)),
        }
        status, answer = None, b""
        with suppress(OSError, http.client.HTTPException):
            status, answer = self.post(hook["url"], headers, body)
        with self.mutex:
            self.logs[hook["id"]].append(
                {
                    "id": str(uuid.uuid4()),
                    "webhookId": hook["id"],
                    "eventType": hook["eventType"],
                    "payload": {"events": events},
                    "responseStatus": status,
                    "attempt": 1,
                    "maxAttempts": hook["retryCount"] + 1,
                    "status": "SUCCESS" if status is not None and 200 <= status < 300 else "FAILED",
                    "createdAt": stamp(),
                }
            )
        return Delivered(hook["url"], headers, body, status, answer)

    def _announce(self, event: str, data: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        self.events.append(_event(event, data, told.get("callbackId"), told.get("isTest")))

    # The API

    def reply(self, request: Request) -> tuple[int, bytes, str]:
        """The answer to a request: status, body and its type."""
        parts = [unquote(part) for part in request.path.split("/")[1:]]
        if parts[:1] == ["webview"]:
            with self.mutex:
                status, page = self._webview(request)
            return status, page.encode(), "text/html; charset=utf-8"
        with self.mutex:
            try:
                self._check_caller(request, parts)
                status, document = self._route(request, parts[2:])
            except RefusedError as refused:
                status, document = refused.status, refused.document
            return status, b"" if document is None else as_json(document), "application/json"

    def _check_caller(self, request: Request, parts: list[str]) -> None:
        if parts[:2] != ["v1", "server"]:
            raise RefusedError(404, "NOT_FOUND", "Not found")
        given = request.headers.get("authorization")
        if given == f"Bearer {CLIENT_KEY}":
            raise RefusedError(403, "FORBIDDEN", "Server key required")
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
        query = dict(request.query)
        query_test = query.get("isTest") == "true"
        match request.method, *parts:
            case "POST", "webview", "ott":
                return self._issue_ott(given)
            case "POST", "payments", "bulk":
                return self._register_many(given)
            case "POST", "payments":
                return self._register(given)
            case "GET", "payments", "user", user_id:
                return _page([each for each in self.payments.values() if each["userId"] == user_id], query, 100)
            case "GET", "payments", transaction_id:
                return 200, {"data": self._payment(transaction_id)}
            case "POST", "payments", transaction_id, "refund":
                return self._refund(transaction_id, given)
            case "POST", "sponsors":
                return self.created_status, {"data": self._sponsor(given, given.get("creatorKey"))}
            case "GET", "sponsors", "user", user_id:
                return 200, {"data": [each for each in self.sponsors.values() if each["userId"] == user_id]}
            case "PUT", "sponsors", "user", user_id:
                return 200, {"data": self._sponsor({**given, "userId": user_id}, given.get("newCreatorKey"))}
            case "DELETE", "sponsors", "user", user_id:
                return self._end_sponsor(user_id, {**query, "isTest": query_test})
            case "GET", "sponsors", "user", user_id, "history":
                campaign_id = query.get("campaignId")
                rows = [
                    each
                    for each in self.history
                    if each["userId"] == user_id and campaign_id in (None, each["campaignId"])
                ]
                return _page(rows, query)
            case "POST", "coupons", "validate":
                return self._coupon(given, is_redeeming=False)
            case "POST", "coupons", "redeem":
                return self._coupon(given, is_redeeming=True)
            case "GET", "coupons", "user", user_id:
                return _page([each for each in self.usages if each["userId"] == user_id], query)
            case "GET", "campaigns":
                return _page(list(self.campaigns.values()), query)
            case "GET", "campaigns", campaign_id:
                return 200, {"data": _known(self.campaigns, campaign_id, "Campaign")}
            case "GET", "campaigns", campaign_id, "creators":
                _known(self.campaigns, campaign_id, "Campaign")
                return 200, {"data": list(self._creators(query_test).values())}
            case "GET", "creators", "search":
                keyword = _text(query, "keyword").casefold()
                if len(keyword) > 10:
                    raise RefusedError(400, "VALIDATION_ERROR", "keyword is too long")
                found = [e for e in self._creators(query_test).values() if keyword in e["creatorName"].casefold()]
                return 200, {"data": found[: int(query.get("limit", 20))]}
            case "GET", "creators", creator_key:
                return 200, {"data": _known(self._creators(query_test), creator_key, "Creator")}
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
        token, ends = secrets.token_hex(32), time.time() + 60
        self.tokens[token] = Token(given, ends)
        life: dict[str, Any] = {"expiresIn": 60} if self.ott_field == "expiresIn" else {"expiresAt": stamp(ends)}
        return self.created_status, {"data": {"ott": token, **life}}

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
        if problems and self.invalid_item == "request":
            details = [
                {
                    "path": f"payments.{i}.{name}" if self.has_item_paths else "payments",
                    "message": text,
                    "target": "body",
                }
                for i, (name, text) in problems.items()
            ]
            raise RefusedError(400, "VALIDATION_ERROR", "Validation Error", details)
        results = []
        for i, item in enumerate(items):
            transaction_id = item.get("transactionId") if isinstance(item, dict) else None
            error = " ".join(problems[i]) if i in problems else self.failing.get(str(transaction_id))
            if error is not None:
                results.append({"transactionId": transaction_id, "status": "FAILED", "error": error})
            elif transaction_id in self.payments:
                results.append({"transactionId": transaction_id, "status": "SKIPPED"})
            else:
                payment = self._store(item, given)
                results.append({"transactionId": transaction_id, "status": "SUCCESS", "data": payment})
        counts = {
            "totalRequested": len(items),
            "successful": sum(each["status"] == "SUCCESS" for each in results),
            "failed": sum(each["status"] == "FAILED" for each in results),
            "skipped": sum(each["status"] == "SKIPPED" for each in results),
        }
        told = [each["transactionId"] for each in results if each["status"] == "SUCCESS"]
        if not given.get("isTest"):
            self._announce("payment.bulk_created", {**counts, "transactionIds": told}, given)
        listed = [each for each in results if each["transactionId"] not in self.forgotten]
        return self.created_status, {"data": {**counts, "results": listed}}

    def _register(self, given: dict[str, Any]) -> Reply:
        problem = self._problem(given)
        if problem is not None:
            raise _invalid(*problem)
        if given["transactionId"] in self.payments:
            raise RefusedError(409, "CONFLICT", "Transaction already registered")
        payment = self._store(given, given)
        if not given.get("isTest"):
            names = ("transactionId", "userId", "amount", "currency", "creatorKey", "campaignId")
            self._announce("payment.created", {name: payment[name] for name in names if payment.get(name)}, given)
        return self.created_status, {"data": payment}

    def _refund(self, transaction_id: str, given: dict[str, Any]) -> Reply:
        if given.get("isTest"):
            return 200, {"data": {"id": 0, "transactionId": transaction_id, "status": "REFUNDED"}}
        payment = self._payment(transaction_id)
        if payment["status"] == "REFUNDED" and self.refunded_again != 200:
            code = "CONFLICT" if self.refunded_again == 409 else "BAD_REQUEST"
            raise RefusedError(self.refunded_again, code, "Payment is already refunded")
        payment["status"] = "REFUNDED"
        self._announce("payment.refunded", {"transactionId": transaction_id, "userId": payment["userId"]}, given)
        return 200, {"data": payment}

    def _payment(self, transaction_id: str) -> dict[str, Any]:
        payment: dict[str, Any] = _known(self.payments, transaction_id, "Payment")
        return payment

    def _problem(self, item: Any) -> tuple[str, str] | None:
        """The first wrong field of a payment, and what is wrong with it."""
        if not isinstance(item, dict):
            return "", "must be an object"
        for name in ("userId", "transactionId", "productId"):
            if not isinstance(item.get(name), str) or not item[name]:
                return name, "Required"
        if item["transactionId"] in self.invalid:
            return self.invalid[item["transactionId"]]
        amount = item.get("amount")
        if isinstance(amount, bool) or not isinstance(amount, int | Decimal) or amount < Decimal("0.01"):
            return "amount", "must be a number of at least 0.01"
        if not isinstance(item.get("currency"), str) or not re.fullmatch(r"[A-Z]{3}", item["currency"]):
            return "currency", "must be an ISO 4217 code"
        if item.get("platform") not in PLATFORMS:
            return "platform", "Invalid enum value"
        if item.get("distributionType") not in DISTRIBUTION_TYPES:
            return "distributionType", "Invalid enum value"
        moment = item.get("purchasedAt")
        if not isinstance(moment, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", moment):
            return "purchasedAt", "Invalid datetime"
        return None

    def _store(self, item: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
        payment = {name: value for name, value in item.items() if name not in ("callbackId", "isTest")}
        payment |= {"id": len(self.payments) + 1, "status": "COMPLETED", "createdAt": stamp()}
        boosts = (each for each in self.sponsors.values() if each["userId"] == item["userId"] and each["isActive"])
        boost = next(boosts, None)
        if boost is not None:
            payment |= {"creatorKey": boost["creatorKey"], "campaignId": boost["campaignId"]}
        if not told.get("isTest"):
            self.payments[item["transactionId"]] = payment
        return payment

    # Sponsors

    def _sponsor(self, given: dict[str, Any], creator_key: Any) -> dict[str, Any]:
        user_id, is_test = _text(given, "userId"), bool(given.get("isTest"))
        if not isinstance(creator_key, str):
            raise _invalid("creatorKey", "Required")
        campaign_id = self._running_campaign(given.get("campaignId"))
        _known(self._creators(is_test), creator_key, "Creator")
        now = {"userId": user_id, "campaignId": campaign_id, "creatorKey": creator_key, "isActive": True}
        now["sponsoredAt"] = stamp()
        before = self.sponsors.get((user_id, campaign_id))
        if is_test:
            return now
        old_key = before["creatorKey"] if before is not None and before["isActive"] else None
        if before is not None and old_key == creator_key:
            return before
        if before is not None and old_key is not None and time.time() - before["_since"] < 30 * DAY:
            raise RefusedError(400, "BAD_REQUEST", "Creator can be changed 30 days after the last change")
        self.sponsors[user_id, campaign_id] = {**now, "_since": time.time()}
        data = {"userId": user_id, "campaignId": campaign_id}
        if old_key is None:
            self._remember("CREATED", now)
            self._announce("sponsor.created", {**data, "creatorKey": creator_key}, given)
        else:
            self._remember("CHANGED", {**now, "previousCreatorKey": old_key})
            self._announce("sponsor.changed", {**data, "oldCreatorKey": old_key, "newCreatorKey": creator_key}, given)
        return self.sponsors[user_id, campaign_id]

    def _end_sponsor(self, user_id: str, query: dict[str, Any]) -> Reply:
        campaign_id = self._running_campaign(query.get("campaignId"))
        if query["isTest"]:
            return 204, None
        found = self.sponsors.get((user_id, campaign_id))
        if found is None or not found["isActive"]:
            raise RefusedError(404, "NOT_FOUND", "Sponsor not found")
        found |= {"isActive": False, "endedAt": stamp()}
        self._remember("ENDED", found)
        names = ("userId", "campaignId", "creatorKey")
        self._announce("sponsor.ended", {name: found[name] for name in names}, query)
        return 204, None

    def _running_campaign(self, campaign_id: Any) -> str:
        running = [key for key, each in self.campaigns.items() if each["status"] == "IN_PROGRESS"]
        if campaign_id is not None:
            _known(self.campaigns, campaign_id, "Campaign")
        elif len(running) != 1:
            raise RefusedError(400, "BAD_REQUEST", "campaignId is required" if running else "No active campaign")
        return str(campaign_id or running[0])

    def _remember(self, action: str, about: Mapping[str, Any]) -> None:
        names = ("userId", "campaignId", "creatorKey", "previousCreatorKey")
        row = {name: about[name] for name in names if name in about}
        self.history.append({"id": len(self.history) + 1, **row, "action": action, "createdAt": stamp()})

    def _creators(self, is_test: bool) -> dict[str, dict[str, Any]]:
        if not is_test:
            return self.creators
        mocks = ((1, "TEST1", "Alpha"), (2, "TEST2", "Bravo"), (3, "TEST3", "Charlie"))
        tests = {key: {**_creator(number, key, f"[Mock] {name}"), "status": "TEST"} for number, key, name in mocks}
        return self.creators | tests

    # Coupons

    def _coupon(self, given: dict[str, Any], is_redeeming: bool) -> Reply:
        code, user_id = _text(given, "couponCode").upper(), _text(given, "userId")
        game_user_uuid = given.get("gameUserUuid")
        if game_user_uuid is not None:
            try:
                uuid.UUID(game_user_uuid)
            except (TypeError, ValueError, AttributeError):
                raise _invalid("gameUserUuid", "Invalid uuid") from None
        coupon = self.coupons.get(code)
        refusal = self._coupon_refusal(coupon, user_id)
        if coupon is None or refusal is not None:
            error_code, text = refusal or ("COUPON_NOT_FOUND", "Coupon not found")
            if self.invalid_coupon == "status":
                return (404 if coupon is None else 400), {"error": text, "errorCode": error_code}
            verdict = {"success" if is_redeeming else "valid": False}
            return 200, {"data": {**verdict, "couponCode": code, "errorCode": error_code, "errorMessage": text}}
        about = {
            "couponCode": code,
            "reward": coupon.reward,
            "packageName": coupon.package_name,
            "creatorKey": coupon.creator_key,
            "campaignId": coupon.campaign_id,
        }
        if not is_redeeming:
            return 200, {"data": {"valid": True, **about}}
        usage_id = 5678 + len(self.usages)
        if not given.get("isTest"):
            names = {"packageId": coupon.package_id, "campaignId": coupon.campaign_id, "creatorKey": coupon.creator_key}
            usage = {"id": usage_id, "userId": user_id, "couponCode": code, **names}
            self.usages.append({**usage, "usedAt": stamp(), "rewardDelivered": False})
            data = {"couponCode": code, "userId": user_id, "usageId": usage_id, "reward": coupon.reward}
            self._announce("coupon.redeemed", data, given)
        return 200, {"data": {"success": True, "usageId": usage_id, **about, "redeemedAt": stamp()}}

    def _coupon_refusal(self, coupon: Coupon | None, user_id: str) -> tuple[str, str] | None:
        if coupon is None:
            return "COUPON_NOT_FOUND", "Coupon not found"
        if not coupon.is_active:
            return "COUPON_INACTIVE", "Coupon is not active"
        if time.time() < coupon.starts_at:
            return "COUPON_NOT_YET_VALID", "Coupon is not valid yet"
        if time.time() >= coupon.ends_at:
            return "COUPON_EXPIRED", "Coupon has expired"
        own = [each for each in self.usages if each["userId"] == user_id]
        if sum(each["couponCode"] == coupon.code for each in own) >= coupon.per_user:
            return "USER_CODE_LIMIT", "Coupon was already used"
        if sum(each["packageId"] == coupon.package_id for each in own) >= coupon.per_package:
            return "USER_PACKAGE_LIMIT", "Package limit reached"
        if sum(each["couponCode"] == coupon.code for each in self.usages) >= coupon.in_all:
            return "TOTAL_USAGE_LIMIT", "Coupon is used up"
        return None

    # Webhook registrations

    def _webhooks(self, method: str, parts: list[str], given: dict[str, Any]) -> Reply:
        if not parts:
            if method == "GET":
                return 200, {"data": [_without_secret(hook) for hook in self.hooks.values()]}
            if given.get("eventType") not in self.event_types:
                raise _invalid("eventType", "Invalid enum value")
            _check_hook(given)
            hook = self.hook(given["eventType"], _text(given, "url"))
            hook |= {name: given[name] for name in ("retryCount", "timeoutMs") if name in given}
            return 201, {"data": hook}
        hook = _known(self.hooks, int(parts[0]) if parts[0].isdecimal() else parts[0], "Webhook")
        match method, *parts[1:]:
            case ["PUT"]:
                _check_hook(given)
                names = ("url", "isActive", "retryCount", "timeoutMs")
                hook |= {name: given[name] for name in names if name in given} | {"updatedAt": stamp()}
                return 200, {"data": _without_secret(hook)}
            case ["DELETE"]:
                del self.hooks[hook["id"]]
                return 204, None
            case "GET", "logs":
                return 200, {"data": self.logs[hook["id"]]}
            case "POST", "test":
                event = _event(hook["eventType"], {"userId": "test"}, None, True)
                sent = self._send(hook, [event], "simple", None)
                is_success = sent.status is not None and 200 <= sent.status < 300
                status = {} if sent.status is None else {"responseStatus": sent.status}
                error = {} if is_success else {"error": "The endpoint did not answer 2xx"}
                return 200, {"data": {"success": is_success, **status, **error}}
        raise RefusedError(404, "NOT_FOUND", "Not found")


# What goes wrong: behaviours for PlayCamp.trouble, beside those of tests/receivers.py


def answers(status: int, document: Any, **headers: str) -> Behaviour:
    """Any status with any document, or with bytes; ``Retry_After="5"`` is the header ``Retry-After``."""

    def answer(handler: Any) -> None:
        body = document if isinstance(document, bytes) else as_json(document)
        handler.answer(status, body, "application/json", headers)

    return answer


def too_many(retry_after: float | str | None = None) -> Behaviour:
    """429, with ``Retry-After`` where it is given."""
    headers = {} if retry_after is None else {"Retry_After": str(retry_after)}
    return answers(429, {"error": "Too many requests", "code": "RATE_LIMITED"}, **headers)


def broken(status: int = 500) -> Behaviour:
    return answers(status, {"error": "Internal server error", "code": "INTERNAL_ERROR"})


def garbage(handler: Any) -> None:
    """A 200 that is not PlayCamp's."""
    handler.answer(200, b"<html>Welcome to nginx!</html>\xff", "text/html", {})


# Webhooks


def signed(body: bytes, secret: str, form: str = "simple", at: float | None = None) -> str:
    """The ``X-Webhook-Signature`` of a body, in one of PlayCamp's two forms."""
    if form == "simple":
        return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    t = str(int(time.time() if at is None else at))
    return f"t={t},v1={hmac.new(secret.encode(), f'{t}.'.encode() + body, hashlib.sha256).hexdigest()}"


def sponsor_event(event: str, user_id: str, *creator_keys: str, campaign_id: str = "camp_1", **told: Any) -> Any:
    """An event about a boost; ``sponsor.changed`` takes the old and the new key. ``told``: callbackId, isTest."""
    names = ("oldCreatorKey", "newCreatorKey") if event == "sponsor.changed" else ("creatorKey",)
    data = {"userId": user_id, "campaignId": campaign_id, **dict(zip(names, creator_keys, strict=True))}
    return _event(event, data, told.get("callbackId"), told.get("isTest"))


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
    """JSON with the exact digits of each Decimal; names that begin with _ are PlayCamp's own."""
    text = json.dumps(_public(document), default=lambda number: f"\0{number:f}\0", separators=(",", ":"))
    return re.sub(r'"\\u0000([^"]*)\\u0000"', r"\1", text).encode()


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _public(each) for name, each in value.items() if not str(name).startswith("_")}
    return [_public(each) for each in value] if isinstance(value, list) else value


def _event(event: str, data: Mapping[str, Any], callback_id: Any, is_test: Any) -> dict[str, Any]:
    told = {} if callback_id is None else {"callbackId": callback_id}
    if is_test is not None:
        told["isTest"] = bool(is_test)
    return {"event": event, "timestamp": stamp(), **told, "data": dict(data)}


def _page(rows: list[Any], query: Mapping[str, str], most: int = 1000) -> Reply:
    try:
        page, limit = int(query.get("page", 1)), int(query.get("limit", 20))
    except ValueError:
        raise _invalid("page", "Expected number") from None
    if page < 1 or not 1 <= limit <= most:
        raise _invalid("limit", "out of range")
    pages = -(-len(rows) // limit)
    told = {"page": page, "limit": limit, "total": len(rows), "totalPages": pages}
    return 200, {"data": rows[(page - 1) * limit : page * limit], "pagination": told}


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


def _check_hook(given: Mapping[str, Any]) -> None:
    for name, lowest, highest in (("retryCount", 0, 10), ("timeoutMs", 1000, 30000)):
        if name in given and (not isinstance(given[name], int) or not lowest <= given[name] <= highest):
            raise _invalid(name, "out of range")


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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        self.take()

    do_POST = do_PUT = do_DELETE = do_GET

    def take(self) -> None:
        playcamp = self.server.receiver
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
        with playcamp.mutex:
            if playcamp.is_keeping_requests:
                playcamp.requests.append(request)
            trouble = playcamp.next_trouble(self.command, parts.path)
        with suppress(OSError):  # the caller may have had enough
            if trouble is None or trouble.is_stored:
                status, answer, kind = playcamp.reply(request)
            if trouble is not None:
                trouble.behaviour(self)
            else:
                self.answer(status, answer, kind, {})

    def answer(self, status: int, body: bytes, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False
    receiver: PlayCamp  # the name that the behaviours of tests/receivers.py know

    def handle_error(self, *_: object) -> None:
        pass  # a caller that hangs up is part of the tests
