"""Kinds of fields Appcharge sends, read as leniently as its documents differ and as strictly as money wants."""

from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields

from coinslot.base import clock, exact
from coinslot.games import registry


class Id(fields.Field[str | None]):
    """An id as text; a JSON integer keeps its digits. Empty counts as missing."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ValidationError("not text")
        try:
            return registry.checked_id(value) if value else None
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Quantity(fields.Field[int]):
    """A whole number, however it is written: 1000, "1000", 1e21."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        try:
            return exact.whole(value, exact.QUANTITY_DIGITS)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def moment(text: Any) -> str | None:
    """ISO 8601 in our format; None for anything else: a time is never a reason to refuse."""
    try:
        parsed = datetime.fromisoformat(text if isinstance(text, str) else "")
        return clock.stamp((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def first_message(messages: Any, path: str = "") -> str:
    """``products.0.amount: not a whole number`` out of marshmallow's nested messages."""
    while isinstance(messages, dict):
        key, messages = next(iter(messages.items()))
        path = f"{path}.{key}" if path else str(key)
    return f"{path}: {messages[0] if isinstance(messages, list) else messages}"
