"""The form that finds transactions: days, amounts and ids as people write them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from coinslot.base import money as exponents
from coinslot.games.registry import LONGEST_ID
from coinslot.ledger import search
from coinslot.ledger.paths import Filters

SIGNS = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₩": "KRW"}
FIELDS = ("partner", "state", "player", "item", "from", "to", "amount", "amount_to")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,4})?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:[,' ][0-9]{3}){1,4}(?:\.[0-9]{1,4})?")
_DECIMAL_COMMA = re.compile(r"[0-9]{1,15},(?:[0-9]{1,2}|[0-9]{4})")


@dataclass
class Form:
    """The filters as they were typed, as they are understood, and what is wrong with them."""

    typed: Mapping[str, str]
    filters: Filters
    problems: list[str] = field(default_factory=list)

    @property
    def typed_of_filters(self) -> dict[str, str]:
        """The query that repeats the same filters."""
        return {name: self.typed[name] for name in FIELDS if self.typed.get(name)}


def read_form(typed: Mapping[str, str]) -> Form:
    """Read the filters; what is not understood is in ``problems``."""
    form = Form(typed, Filters())
    values: dict[str, object] = {
        "partner": given(typed, "partner"),
        "player_id": given(typed, "player"),
        "sku": given(typed, "item"),
        "state": typed.get("state") if typed.get("state") in search.STATES else None,
    }
    try:
        since, until = parse_day(typed.get("from", "")), parse_day(typed.get("to", ""))
        values["since"] = None if since is None else since.isoformat()
        values["until"] = None if until is None else (until + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        form.problems.append("Write a day as year-month-day, such as 2026-01-31.")
    try:
        values |= _amounts(typed.get("amount", "").strip(), typed.get("amount_to", "").strip())
    except ValueError as error:
        form.problems.append(str(error))
    form.filters = Filters(**values)  # type: ignore[arg-type]
    return form


def parse_day(text: str) -> date | None:
    """Raises ValueError."""
    return date.fromisoformat(text.strip()) if text.strip() else None


def parse_amount(text: str) -> tuple[Decimal, str | None]:
    """An amount as people write it, in major units, and its currency where they name one. Raises ValueError.

    ``9.99 USD``, ``USD 9.99``, ``$9.99``, ``1,200 JPY``, ``9,99 EUR``.
    """
    rest, currency = text.strip(), None
    for sign, code in SIGNS.items():
        if sign in rest:
            rest, currency = rest.replace(sign, " ", 1).strip(), code
    named = re.fullmatch(r"([A-Za-z]{3})\s*(\S.*)|(.*\S)\s*([A-Za-z]{3})", rest)
    if named is not None:
        currency, rest = (named[1] or named[4]).upper(), (named[2] or named[3]).strip()
    if _GROUPED.fullmatch(rest):
        rest = re.sub(r"[,' ]", "", rest)
    elif _DECIMAL_COMMA.fullmatch(rest):
        rest = rest.replace(",", ".")
    if not _NUMBER.fullmatch(rest):
        raise ValueError("Write an amount with its currency, such as 9.99 USD.")
    return Decimal(rest), currency


def _amounts(first: str, last: str) -> dict[str, object]:
    """The filters of an exact amount, or of a range. Raises ValueError."""
    if not first and not last:
        return {}
    least, currency = parse_amount(first) if first else (Decimal(0), None)
    most, other = parse_amount(last) if last else (least, currency)
    if currency and other and currency != other:
        raise ValueError("Both amounts must be in the same currency.")
    currency = currency or other
    if currency is None:
        raise ValueError("Write an amount with its currency, such as 9.99 USD.")
    digits = exponents.exponent(currency)
    if digits is None:
        raise ValueError(f"{currency} is no currency we know.")
    minor = [amount.scaleb(digits) for amount in (least, most)]
    if any(each != each.to_integral_value() for each in minor):
        raise ValueError(f"An amount in {currency} has no more than {digits} decimals.")
    return {"currency": currency, "least": int(minor[0]), "most": int(minor[1])}


def given(typed: Mapping[str, str], name: str) -> str | None:
    return typed.get(name, "").strip()[:LONGEST_ID] or None
