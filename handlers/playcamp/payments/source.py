"""The game's own payment API, asked as its owner has configured it: one page of one range of time at a call.

The address and the body are templates. In the braces: ``from``, ``to`` (Unix seconds), ``from_ms``, ``to_ms``,
``from_iso``, ``to_iso`` (ISO 8601 with the zone's offset), ``from_date``, ``to_date`` (days of the zone), ``cursor``
(empty at first), ``page`` (1 at first) and ``limit``. A range is [from, to); an API that knows days only is asked for
those of both ends, so that it leaves out none, whichever way it takes the last.

How a call proves itself, with ``playcamp.payments_key`` (and not at all without):

- ``fingerprint``: ``X-Partner`` (the game's short name), ``X-Timestamp`` (Unix seconds) and ``X-Fingerprint``, the hex
  SHA-256 of method, path, sorted query, timestamp and key, one a line. Path and query are those of the request line,
  percent-encoded as they are sent; the query is split at ``&``, sorted and joined again.
- ``hmac``: ``X-Timestamp`` and ``X-Signature``, the hex HMAC-SHA256 under the key of the same lines but the key's; a
  request with a body has the body's hex SHA-256 as another line.
- ``header``: the key in the header ``playcamp.payments.auth_header``; ``basic``: the key is ``user:password``.

What comes back is a stranger's. Errors are told in our words, since theirs may hold players or a key.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from coinslot.base import clock, moments
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

TIMEOUT_SECONDS = 25.0  # one page
LARGEST_ANSWER = 16 * 1024 * 1024
LONGEST_NEXT = 4096


_PLACE = re.compile(r"{([a-z_]+)}")
_LINK = re.compile(r"https?://", re.IGNORECASE)
_HEADER_VALUE = re.compile(r"[!-~]+(?: [!-~]+)*")
# How answers say that they have more than one page, without punctuation and in lower case.
_TOTALS = (
    *("total", "totalcount", "totalrows", "totalresults", "totalitems", "totalelements", "totalrecords"),
    *("count", "rowcount", "recordcount", "resultcount", "itemcount"),
)
_PAGES = ("pages", "totalpages", "pagecount", "lastpage")
_FOLLOWING = (
    "more",
    "hasmore",
    "hasnext",
    "hasnextpage",
    "next",
    "nextpage",
    "nextcursor",
    "nexttoken",
    "nextpagetoken",
)
_CONFIGURED = ("url", "rows", "map")


class RowError(Exception):
    """A row is no payment; the message says why, for the owner."""


@dataclass(frozen=True)
class Page:
    """Rows as the game wrote them; ``next`` is what the next page is asked for by, None after the last.

    ``doubt`` says why there may be more, though nothing leads on; None: there is no reason to think so.
    """

    rows: list[Any]
    next: str | None
    doubt: str | None = None


def is_configured(game: Game) -> bool:
    return all(game.settings[f"playcamp.payments.{name}"] for name in _CONFIGURED)


class Source:
    """A game's payment API. Raises :class:`SourceError` at once where the configuration cannot work."""

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
        """Another one as soon as what is asked, and how, has changed: a page is then nowhere to go on from."""
        told = [self._settings[name] for name in ("url", "method", "body", "rows", "next", "zone", "limit")]
        return hashlib.sha256("\0".join(told).encode("utf-8", "replace")).hexdigest()[:16]

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
        """A row of a page, as it came or as it was kept, in our words and unchecked. Raises :class:`RowError`."""
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
        """What the first page of a range is asked for by, as it stands on the request line. Raises SourceError."""
        return self._url(self._settings["url"], self._places(start, end, None))

    # How

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
                raise SourceError("the range of time is outside of the years that can be told") from None
            iso = local.isoformat(timespec="seconds")
            places |= {
                name: str(seconds),
                f"{name}_ms": str(seconds * 1000),
                f"{name}_iso": f"{iso[:-6]}Z" if iso.endswith("+00:00") else iso,
                f"{name}_date": local.date().isoformat(),
            }
        return places

    def _url(self, template: str, places: Mapping[str, str]) -> str:
        """The address exactly as it will stand on the request line: that is what is signed."""
        filled = _PLACE.sub(lambda found: quote(places.get(found[1], found[0]), safe=""), template)
        try:
            parts = parse_url(filled)
        except LocationParseError:
            raise SourceError("playcamp.payments.url cannot be read as an address") from None
        return parts._replace(fragment=None).url

    def _body(self, places: Mapping[str, str]) -> tuple[bytes, str]:
        """The body and its type: JSON where the template begins like it, else a form."""
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
        lines = [*_signed_lines(method, url), timestamp]
        if how == "hmac":
            lines += [] if body is None else [hashlib.sha256(body).hexdigest()]
            signature = hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).hexdigest()
            return {"X-Timestamp": timestamp, "X-Signature": signature}
        fingerprint = hashlib.sha256("\n".join([*lines, ""]).encode() + key).hexdigest()
        return {"X-Partner": self._game.slug, "X-Timestamp": timestamp, "X-Fingerprint": fingerprint}

    def _doubt(self, document: Any, count: int) -> str | None:
        """Why an answer of ``count`` rows, with nothing that leads on, may be the first page of several."""
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
        """A link, whole, as it will be sent. Raises SourceError for one that leaves the game's own server."""
        try:
            parts = parse_url(urljoin(url, text))
            own = parse_url(url)
        except (LocationParseError, ValueError):
            raise SourceError("playcamp.payments.next found a link that cannot be read") from None
        if (parts.scheme, parts.host, _port(parts)) != (own.scheme, own.host, _port(own)) or parts.auth != own.auth:
            raise SourceError("playcamp.payments.next found a link to another server")
        return parts._replace(fragment=None).url


def _signed_lines(method: str, url: str) -> list[str]:
    parts = urlsplit(url)
    return [method, parts.path or "/", "&".join(sorted(parts.query.split("&")))]


def _port(parts: Any) -> int | None:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")
