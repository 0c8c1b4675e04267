"""Errors as problem documents (RFC 9457), and the two things every call here begins with: who calls, with what body."""

import math
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify, request
from marshmallow import Schema, ValidationError

from coinslot import exact
from coinslot.games import Game
from coinslot.registry import RegistryError, checked_id
from handlers import installation

LARGEST_BULK_BODY = 16 * 1024 * 1024
MOST_ERRORS_TOLD = 20


class ProblemError(Exception):
    """A refusal. ``errors`` says where in the body, as a list of ``{"path", "detail"}``."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


def problem(error: ProblemError) -> Response:
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
    }
    if error.errors is not None:
        content["errors"] = error.errors
    response = jsonify(content)
    response.status_code = error.status
    response.mimetype = "application/problem+json"
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="coinslot"'
    return response


def refuse(status: int, message: str) -> Response:
    """For errors that no call here raised itself: no such address, wrong method, our own trouble."""
    return problem(ProblemError(status, message))


def caller() -> Game:
    """The game whose token the request carries. Raises a 401."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    game = installation().games.by_token(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
    if game is None:
        raise ProblemError(401, "Send the game's API token as Authorization: Bearer <token>")
    return game


def read_body(schema: Schema, largest: int | None = None) -> dict[str, Any]:
    """The request's JSON object, checked. Raises a 400 for what is no JSON, a 422 for what the schema refuses."""
    if largest is not None:
        request.max_content_length = largest
    return check(schema, read_object())


def read_object() -> dict[str, Any]:
    """The request's JSON object, unchecked. Raises a 400 or a 422."""
    try:
        document = exact.parse_json(request.get_data(), parse_float=_finite)
    except ValueError:
        raise ProblemError(400, "The body is not JSON") from None
    if not isinstance(document, dict):
        raise ProblemError(422, "The body is not a JSON object")
    return document


def check(schema: Schema, document: dict[str, Any]) -> dict[str, Any]:
    """What the schema makes of it. Raises a 422 that names every place."""
    try:
        loaded: dict[str, Any] = schema.load(document)
    except ValidationError as error:
        errors = _flat(error.messages)
        raise ProblemError(422, f"{errors[0]['path']}: {errors[0]['detail']}", errors) from None
    return loaded


def checked(value: str, name: str) -> str:
    """An id out of the address. Raises a 422."""
    try:
        return checked_id(value)
    except ValueError as error:
        raise ProblemError(422, f"{name}: {error}") from None


def whole_argument(name: str, default: int, lowest: int, highest: int) -> int:
    """A whole number out of the query. Raises a 400."""
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and lowest <= int(text) <= highest):
        raise ProblemError(400, f"{name}: use a whole number from {lowest} to {highest}")
    return int(text)


def conflict(error: RegistryError) -> ProblemError:
    return ProblemError(409, str(error))


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("out of range")
    return number


def _flat(messages: Any, path: str = "") -> list[dict[str, str]]:
    """marshmallow's nested messages as a list of places."""
    if isinstance(messages, dict):
        found = [
            each
            for key, inner in messages.items()
            for each in _flat(inner, path if key == "_schema" else f"{path}.{key}" if path else str(key))
        ]
        return found[:MOST_ERRORS_TOLD]
    return [{"path": path or "body", "detail": str(message)} for message in messages]
