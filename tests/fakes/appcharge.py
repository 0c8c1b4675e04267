"""Appcharge's own API, as far as we call it: a real HTTP server on the loopback.

``requests`` holds what came. ``script`` holds answers that take the place of the ordinary ones, one for each request
(behaviours of ``tests/fakes/http.py``). The rest is what Appcharge has in store, and how it tells it: its documents are
written by hand after the documentation's tables, in every shape these name.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fakes.http import FakeServer, Request

FAKE_TOKEN = "test-publisher-token"


class FakeAppcharge(FakeServer):
    def __init__(self) -> None:
        super().__init__()
        self.offers: dict[str, dict[str, Any]] = {}
        self.products: list[dict[str, Any]] = []
        self.price_points: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.refunded: list[tuple[str, str]] = []
        self.refreshed: list[list[str] | None] = []  # None: everyone
        self.blocked_players: set[str] = set()

        self.wraps_products = False
        self.has_total = True
        self.total_besides = 0  # offers that exist and are not listed
        self.put_replaces = False  # fields that a PUT leaves out are gone
        self.wants_offer_ids = False
        self.page_size = 1000
        self.tells = "both"  # of the next page: cursor, query, both
        self.loops = False  # the last page points to the first

    def offer(self, offer_id: str, **changed: Any) -> dict[str, Any]:
        """Have an offer in store; returns it as it will be told."""
        coins = {"publisherProductId": "coins", "quantity": 1200, "priority": "Main"}
        document = {
            "publisherId": "64f0",
            "offerId": f"ac-{offer_id}",
            "publisherOfferId": offer_id,
            "name": f"Offer {offer_id}",
            "type": "Bundle",
            "active": False,
            "segments": [],
            "offerUi": {"id": "ui1", "externalId": "bundle-default"},
            "productsSequence": [{"id": "e1", "index": 1, "priceInUsdCents": 499, "products": [coins]}],
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
            **changed,
        }
        self.offers[offer_id] = {name: value for name, value in document.items() if value is not ...}
        return self.offers[offer_id]

    def product(self, product_id: Any, **changed: Any) -> None:
        self.products.append(
            {"id": f"ac-{product_id}", "publisherProductId": product_id, "name": f"{product_id} (internal)"} | changed
        )

    # What is answered

    def reply(self, request: Request) -> tuple[int, Any]:
        if request.headers.get("x-publisher-token") != FAKE_TOKEN:
            return 401, {"statusCode": 401, "message": "Unauthorized"}
        for pattern, function in _ROUTES:
            if found := re.fullmatch(pattern, request.route):
                return function(self, request, *(unquote(each) for each in found.groups()))
        return 404, {"message": f"Cannot {request.route}"}

    def list_offers(self, request: Request) -> tuple[int, Any]:
        wanted = request.query.get("publisherOfferIds")
        if wanted is None and self.wants_offer_ids:
            return 400, {"errorCode": 17, "errorMessage": "publisherOfferIds is required"}
        found = [
            each for each in self.offers.values() if wanted is None or each["publisherOfferId"] in wanted.split(",")
        ]
        total = {"totalCount": len(found) + self.total_besides} if self.has_total else {}
        if wanted is None and self.total_besides:
            hidden = {each["publisherOfferId"] for each in list(self.offers.values())[-self.total_besides :]}
            found = [each for each in found if each["publisherOfferId"] not in hidden]
            total = {"totalCount": len(self.offers)}
        return 200, {**total, "offers": found}

    def create_offer(self, request: Request) -> tuple[int, Any]:
        document = request.json
        for entry in document["productsSequence"]:
            entry["id"] = "e9"
            entry["products"] = [
                {
                    "product": {"publisherProductId": each["publisherProductId"], "name": "x"},
                    "publisherProductId": each["publisherProductId"],
                    "quantity": str(each["quantity"]),
                    "priority": each.get("priority", "Main"),
                }
                for each in entry["products"]
            ]
        design = {"id": "ui1", "externalId": document.pop("offerExternalUiId", "other")}
        return 201, self.offer(document["publisherOfferId"], **{**document, "offerUi": design})

    def update_offer(self, request: Request, offer_id: str) -> tuple[int, Any]:
        if offer_id not in self.offers:
            return 404, {"message": "Offer not found"}
        known = self.offers[offer_id]
        if self.put_replaces:
            known = {name: known[name] for name in ("publisherOfferId", "offerId", "type", "active", "name")}
        self.offers[offer_id] = {**known, **request.json, "updatedAt": "2026-02-02T00:00:00.000Z"}
        return 200, self.offers[offer_id]

    def delete_offer(self, request: Request, offer_id: str) -> tuple[int, Any]:
        if offer_id not in self.offers:
            return 404, {"message": "Offer not found"}
        return 200, self.offers.pop(offer_id)

    def list_products(self, request: Request) -> tuple[int, Any]:
        return 200, {"getAllProductResponse": self.products} if self.wraps_products else self.products

    def list_price_points(self, request: Request) -> tuple[int, Any]:
        return 200, {"pricePoints": self.price_points}

    def show_price_point(self, request: Request, price: str) -> tuple[int, Any]:
        known = next((each for each in self.price_points if str(each["priceInUsdCents"]) == price), None)
        return (404, {"message": "Price point not found"}) if known is None else (200, known)

    def local_prices(self, request: Request) -> tuple[int, Any]:
        known = {each["priceInUsdCents"] for each in self.price_points}
        points = {
            str(price): {"price": price * 9 // 10, "displayPrice": f"{price * 9 // 10 / 100} €"}
            if price in known
            else None
            for price in request.json["pricesInUsdCents"]
        }
        return 200, {"currencyCode": "EUR", "pricePoints": points}

    def create_session(self, request: Request) -> tuple[int, Any]:
        player_id = request.json["customer"]["id"]
        if player_id in self.blocked_players:
            return 403, {"message": f"Blocked player: {player_id}"}
        token = f"cs-token-{len(self.sessions) + 1:06d}"
        self.sessions[token] = request.json
        return 201, {
            "checkoutSessionToken": token,
            "purchaseId": f"pr_{len(self.sessions)}",
            "url": "https://checkout.example.com",
            "parsedUrl": f"https://checkout.example.com/{token}",
        }

    def cancel_session(self, request: Request) -> tuple[int, Any]:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return 401, {"message": "Unauthorized"}
        return 200, {"isOrderCancelled": self.sessions.pop(token, None) is not None}

    def refund(self, request: Request, order_id: str) -> tuple[int, Any]:
        if order_id not in {each["acOrderId"] for each in self.orders}:
            return 404, {"message": "Order not found"}
        if any(order_id == each for each, _ in self.refunded):
            return 403, {"result": "error", "errCode": 7, "message": "Order was refunded already"}
        self.refunded.append((order_id, request.headers.get("x-user-id", "")))
        return 201, {}

    def report_transactions(self, request: Request) -> tuple[int, Any]:
        query = request.query
        if not {"startDate", "endDate"} <= set(query):
            message = [{"validationErrorNumber": 1, "error": "startDate must be a date"}]
            return 400, {"statusCode": 400, "error": "Bad Request", "message": message, "requestUrl": "/"}
        start = int(query.get("cursor", "at:0==").removeprefix("at:").removesuffix("=="))
        size = min(self.page_size, int(query["limit"]))
        rows = self.transactions[start : start + size]
        is_last = start + size >= len(self.transactions)
        cursor = None if is_last and not self.loops else f"at:{0 if is_last else start + size}=="
        page: dict[str, Any] = {"totalCount": len(self.transactions), "results": rows}
        if self.tells != "query":
            page["nextCursor"] = cursor
        if self.tells != "cursor":
            own = urlsplit(request.target).query.split("&cursor=")[0]
            page["nextPageQuery"] = None if cursor is None else f"?{own}&cursor={cursor}"
        return 200, page

    def report_orders(self, request: Request) -> tuple[int, Any]:
        wanted = request.json
        found = [each for each in self.orders if not wanted.get("statuses") or each["state"] in wanted["statuses"]]
        size = min(self.page_size, wanted["recordLimit"])
        offset = 0 if self.loops else wanted["offset"]
        return 200, {"totalCount": len(found), "results": found[offset : offset + size]}

    def refresh(self, request: Request) -> tuple[int, Any]:
        if request.route.endswith("refresh-active-players"):
            self.refreshed.append(None)
            return 200, {"message": "Event triggered for publisher 64f0"}
        if not request.json["playerIds"]:
            return 400, {"message": "playerIds must not be empty", "requestUrl": request.target, "body": request.json}
        self.refreshed.append(request.json["playerIds"])
        return 200, {"message": "Event triggered for publisher 64f0"}


_ROUTES: tuple[tuple[str, Callable[..., tuple[int, Any]]], ...] = (
    ("GET /v2/offer", FakeAppcharge.list_offers),
    ("POST /v2/offer", FakeAppcharge.create_offer),
    ("PUT /v2/offer/([^/]+)", FakeAppcharge.update_offer),
    ("DELETE /v2/offer/([^/]+)", FakeAppcharge.delete_offer),
    ("GET /components/v1/product", FakeAppcharge.list_products),
    ("GET /v1/price-points", FakeAppcharge.list_price_points),
    ("GET /v1/price-points/([0-9]+)", FakeAppcharge.show_price_point),
    ("POST /v1/price-points/localized/lookup", FakeAppcharge.local_prices),
    ("POST /checkout/v1/session", FakeAppcharge.create_session),
    ("POST /checkout/v3/cancel", FakeAppcharge.cancel_session),
    ("POST /checkout/api/v1/order/([^/]+)/refund", FakeAppcharge.refund),
    ("GET /reporting/financial-data/transactions", FakeAppcharge.report_transactions),
    ("POST /reporting/reports/orders", FakeAppcharge.report_orders),
    ("POST /store/v1/personalization/refresh-(?:specific-)?active-players", FakeAppcharge.refresh),
)


def transaction(transaction_id: str, at: str = "2026-01-05T10:00:00.000Z", **changed: Any) -> dict[str, Any]:
    """A row of the report of transactions."""
    details = {
        "id": transaction_id,
        "type": "paid",
        "amount": 999,
        "totalTaxAmount": 149,
        "amountUsd": 999,
        "totalTaxAmountUsd": 149,
        "publisherNetAmountUsd": 850,
        "currencyCode": "USD",
        "paymentMethod": "visa",
    }
    return {
        "orderId": f"order-{transaction_id}",
        "purchaseId": f"pr_{transaction_id}",
        "publisherTransactionId": "70c2e3c8",
        "timestamp": at,
        "customerDetails": {"id": "alice", "email": "alice@example.com"},
        "geolocation": {"countryCode2": "DE", "region": "BE", "ipAddress": "192.0.2.7", "zipCode": "10115"},
        "offerDetails": {"offerId": "starter", "offerName": "Starter Pack", "type": "Bundle", "products": []},
        "transactionDetails": details | changed,
    }


def report_order(order_id: str, state: str = "payment_succeed", **changed: Any) -> dict[str, Any]:
    """A row of the report of orders."""
    return {
        "acOrderId": order_id,
        "createdAt": "2026-01-05T10:00:00.000Z",
        "state": state,
        "playerId": "alice",
        "playerEmail": "alice@example.com",
        "zipCode": "10115",
        "currency": "USD",
        "priceInCents": 999,
        "tax": 149,
        "publisherOfferId": "starter",
        "offerName": "Starter Pack",
    } | changed
