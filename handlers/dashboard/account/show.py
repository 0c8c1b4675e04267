"""Show: what is personal on a page becomes visible to support, and Activity says who looked at which."""

from urllib.parse import unquote, urlsplit

from flask import current_app, g, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
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
    slug = _slug_of(page)
    game_id = None if slug is None else find_game(slug).id
    noted = masked_text(unquote(page))[:LONGEST_NOTED]  # an address may stand in the query, or be a player's id

    def show(tx: Connection) -> None:
        sessions.show(tx, g.session, page)
        audit.record(tx, game_id, who(), "person.show", noted)

    write(show)
    return redirect(page, 303)


def _slug_of(page: str) -> str | None:
    """The game in the address of a page of ours; 400 where it is none that this person may see."""
    not_ours = PageError(400, "There is no such page here.")
    if not page.startswith("/") or page.startswith(("//", "/\\")) or len(page) > LONGEST_PAGE or not page.isprintable():
        raise not_ours
    try:
        endpoint, values = current_app.url_map.bind("").match(urlsplit(page).path, "GET")
    except (HTTPException, RequestRedirect, ValueError):
        raise not_ours from None
    blueprint, _, name = endpoint.partition(".")
    if blueprint != "dashboard" or not roles.may(g.person, name):
        raise not_ours
    return values.get("slug")
