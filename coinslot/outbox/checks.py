"""Checks of what an owner enters for a destination: patterns, delays, the rule of success, the address."""

import json
import re
from urllib.parse import urlsplit

from coinslot.base.errors import CoinslotError
from coinslot.base.expressions import Expression
from coinslot.base.limits import ExpressionError
from coinslot.games.options import web_address

LONGEST_RETRY_SECONDS = 30 * 86400
MOST_RETRIES = 50
MOST_PATTERNS = 50
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
PATTERN = re.compile(r"[A-Za-z0-9_*.?-]{1,100}")


class DestinationError(CoinslotError):
    """What was asked for a destination cannot be done; the message is for the person who asked."""


def checked_events(text: str) -> tuple[str, ...]:
    """Patterns of event types out of a comma list, each once. Raises :class:`DestinationError`."""
    patterns = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for pattern in patterns:
        if not PATTERN.fullmatch(pattern):
            raise DestinationError(
                f"events: {pattern!r} is not a pattern: use something like grant.* or *, or several with commas between"
            )
    if len(patterns) > MOST_PATTERNS:
        raise DestinationError(f"events: use up to {MOST_PATTERNS} patterns")
    return patterns


def checked_retry(text: str) -> tuple[int, ...]:
    """Delays in seconds out of a comma list. Raises :class:`DestinationError`."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,8}", word) for word in words) or len(words) > MOST_RETRIES:
        raise DestinationError(f"retry: use up to {MOST_RETRIES} delays in seconds, such as 10,60,300")
    delays = tuple(int(word) for word in words)
    if max(delays) > LONGEST_RETRY_SECONDS:
        raise DestinationError(f"retry: no delay above {LONGEST_RETRY_SECONDS} seconds")
    return delays


def says_yes(expression: str, answer: bytes) -> bool:
    """Whether a JMESPath expression on a JSON answer is true; False for an answer that is not JSON."""
    try:
        return Expression.parse(expression).apply(json.loads(answer)) is True
    except (ValueError, RecursionError, ExpressionError):
        return False


def checked_success(rule: str) -> tuple[str, str | None]:
    """The rule of success, and its expression if it is one. Raises :class:`DestinationError`."""
    if rule in ("2xx", "200"):
        return rule, None
    try:
        Expression.parse(rule)
    except ExpressionError as error:
        raise DestinationError(f"success: use 2xx, 200, or a JMESPath expression ({error})") from None
    return "expression", rule


def checked_url(url: str) -> str:
    """The address as it is. Raises :class:`DestinationError`."""
    try:
        parts = urlsplit(web_address(url))
        if parts.port == 0:
            raise ValueError("port 0 cannot be called")
    except ValueError as error:
        raise DestinationError(f"url: {error}") from None
    return url
