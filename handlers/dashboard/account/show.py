"""Show: what is personal on a page becomes visible to support, and Activity says who looked at which."""

from urllib.parse import parse_qs, unquote, urlsplit

from flask import g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import sessions
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.frame import roles
from handlers.dashboard.frame.masking import masked_text
from handlers.dashboard.frame.pages import PageError, find_game, who, write

LONGEST_PAGE = 2000
LONGEST_NOTED = 300


def show_page() -> AnyResponse:
    """Show the page that the form names, for some minutes."""
    page = request.form.get("page", "")
    words = None if len(page) > LONGEST_PAGE else roles.words_of(g.person, page)
    if words is None:
        raise PageError(400, "There is no such page here.")
    game_id = find_game(words["slug"]).id if "slug" in words else None
    noted = _noted(page)

    def show(tx: Connection) -> None:
        sessions.show(tx, g.session, page)
        audit.record(tx, game_id, who(), "person.show", noted)

    write(show)
    return redirect(page, 303)


def _noted(page: str) -> str:
    """The path, and the id of a player where it stands behind it; not what was searched for, which may be a name."""
    parts = urlsplit(page)
    path = "/".join(masked_text(unquote(each)) for each in parts.path.split("/"))  # an id may be an address
    player = "".join(f"?id={masked_text(each)}" for each in parse_qs(parts.query).get("id", ())[:1])
    return f"{path}{player}"[:LONGEST_NOTED]
