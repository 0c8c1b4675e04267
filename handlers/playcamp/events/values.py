"""Single values of PlayCamp's events, each in its one form here; None for what is no such value."""

import hashlib
import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from coinslot.base import exact
from coinslot.games.readers import id_of, whole_of

# Fields with such names are left out of an undocumented event before the game gets it.
_HIDDEN = re.compile(r"mail|phone|passw|secret|token|address|couponcode|^(?:ott|ip|(?:user|first|last|full)?name)$")


def lines(rewards: Iterable[tuple[Any, Any]]) -> tuple[tuple[str, int], ...] | None:
    """Items and quantities, each item once; None unless there is something and all of it can be granted."""
    sums: dict[str, int] = {}
    for item_id, quantity in rewards:
        sku = id_of(item_id)
        amount = whole_of(quantity, exact.QUANTITY_DIGITS)
        if sku is None or not amount:
            return None
        sums[sku] = sums.get(sku, 0) + amount
    is_grantable = sums and all(amount < 10**exact.QUANTITY_DIGITS for amount in sums.values())
    return tuple(sums.items()) if is_grantable else None


def as_items(granted: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    """Items and quantities as the game reads them."""
    return [{"sku": sku, "quantity": quantity} for sku, quantity in granted]


def ids_of(value: Any) -> list[str] | None:
    """The ids in a list; what is no id is left out."""
    return [found for each in value if (found := id_of(each)) is not None] if isinstance(value, list) else None


def text_of(value: Any) -> str | None:
    """Text that any database and any JSON reader takes; a whole number is text too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return exact.whole_text(value) if isinstance(value, str) else None


def kept_copy(value: Any, deeper: int) -> Any:
    """A copy that can be kept: half of a surrogate pair becomes U+FFFD, what is nested too deep becomes null."""
    if isinstance(value, str):
        return exact.whole_text(value)
    if not isinstance(value, dict | list):
        return value
    if deeper == 0:
        return None
    if isinstance(value, list):
        return [kept_copy(each, deeper - 1) for each in value]
    return {exact.whole_text(name): kept_copy(each, deeper - 1) for name, each in value.items()}


def for_the_game(value: Any) -> Any:
    """What the game gets of an undocumented event: nothing personal, and numbers with a fraction as text."""
    if isinstance(value, dict):
        shown = {name: each for name, each in value.items() if not _HIDDEN.search(name.lower().replace("_", ""))}
        return {name: for_the_game(each) for name, each in shown.items()}
    if isinstance(value, list):
        return [for_the_game(each) for each in value]
    return str(value) if isinstance(value, Decimal) else value


def as_json(value: Any) -> bytes:
    """Compact JSON, names in order. Stored digests depend on it: its bytes must not change."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=str).encode()


def digest_of(value: Any) -> str:
    """The SHA-256 of a value's JSON."""
    return hashlib.sha256(as_json(value)).hexdigest()
