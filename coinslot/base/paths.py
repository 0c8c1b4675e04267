"""Somebody else's ids in the paths of our calls."""

from urllib.parse import quote


def path_segment(text: str) -> str:
    """Text as one segment of a path that no server folds into another path.

    Raises ValueError for what can be none: nothing, ``.`` and ``..``, and text with half of a surrogate pair.
    """
    if text in ("", ".", ".."):
        raise ValueError("no address can name that")
    try:
        segment = quote(text, safe="")
    except UnicodeEncodeError:
        raise ValueError("text with half of a surrogate pair cannot be sent") from None
    # A server that decodes slashes before it looks for dot segments is given none to find.
    return segment.replace(".", "%2E") if "/" in text or "\\" in text else segment
