"""Our calls to Appcharge's own API: catalogue, checkout sessions, refunds, reports, and reloading players.

The publisher token proves us; a signature goes along only where the owner asks for it (``appcharge.sign_calls``).
No call has an idempotency key, so a POST is repeated only after a 429, which says that nothing was done; GET, PUT and
DELETE also after network failures and 5xx. How a call is made is in :mod:`handlers.kit.api`. (Documentation checked
2026-11.)
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlencode

from coinslot.base import clock, exact
from coinslot.base.outbound import Answer, Outbound
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from handlers.appcharge.api.answers import (
    Listed,
    Session,
    TransactionsPage,
    is_before,
    objects_in,
    read_list,
    read_object,
    read_session,
    read_transactions,
)
from handlers.appcharge.signature import sign
from handlers.kit import api
from handlers.kit.api import (
    ApiError,
    Caller,
    NotConfiguredError,
    Refusal,
    UnsentError,
    in_path,
    is_header,
    message,
    read_json,
)

BASE_URLS = {"live": "https://api.appcharge.com", "sandbox": "https://api-sandbox.appcharge.com"}
SECRETS = ("appcharge.publisher_token", "appcharge.main_key", "appcharge.secondary_key")

REPORT_TIMEOUT_SECONDS = 30.0
LARGEST_REPORT = 32 * 1024 * 1024

IDS_PER_CALL = 50
PLAYERS_PER_REFRESH = 500
ROWS_PER_PAGE = 1000

LONGEST_EXCERPT = 200  # characters of an answer that has no words we know

_REASONS = ("message", "errorMessage", "error")

T = TypeVar("T")


class Client(Caller):
    """Appcharge's API for one game. Raises :class:`NotConfiguredError` at once where the game cannot call it."""

    partner = "Appcharge"
    timeout_seconds = 10.0
    largest_answer = 1024 * 1024
    repeated = ("GET", "PUT", "DELETE")
    repeated_when_limited = (*repeated, "POST")

    def __init__(self, game: Game, outbound: Outbound, **how: Any) -> None:
        """``how``: ``sleep``, ``patience_seconds`` and ``tries`` of :class:`Caller`."""
        url = game.settings["appcharge.base_url"] or BASE_URLS[game.settings["appcharge.environment"]]
        secrets = [key.value.decode() for name in SECRETS for key in game.keys(name)]
        super().__init__(api.base_url("appcharge.base_url", url, "publisher token"), secrets, outbound, **how)
        self._token = _token(game)
        self._signing_key = _signing_key(game)

    # Offers

    def offers(self) -> Listed:
        """Every offer Appcharge lists, of all kinds."""
        return self._read_large(read_list, "GET", "/v2/offer")

    def some_offers(self, offer_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Those of the offers with our ids that exist. An id with a comma cannot be asked for and is left out."""
        askable = [each for each in offer_ids if "," not in each]
        found = []
        for start in range(0, len(askable), IDS_PER_CALL):
            query = urlencode({"publisherOfferIds": ",".join(askable[start : start + IDS_PER_CALL])}, safe=",")
            found += self._read_large(read_list, "GET", f"/v2/offer?{query}").documents
        return found

    def offer(self, offer_id: str) -> dict[str, Any] | None:
        """The offer with our id; None when there is none."""
        try:
            found = self.offers().documents if "," in offer_id else self.some_offers([offer_id])
        except ApiError as error:
            # Undocumented: the answer for an id that does not exist.
            if error.status not in (400, 404) or "," in offer_id:
                raise
            found = self.offers().documents
        return next((each for each in found if each.get("publisherOfferId") == offer_id), None)

    def create_offer(self, document: Mapping[str, Any]) -> None:
        self._do("POST", "/v2/offer", document)

    def update_offer(self, offer_id: str, document: Mapping[str, Any]) -> None:
        self._do("PUT", f"/v2/offer/{in_path(offer_id)}", document)

    def delete_offer(self, offer_id: str) -> None:
        """Delete an offer; a missing one is no error."""
        try:
            self._do("DELETE", f"/v2/offer/{in_path(offer_id)}")
        except ApiError as error:
            if error.status != 404:
                raise

    # Products and price points

    def products(self) -> list[dict[str, Any]]:
        return self._read_large(
            lambda answer: objects_in(read_json(answer), "getAllProductResponse", "products"),
            "GET",
            "/components/v1/product",
        )

    def price_points(self) -> list[dict[str, Any]]:
        return self._read_large(lambda answer: objects_in(read_json(answer), "pricePoints"), "GET", "/v1/price-points")

    def price_point(self, price_usd_cents: int) -> dict[str, Any]:
        """One price with its local prices, in major units of each currency."""
        return self.ask(read_object, "GET", f"/v1/price-points/{price_usd_cents}")

    def local_prices(self, prices_usd_cents: Sequence[int], country: str) -> dict[str, Any]:
        """What up to 50 prices are in a country, in minor units of its currency."""
        wanted = {"pricesInUsdCents": list(prices_usd_cents), "countryCode2": country}
        return self.ask(read_object, "POST", "/v1/price-points/localized/lookup", _body(wanted))

    # Checkout

    def create_session(self, document: Mapping[str, Any]) -> Session:
        """Begin a checkout. Each call that arrives makes a session of its own."""
        return self.ask(read_session, "POST", "/checkout/v1/session", _body(document))

    def cancel_session(self, token: str) -> bool:
        """Whether the session takes no payments any more."""
        if not is_header(token):
            raise UnsentError("the session token has characters that no header can carry")
        headers = {"Authorization": f"Bearer {token}"}
        answered = self.ask(read_object, "POST", "/checkout/v3/cancel", headers=headers, hidden=[token])
        return answered.get("isOrderCancelled") is True

    def refund_order(self, order_id: str, user: str) -> None:
        """Begin a refund: the whole order, irreversibly. What comes of it is an event later on."""
        if not is_header(user):
            raise UnsentError("who refunds: use printable ASCII characters without blanks")
        self._do("POST", f"/checkout/api/v1/order/{in_path(order_id)}/refund", headers={"x-user-id": user})

    # Reports

    def transactions(self, start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
        """Payments, refunds and disputes from ``start`` to just before ``end``, each once, page after page.

        Raises ApiError at the end where Appcharge says that there are more than it gave.
        """
        query: str | None = None
        asked: set[str | None] = set()
        seen: set[str] = set()
        received, total = 0, 0
        while query not in asked:
            asked.add(query)
            page = self.transactions_page(start, end, query)
            for row in page.rows:
                details = row.get("transactionDetails")
                transaction_id = details.get("id") if isinstance(details, dict) else None
                if isinstance(transaction_id, str) and transaction_id:
                    if transaction_id in seen:
                        continue
                    seen.add(transaction_id)
                received += 1
                if is_before(row.get("timestamp"), end):
                    yield row
            total = max(total, page.total or 0)
            query = page.next_query
            if query is None:
                break
        if received < total:
            raise ApiError(self.partner, 200, f"the report is incomplete: {received} of {total} transactions came")

    def transactions_page(self, start: datetime, end: datetime, query: str | None = None) -> "TransactionsPage":
        """One page of them: the first, or the one whose query the page before named."""
        own = urlencode(
            {"startDate": _iso(start), "endDate": _iso(end), "limit": ROWS_PER_PAGE, "sortDirection": "asc"}
        )
        path = f"/reporting/financial-data/transactions{query or f'?{own}'}"
        return self._read_large(lambda answer: read_transactions(answer, own), "GET", path)

    def orders(
        self, start: datetime, end: datetime, statuses: Sequence[str] = (), is_free: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Orders from ``start`` to just before ``end``, page after page; ``is_free`` for the free ones."""
        wanted: dict[str, Any] = {"startDate": _iso(start), "endDate": _iso(end), "recordLimit": ROWS_PER_PAGE}
        wanted["isFree"] = is_free
        if statuses:
            wanted["statuses"] = list(statuses)
        offset = 0
        before: list[dict[str, Any]] = []
        while True:
            page = self._read_large(
                lambda answer: read_list(answer, "results"),
                "POST",
                "/reporting/reports/orders",
                _body(wanted | {"offset": offset}),
            )
            rows = page.documents
            if rows and rows == before:
                raise ApiError(self.partner, 200, "the report repeats a page")
            for row in rows:
                if is_before(row.get("createdAt"), end):
                    yield row
            offset += len(rows)
            total = page.total
            if not rows or (total is not None and offset >= total):
                break
            before = rows
        if total is not None and offset < total:
            raise ApiError(self.partner, 200, f"the report is incomplete: {offset} of {total} orders came")

    # Personalisation

    def refresh(self, player_ids: Sequence[str]) -> None:
        """Make the open stores of these players reload them; an empty list does nothing."""
        for start in range(0, len(player_ids), PLAYERS_PER_REFRESH):
            self._do(
                "POST",
                "/store/v1/personalization/refresh-specific-active-players",
                {"playerIds": list(player_ids[start : start + PLAYERS_PER_REFRESH])},
            )

    def refresh_everyone(self) -> None:
        """Make every open store reload its player."""
        self._do("POST", "/store/v1/personalization/refresh-active-players")

    # How

    def proof(self, body: bytes | None) -> dict[str, str]:
        headers = {"x-publisher-token": self._token}
        if self._signing_key is not None:
            headers["signature"] = sign(body or b"", self._signing_key, str(int(clock.now() * 1000)))
        return headers

    def read_refusal(self, answer: Answer, clean: Callable[[str], str]) -> Refusal:
        """``message``, ``errorMessage`` or ``error``, else the beginning of the answer."""
        try:
            document = exact.parse_json(answer.body, allow_half_pairs=True)
        except ValueError:
            document = None
        words = ""
        if isinstance(document, dict):
            found = (message(document.get(name), ("error", "message", "errorMessage")) for name in _REASONS)
            words = next((each for each in found if each), "")
        if words:
            return Refusal(clean(words))
        beginning = answer.body[: api.LONGEST_READ].decode("utf-8", errors="replace")
        return Refusal(shown(clean(beginning), LONGEST_EXCERPT))

    def _do(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.ask(lambda answer: None, method, path, None if content is None else _body(content), headers=headers)

    def _read_large(self, read: Callable[[Answer], T], method: str, path: str, body: bytes | None = None) -> T:
        return self.ask(read, method, path, body, timeout_seconds=REPORT_TIMEOUT_SECONDS, largest_answer=LARGEST_REPORT)


def _body(content: Mapping[str, Any]) -> bytes:
    # As UTF-8 and not escaped, since their verifiers print the JSON again before they hash it. Only half of a surrogate
    # pair, as in a name that was cut, stays escaped.
    return as_json(content, is_ascii=False).encode("utf-8", "backslashreplace")


def as_json(content: Any, indent: int | None = None, *, is_ascii: bool = True) -> str:
    """JSON of what :func:`exact.parse_json` gives, fractions included."""
    separators = None if indent else (",", ":")
    return json.dumps(content, separators=separators, indent=indent, default=_number, ensure_ascii=is_ascii)


def _token(game: Game) -> str:
    keys = game.keys("appcharge.publisher_token")
    if not keys:
        raise NotConfiguredError("appcharge.publisher_token is not set, and every call to Appcharge needs it")
    token = keys[0].value.decode()
    if not is_header(token):
        raise NotConfiguredError("appcharge.publisher_token has characters that no header can carry")
    return token


def _signing_key(game: Game) -> bytes | None:
    if not game.is_on("appcharge.sign_calls"):
        return None
    keys = game.keys("appcharge.main_key")
    if not keys:
        raise NotConfiguredError("appcharge.sign_calls is on, and appcharge.main_key is not set")
    return keys[0].value


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(value: object) -> Any:
    """A Decimal as JSON can have it. Its size comes first: ``int()`` of a huge exponent takes seconds."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is no JSON")
    try:
        return exact.whole(value, exact.QUANTITY_DIGITS)
    except ValueError:
        return float(value) if abs(value.adjusted()) < 300 else str(value)
