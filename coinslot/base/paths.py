"""Ids of partners in the paths of our calls."""

from urllib.parse import quote


def path_segment(text: str) -> str:
    """Text as one segment of a path, which no server reads as another path.

    Raises ValueError for empty text, ``.`` and ``..``, and for half of a surrogate pair.
    """
    if text in ("", ".", ".."):
        raise ValueError("no address can name that")
    try:
        segment = quote(text, safe="")
    except UnicodeEncodeError:
        raise ValueError("text with half of a surrogate pair cannot be sent") from None
    # A server may decode slashes before it looks for dot segments.
    return segment.replace(".", "%2E") if "/" in text or "\\" in text else segment
