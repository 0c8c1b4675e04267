"""Objects and ids that Appcharge's calls cannot do without."""

from collections.abc import Mapping
from typing import Any

from coinslot.base import exact
from coinslot.games import registry
from coinslot.games.readers import text_of


def read_object(body: bytes, *, is_lenient: bool = False) -> dict[str, Any]:
    """The JSON object in a body; lenient as in :func:`exact.parse_json`. Raises ValueError for anything else."""
    document = exact.parse_json(body, allow_half_pairs=True, is_lenient=is_lenient)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def required_id(document: Mapping[str, Any], name: str) -> str:
    """The id in this field. Raises ValueError, which names the field and no value."""
    value = document.get(name)
    if value in (None, ""):
        raise ValueError(f"{name} is missing")
    text = text_of(value)
    if text is None:
        raise ValueError(f"{name}: not text")
    try:
        return registry.checked_id(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
