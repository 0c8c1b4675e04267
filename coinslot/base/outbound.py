"""Calls to addresses that an owner typed in: bounded in time and size, without redirects, checked for their address.

The time limit is for the whole call, however slowly the answer comes. (A name look-up cannot be cut short; nothing is
sent when that took too long.) The address is checked when the connection is made, so no name can change in between.
:mod:`coinslot.base.connections` has the sockets.
"""

import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TypeAlias

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from coinslot.base import clock, connections
from coinslot.base.connections import ForbiddenAddressError, UnaskedAnswerError

LARGEST_ANSWER = 64 * 1024
MOST_WAITED_FOR = 5  # calls at a time for which a caller of ours waits; a process has 8 threads for all callers
MOST_WAITED_FOR_AT_ONE_SERVER = 3
TURN_SECONDS = 1.0  # how long another call waits for one of them to end
SOON_SECONDS = 0.5  # a server that takes longer hangs: no call waits for its calls to end
ENOUGH_WAITING = "enough calls to it are waiting already"
BROKEN = "the connection broke before there was a complete answer"

# urllib3 logs whole addresses, which may hold tokens: each call at DEBUG, odd headers in an answer at WARNING.
logging.getLogger("urllib3").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Answer:
    """The result of a call. ``failure`` is a word of ``attempts.failure`` where there was no proper answer."""

    failure: str | None
    status: int | None = None
    body: bytes = b""
    detail: str | None = None
    retry_after: str | None = None
    duration_ms: int = 0

    @property
    def is_turned_away(self) -> bool:
        """Whether nothing was sent, since too many calls wait already (:attr:`Outbound.for_callers`)."""
        return self.failure == "refused" and self.detail == ENOUGH_WAITING

    @property
    def trouble(self) -> str:
        """Why this is no proper answer, for the owner: our own reason where nothing was sent, else the word of
        ``failure``, else the status.
        """
        if self.detail and (self.failure == "rejected" or self.is_turned_away):
            return self.detail
        return self.failure or str(self.status)

    @property
    def retry_after_seconds(self) -> float | None:
        """The wait from now that the answer asks for, as a number or a date (RFC 9110, section 10.2.3)."""
        text = (self.retry_after or "").strip()
        if re.fullmatch(r"[0-9]{1,9}", text):
            return float(text)
        try:
            moment = parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
        return max(0.0, moment - clock.now())


# Answers calls in place of the network: method, URL and body -> answer.
StandIn: TypeAlias = Callable[[str, str, "bytes | Iterator[bytes] | None"], Answer]


class Outbound:
    """A pool of connections, kept alive. Safe to share between threads; opens nothing before it is used.

    ``for_callers`` is for calls for which a caller of ours waits, in one of the threads that all callers share. At most
    3 to one server and 5 in all run at a time. Another one waits for its turn, a second at most, while these are
    answered soon, and then ends with nothing sent: so a server that hangs blocks no caller who does not need it. Each
    of these calls has its own connection: the answers say who a player is, and must never be another call's.

    ``stand_in`` is asked before each call for what answers it in place of the network; None: the network does.
    """

    def __init__(
        self,
        may_call_private: bool = True,
        turns: "_Turns | None" = None,
        stand_in: Callable[[], StandIn | None] = lambda: None,
    ) -> None:
        self._stand_in = stand_in
        self._may_call_private = may_call_private
        self._turns = turns
        self._are_kept = turns is None
        self.for_callers: Outbound = Outbound(may_call_private, _Turns(), stand_in) if turns is None else self

    @cached_property
    def _context(self) -> ssl.SSLContext:
        # Only when needed: reading this machine's certificates takes as long as the rest of a start.
        return ssl.create_default_context()

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        return connections.pools(self._context, "CERT_REQUIRED", self._may_call_private, self._are_kept)

    @cached_property
    def _pinned_pool(self) -> urllib3.PoolManager:
        # The fingerprint names one certificate; its issuer, name and dates do not matter.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return connections.pools(context, "CERT_NONE", self._may_call_private, self._are_kept)

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout_seconds: float) -> Answer:
        """POST and read at most 64 KiB of the answer. Never raises for what the other side does."""
        return self.call("POST", url, headers, body, timeout_seconds)

    def get(self, url: str, headers: Mapping[str, str], timeout_seconds: float) -> Answer:
        """The same with GET."""
        return self.call("GET", url, headers, None, timeout_seconds)

    def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes] | None,
        timeout_seconds: float,
        largest_answer: int = LARGEST_ANSWER,
        pin: str | None = None,
    ) -> Answer:
        """The same with any method, and a larger answer where one is expected.

        ``pin`` is the SHA-256 of a certificate in hex. Only a server with that is called; it may be self-signed.
        """
        stand_in = self._stand_in()
        if stand_in is not None:
            return stand_in(method, url, body)
        with nullcontext(True) if self._turns is None else self._turns.take(url) as has_turn:
            if not has_turn:
                return Answer(failure="refused", detail=ENOUGH_WAITING)
            began = time.monotonic()
            connections.limit(timeout_seconds)
            failure = status = detail = retry_after = response = None
            content = b""
            try:
                pool, target = (self._pool, url) if pin is None else self._pinned(url, pin)
                response = pool.request(
                    method,
                    target,
                    headers=headers,
                    body=body,
                    redirect=False,
                    timeout=timeout_seconds,
                    preload_content=False,
                )
                status, retry_after = response.status, response.headers.get("Retry-After")
                content = response.read(largest_answer + 1, decode_content=False)
                if len(content) > largest_answer:
                    failure, detail = "too_large", f"the answer is larger than {largest_answer} bytes"
                elif response.length_remaining:
                    failure, detail = "refused", BROKEN
                elif 300 <= status < 400:
                    failure, detail = "redirect", "redirects are not followed"
            except (HTTPError, OSError, ForbiddenAddressError, ValueError) as error:
                failure, detail = _describe(error)
            finally:
                if response is not None:
                    response.close()  # a connection whose answer was read to the end is in the pool, and stays open
            duration_ms = round((time.monotonic() - began) * 1000)
            return Answer(failure, status, content[:largest_answer], detail, retry_after, duration_ms)

    def _pinned(self, url: str, pin: str) -> tuple[urllib3.HTTPConnectionPool, str]:
        """Connections to this server that fail with another certificate, and the target to request on them."""
        parts = urllib3.util.parse_url(url)
        if parts.scheme != "https":
            raise ForbiddenAddressError("a pinned certificate needs an https address")
        return self._pinned_pool.connection_from_url(url, {"assert_fingerprint": pin}), parts.request_uri


class _Turns:
    """Which calls may run at a time; a call beyond that waits for its turn."""

    def __init__(self) -> None:
        self._under_way: dict[object, tuple[str, float]] = {}  # a call -> its server, and when it began
        self._one_ended = threading.Condition()

    @contextmanager
    def take(self, url: str) -> Iterator[bool]:
        """Run a call within this; yields False where its turn did not come."""
        server, this = _server(url), object()
        with self._one_ended:
            has_turn = self._wait(server)
            if has_turn:
                self._under_way[this] = server, time.monotonic()
        try:
            yield has_turn
        finally:
            with self._one_ended:
                self._under_way.pop(this, None)
                self._one_ended.notify_all()

    def _wait(self, server: str) -> bool:
        until = time.monotonic() + TURN_SECONDS
        while blocking := self._blocking(server):
            left = min(until, max(blocking) + SOON_SECONDS) - time.monotonic()
            if left <= 0:
                return False
            self._one_ended.wait(left)
        return True

    def _blocking(self, server: str) -> list[float]:
        """When each of the calls began that block another call; empty where it may run."""
        in_all = [began for _, began in self._under_way.values()]
        there = [began for each, began in self._under_way.values() if each == server]
        if len(there) >= MOST_WAITED_FOR_AT_ONE_SERVER:
            return there
        return in_all if len(in_all) >= MOST_WAITED_FOR else []


def _server(url: str) -> str:
    """Scheme, host and port of an address."""
    try:
        parts = urllib3.util.parse_url(url)
    except (LocationParseError, UnicodeError):
        return ""  # no call is made there, as the call itself says
    return f"{parts.scheme}://{parts.host}:{parts.port or {'http': 80, 'https': 443}.get(parts.scheme or '')}"


def _describe(error: Exception) -> tuple[str, str]:
    """The failure word, and a detail in our words, since urllib3's may quote the URL."""
    if isinstance(error, ForbiddenAddressError):
        return "rejected", str(error)
    # These two before the timeouts: urllib3 calls them a kind of ConnectTimeoutError.
    if isinstance(error, NameResolutionError):
        return "dns", "the name has no address"
    if isinstance(error, NewConnectionError):
        cause = error.__cause__
        return "refused", (cause.strerror if isinstance(cause, OSError) else None) or "no connection"
    if isinstance(error, ConnectTimeoutError | ReadTimeoutError | TimeoutError):
        return "timeout", "no complete answer in time"
    if isinstance(error, SSLError):
        if str(error).startswith("Fingerprints did not match"):
            return "tls", "the certificate is not the pinned one"
        reason = getattr(error.args[0] if error.args else None, "verify_message", None)
        return "tls", f"the certificate is not accepted: {reason}" if reason else "no safe connection"
    is_header = isinstance(error, UnicodeEncodeError) and error.encoding == "latin-1"
    if isinstance(error, LocationParseError | LocationValueError | UnicodeError) and not is_header:
        return "dns", "the address cannot be read"
    if isinstance(error, ValueError):  # its text quotes the header, and that may be a secret
        return "rejected", "a header cannot be sent: it has characters that no header may have"
    if isinstance(error, ProtocolError) and isinstance(error.args[-1], UnaskedAnswerError):
        return "refused", str(error.args[-1])
    return "refused", BROKEN
