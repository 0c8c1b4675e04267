"""Errors as problem documents (RFC 9457), and the two things every call here begins with: who calls, with what body."""

from http import HTTPStatus
from typing import Any

from flask import Response, jsonify, request
from marshmallow import Schema, ValidationError

from coinslot.base import exact
from coinslot.games.games import Game
from coinslot.games.registry import RegistryError, checked_id
from handlers.kit.receive import current_installation

LARGEST_BULK_BODY = 16 * 1024 * 1024
MOST_ERRORS_TOLD = 20
MOST_LEVELS = 64  # of nesting: what one thread could just parse, another with a fuller stack could not write


class ProblemError(Exception):
    """A refusal. ``errors`` says where in the body, as a list of ``{"path", "detail"}``."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


def problem(error: ProblemError) -> Response:
    """The answer for an error: ``application/problem+json`` (RFC 9457), with the places of what is wrong."""
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


def nothing() -> Response:
    """A 204: no body, and so no type of one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def caller() -> Game:
    """The game whose token the request carries. Raises a 401."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    game = (
        current_installation().games.by_token(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
    )
    if game is None:
        raise ProblemError(401, "Send the game's API token as Authorization: Bearer <token>")
    return game


def read_body(schema: Schema, largest: int | None = None, *, keeps_digits: bool = False) -> dict[str, Any]:
    """The request's JSON object, checked; its fractions are floats, or with ``keeps_digits`` exact, as Decimal.

    Raises a 413 above ``largest`` bytes, a 400 for what is no JSON, and a 422, which names every place, for what the
    schema refuses.
    """
    if largest is not None:
        request.max_content_length = largest
    try:
        document = exact.parse_json(request.get_data(), None if keeps_digits else exact.finite)
    except ValueError:
        raise ProblemError(400, "The body is not JSON") from None
    if not isinstance(document, dict):
        raise ProblemError(422, "The body is not a JSON object")
    if exact.is_deeper(document, MOST_LEVELS):
        raise ProblemError(422, f"The body is nested deeper than {MOST_LEVELS} levels")
    try:
        loaded: dict[str, Any] = schema.load(document)
    except ValidationError as error:
        raise unprocessable(error) from None
    return loaded


def unprocessable(error: ValidationError) -> ProblemError:
    """A 422 that names every place."""
    errors = places_of(error.messages)
    return ProblemError(422, f"{errors[0]['path']}: {errors[0]['detail']}", errors)


def checked(value: str, name: str) -> str:
    """An id out of the address. Raises a 422."""
    try:
        # Werkzeug has put U+FFFD for every byte that is no UTF-8; with that, different ids would be one.
        request.environ["PATH_INFO"].encode("latin-1").decode("utf-8")
        return checked_id(value)
    except UnicodeDecodeError:
        raise ProblemError(422, f"{name}: use percent-encoded UTF-8") from None
    except ValueError as error:
        raise ProblemError(422, f"{name}: {error}") from None


def whole_argument(name: str, default: int, lowest: int, highest: int) -> int:
    """A whole number out of the query. Raises a 400."""
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and lowest <= int(text) <= highest):
        raise ProblemError(400, f"{name}: use a whole number from {lowest} to {highest}")
    return int(text)


def conflict(error: RegistryError) -> ProblemError:
    """409, with the sentence of the error."""
    return ProblemError(409, str(error))


def places_of(messages: Any, path: str = "") -> list[dict[str, str]]:
    """marshmallow's nested messages as a list of places."""
    if isinstance(messages, dict):
        found = [
            each
            for key, inner in messages.items()
            for each in places_of(inner, path if key == "_schema" else f"{path}.{key}" if path else str(key))
        ]
        return found[:MOST_ERRORS_TOLD]
    return [{"path": path or "body", "detail": str(message)} for message in messages]
