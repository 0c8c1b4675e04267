"""Calls to a partner's API: timeouts, retries, and errors. A client of a partner lists its calls and uses this.

A call is repeated only where that does no harm, and all its attempts end in time. An answer is not trusted: it is
bounded and checked, numbers stay exact, and an error holds only printable words, never our secrets or what we sent.
"""

import random
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from coinslot.base import exact
from coinslot.base.errors import CoinslotError
from coinslot.base.outbound import Answer, Outbound
from coinslot.base.paths import path_segment
from coinslot.base.spellings import shown
from coinslot.games.options import web_address

PATIENCE_SECONDS = 60.0  # all attempts of one call, pauses included
TRIES = 4
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)  # after the first attempt, the second, ...; up to 30 % more
MOST_LEVELS = 64  # of nesting in an answer

LONGEST_TEXT = 500  # characters of an error that are kept
LONGEST_READ = 16 * 1024  # characters of an error that are looked at
BODY_BEGINNING = 24
SHORTEST_SECRET = 4  # anything shorter is in every text
HIDDEN = "[hidden]"

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TRANSIENT = ("timeout", "refused", "dns")
_IN_HEADERS = re.compile(r"[!-~]+")
_EMAIL = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}")

T = TypeVar("T")


class AnswerError(ValueError):
    """An answer is not what was asked for. The text says why, and repeats nothing of the answer."""


@dataclass(frozen=True)
class Detail:
    """Why a partner refuses one field."""

    path: str
    message: str


@dataclass(frozen=True)
class Refusal:
    """A partner's reasons for a refusal. ``text`` is empty and ``code`` None if it gives none."""

    text: str
    code: str | None = None
    details: tuple[Detail, ...] = ()


class ApiError(CoinslotError):
    """A call did not succeed. ``status`` is None where there was no proper answer; ``text`` says why, and no secret.

    ``code`` and ``details`` are the partner's where it gave any. ``failure`` is the word of ``coinslot.base.outbound``
    where there was no proper answer; ``retry_after`` the seconds the partner asks us to wait.
    """

    def __init__(
        self,
        partner: str,
        status: int | None,
        text: str,
        code: str | None = None,
        details: Sequence[Detail] = (),
        retry_after: float | None = None,
        failure: str | None = None,
    ) -> None:
        answered = f"{partner} answered {status}{f' {code}' if code else ''}: {text}"
        named = "; ".join(f"{each.path}: {each.message}" if each.path else each.message for each in details[:5])
        super().__init__(
            f"{partner} did not answer: {text}"
            if status is None
            else shown(f"{answered} ({named})" if named else answered, 2 * LONGEST_TEXT)
        )
        self.status = status
        self.text = text
        self.code = code
        self.details = tuple(details)
        self.retry_after = retry_after
        self.failure = failure

    @property
    def is_permanent(self) -> bool:
        """Whether the same call would be refused again; waiting helps against limits and timeouts."""
        is_refused = self.failure is None and self.status is not None and 400 <= self.status < 500
        return is_refused and self.status not in (408, 425, 429)

    @property
    def is_refusal(self) -> bool:
        """Whether the partner refused the content of the call. A redirect counts: it is not followed."""
        return self.is_permanent or self.failure == "redirect"

    @property
    def is_key_refused(self) -> bool:
        """Whether the key may be wrong. It is, if other calls are refused so too; a firewall refuses single calls."""
        return self.status in (401, 403)

    @property
    def is_uncertain(self) -> bool:
        """Whether the partner may have done what was asked, though the call failed."""
        return self.status is None or self.status >= 500 or 200 <= self.status < 300 or self.status == 408


class UnsentError(ApiError):
    """Nothing was sent, and ``text`` says why."""

    def __init__(self, text: str) -> None:
        super().__init__("", None, text)
        self.args = (text,)

    @property
    def is_permanent(self) -> bool:
        return True

    @property
    def is_uncertain(self) -> bool:
        return False


class TurnedAwayError(UnsentError):
    """The limit of calls that wait for the partner is reached."""

    @property
    def is_permanent(self) -> bool:
        return False


class NotConfiguredError(UnsentError):
    """The game lacks what every call needs."""


class Caller:
    """Calls to one server, each with our proof. Every call raises :class:`ApiError` unless it succeeded.

    ``patience_seconds`` bounds each call, all attempts and pauses included. None of ``secrets`` is in any error.
    """

    partner: ClassVar[str]
    prefix: ClassVar[str] = ""  # of every path
    timeout_seconds: ClassVar[float]  # of one attempt
    largest_answer: ClassVar[int]  # bytes
    repeated: ClassVar[Collection[str]]  # methods that may be sent again after failures of the network and 5xx
    repeated_when_limited: ClassVar[Collection[str]]  # and after a 429, which says that nothing was done

    def __init__(
        self,
        base_url: str,
        secrets: Sequence[str],
        outbound: Outbound,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = PATIENCE_SECONDS,
        tries: int = TRIES,
    ) -> None:
        self.base_url = base_url
        self._secrets = secrets
        self._outbound = outbound
        self._sleep = sleep
        self._patience_seconds = patience_seconds
        self._tries = tries

    def proof(self, body: bytes | None) -> dict[str, str]:
        """The headers that say who calls."""
        raise NotImplementedError

    def read_refusal(self, answer: Answer, clean: Callable[[str], str]) -> Refusal:
        """What the partner says in an answer that is not a 2xx; each text of it has gone through ``clean``."""
        raise NotImplementedError

    def ask(
        self,
        read: Callable[[Answer], T],
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        hidden: Sequence[str | None] = (),
        timeout_seconds: float | None = None,
        largest_answer: int | None = None,
    ) -> T:
        """What ``read`` makes of the answer. Of ``hidden`` nothing shows in an error, as of our secrets."""
        answer = self._call(method, path, body, headers or {}, hidden, timeout_seconds, largest_answer)
        try:
            return read(answer)
        except AnswerError as error:
            raise ApiError(self.partner, answer.status, str(error)) from None

    def without_secrets(self, words: str, body: bytes | None = None, hidden: Sequence[str | None] = ()) -> str:
        """A partner's words on one line, bounded, without secrets, e-mail addresses and our body.

        Words that repeat the beginning of our body end there: the repeated body may be cut anywhere.
        """
        sent = (body or b"").decode()
        if len(sent) >= SHORTEST_SECRET:
            words = words.replace(sent, HIDDEN)
        beginning = sent[:BODY_BEGINNING] if sent.startswith("{") else ""
        if len(beginning) > len("{}") and beginning in words:
            words = words[: words.index(beginning)] + HIDDEN
        for each in sorted([*self._secrets, *(each for each in hidden if each)], key=len, reverse=True):
            if len(each) >= SHORTEST_SECRET:
                words = words.replace(each, HIDDEN)
        return shown(" ".join(_EMAIL.sub(HIDDEN, words[:LONGEST_READ]).split()), LONGEST_TEXT)

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        hidden: Sequence[str | None],
        timeout_seconds: float | None,
        largest_answer: int | None,
    ) -> Answer:
        """The answer, with a 2xx."""
        timeout_seconds = timeout_seconds or self.timeout_seconds
        deadline = time.monotonic() + self._patience_seconds
        attempt = 1
        while True:
            left = max(0.1, deadline - time.monotonic())
            answer = self._outbound.call(
                method,
                f"{self.base_url}{self.prefix}{path}",
                {**self._headers(body), **headers},
                body,
                min(timeout_seconds, left),
                largest_answer or self.largest_answer,
            )
            if answer.failure is None and answer.status is not None and 200 <= answer.status < 300:
                return answer
            pause = _pause(answer, attempt)
            is_last = attempt >= self._tries or time.monotonic() + pause >= deadline
            if is_last or not self._may_repeat(method, answer):
                raise self._error(answer, body, hidden)
            self._sleep(pause)
            attempt += 1

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "Coinslot", **self.proof(body)}
        return headers if body is None else headers | {"Content-Type": "application/json"}

    def _may_repeat(self, method: str, answer: Answer) -> bool:
        if answer.is_turned_away:
            return False
        if answer.status == 429:
            return method in self.repeated_when_limited
        is_server_error = answer.failure is None and answer.status is not None and answer.status >= 500
        return method in self.repeated and (is_server_error or answer.failure in _TRANSIENT)

    def _error(self, answer: Answer, body: bytes | None, hidden: Sequence[str | None]) -> ApiError:
        if answer.is_turned_away:
            return TurnedAwayError(f"{self.partner} was not asked: enough calls to it are waiting already")
        if answer.failure is not None:
            status = answer.status if answer.failure in ("redirect", "too_large") else None
            return ApiError(self.partner, status, answer.detail or answer.failure, failure=answer.failure)
        refusal = self.read_refusal(answer, lambda words: self.without_secrets(words, body, hidden))
        return ApiError(
            self.partner,
            answer.status,
            refusal.text or f"HTTP {answer.status}",
            refusal.code,
            refusal.details,
            answer.retry_after_seconds,
        )


def base_url(name: str, url: str, secret: str) -> str:
    """The address of a setting ``name`` without a slash at the end, fit for our ``secret`` to go there.

    Raises :class:`NotConfiguredError`.
    """
    try:
        parts = urlsplit(web_address(url))
        is_whole = parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise NotConfiguredError(f"{name}: use an https:// address without a user name")
    if "?" in url or "#" in url:
        raise NotConfiguredError(f"{name}: leave out everything from the ? or # on")
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise NotConfiguredError(f"{name}: use https, since the {secret} goes there")
    return url.rstrip("/")


def is_header(text: str) -> bool:
    """Whether a header can carry this as one word."""
    return _IN_HEADERS.fullmatch(text) is not None


def in_path(own_id: str) -> str:
    """An id as one segment of a path. Raises :class:`UnsentError`."""
    try:
        return path_segment(own_id)
    except ValueError as error:
        raise UnsentError(str(error)) from None


def read_json(answer: Answer) -> Any:
    """The answer's JSON, numbers exact. A name that was cut within an emoji is kept. Raises :class:`AnswerError`."""
    try:
        document = exact.parse_json(answer.body, allow_half_pairs=True)
    except ValueError:
        raise AnswerError("the answer is not JSON") from None
    if exact.is_deeper(document, MOST_LEVELS):
        raise AnswerError("the answer is nested too deeply")
    return document


def message(value: Any, names: Sequence[str], levels: int = 4) -> str:
    """The text of an error: text, a list of texts, or an object with a text under one of ``names``."""
    if isinstance(value, str):
        return value.strip()
    if levels and isinstance(value, list):
        return "; ".join(found for found in (message(each, names, levels - 1) for each in value[:20]) if found)
    if levels and isinstance(value, dict):
        found = (message(value.get(name), names, levels - 1) for name in names)
        return next((each for each in found if each), "")
    return ""


def _pause(answer: Answer, attempt: int) -> float:
    """Seconds until the next attempt: as many as the partner asks for, else growing and never quite the same."""
    asked = answer.retry_after_seconds
    if asked is not None:
        return asked
    return PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1] * random.uniform(1.0, 1.3)  # noqa: S311 no secret
