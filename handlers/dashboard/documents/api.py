"""The page of the game API. It is open; who is signed in sees it for a game of theirs."""

from functools import cache

from flask import Response, current_app, g, request

from coinslot.games import games
from handlers.dashboard.documents import rendering
from handlers.dashboard.documents.reference import Reference, reference
from handlers.dashboard.frame.pages import page, read
from handlers.kit.receive import current_installation

PREFIX = "/game/v1"


def api_document() -> Response:
    """Every call with its parameters, bodies, answers and errors, and a curl line to copy."""
    listed = [] if g.session is None else games.names(read())
    wanted = request.args.get("for", "")
    chosen = next((each for each in listed if each["slug"] == wanted), listed[0] if listed else None)
    return page(
        "api.html",
        reference=_reference(),
        base=current_installation().settings.public_url + PREFIX,
        games=listed,
        chosen=chosen,
        listed=rendering.listed(),
    )


@cache
def _reference() -> Reference:
    return reference(current_app.extensions["coinslot.api_document"]())
