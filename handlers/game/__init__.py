"""The studio's own game server: reads what was granted, and tells who its players are and what there is to give.

``Authorization: Bearer <api token>`` names the game. Errors are problem documents (RFC 9457). What each call takes and
answers is said once, in ``openapi.py``; the bodies are checked by ``schemas.py``.
"""

from flask import Blueprint

from handlers.game import grants, items, openapi, players
from handlers.game.problems import ProblemError, problem, refuse

__all__ = ["bp", "refuse"]

bp = Blueprint("game", __name__, url_prefix="/game/v1")
bp.register_error_handler(ProblemError, problem)

bp.put("/players/<path:player_id>")(players.replace)
bp.patch("/players/<path:player_id>")(players.merge)
bp.get("/players/<path:player_id>")(players.show)
bp.delete("/players/<path:player_id>")(players.forget)
bp.post("/players")(players.replace_many)
bp.get("/players/<path:player_id>/granted")(grants.granted)

bp.put("/items/<path:sku>")(items.put)
bp.delete("/items/<path:sku>")(items.delete)
bp.get("/items")(items.listing)

bp.get("/grants")(grants.feed)
bp.post("/grants/ack")(grants.acknowledge)

bp.get("/openapi.json")(openapi.document)
