"""What Appcharge's API answers, read and checked. What nothing can be done without raises AnswerError."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from coinslot.base import exact
from coinslot.base.outbound import Answer
from coinslot.games.options import web_address
from handlers.kit.api import AnswerError, read_json


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
    """A checkout session. Anyone with its address or token can pay in it."""

    url: str = field(repr=False)
    token: str = field(repr=False)
    purchase_id: str | None


def read_transactions(answer: Answer, own: str) -> TransactionsPage:
    """A page; ``own`` is the query that asked for the first."""
    page = read_object(answer)
    rows = objects_in(page, "results")
    return TransactionsPage(rows, _next_query(page, own) if rows else None, _total(page))


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


def read_object(answer: Answer) -> dict[str, Any]:
    """Raises :class:`AnswerError` for an answer that is no JSON object."""
    document = read_json(answer)
    if not isinstance(document, dict):
        raise AnswerError("the answer is not a JSON object")
    return document


def objects_in(document: Any, *names: str) -> list[dict[str, Any]]:
    """The list in an answer, bare or under one of these names; what in it is no object is left out."""
    if isinstance(document, dict):
        document = next((document[name] for name in names if isinstance(document.get(name), list)), None)
    if not isinstance(document, list):
        raise AnswerError(f"the answer has no list of {names[-1]}")
    return [each for each in document if isinstance(each, dict)]


def read_list(answer: Answer, name: str = "offers") -> Listed:
    """One page. Raises :class:`AnswerError` where the answer has no list under ``name``."""
    document = read_json(answer)
    return Listed(objects_in(document, name), _total(document))


def read_session(answer: Answer) -> Session:
    """Raises :class:`AnswerError` unless a player can open the session: it needs a token and a web address."""
    document = read_object(answer)
    url, token, purchase_id = (document.get(name) for name in ("parsedUrl", "checkoutSessionToken", "purchaseId"))
    try:
        is_usable = isinstance(url, str) and isinstance(token, str) and bool(token) and bool(web_address(url))
    except ValueError:
        is_usable = False
    if not is_usable:
        raise AnswerError("the answer holds no checkout session")
    return Session(str(url), str(token), purchase_id if isinstance(purchase_id, str) else None)


def _total(answered: Any) -> int | None:
    try:
        return exact.whole(answered.get("totalCount"), 9) if isinstance(answered, dict) else None
    except ValueError:
        return None


def is_before(stamped: Any, end: datetime) -> bool:
    """Whether a time is before ``end``, which Appcharge may or may not count in. What cannot be read is kept."""
    try:
        moment = datetime.fromisoformat(stamped)
        return moment < end
    except (TypeError, ValueError):
        return True
