"""The game API's OpenAPI document, made from the schemas that check its bodies. It is true, and tested to be."""

from functools import cache
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Response, jsonify

from coinslot.exact import QUANTITY_DIGITS
from handlers.game import schemas

_ID = {"type": "string", "minLength": 1, "maxLength": 255}
_PLAYER_ID = {"name": "player_id", "in": "path", "required": True, "schema": _ID}
_SKU = {"name": "sku", "in": "path", "required": True, "schema": _ID}
_AFTER = {
    "name": "after",
    "in": "query",
    "description": "The last id read; 0 starts at the beginning",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1, "default": 0},
}
_LIMIT = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
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
        openapi_version="3.0.3",
        plugins=[plugin],
        info={"description": f"Quantities are JSON integers, exact, of up to {QUANTITY_DIGITS} digits."},
        servers=[{"url": "/game/v1"}],
        security=[{"token": []}],
    )
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    for field, kind in ((schemas.WholeNumber, "integer"), (schemas.Identifier, "string"), (schemas.Scalar, None)):
        plugin.map_to_openapi_type(field, kind, None)  # type: ignore[no-untyped-call]

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
                {"type": "object"},
                errors=(400, 404, 409, 413, 422),
            ),
            "delete": _call("Forget the person, keep the sums", {204: None}, errors=(404, 422)),
        },
    )
    spec.path(
        "/players",
        operations={
            "post": _call(
                "Store up to 1,000 entries, all or none",
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
                "responses": {"200": {"description": "OpenAPI 3", "content": {"application/json": {"schema": {}}}}},
            }
        },
    )
    made: dict[str, Any] = spec.to_dict()
    return made


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
        call["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        call["parameters"] = list(parameters)
    return call
