"""The game's own payment API, called as its owner has configured it: one page of one range of time in a call.

The address and the body are templates. In the braces: ``from``, ``to`` (Unix seconds), ``from_ms``, ``to_ms``,
``from_iso``, ``to_iso`` (ISO 8601 with the zone's offset), ``from_date``, ``to_date`` (days of the zone), ``cursor``
(empty at first), ``page`` (1 at first) and ``limit``. A range is [from, to). An API that only knows days is asked for
the days of both ends, so that none is missed whether it includes the last or not.

How a call proves itself with ``playcamp.payments_key`` (without one it does not):

- ``fingerprint``: ``X-Partner`` (the game's short name), ``X-Timestamp`` and ``X-Fingerprint``, as
  :func:`handlers.playcamp.payments.rules.fingerprint` makes it of the request line.
- ``hmac``: ``X-Timestamp`` and ``X-Signature``, the hex HMAC-SHA256 under the key of the same lines but the key's; a
  request with a body has the body's hex SHA-256 as another line.
- ``header``: the key in the header ``playcamp.payments.auth_header``; ``basic``: the key is ``user:password``.

Nothing of an answer goes into an error, since it may hold players or a key.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from coinslot.base import clock, moments, signing
from coinslot.base.expressions import Expression
from coinslot.base.limits import ExpressionError
from coinslot.base.outbound import Outbound
from coinslot.games.games import Game
from coinslot.games.readers import whole_of
from handlers.playcamp.payments.game_answer import (
    LEVELS_OF_FIGURES,
    MOST_ROWS,
    SourceError,
    document_of,
    figures,
    kind_of,
)
from handlers.playcamp.payments.rules import fingerprint, signed_lines

TIMEOUT_SECONDS = 25.0  # one page
LARGEST_ANSWER = 16 * 1024 * 1024
LONGEST_NEXT = 4096

_PLACE = re.compile(r"{([a-z_]+)}")
_LINK = re.compile(r"https?://", re.IGNORECASE)
_HEADER_VALUE = re.compile(r"[!-~]+(?: [!-~]+)*")
# Names of members that say that there is more than one page, without punctuation and in lower case.
_TOTALS = (
    "total totalcount totalrows totalresults totalitems totalelements totalrecords "
    "count rowcount recordcount resultcount itemcount"
).split()
_PAGES = "pages totalpages pagecount lastpage".split()
_FOLLOWING = "more hasmore hasnext hasnextpage next nextpage nextcursor nexttoken nextpagetoken".split()
_CONFIGURED = ("url", "rows", "map")


class RowError(Exception):
    """A row cannot be made a payment; the message says why, for the owner."""


@dataclass(frozen=True)
class Page:
    """Rows as the game wrote them; ``next`` is the cursor, number or link of the next page, None after the last.

    ``doubt`` says why there may be more although there is no ``next``; None: nothing suggests it.
    """

    rows: list[Any]
    next: str | None
    doubt: str | None = None


def is_configured(game: Game) -> bool:
    """Whether the game's payments can be polled."""
    return all(game.settings[f"playcamp.payments.{name}"] for name in _CONFIGURED)


def is_polled(game: Game) -> bool:
    """Whether they are: the owner may set everything up before the first poll."""
    return is_configured(game) and game.is_on("playcamp.payments.polling")


class Source:
    """A game's payment API. Raises :class:`SourceError` if the configuration cannot work."""

    def __init__(self, game: Game, outbound: Outbound) -> None:
        self._game = game
        self._outbound = outbound
        self._settings = game.family("playcamp.payments.")
        self.zone = self._settings["zone"]
        self._tzinfo = self._made("zone", moments.time_zone)
        self._rows = self._made("rows", Expression.parse)
        self._map = self._made("map", Expression.parse)
        self._next = self._made("next", Expression.parse) if self._settings["next"] else None
        self._is_paged_by_place = any(
            f"{{{place}}}" in self._settings["url"] + self._settings["body"] for place in ("cursor", "page")
        )

    @property
    def mark(self) -> str:
        """A digest of the calls' configuration. When it changes, a range cannot be continued from a page."""
        parts = [self._settings[name] for name in ("url", "method", "body", "rows", "next", "zone", "limit")]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]

    def page(self, start: int, end: int, next: str | None, timeout_seconds: float | None = None) -> Page:
        """One page of the payments from ``start`` up to ``end``; ``next`` is that of the page before, None at first.

        Raises :class:`SourceError`.
        """
        method = self._settings["method"]
        is_link = next is not None and _LINK.match(next) is not None
        places = self._places(start, end, None if is_link else next)
        template = self._settings["url"]
        url = next if is_link and next is not None else self._url(template, places)
        body, kind = self._body(places) if method == "POST" else (None, None)
        headers = {"Accept": "application/json", "User-Agent": "Coinslot"}
        headers |= {} if kind is None else {"Content-Type": kind}
        headers |= self._proof(method, url, body)
        pin = self._settings["pin"] or None
        patience = TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
        answer = self._outbound.call(method, url, headers, body, patience, LARGEST_ANSWER, pin)
        document = document_of(answer)
        rows = self._applied("rows", self._rows, document)
        if not isinstance(rows, list):
            raise SourceError(f"playcamp.payments.rows found no list in the answer, but {kind_of(rows)}")
        if len(rows) > MOST_ROWS:
            raise SourceError(f"the game's payment API answered with more than {MOST_ROWS:,} rows in one page")
        following = self._next_of(document, url)
        is_first_and_last = next is None and following is None
        return Page(rows, following, self._doubt(document, len(rows)) if is_first_and_last else None)

    def payment(self, row: Any) -> dict[str, Any]:
        """A row of a page, or one that was stored, in our words and unchecked. Raises :class:`RowError`."""
        try:
            made = self._map.apply(row, zone=self.zone, lookup=self._lookup, is_parsed=True)
        except ExpressionError as error:
            raise RowError(f"playcamp.payments.map: {error}") from None
        if not isinstance(made, dict):
            raise RowError(f"playcamp.payments.map makes no object of this row, but {kind_of(made)}")
        return made

    def moment(self, text: str) -> int:
        """The Unix seconds of ``playcamp.payments.since``. Raises :class:`SourceError`."""
        try:
            return moments.milliseconds(text, self.zone) // 1000
        except moments.UnfitError:
            raise SourceError("playcamp.payments.since: use a date or time such as 2026-01-31") from None

    def address(self, start: int, end: int) -> str:
        """The address of the first page of a range, as it is sent. Raises SourceError."""
        return self._url(self._settings["url"], self._places(start, end, None))

    def _made(self, name: str, parse: Any) -> Any:
        try:
            return parse(self._settings[name])
        except (ExpressionError, moments.UnfitError) as error:
            raise SourceError(f"playcamp.payments.{name}: {error}") from None

    def _lookup(self, table: str, key: str) -> str | None:
        return self._game.settings.get(f"lookup.{table}.{key}")

    def _applied(self, name: str, expression: Expression, document: Any) -> Any:
        try:
            return expression.apply(
                document, zone=self.zone, lookup=self._lookup, allow_half_pairs=True, is_parsed=True
            )
        except ExpressionError as error:
            raise SourceError(f"playcamp.payments.{name}: {error}") from None

    def _places(self, start: int, end: int, cursor: str | None) -> dict[str, str]:
        places = {"cursor": cursor or "", "page": cursor or "1", "limit": self._settings["limit"]}
        for name, seconds in (("from", start), ("to", end)):
            try:
                local = datetime.fromtimestamp(seconds, self._tzinfo)
            except (ValueError, OverflowError, OSError):
                raise SourceError("the range of time is outside of the years 1 to 9999") from None
            iso = local.isoformat(timespec="seconds")
            places |= {
                name: str(seconds),
                f"{name}_ms": str(seconds * 1000),
                f"{name}_iso": f"{iso[:-6]}Z" if iso.endswith("+00:00") else iso,
                f"{name}_date": local.date().isoformat(),
            }
        return places

    def _url(self, template: str, places: Mapping[str, str]) -> str:
        """The address exactly as it is sent: that is what is signed."""
        filled = _PLACE.sub(lambda found: quote(places.get(found[1], found[0]), safe=""), template)
        try:
            parts = parse_url(filled)
        except LocationParseError:
            raise SourceError("playcamp.payments.url cannot be read as an address") from None
        return parts._replace(fragment=None).url

    def _body(self, places: Mapping[str, str]) -> tuple[bytes, str]:
        """The body and its type: JSON if the template begins like it, else a form."""
        template = self._settings["body"]
        is_json = template.lstrip()[:1] in ("{", "[")

        def fill(found: re.Match[str]) -> str:
            if found[1] not in places:
                return found[0]
            return json.dumps(places[found[1]])[1:-1] if is_json else quote(places[found[1]], safe="")

        filled = _PLACE.sub(fill, template)
        if not is_json:
            return filled.encode(), "application/x-www-form-urlencoded"
        try:
            json.loads(filled)
        except ValueError:
            raise SourceError("playcamp.payments.body is not JSON once its places are filled in") from None
        return filled.encode(), "application/json"

    def _proof(self, method: str, url: str, body: bytes | None) -> dict[str, str]:
        keys = self._game.keys("playcamp.payments_key")
        if not keys:
            return {}
        key = keys[0].value
        how = self._settings["auth"]
        if how == "basic":
            return {"Authorization": f"Basic {base64.b64encode(key).decode()}"}
        if how == "header":
            text = key.decode("utf-8", errors="replace")
            if not _HEADER_VALUE.fullmatch(text):
                raise SourceError("playcamp.payments_key has characters that no header can carry")
            return {self._settings["auth_header"]: text}
        timestamp = str(int(clock.now()))
        parts = urlsplit(url)
        call = method, parts.path or "/", parts.query.encode(), timestamp
        if how == "hmac":
            message = signed_lines(*call) + (b"" if body is None else f"\n{hashlib.sha256(body).hexdigest()}".encode())
            return {"X-Timestamp": timestamp, "X-Signature": signing.hmac_hex("sha256", key, message)}
        return {"X-Partner": self._game.slug, "X-Timestamp": timestamp, "X-Fingerprint": fingerprint(*call, key)}

    def _doubt(self, document: Any, count: int) -> str | None:
        """Why an answer of ``count`` rows without a next page may be the first of several."""
        said = list(figures(document, LEVELS_OF_FIGURES))
        total = max((whole_of(value) or 0 for name, value in said if name in _TOTALS), default=0)
        if total > count:
            return f"an answer of {count:,} rows says that there are {total:,}"
        if self._next is not None:
            return None
        if count == int(self._settings["limit"]):
            return f"a page holds exactly {count:,} rows, as many as playcamp.payments.limit"
        for name, value in said:
            is_one = name in _FOLLOWING and isinstance(value, str | int) and value not in (False, "", 0)
            if is_one or (name in _PAGES and (whole_of(value) or 0) > 1):
                return "an answer says that another page follows"
        return None

    def _next_of(self, document: Any, url: str) -> str | None:
        if self._next is None:
            return None
        found = self._applied("next", self._next, document)
        if found is None or found is False or found == "":
            return None
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise SourceError(f"playcamp.payments.next found no cursor, page or link, but {kind_of(found)}")
        text = str(found)
        if len(text) > LONGEST_NEXT or not text.isprintable():
            raise SourceError("playcamp.payments.next found what no cursor, page or link looks like")
        return text if self._is_paged_by_place and not _LINK.match(text) else self._link(text, url)

    def _link(self, text: str, url: str) -> str:
        """An absolute link, as it is sent. Raises SourceError for one to another server."""
        try:
            parts = parse_url(urljoin(url, text))
            own = parse_url(url)
        except (LocationParseError, ValueError):
            raise SourceError("playcamp.payments.next found a link that cannot be read") from None
        if (parts.scheme, parts.host, _port(parts)) != (own.scheme, own.host, _port(own)) or parts.auth != own.auth:
            raise SourceError("playcamp.payments.next found a link to another server")
        return parts._replace(fragment=None).url


def _port(parts: Any) -> int | None:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")
