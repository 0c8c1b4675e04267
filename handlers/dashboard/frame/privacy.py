"""What support does not see before they press Show: players' names, what the game keeps of them, and in every text
whatever looks like an e-mail address, a telephone, card or IP number. Owners see all of it.

Show holds for one page, a path with its query, for some minutes (``coinslot/access/sessions.py``), and is noted.
"""

from urllib.parse import urlencode

from flask import Blueprint, g, request

from coinslot.access.people import SUPPORT
from handlers.dashboard.frame.masking import HIDDEN, masked_text
from handlers.kit import wording

LONGEST_ADDRESS = 320  # of an e-mail


def register(bp: Blueprint) -> None:
    bp.add_app_template_filter(private, "private")
    bp.add_app_template_filter(shown, "shown")
    bp.add_app_template_filter(shortened, "shortened")
    bp.add_app_template_global(is_hidden, "is_hidden")
    bp.add_app_template_global(has_hidden, "has_hidden")
    bp.add_app_template_global(this_page, "this_page")


def private(text: str | None) -> str | None:
    """A text about a person, or :data:`HIDDEN` in its place."""
    if not text or text == wording.NOTHING or not is_hidden():
        return text
    g.has_hidden = True
    return HIDDEN


def shown(value: object, longest: int = wording.LONGEST_SHOWN) -> str:
    """:func:`wording.shown`, with what looks like a person's address or number hidden."""
    return wording.shown(_masked(value, longest), longest)


def shortened(value: object, longest: int = wording.LONGEST_ID) -> str:
    """:func:`wording.shortened`, likewise."""
    return wording.shortened(_masked(value, wording.LONGEST_SHOWN), longest)


def reveal() -> None:
    """Hide nothing in this answer. The caller notes who asked for it."""
    g.is_shown = True


def is_hidden() -> bool:
    """Whether personal data is hidden in this answer."""
    person = g.get("person")
    return person is not None and person.role == SUPPORT and not g.get("is_shown")


def has_hidden() -> bool:
    """Whether something was hidden in this answer so far."""
    return bool(g.get("has_hidden"))


def this_page() -> str:
    """The path and the query of this page, without the word on the change before it."""
    query = [(name, value) for name, value in request.args.items(multi=True) if name != "said"]
    return f"{request.path}?{urlencode(query)}" if query else request.path


def _masked(value: object, longest: int) -> str:
    """The text, of which the first ``longest`` characters are looked at."""
    text = str(value)
    if not is_hidden() or text in list(request.args.values()):  # who typed it knows it
        return text
    looked_at = longest + LONGEST_ADDRESS  # an address that is cut looks like none
    masked = masked_text(text[:looked_at])
    if masked != text[:looked_at]:
        g.has_hidden = True
    return masked + text[looked_at:]
