"""Fields of bodies and settings. Each checks its value and describes that check for the OpenAPI document."""

import re
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields

from coinslot.base import exact
from coinslot.games.registry import LONGEST_ID, checked_id, checked_text

_CONTROL = r"\u0000-\u001f\u007f-\u009f"

# ``openapi`` of a field is its check in JSON Schema's words.


class Identifier(fields.String):
    """An id: 1 to 255 characters, no control characters, no blanks at the ends."""

    openapi = {
        "minLength": 1,
        "maxLength": LONGEST_ID,
        "pattern": rf"^[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?$",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return checked_id(str(super()._deserialize(value, *args, **kwargs)))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Text(fields.String):
    """A name or the like: no control characters; null counts as left out."""

    def __init__(self, longest: int) -> None:
        super().__init__(allow_none=True)
        self.longest = longest
        self.openapi = {"maxLength": longest, "pattern": f"^[^{_CONTROL}]*$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return checked_text(str(super()._deserialize(value, *args, **kwargs)), self.longest)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class WebAddress(Text):
    """An http:// or https:// address without a user name; "" and null count as left out."""

    def __init__(self, longest: int) -> None:
        super().__init__(longest)
        pattern = rf"(https?://[^\s/?#@{_CONTROL}]+([/?#][^\s{_CONTROL}]*)?)?"
        self._pattern = re.compile(pattern)
        self.openapi = {"maxLength": longest, "pattern": f"^{pattern}$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        if not self._pattern.fullmatch(text):
            raise ValidationError("use an http:// or https:// address without blanks and without a user name")
        return text


class WholeNumber(fields.Field[int]):
    """A JSON integer, exactly; 1.0, "1" and true are none."""

    def __init__(self, digits: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.digits = digits
        self.openapi = {"minimum": 0, "maximum": 10**digits - 1}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError("not a whole number")
        try:
            number = exact.whole(value, self.digits)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if number < 0:
            raise ValidationError("below 0")
        return number


class Scalar(fields.Field[Any]):
    """Text, a number, true or false."""

    openapi = {"type": ["string", "number", "boolean"]}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not isinstance(value, str | int | float):
            raise ValidationError("not text, a number, true or false")
        return value


class Strict(Schema):
    """A body of the game's. An unknown field is refused."""

    class Meta:
        unknown = RAISE
