"""Appcharge's Initiate Game Auth callback: ``POST /appcharge/<game>/otp``.

Sent when a player logs in to the store through the game. We answer with a link that opens the game; the game says who
is signed in (``game_calls.py``), and the store sends the code that the player was given (``auth.py``). This is the only
callback with documented refusals (docs.appcharge.com, checked 2026-11): 400 for the signature, 401 for the token, 403
for the parameters.
"""

from urllib.parse import quote

from flask import Response

from coinslot.access import logins
from handlers.appcharge.receive import PARTNER, answer, enter, refused
from handlers.appcharge.shapes import read_object
from handlers.kit.receive import current_installation


def initiate(game_slug: str) -> Response:
    """Begin a login; the answer is a link to the game and the token to come back with."""
    call = enter(game_slug, "otp")
    game = call.game
    deep_link = game.settings["appcharge.deep_link"]
    if not deep_link:
        raise refused("otp", game, "deep_link", 404, "Not Found")
    if not _has_parameters(call.body):
        raise refused("otp", game, "malformed", 403, "Parameters not correct")

    seconds = float(game.settings["appcharge.redirect_seconds"])
    token = current_installation().database.write(lambda tx: logins.begin(tx, game.id, PARTNER, seconds))
    return answer(
        200,
        {
            "deepLink": deep_link.replace("{token}", quote(token, safe="")),
            "accessToken": token,
            "desktopAutoRedirect": game.is_on("appcharge.desktop_auto_redirect"),
        },
    )


def _has_parameters(body: bytes) -> bool:
    """Whether ``device`` and ``date`` are there. Which device it is changes nothing; new kinds come unannounced."""
    try:
        document = read_object(body)
    except ValueError:
        return False
    return all(isinstance(document.get(name), str) and document[name] for name in ("device", "date"))
