"""Show: what is personal on a page becomes visible to support, and Activity says who looked at which."""

from urllib.parse import unquote

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
    noted = masked_text(unquote(page))[:LONGEST_NOTED]  # an address may stand in the query, or be a player's id

    def show(tx: Connection) -> None:
        sessions.show(tx, g.session, page)
        audit.record(tx, game_id, who(), "person.show", noted)

    write(show)
    return redirect(page, 303)
