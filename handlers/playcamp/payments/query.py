"""The payment query, for a gateway that PlayCamp runs: what was paid in a range of time, page after page.

It serves what the game has pushed and our own Appcharge orders, and not what is polled from the game itself. A call
proves itself by ``playcamp.payments_key`` and by its address. ``X-Fingerprint`` is made by :func:`fingerprint`.
"""

import base64
import re
from collections.abc import Sequence

from flask import Response, jsonify, request

from coinslot.access.keyring import SecretValue
from coinslot.base import clock, signing
from coinslot.games.games import Game
from coinslot.payments import queries, store
from coinslot.store.db import Connection, Row
from handlers.kit.receive import current_installation, is_address_allowed, note_call, note_refusal, plain_error
from handlers.playcamp.payments import own_orders
from handlers.playcamp.payments.rules import fingerprint, rules
from handlers.playcamp.recipe import SignatureError
from handlers.playcamp.settings import is_sandbox

PARTNER = "playcamp"
ENDPOINT = "payments"
MOST_ROWS = 1000
LONGEST_SPAN_SECONDS = 86400
LAST_SECOND = 253_402_300_799  # of the year 9999

_CURSOR = re.compile(r"([0-9T:.Z-]{27})/([0-9]{1,18})")


class QueryError(Exception):
    """An argument cannot be read; the message is for the caller."""


def payments_between(game_slug: str) -> Response:
    """Payments in [``from``, ``to``), in the order of their time; no payment is on two pages."""
    installation = current_installation()
    game = installation.games.by_slug(game_slug)
    keys = () if game is None else game.keys("playcamp.payments_key")
    if game is None or not keys:
        return _refused(game, "unknown_game", 404, "Not Found")
    if not is_address_allowed(game, PARTNER):
        return _refused(game, "address", 403, "Forbidden")
    try:
        key = _prove(game, keys)
    except SignatureError as error:
        return _refused(game, error.reason, 401, "Unauthorized")
    note_call(game, PARTNER, ENDPOINT, key)
    try:
        begins, ends = (_number(name, 0, LAST_SECOND, "Unix seconds") for name in ("from", "to"))
        limit = _number("limit", 1, MOST_ROWS, f"a whole number from 1 to {MOST_ROWS}", str(MOST_ROWS))
        after = _cursor(request.args.get("cursor", ""))
        if not begins <= ends <= begins + LONGEST_SPAN_SECONDS:
            raise QueryError(f"to: use a time from {begins} on, at most {LONGEST_SPAN_SECONDS} seconds later")
    except QueryError as error:
        return plain_error(400, str(error))
    if not own_orders.catch_up(installation, game):
        return plain_error(503, "Busy; please try again")

    def read(connection: Connection) -> list[Row]:
        span = clock.stamp(begins), clock.stamp(ends)
        return queries.paid_between(connection, game.id, *span, after, limit + 1, is_sandbox=is_sandbox(game))

    def freeze(tx: Connection) -> list[Row]:
        found = read(tx)
        store.freeze(tx, [row["id"] for row in found[:limit]])
        return found

    rows = read(installation.database.read())
    if not all(row["is_told"] for row in rows[:limit]):
        # A payment is only ever served with one content, and it may have been corrected since it was read.
        rows = installation.database.write(freeze)
    page = rows[:limit]
    answer = jsonify(
        payments=[_document(game, row) for row in page], next_cursor=_cursor_of(page[-1]) if len(rows) > limit else None
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _prove(game: Game, keys: Sequence[SecretValue]) -> SecretValue:
    """The key that proves the call. Every valid one is compared. Raises SignatureError."""
    timestamp = request.headers.get("X-Timestamp", "")
    given = request.headers.get("X-Fingerprint", "").lower()
    path = f"{request.root_path}{request.path}"
    matching = [
        key
        for key in keys
        if signing.is_equal(fingerprint(request.method, path, request.query_string, timestamp, key.value), given)
    ]
    if not matching:
        raise SignatureError("signature")
    try:
        is_fresh = signing.is_fresh(signing.unix_seconds(timestamp), float(game.settings["playcamp.tolerance_seconds"]))
    except ValueError:
        is_fresh = False
    if not is_fresh:
        raise SignatureError("timestamp")
    return matching[0]


def _refused(game: Game | None, reason: str, status: int, message: str) -> Response:
    answered = plain_error(status, message)
    note_refusal(PARTNER, ENDPOINT, game, reason, status, answer=answered)
    return answered


def _number(name: str, least: int, most: int, what: str, default: str = "") -> int:
    text = request.args.get(name, default)
    if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise QueryError(f"{name}: use {what}")
    return int(text)


def _cursor(text: str) -> tuple[str, int] | None:
    """Time and id of the last payment served; None, also for an empty cursor, begins."""
    if not text:
        return None
    try:
        found = _CURSOR.fullmatch(base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii"))
        if found is not None:
            clock.seconds(found[1])
            return found[1], int(found[2])
    except (ValueError, OverflowError):
        pass
    raise QueryError("cursor: use next_cursor as it was answered")


def _cursor_of(row: Row) -> str:
    return base64.urlsafe_b64encode(f"{row['purchased_at']}/{row['id']}".encode()).decode()


def _document(game: Game, row: Row) -> dict[str, object]:
    return {
        "order_id": row["transaction_id"],
        "usn": _usn(game, row["player_id"]),
        "product_id": row["product_id"],
        "product_name": row["product_name"],
        "price": row["amount"],
        "currency": row["currency"],
        "market": row["market"] or _market(game, row["platform"], row["distribution_type"]),
        "paid_at": int(clock.seconds(row["purchased_at"])),
        "status": "paid" if row["refunded_at"] is None else "refunded",
        "refunded_at": None if row["refunded_at"] is None else int(clock.seconds(row["refunded_at"])),
    }


def _usn(game: Game, player_id: str) -> int | str:
    is_number = game.settings["playcamp.user_type"] == "int" and re.fullmatch(r"0|[1-9][0-9]{0,17}", player_id)
    return int(player_id) if is_number else player_id


def _market(game: Game, platform: str | None, distribution_type: str | None) -> str | None:
    """A market of that platform and type: the game's own name for it, else the usual one, else the platform."""
    markets = rules(game).markets
    own = [name for name in game.family("playcamp.market.") if markets[name.lower()] == (platform, distribution_type)]
    usual = [name for name, place in markets.items() if place == (platform, distribution_type)]
    return next(iter([*own, *usual]), None if platform is None else platform.lower())
