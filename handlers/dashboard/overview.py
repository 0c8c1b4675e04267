"""The first page: what is wrong, said first, and how the games are doing."""

from flask import Response

from coinslot import games
from handlers import installation
from handlers.dashboard.pages import bp, page


@bp.get("/")
def overview() -> Response:
    return page("overview.html", games=games.every(installation().database.read()))
