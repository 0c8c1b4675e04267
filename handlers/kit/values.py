"""The values that a profile is made of: numbers, times, words, addresses, lists and open mappings."""

import re
from typing import Any

from marshmallow import ValidationError, fields

from coinslot.base import exact
from handlers.kit.fields import WholeNumber
from handlers.kit.problems import MOST_LEVELS

QUANTITY_DIGITS = 24  # Appcharge's limit for a quantity
LARGEST = 10**9 - 1  # of every other number
LONGEST_TEXT = 4096
LONGEST_URL = 2048
MOST_WORDS = 1000  # segments, sections, attributes
# Times are milliseconds since 1970. A number this small is a time in seconds, one this large in microseconds.
EARLIEST_MS = 10**11
LATEST_MS = 10**14 - 1
_DIGITS = re.compile(rf"[0-9]{{1,{QUANTITY_DIGITS}}}")
_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?([/?#][!-~]*)?")
_NO_LINE = r"\u0000-\u0009\u000b-\u001f\u007f-\u009f"
_UNPRINTABLE = re.compile(rf"[{_NO_LINE}\ud800-\udfff]")


class Number(WholeNumber):
    """A whole number from ``lowest`` to ``highest``."""

    def __init__(self, lowest: int = 0, highest: int = LARGEST, **kwargs: Any) -> None:
        super().__init__(len(str(highest)), **kwargs)
        self.lowest = lowest
        self.highest = highest
        self.openapi = {"minimum": lowest, "maximum": highest}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        number = super()._deserialize(value, *args, **kwargs)
        if number < self.lowest:
            raise ValidationError(f"below {self.lowest}")
        if number > self.highest:
            raise ValidationError(f"above {self.highest}")
        return number


class Moment(WholeNumber):
    """A time in milliseconds since 1970."""

    def __init__(self) -> None:
        super().__init__(QUANTITY_DIGITS)
        self.openapi = {"minimum": EARLIEST_MS, "maximum": LATEST_MS, "description": "Milliseconds since 1970"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        number = super()._deserialize(value, *args, **kwargs)
        if number < EARLIEST_MS:
            raise ValidationError("use milliseconds since 1970; this looks like seconds")
        if number > LATEST_MS:
            raise ValidationError("use milliseconds since 1970; this is too far away")
        return number


class Figure(fields.Raw):
    """A number that may have a fraction."""

    openapi = {"type": ["number"], "minimum": 0, "maximum": LARGEST}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValidationError("not a number")
        if not 0 <= value <= LARGEST:
            raise ValidationError("out of range")
        return value


class Quantity(fields.Raw):
    """A whole number, as JSON's own or as digits in text; kept, shown and sent on as the former."""

    openapi = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 10**QUANTITY_DIGITS - 1},
            {"type": "string", "pattern": f"^{_DIGITS.pattern}$"},
        ]
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, str) and not _DIGITS.fullmatch(value):
            raise ValidationError(f"not a whole number of up to {QUANTITY_DIGITS} digits")
        return int(WholeNumber(QUANTITY_DIGITS).deserialize(int(value) if isinstance(value, str) else value))


class Wording(fields.String):
    """Words a player reads: no control characters but line breaks."""

    openapi = {"maxLength": LONGEST_TEXT, "pattern": f"^[^{_NO_LINE}]*$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        words = str(super()._deserialize(value, *args, **kwargs))
        if len(words) > LONGEST_TEXT:
            raise ValidationError(f"use up to {LONGEST_TEXT} characters")
        if _UNPRINTABLE.search(words):
            raise ValidationError("use no control characters but line breaks")
        return words


class WebAddress(fields.String):
    """A web address."""

    openapi = {"maxLength": LONGEST_URL, "pattern": f"^{_URL.pattern}$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        address = str(super()._deserialize(value, *args, **kwargs))
        if len(address) > LONGEST_URL or not _URL.fullmatch(address):
            raise ValidationError("use an http:// or https:// address")
        return address


class Each(fields.List[Any]):
    """A list of ``fewest`` to ``most`` entries, no two of which have the same ``unique``."""

    def __init__(
        self, inner: fields.Field[Any], most: int, fewest: int = 0, unique: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(inner, **kwargs)
        self.most = most
        self.fewest = fewest
        self.unique = unique
        self.openapi: dict[str, Any] = {"maxItems": most}
        if fewest:
            self.openapi["minItems"] = fewest
        if unique:
            self.openapi["description"] = f"Each `{unique}` once"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list) and not self.fewest <= len(value) <= self.most:  # before each is checked
            raise ValidationError(f"use {self.fewest} to {self.most} entries")
        entries: list[Any] = super()._deserialize(value, *args, **kwargs)
        if self.unique:
            seen = set()
            for place, entry in enumerate(entries):
                if entry[self.unique] in seen:
                    raise ValidationError({place: {self.unique: ["occurs twice"]}})
                seen.add(entry[self.unique])
        return entries


class Attributes(fields.Dict):
    """Names with a text, a number, true or false each."""

    def __init__(self, value: fields.Field[Any]) -> None:
        super().__init__(keys=fields.String(), values=value)
        self.openapi = {"maxProperties": MOST_WORDS, "propertyNames": {"maxLength": 255}}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        if isinstance(value, dict):
            if len(value) > MOST_WORDS:
                raise ValidationError(f"use up to {MOST_WORDS}")
            if any(len(name) > 255 for name in value):
                raise ValidationError("use names of up to 255 characters")
        try:
            return dict(super()._deserialize(value, *args, **kwargs))  # type: ignore[no-untyped-call]
        except ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            # The place of what is wrong is the name itself.
            raise ValidationError({name: found.get("value", found) for name, found in error.messages.items()}) from None


class SessionMetadata(fields.Dict):
    """Whatever the game wants to read again in the store's reports."""

    def __init__(self) -> None:
        super().__init__(keys=fields.String())

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        if exact.is_deeper(value, MOST_LEVELS):
            raise ValidationError(f"nested deeper than {MOST_LEVELS} levels")
        return dict(super()._deserialize(value, *args, **kwargs))  # type: ignore[no-untyped-call]
