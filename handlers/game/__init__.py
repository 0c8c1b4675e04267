"""The API for the game's own server, which reads grants and registers players and items.

``Authorization: Bearer <api token>`` names the game. Errors are problem documents (RFC 9457). What each call takes and
answers is said once, in the table below and in the schemas of the bodies (``schemas.py``); the OpenAPI document is made
of both. Partners add calls of their own.
"""

from collections.abc import Callable, Iterable
from functools import cache

from flask import Blueprint, Response, jsonify
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from handlers.game import events, grants, items, openapi, paths, players, schemas
from handlers.game.paths import EncodedSlashes
from handlers.kit.partner import GameCall, Partner
from handlers.kit.player_entries import Player
from handlers.kit.problems import ProblemError, problem, refuse

__all__ = ["EncodedSlashes", "new_blueprint", "refuse"]

PLAYER, ITEM = "/players/<id:player_id>", "/items/<id:sku>"
STORED = {200: schemas.StoredPlayer}
PUT_PLAYER = {200: schemas.StoredPlayer, 201: schemas.StoredPlayer}
PUT_ITEM = {200: schemas.StoredItem, 201: schemas.StoredItem}
REPLACE = "Store an entry in place of what was there"
MERGE = "Change what is named (a merge patch, RFC 7396: null removes)"
BULK = (
    "Store up to 1,000 entries, each player_id once; after an error the same call stores the rest; at most "
    f"{schemas.MOST_PASSWORDS} may carry a password"
)
EXPORT = "Everything kept about a player, for the player's own right to it"
SUMS = "What was granted, summed per item"
GRANTS, EVENTS = "Grants after a cursor, in order", "Other facts after a cursor, in order"
APPLIED = "The game has applied everything up to an id"
PAGE = (openapi.AFTER, openapi.LIMIT)
BAD_BODY = (400, 413, 422)
TAKEN = (400, 409, 413, 422)

CALLS = (
    GameCall(
        "PUT",
        PLAYER,
        players.replace,
        REPLACE,
        PUT_PLAYER,
        Player,
        (),
        TAKEN,
    ),
    GameCall("PATCH", PLAYER, players.merge, MERGE, STORED, schemas.PlayerPatch, (), (*TAKEN, 404)),
    GameCall("GET", PLAYER, players.show, "A registry entry", STORED, errors=(404, 422)),
    GameCall("DELETE", PLAYER, players.forget, "Forget the person, keep the sums", {204: None}, errors=(404, 422)),
    GameCall("GET", f"{PLAYER}/export", players.export, EXPORT, {200: schemas.PlayerExport}, errors=(404, 422)),
    GameCall("POST", "/players", players.replace_many, BULK, {200: schemas.PlayersStored}, schemas.Players, (), TAKEN),
    GameCall(
        "GET",
        f"{PLAYER}/granted",
        grants.granted,
        SUMS,
        {200: schemas.Granted},
        errors=(422,),
    ),
    GameCall("PUT", ITEM, items.put, "Store an item", PUT_ITEM, schemas.Item, errors=BAD_BODY),
    GameCall("DELETE", ITEM, items.delete, "Remove an item", {204: None}, errors=(404, 422)),
    GameCall("GET", "/items", items.listing, "The catalogue", {200: schemas.Items}),
    GameCall("GET", "/grants", grants.feed, GRANTS, {200: schemas.Grants}, None, PAGE, (400,)),
    GameCall("POST", "/grants/ack", grants.acknowledge, APPLIED, {200: schemas.Acked}, schemas.Ack, errors=BAD_BODY),
    GameCall("GET", "/events", events.feed, EVENTS, {200: schemas.Events}, None, PAGE, (400,)),
)


class IdConverter(BaseConverter):
    """Any characters at all, so that an id with slashes finds its call, and one with a line break its refusal.

    A slash sent as ``%2F`` is always a part of the id; one sent as it is may divide the id from what follows.
    """

    regex = "(?s:.+?)"
    weight = 200  # as werkzeug's own path: everything more exact is tried first
    part_isolating = False

    def to_python(self, value: str) -> str:
        return paths.decoded(value)


def new_blueprint(partners: Iterable[Partner]) -> Blueprint:
    """The game API: the calls above, and those of the partners."""
    calls = [*CALLS, *(call for partner in partners for call in partner.game_calls)]
    document = cache(lambda: openapi.document(calls))

    def show_document() -> Response:
        return jsonify(document())

    calls.append(
        GameCall("GET", "/openapi.json", show_document, "This document", {200: schemas.Document}, is_open=True)
    )
    bp = Blueprint("game", __name__, url_prefix="/game/v1")
    bp.register_error_handler(ProblemError, problem)
    bp.record(_teach_converter)
    bp.record(lambda state: state.app.extensions.update({"coinslot.api_document": document}))  # for the page of it
    for call in calls:
        # Werkzeug's redirect for doubled slashes and Flask's answer to OPTIONS would be HTML.
        bp.add_url_rule(
            call.path,
            _endpoint(call.function),
            call.function,
            methods=[call.method],
            provide_automatic_options=False,
            merge_slashes=False,
        )
    return bp


def _endpoint(function: Callable[..., object]) -> str:
    """The name of a call in the log: its module and its function."""
    return f"{function.__module__.rpartition('.')[2]}_{function.__name__}"


def _teach_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["id"] = IdConverter
