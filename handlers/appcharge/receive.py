"""Which of Appcharge's calls are let in: game, caller's address, proof; and how a refusal is answered.

Every route begins with :func:`enter`. A call proves itself with a signature over the raw body and the publisher token.
Where the owner has set ``appcharge.payload`` to ``aes``, a body encrypted as in 2023 takes the place of the signature.
Only the configuration chooses between the two, never what a call holds or lacks.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flask import Response, request

from coinslot.access.keyring import SecretValue
from coinslot.base import exact, signing
from coinslot.games.games import Game
from handlers.appcharge import encryption
from handlers.appcharge.signature import SignatureError, verify
from handlers.kit.receive import current_installation, is_address_allowed, note_call, note_refusal

PARTNER = "appcharge"

T = TypeVar("T")

# Status and message of each refusal: everywhere, and at the one address with documented messages of its own.
REFUSALS: Mapping[str, tuple[int, str]] = {
    "unknown_game": (404, "Not Found"),
    "address": (403, "Forbidden"),
    "signature": (401, "Unauthorized"),
    "timestamp": (401, "Unauthorized"),
    "token": (401, "Unauthorized"),
    "project": (401, "Unauthorized"),
    "encryption": (400, "The payload cannot be read"),
}
# What an order may be named by, its own id first.
ORDER_IDS = ("orderId", "appChargePaymentId", "externalTransactionId")
# What an unreadable body is called in the refusal.
CONTENTS = {"orders": "order", "auth": "login", "players": "call", "events": "event"}
OTP_REFUSALS: Mapping[str, tuple[int, str]] = {
    "signature": (400, "Invalid signature"),
    "timestamp": (400, "Invalid signature"),
}


class RefusedError(Exception):
    """The call is refused. ``reason`` is for the owner, ``message`` for the caller."""

    def __init__(self, reason: str, status: int, message: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Entered:
    """A call that has proved itself. ``body`` is the JSON that was signed or encrypted.

    ``keys`` are what it proved itself with: first the key that signed or encrypted it, then the token.
    """

    game: Game
    body: bytes = field(repr=False)
    signature: str = field(repr=False)  # as received; empty for an encrypted payload, which has none
    keys: tuple[SecretValue, ...]

    @property
    def signed_with(self) -> str:
        return self.keys[0].label


def enter(game_slug: str, endpoint: str) -> Entered:
    """The proved call. Raises :class:`RefusedError`, which is noted for the owner.

    An order or an event that is sent to the wrong address is refused, since an answer of 200 would lose it.
    """
    game = current_installation().games.by_slug(game_slug)
    if game is None or not is_configured(game):
        raise refused(endpoint, game, "unknown_game")
    if not is_address_allowed(game, PARTNER):
        raise refused(endpoint, game, "address")
    try:
        is_encrypted = game.settings["appcharge.payload"] == "aes"
        entered = enter_encrypted(game) if is_encrypted else _enter_signed(game, endpoint)
    except SignatureError as error:
        raise refused(endpoint, game, error.reason) from None
    note_call(game, PARTNER, endpoint, *entered.keys)
    _refuse_misplaced(entered, endpoint)
    return entered


def read(game_slug: str, endpoint: str, parse: Callable[[bytes], T]) -> tuple[Entered, T]:
    """The proved call, and what ``parse`` reads in its body. Raises :class:`RefusedError`, also for its ValueErrors."""
    entered = enter(game_slug, endpoint)
    try:
        return entered, parse(entered.body)
    except ValueError as error:
        message = f"The {CONTENTS[endpoint]} cannot be read: {error}"
        raise refused(endpoint, entered.game, "malformed", 400, message) from None


def refused(
    endpoint: str,
    game: Game | None,
    reason: str,
    status: int | None = None,
    message: str | None = None,
    detail: str = "",
) -> RefusedError:
    """Note a refusal for the owner, and return the error to raise; status and message default to the table above."""
    known = (OTP_REFUSALS if endpoint == "otp" else {}).get(reason) or REFUSALS.get(reason) or (400, "Bad Request")
    error = RefusedError(reason, status or known[0], message or known[1])
    # The body of a login may hold a password or a code, so it is not kept.
    answered = refuse(error.status, error.message)
    keeps_body = endpoint != "auth"
    note_refusal(PARTNER, endpoint, game, reason, error.status, keeps_body, detail=detail, answer=answered)
    return error


def is_configured(game: Game) -> bool:
    """Every proof must be set: a check is never skipped because its secret is missing."""
    needed = ["appcharge.main_key", "appcharge.publisher_token"]
    if game.settings["appcharge.payload"] == "aes":
        needed.append("appcharge.secondary_key")
    return all(game.keys(name) for name in needed)


def refuse(status: int, message: str) -> Response:
    """Appcharge's error dialect, by address: orders and logins have fields of their own beside ``error``."""
    content: dict[str, object] = {"error": message}
    endpoint = request.path.rpartition("/")[2]
    if endpoint == "auth":
        content["status"] = "invalid"
        if status == 503:  # the store shows these fields to players
            content |= {"publisherErrorMessageType": "plainText", "publisherErrorMessage": message}
    elif endpoint not in ("otp", "players", "events"):
        content["publisherErrorMessage"] = message
    return answer(status, content)


def answer(status: int, content: Mapping[str, object]) -> Response:
    return Response(json.dumps(content), status, mimetype="application/json")


def _refuse_misplaced(call: Entered, endpoint: str) -> None:
    """Raises :class:`RefusedError` for an event or order at an address that takes none."""
    if not ((endpoint != "orders" and b'"products"' in call.body) or (endpoint != "events" and b'"event' in call.body)):
        return
    try:
        document = exact.parse_json(call.body, allow_half_pairs=True, is_lenient=True)
    except ValueError:
        return
    if not isinstance(document, dict):
        return
    is_order = isinstance(document.get("products"), list)
    if any(isinstance(document.get(name), str) and document[name].strip() for name in ("event", "eventName")):
        if endpoint != "events" and not (endpoint == "orders" and is_order):
            raise refused(endpoint, call.game, "misplaced_event", 400, "This address takes no events")
        return
    if endpoint != "orders" and is_order and any(document.get(name) for name in ORDER_IDS):
        raise refused(endpoint, call.game, "misplaced", 400, "This address takes no orders", f"sent to /{endpoint}")


def signing_keys(game: Game, endpoint: str) -> tuple[SecretValue, ...]:
    """The keys that may have signed a call to this address."""
    keys = game.keys("appcharge.main_key")
    if game.settings["appcharge.secondary_role"] == "backup":
        keys += game.keys("appcharge.secondary_key")
    # Version 2 of the events has had a secret of its own; version 1 comes to the same address with the main key.
    return game.keys("appcharge.events_secret") + keys if endpoint == "events" else keys


def _enter_signed(game: Game, endpoint: str) -> Entered:
    # Retries of events span 15 minutes, and may carry the first signature.
    name = "events_tolerance_seconds" if endpoint == "events" else "tolerance_seconds"
    body = request.get_data(cache=True)
    header = request.headers.get("signature", "")
    signer = verify(body, header, signing_keys(game, endpoint), float(game.settings[f"appcharge.{name}"]))

    found = [signer]
    token = request.headers.get("x-publisher-token")
    if token is not None or endpoint != "events" or not game.is_on("appcharge.events_without_token"):
        found.append(_matching_token(game, token or ""))
    _check_project(game)
    return Entered(game, body, header, tuple(found))


def enter_encrypted(game: Game) -> Entered:
    """The token may be in the header or inside the body.

    Wrong padding, wrong JSON and a wrong token inside get the same 400: different answers would be a padding oracle.
    """
    token = request.headers.get("x-publisher-token")
    token_key = None if token is None else _matching_token(game, token)
    _check_project(game)
    body, document, key = encryption.decrypt(
        request.get_data(cache=True), game.keys("appcharge.main_key"), game.keys("appcharge.secondary_key")
    )
    if token_key is None:
        inside = document.get("publisherToken")
        try:
            token_key = _matching_token(game, inside if isinstance(inside, str) else "")
        except SignatureError:
            raise SignatureError("encryption") from None
    return Entered(game, body, "", (key, token_key))


def _matching_token(game: Game, token: str) -> SecretValue:
    """Raises SignatureError. Every valid token is compared, so that timing gives none away."""
    matching: list[SecretValue] = [
        key for key in game.keys("appcharge.publisher_token") if signing.is_equal(key.value, token)
    ]
    if not matching:
        raise SignatureError("token")
    return matching[0]


def _check_project(game: Game) -> None:
    project = request.headers.get("x-project-id")
    if project is not None and game.settings["appcharge.project_id"] not in ("", project):
        raise SignatureError("project")
