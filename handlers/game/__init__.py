"""The studio's own game server: reads what was granted, and tells who its players are and what there is to give.

``Authorization: Bearer <api token>`` names the game. Errors are problem documents (RFC 9457). What each call takes and
answers is said once, in ``openapi.py``; the bodies are checked by ``schemas.py``.
"""

from flask import Blueprint
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from handlers.game import events, grants, items, openapi, players
from handlers.game.problems import ProblemError, problem, refuse

__all__ = ["bp", "refuse"]

RULES = (
    ("PUT", "/players/<id:player_id>", players.replace),
    ("PATCH", "/players/<id:player_id>", players.merge),
    ("GET", "/players/<id:player_id>", players.show),
    ("DELETE", "/players/<id:player_id>", players.forget),
    ("POST", "/players", players.replace_many),
    ("GET", "/players/<id:player_id>/granted", grants.granted),
    ("PUT", "/items/<id:sku>", items.put),
    ("DELETE", "/items/<id:sku>", items.delete),
    ("GET", "/items", items.listing),
    ("GET", "/grants", grants.feed),
    ("POST", "/grants/ack", grants.acknowledge),
    ("GET", "/events", events.feed),
    ("GET", "/openapi.json", openapi.document),
)


class IdConverter(BaseConverter):
    """Any characters at all, so that an id with slashes finds its call, and one with a line break its refusal."""

    regex = "(?s:.+?)"
    weight = 200  # as werkzeug's own path: everything more exact is tried first
    part_isolating = False


def _teach_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["id"] = IdConverter


bp = Blueprint("game", __name__, url_prefix="/game/v1")
bp.register_error_handler(ProblemError, problem)
bp.record(_teach_converter)
for method, path, function in RULES:
    # Werkzeug's redirect for doubled slashes and Flask's answer to OPTIONS are HTML, and nobody here asks for either.
    endpoint = f"{function.__module__.rpartition('.')[2]}_{function.__name__}"
    bp.add_url_rule(path, endpoint, function, methods=[method], provide_automatic_options=False, merge_slashes=False)
