"""The game API's OpenAPI document, made from the schemas that check its bodies. It is true, and tested to be."""

from functools import cache
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Response, jsonify

from coinslot.exact import QUANTITY_DIGITS
from handlers.game import schemas
from handlers.game.grants import LARGEST_ID, MOST_GRANTS

_ID = {"type": "string", **schemas.Identifier.openapi}
_PLAYER_ID = {
    "name": "player_id",
    "in": "path",
    "required": True,
    "description": "Percent-encoded UTF-8. An id that itself ends in /granted cannot be read, only written.",
    "schema": _ID,
}
_SKU = {"name": "sku", "in": "path", "required": True, "description": "Percent-encoded UTF-8", "schema": _ID}
_AFTER = {
    "name": "after",
    "in": "query",
    "description": "The last id read; 0 starts at the beginning",
    "schema": {"type": "integer", "minimum": 0, "maximum": LARGEST_ID, "default": 0},
}
_LIMIT = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_GRANTS, "default": 100},
}

_ERRORS = {
    400: "The body is no JSON, or an argument of the query cannot be read",
    401: "The API token is missing or not one of a game",
    404: "There is no such player or item",
    409: "A login name or identity belongs to another player",
    413: "The body is too large",
    422: "The body or an id is not as described; errors says where",
    503: "Our own trouble; the call may be repeated as it is",
}


def document() -> Response:
    return jsonify(_document())


@cache
def _document() -> dict[str, Any]:
    plugin = MarshmallowPlugin()
    spec = APISpec(
        title="Coinslot game API",
        version="1",
        openapi_version="3.1.0",
        plugins=[plugin],
        info={
            "description": "Whole numbers are written without fraction or exponent: 1, not 1.0. Quantities are exact "
            f"and have up to {QUANTITY_DIGITS} digits, sums more."
        },
        servers=[{"url": "/game/v1"}],
        security=[{"token": []}],
    )
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    plugin.map_to_openapi_type(schemas.WholeNumber, "integer", None)  # type: ignore[no-untyped-call]
    plugin.map_to_openapi_type(schemas.Scalar, None, None)  # type: ignore[no-untyped-call]
    assert plugin.converter is not None, "APISpec has made it"
    plugin.converter.add_attribute_function(_of_our_fields)  # type: ignore[no-untyped-call]

    spec.path(
        "/players/{player_id}",
        parameters=[_PLAYER_ID],
        operations={
            "get": _call("A registry entry", {200: schemas.StoredPlayer}, errors=(404, 422)),
            "put": _call(
                "Store an entry in place of what was there",
                {200: schemas.StoredPlayer, 201: schemas.StoredPlayer},
                schemas.Player,
                errors=(400, 409, 413, 422),
            ),
            "patch": _call(
                "Change what is named (a merge patch, RFC 7396: null removes)",
                {200: schemas.StoredPlayer},
                schemas.PlayerPatch,
                errors=(400, 404, 409, 413, 422),
            ),
            "delete": _call("Forget the person, keep the sums", {204: None}, errors=(404, 422)),
        },
    )
    spec.path(
        "/players",
        operations={
            "post": _call(
                "Store up to 1,000 entries, all or none, each player_id once; at most "
                f"{schemas.MOST_PASSWORDS} may carry a password",
                {200: schemas.PlayersStored},
                schemas.Players,
                errors=(400, 409, 413, 422),
            )
        },
    )
    spec.path(
        "/players/{player_id}/granted",
        parameters=[_PLAYER_ID],
        operations={"get": _call("What was granted, summed per item", {200: schemas.Granted}, errors=(422,))},
    )
    spec.path(
        "/items/{sku}",
        parameters=[_SKU],
        operations={
            "put": _call(
                "Store an item",
                {200: schemas.StoredItem, 201: schemas.StoredItem},
                schemas.Item,
                errors=(400, 413, 422),
            ),
            "delete": _call("Remove an item", {204: None}, errors=(404, 422)),
        },
    )
    spec.path("/items", operations={"get": _call("The catalogue", {200: schemas.Items})})
    spec.path(
        "/grants",
        operations={
            "get": _call("Grants after a cursor, in order", {200: schemas.Grants}, (), (_AFTER, _LIMIT), errors=(400,))
        },
    )
    spec.path(
        "/events",
        operations={
            "get": _call(
                "Other facts after a cursor, in order", {200: schemas.Events}, (), (_AFTER, _LIMIT), errors=(400,)
            )
        },
    )
    spec.path(
        "/grants/ack",
        operations={
            "post": _call(
                "The game has applied everything up to an id", {200: schemas.Acked}, schemas.Ack, errors=(400, 413, 422)
            )
        },
    )
    spec.path(
        "/openapi.json",
        operations={
            "get": {
                "summary": "This document",
                "security": [],
                "responses": {
                    "200": {"description": "OpenAPI 3", "content": {"application/json": {"schema": {"type": "object"}}}}
                },
            }
        },
    )
    made: dict[str, Any] = spec.to_dict()
    return made


def _of_our_fields(_: Any, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
    """What our own fields check, in JSON Schema's words; called by apispec for every field, after its own."""
    described = dict(getattr(field, "openapi", {}))
    if field.allow_none and "type" in described:
        described["type"] = [*described["type"], "null"]
    return described


def _call(
    summary: str,
    answers: dict[int, Any],
    body: Any = None,
    parameters: tuple[dict[str, Any], ...] = (),
    errors: tuple[int, ...] = (),
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {"description": "Done"} | ({"content": {"application/json": {"schema": schema}}} if schema else {})
        for status, schema in answers.items()
    }
    for status in sorted({401, 503, *errors}):
        responses[str(status)] = {
            "description": _ERRORS[status],
            "content": {"application/problem+json": {"schema": schemas.Problem}},
        }
    call: dict[str, Any] = {"summary": summary, "responses": responses}
    if body:
        types = (
            ("application/json", "application/merge-patch+json")
            if body is schemas.PlayerPatch
            else ("application/json",)
        )
        call["requestBody"] = {"required": True, "content": {each: {"schema": body} for each in types}}
    if parameters:
        call["parameters"] = list(parameters)
    return call
