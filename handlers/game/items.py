"""Items: what there is to give."""

from flask import Response, jsonify

from coinslot.games import registry
from handlers.game.schemas import Item
from handlers.kit.problems import ProblemError, caller, checked, nothing, read_body
from handlers.kit.receive import current_installation

_item = Item()


def put(sku: str) -> tuple[Response, int]:
    """Register an item, or replace its name; a missing name removes the one it has. 201 for a new one."""
    game = caller()
    sku = checked(sku, "sku")
    name = read_body(_item).get("name")
    is_new = current_installation().database.write(lambda tx: registry.put_item(tx, game.id, sku, name))
    return jsonify(sku=sku, name=name), 201 if is_new else 200


def delete(sku: str) -> Response:
    """Orders for it are refused from now on, where unknown items are; what was granted stays."""
    game = caller()
    sku = checked(sku, "sku")
    if not current_installation().database.write(lambda tx: registry.delete_item(tx, game.id, sku)):
        raise ProblemError(404, "There is no such item")
    return nothing()


def listing() -> Response:
    game = caller()
    return jsonify(items=[dict(row) for row in registry.items(current_installation().database.read(), game.id)])
