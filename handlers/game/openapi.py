"""The game API's OpenAPI document, made from the calls and the schemas that check their bodies; tested to be true."""

import re
from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from coinslot.base.exact import QUANTITY_DIGITS
from handlers.game import schemas
from handlers.game.grants import LARGEST_ID, MOST_GRANTS
from handlers.kit import fields
from handlers.kit.partner import GameCall

_ID = {"type": "string", **fields.Identifier.openapi}
_IN_PATHS = {
    "player_id": "Percent-encoded UTF-8; a slash in an id as %2F",
    "sku": "Percent-encoded UTF-8",
}
AFTER = {
    "name": "after",
    "in": "query",
    "description": "The last id read; 0 starts at the beginning",
    "schema": {"type": "integer", "minimum": 0, "maximum": LARGEST_ID, "default": 0},
}
LIMIT = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_GRANTS, "default": 100},
}

_ERRORS = {
    400: "The body is no JSON, or an argument of the query cannot be read",
    401: "The API token is missing or not one of a game",
    403: "The partner refuses this, for example for a blocked player",
    404: "There is no such thing",
    409: "It does not go together with what is stored, or with how the game is set up",
    410: "It was used, or its time has passed",
    413: "The body is too large",
    422: "The body or an id is not as described; errors says where",
    429: "Too many calls; Retry-After says when to come again",
    502: "The partner's server did not answer as it should",
    503: "Our own trouble; the call may be repeated as it is",
}


def document(calls: Iterable[GameCall]) -> dict[str, Any]:
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
    plugin.map_to_openapi_type(fields.WholeNumber, "integer", None)  # type: ignore[no-untyped-call]
    plugin.map_to_openapi_type(fields.Scalar, None, None)  # type: ignore[no-untyped-call]
    assert plugin.converter is not None, "APISpec has made it"
    plugin.converter.add_attribute_function(_of_our_fields)  # type: ignore[no-untyped-call]

    by_path: dict[str, list[GameCall]] = {}
    for call in calls:
        by_path.setdefault(re.sub(r"<id:(\w+)>", r"{\1}", call.path), []).append(call)
    for path, its_calls in by_path.items():
        spec.path(
            path,
            parameters=[
                {"name": name, "in": "path", "required": True, "description": _IN_PATHS[name], "schema": _ID}
                for name in re.findall(r"{(\w+)}", path)
            ],
            operations={call.method.lower(): _operation(call) for call in its_calls},
        )
    made: dict[str, Any] = spec.to_dict()
    return made


def _of_our_fields(converter: Any, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
    """What our own fields check, in JSON Schema's words; called by apispec for every field, after its own."""
    described = dict(getattr(field, "openapi", {}))
    if hasattr(field, "alternatives"):
        described["anyOf"] = [converter.field2property(each) for each in field.alternatives]
        if field.allow_none:
            described["anyOf"].append({"type": "null"})
    if field.allow_none and "type" in described:
        described["type"] = [*described["type"], "null"]
    return described


def _operation(call: GameCall) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {"description": "Done"} | ({"content": {"application/json": {"schema": schema}}} if schema else {})
        for status, schema in call.answers.items()
    }
    for status in sorted({*(() if call.is_open else (401, 503)), *call.errors}):
        responses[str(status)] = {
            "description": _ERRORS[status],
            "content": {"application/problem+json": {"schema": schemas.Problem}},
        }
    operation: dict[str, Any] = {"summary": call.summary, "responses": responses}
    if call.is_open:
        operation["security"] = []
    if call.body:
        types = ["application/json"]
        if call.method == "PATCH":
            types.append("application/merge-patch+json")
        operation["requestBody"] = {"required": True, "content": {each: {"schema": call.body} for each in types}}
    if call.parameters:
        operation["parameters"] = list(call.parameters)
    return operation
