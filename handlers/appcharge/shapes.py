"""Kinds of fields Appcharge sends, read as leniently as its documents differ and as strictly as money wants."""

from typing import Any

from marshmallow import ValidationError, fields

from coinslot.base import exact
from coinslot.games import registry
from coinslot.games.readers import text_of


class Id(fields.Field[str | None]):
    """An id as text; a JSON integer keeps its digits. Empty counts as missing."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        if value == "":
            return None
        text = text_of(value)
        if text is None:
            raise ValidationError("not text")
        try:
            return registry.checked_id(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Quantity(fields.Field[int]):
    """A whole number, however it is written: 1000, "1000", 1e21."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        try:
            return exact.whole(value, exact.QUANTITY_DIGITS)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def first_message(messages: Any, path: str = "") -> str:
    """``products.0.amount: not a whole number`` out of marshmallow's nested messages."""
    while isinstance(messages, dict):
        key, messages = next(iter(messages.items()))
        path = f"{path}.{key}" if path else str(key)
    return f"{path}: {messages[0] if isinstance(messages, list) else messages}"
