"""Our calls to Appcharge's own API: catalogue, checkout sessions, refunds, reports, and "load the player anew".

The publisher token proves us; a signature goes along only where the owner asks for it (``appcharge.sign_calls``).
No call has an idempotency key, so a POST is repeated only after a 429, which says that nothing was done; GET, PUT and
DELETE also after network failures and 5xx. What comes back is a stranger's: it is checked, numbers stay exact, and of
an error only bounded, printable words are told, never our token or what we sent. (Documentation checked 2026-11.)
"""

import ipaddress
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from coinslot.base import clock, exact
from coinslot.base.outbound import Answer, Outbound
from coinslot.base.paths import path_segment
from coinslot.base.spellings import shown
from coinslot.games.games import Game, web_address
from handlers.appcharge.signature import sign

BASE_URLS = {"live": "https://api.appcharge.com", "sandbox": "https://api-sandbox.appcharge.com"}

TIMEOUT_SECONDS = 10.0  # one attempt
REPORT_TIMEOUT_SECONDS = 30.0
PATIENCE_SECONDS = 60.0  # all attempts of one call, pauses included
TRIES = 4
PAUSES_SECONDS = (0.5, 1.5, 4.0)  # after the first attempt, the second, ...; 50 % more or less
LARGEST_ANSWER = 1024 * 1024
LARGEST_REPORT = 32 * 1024 * 1024

IDS_PER_CALL = 50
PLAYERS_PER_REFRESH = 500
ROWS_PER_PAGE = 1000
MOST_LEVELS = 64  # of nesting in an answer

LONGEST_TEXT = 500  # characters told of an error
EXCERPT_BYTES = 200  # of an answer that has no words we know
HIDDEN = "[hidden]"

_TRANSIENT = ("timeout", "refused", "dns")
_IN_HEADERS = re.compile(r"[!-~]+")


class ApiError(Exception):
    """A call did not succeed. ``status`` is None where there was no proper answer; ``text`` says why, and no secret."""

    def __init__(self, status: int | None, text: str) -> None:
        super().__init__(
            f"Appcharge did not answer: {text}" if status is None else f"Appcharge answered {status}: {text}"
        )
        self.status = status
        self.text = text

    @property
    def is_uncertain(self) -> bool:
        """Whether what was asked for may have been done all the same."""
        return self.status is None or self.status >= 500 or 200 <= self.status < 300


class UnsentError(ApiError):
    """Nothing was sent, and ``text`` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(None, text)
        self.args = (text,)

    @property
    def is_uncertain(self) -> bool:
        return False


class NotConfiguredError(UnsentError):
    """The game lacks what every call needs."""


@dataclass(frozen=True)
class Listed:
    """A list as Appcharge gave it. ``total`` is None where it did not say of how many."""

    documents: list[dict[str, Any]]
    total: int | None

    @property
    def is_partial(self) -> bool:
        return self.total is None or self.total > len(self.documents)


@dataclass(frozen=True)
class TransactionsPage:
    """``next_query`` is None on the last page, ``total`` where Appcharge does not say how many there are in all."""

    rows: list[dict[str, Any]]
    next_query: str | None
    total: int | None


@dataclass(frozen=True)
class Session:
    """A checkout session. Whoever has its address or token may pay in it."""

    url: str = field(repr=False)
    token: str = field(repr=False)
    purchase_id: str | None


class Client:
    """Appcharge's API for one game. Raises :class:`NotConfiguredError` at once where the game cannot call it.

    Every call raises :class:`ApiError` unless it succeeded. ``patience_seconds`` bounds each of them, all attempts and
    pauses included.
    """

    def __init__(
        self,
        game: Game,
        outbound: Outbound,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = PATIENCE_SECONDS,
        tries: int = TRIES,
    ) -> None:
        self._base_url = _base_url(game)
        self._token = _token(game)
        self._signing_key = _signing_key(game)
        self._outbound = outbound
        self._sleep = sleep
        self._patience_seconds = patience_seconds
        self._tries = tries
        names = ("appcharge.publisher_token", "appcharge.main_key", "appcharge.secondary_key")
        self._secrets = [key.value.decode() for name in names for key in game.keys(name)]

    # Offers

    def offers(self) -> Listed:
        """Every offer Appcharge lists, of all kinds."""
        answered = self._read("GET", "/v2/offer", largest=LARGEST_REPORT)
        return Listed(_documents(answered, "offers"), _total(answered))

    def some_offers(self, offer_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Those of the offers with our ids that exist. An id with a comma cannot be asked for and is left out."""
        askable = [each for each in offer_ids if "," not in each]
        found = []
        for start in range(0, len(askable), IDS_PER_CALL):
            query = urlencode({"publisherOfferIds": ",".join(askable[start : start + IDS_PER_CALL])}, safe=",")
            answered = self._read("GET", f"/v2/offer?{query}", largest=LARGEST_REPORT)
            found += _documents(answered, "offers")
        return found

    def offer(self, offer_id: str) -> dict[str, Any] | None:
        """The offer with our id; None when there is none."""
        try:
            found = self.offers().documents if "," in offer_id else self.some_offers([offer_id])
        except ApiError as error:
            # Nobody says what asking for an id that does not exist is answered with.
            if error.status not in (400, 404) or "," in offer_id:
                raise
            found = self.offers().documents
        return next((each for each in found if each.get("publisherOfferId") == offer_id), None)

    def create_offer(self, document: Mapping[str, Any]) -> None:
        self._call("POST", "/v2/offer", document)

    def update_offer(self, offer_id: str, document: Mapping[str, Any]) -> None:
        self._call("PUT", f"/v2/offer/{_in_path(offer_id)}", document)

    def delete_offer(self, offer_id: str) -> None:
        """Afterwards there is no such offer; one that was not there is as good."""
        try:
            self._call("DELETE", f"/v2/offer/{_in_path(offer_id)}")
        except ApiError as error:
            if error.status != 404:
                raise

    # Products and price points

    def products(self) -> list[dict[str, Any]]:
        answered = self._read("GET", "/components/v1/product", largest=LARGEST_REPORT)
        return _documents(answered, "getAllProductResponse", "products")

    def price_points(self) -> list[dict[str, Any]]:
        return _documents(self._read("GET", "/v1/price-points", largest=LARGEST_REPORT), "pricePoints")

    def price_point(self, price_usd_cents: int) -> dict[str, Any]:
        """One price with its local prices, in major units of each currency."""
        return _document(self._read("GET", f"/v1/price-points/{price_usd_cents}"))

    def local_prices(self, prices_usd_cents: Sequence[int], country: str) -> dict[str, Any]:
        """What up to 50 prices are in a country, in minor units of its currency."""
        wanted = {"pricesInUsdCents": list(prices_usd_cents), "countryCode2": country}
        return _document(self._read("POST", "/v1/price-points/localized/lookup", wanted))

    # Checkout

    def create_session(self, document: Mapping[str, Any]) -> Session:
        """Begin a checkout. Never repeated blindly: each call that arrives makes a session of its own."""
        answered = _document(self._read("POST", "/checkout/v1/session", document))
        url, token = answered.get("parsedUrl"), answered.get("checkoutSessionToken")
        purchase_id = answered.get("purchaseId")
        try:
            is_usable = isinstance(url, str) and isinstance(token, str) and bool(token) and bool(web_address(url))
        except ValueError:
            is_usable = False
        if not is_usable:
            raise ApiError(201, "the answer holds no checkout session")
        return Session(str(url), str(token), purchase_id if isinstance(purchase_id, str) else None)

    def cancel_session(self, token: str) -> bool:
        """Whether the session takes no payments any more."""
        if not _IN_HEADERS.fullmatch(token):
            raise UnsentError("the session token has characters that no header can carry")
        headers = {"Authorization": f"Bearer {token}"}
        answered = _document(self._read("POST", "/checkout/v3/cancel", headers=headers, secret=token))
        return answered.get("isOrderCancelled") is True

    def refund_order(self, order_id: str, user: str) -> None:
        """Begin a refund: the whole order, irreversibly. What comes of it is an event later on."""
        if not _IN_HEADERS.fullmatch(user):
            raise UnsentError("who refunds: use printable ASCII characters without blanks")
        self._call("POST", f"/checkout/api/v1/order/{_in_path(order_id)}/refund", headers={"x-user-id": user})

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
                if _is_before(row.get("timestamp"), end):
                    yield row
            total = max(total, page.total or 0)
            query = page.next_query
            if query is None:
                break
        if received < total:
            raise ApiError(200, f"the report is incomplete: {received} of {total} transactions came")

    def transactions_page(self, start: datetime, end: datetime, query: str | None = None) -> "TransactionsPage":
        """One page of them, as Appcharge gives it: the first, or the one whose query the page before told."""
        own = urlencode(
            {"startDate": _iso(start), "endDate": _iso(end), "limit": ROWS_PER_PAGE, "sortDirection": "asc"}
        )
        path = f"/reporting/financial-data/transactions{query or f'?{own}'}"
        page = _document(self._read("GET", path, largest=LARGEST_REPORT))
        rows = _documents(page, "results")
        return TransactionsPage(rows, _next_query(page, own) if rows else None, _total(page))

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
            page = _document(
                self._read("POST", "/reporting/reports/orders", {**wanted, "offset": offset}, largest=LARGEST_REPORT)
            )
            rows = _documents(page, "results")
            if rows and rows == before:
                raise ApiError(200, "the report repeats a page for ever")
            for row in rows:
                if _is_before(row.get("createdAt"), end):
                    yield row
            offset += len(rows)
            total = _total(page)
            if not rows or (total is not None and offset >= total):
                break
            before = rows
        if total is not None and offset < total:
            raise ApiError(200, f"the report is incomplete: {offset} of {total} orders came")

    # Personalisation

    def refresh(self, player_ids: Sequence[str]) -> None:
        """Have the open stores of these players load them anew; nothing happens for the others, or for nobody."""
        for start in range(0, len(player_ids), PLAYERS_PER_REFRESH):
            self._call(
                "POST",
                "/store/v1/personalization/refresh-specific-active-players",
                {"playerIds": list(player_ids[start : start + PLAYERS_PER_REFRESH])},
            )

    def refresh_everyone(self) -> None:
        """Have every open store load its player anew."""
        self._call("POST", "/store/v1/personalization/refresh-active-players")

    # How

    def _read(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        largest: int = LARGEST_ANSWER,
        secret: str | None = None,
    ) -> Any:
        """The answer's JSON."""
        answer = self._call(method, path, content, headers, largest, secret)
        try:
            document = exact.parse_json(answer.body, allow_half_pairs=True)  # a name cut within an emoji spoils no list
        except ValueError:
            raise ApiError(answer.status, "the answer is not JSON") from None
        if exact.is_deeper(document, MOST_LEVELS):
            raise ApiError(answer.status, "the answer is nested too deeply")
        return document

    def _call(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        largest: int = LARGEST_ANSWER,
        secret: str | None = None,
    ) -> Answer:
        """The answer, with a 2xx."""
        # As UTF-8 and not escaped: their verifiers print the JSON again before they hash it. Of half a pair that is
        # left where a name was cut, the escape is all there is.
        body = None if content is None else as_json(content, is_ascii=False).encode("utf-8", "backslashreplace")
        timeout = TIMEOUT_SECONDS if largest == LARGEST_ANSWER else REPORT_TIMEOUT_SECONDS
        deadline = time.monotonic() + self._patience_seconds
        attempt = 1
        while True:
            left = max(0.1, deadline - time.monotonic())
            answer = self._outbound.call(
                method,
                self._base_url + path,
                {**self._headers(body), **(headers or {})},
                body,
                min(timeout, left),
                largest,
            )
            if answer.failure is None and answer.status is not None and 200 <= answer.status < 300:
                return answer
            pause = _pause(answer, attempt)
            is_last = attempt >= self._tries or time.monotonic() + pause >= deadline
            if is_last or not _is_worth_repeating(method, answer):
                raise self._error(answer, body, secret)
            self._sleep(pause)
            attempt += 1

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "Coinslot", "x-publisher-token": self._token}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._signing_key is not None:
            headers["signature"] = sign(body or b"", self._signing_key, str(int(clock.now() * 1000)))
        return headers

    def _error(self, answer: Answer, body: bytes | None, secret: str | None) -> ApiError:
        if answer.is_turned_away:
            return UnsentError("Appcharge was not asked: enough calls to it are waiting already")
        if answer.failure in ("redirect", "too_large"):
            return ApiError(answer.status, answer.detail or answer.failure)
        if answer.failure is not None:
            return ApiError(None, answer.detail or answer.failure)
        hidden = [*self._secrets, secret or "", "" if body is None else body.decode()]
        return ApiError(answer.status, error_text(answer.body, hidden))


def error_text(body: bytes, hidden: Sequence[str] = ()) -> str:
    """Why, in Appcharge's words: ``message``, ``errorMessage`` or ``error``, else the beginning of the answer.

    Printable and bounded. Each of ``hidden`` is blotted out, and so is whatever looks like an e-mail address.
    """
    try:
        document = exact.parse_json(body, allow_half_pairs=True)
    except ValueError:
        document = None
    words = ""
    if isinstance(document, dict):
        found = (_words(document.get(name)) for name in ("message", "errorMessage", "error"))
        words = next((each for each in found if each), "")
    longest = LONGEST_TEXT
    if not words:
        words, longest = body[: 64 * 1024].decode("utf-8", errors="replace"), EXCERPT_BYTES
    for each in sorted(hidden, key=len, reverse=True):
        if len(each) >= 4:  # anything shorter is in every text
            words = words.replace(each, HIDDEN)
    words = re.sub(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}", HIDDEN, words)
    if longest == EXCERPT_BYTES:
        words = words.encode("utf-8", errors="replace")[:EXCERPT_BYTES].decode("utf-8", errors="ignore")
    return shown(" ".join(words.split()), longest) or "without a word"


def as_json(content: Any, indent: int | None = None, *, is_ascii: bool = True) -> str:
    """JSON of what :func:`exact.parse_json` gives, fractions included."""
    separators = None if indent else (",", ":")
    return json.dumps(content, separators=separators, indent=indent, default=_number, ensure_ascii=is_ascii)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _base_url(game: Game) -> str:
    url = game.settings["appcharge.base_url"] or BASE_URLS[game.settings["appcharge.environment"]]
    parts = urlsplit(url)
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise NotConfiguredError("appcharge.base_url: leave out everything from the ? or # on")
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise NotConfiguredError("appcharge.base_url: use https, since the publisher token goes there")
    return url.rstrip("/")


def _token(game: Game) -> str:
    keys = game.keys("appcharge.publisher_token")
    if not keys:
        raise NotConfiguredError("appcharge.publisher_token is not set, and every call to Appcharge needs it")
    token = keys[0].value.decode()
    if not _IN_HEADERS.fullmatch(token):
        raise NotConfiguredError("appcharge.publisher_token has characters that no header can carry")
    return token


def _signing_key(game: Game) -> bytes | None:
    if not game.is_on("appcharge.sign_calls"):
        return None
    keys = game.keys("appcharge.main_key")
    if not keys:
        raise NotConfiguredError("appcharge.sign_calls is on, and appcharge.main_key is not set")
    return keys[0].value


def _is_worth_repeating(method: str, answer: Answer) -> bool:
    if answer.is_turned_away:
        return False
    if answer.status == 429:
        return True
    is_server_error = answer.failure is None and answer.status is not None and answer.status >= 500
    return method != "POST" and (is_server_error or answer.failure in _TRANSIENT)


def _pause(answer: Answer, attempt: int) -> float:
    """Seconds until the next attempt: as many as Appcharge asks for, else growing and never quite the same."""
    asked = answer.retry_after_seconds
    if asked is not None:
        return asked
    return PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1] * random.uniform(0.5, 1.5)  # noqa: S311 no secret


def _in_path(own_id: str) -> str:
    """An id as one segment of a path. Raises UnsentError."""
    try:
        return path_segment(own_id)
    except ValueError as error:
        raise UnsentError(str(error)) from None


def _next_query(page: Mapping[str, Any], own: str) -> str | None:
    """The query of the next page; None when this was the last."""
    cursor, query = page.get("nextCursor"), page.get("nextPageQuery")
    if "nextCursor" in page and not cursor:
        return None
    if isinstance(query, str) and re.fullmatch(r"\?[!-~]{1,8000}", query) and "#" not in query:
        return query
    if isinstance(cursor, str):
        return f"?{own}&cursor={quote(cursor, safe='', errors='replace')}"
    return None


def _document(answered: Any) -> dict[str, Any]:
    if not isinstance(answered, dict):
        raise ApiError(200, "the answer is not a JSON object")
    return answered


def _documents(answered: Any, *names: str) -> list[dict[str, Any]]:
    """The list in an answer, bare or under one of these names; what in it is no object is passed over."""
    if isinstance(answered, dict):
        answered = next((answered[name] for name in names if isinstance(answered.get(name), list)), None)
    if not isinstance(answered, list):
        raise ApiError(200, f"the answer has no list of {names[-1]}")
    return [each for each in answered if isinstance(each, dict)]


def _total(answered: Any) -> int | None:
    try:
        return exact.whole(answered.get("totalCount"), 9) if isinstance(answered, dict) else None
    except ValueError:
        return None


def _words(value: Any, levels: int = 4) -> str:
    """Text of a message: text itself, a list of texts, or objects that have it under ``error`` or ``message``."""
    if isinstance(value, str):
        return value.strip()
    if levels and isinstance(value, list):
        return "; ".join(words for words in (_words(each, levels - 1) for each in value[:20]) if words)
    if levels and isinstance(value, dict):
        found = (_words(value.get(name), levels - 1) for name in ("error", "message", "errorMessage"))
        return next((words for words in found if words), "")
    return ""


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_before(stamped: Any, end: datetime) -> bool:
    """Whether a time is before ``end``, which Appcharge may or may not count in. What cannot be read is kept."""
    try:
        moment = datetime.fromisoformat(stamped)
        return moment < end
    except (TypeError, ValueError):
        return True


def _number(value: object) -> Any:
    """A Decimal as JSON can have it. Its size comes first: ``int()`` of a huge exponent takes seconds."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is no JSON")
    try:
        return exact.whole(value, exact.QUANTITY_DIGITS)
    except ValueError:
        return float(value) if abs(value.adjusted()) < 300 else str(value)
