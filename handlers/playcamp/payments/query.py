"""The payment query, for a gateway that PlayCamp runs: what was paid in a range of time, page after page.

What the game has pushed and our own Appcharge orders are told; what we poll of the game itself is not. A call proves
itself by ``playcamp.payments_key`` and by its address. ``X-Fingerprint`` is the hexadecimal SHA-256 of five lines: the
method, the path, the query, ``X-Timestamp`` (Unix seconds) and the key. The query's parameters stand there as they are
sent, percent-encoding included: cut at each ``&``, put in the order of their bytes, joined by ``&`` again.
"""

import base64
import hashlib
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
from handlers.playcamp.payments.rules import rules
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
    """Payments completed from ``from`` on and before ``to``, in the order of that time; never twice on two pages."""
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
        begins, ends = _second("from"), _second("to")
        limit = _limit()
        after = _cursor(request.args.get("cursor", ""))
        if not begins <= ends <= begins + LONGEST_SPAN_SECONDS:
            raise QueryError(f"to: use a time from {begins} on, at most {LONGEST_SPAN_SECONDS} seconds later")
    except QueryError as error:
        return plain_error(400, str(error))
    if not own_orders.catch_up(installation, game):
        return plain_error(503, "Busy; please try again")

    def read(connection: Connection) -> list[Row]:
        return queries.paid_between(
            connection,
            game.id,
            clock.stamp(begins),
            clock.stamp(ends),
            after,
            limit + 1,
            is_sandbox=is_sandbox(game),
        )

    def tell(tx: Connection) -> list[Row]:
        found = read(tx)
        store.told(tx, [row["id"] for row in found[:limit]])
        return found

    rows = read(installation.database.read())
    if not all(row["is_told"] for row in rows[:limit]):
        # A payment is told with one content, ever: a correction may have come since it was read.
        rows = installation.database.write(tell)
    page = rows[:limit]
    answer = jsonify(
        payments=[_as_told(game, row) for row in page], next_cursor=_cursor_of(page[-1]) if len(rows) > limit else None
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def fingerprint(method: str, path: str, query: bytes, timestamp: str, key: bytes) -> str:
    """What proves a call; ``query`` is what stands behind the question mark, as it is sent."""
    words = b"&".join(sorted(query.split(b"&")))
    lines = [method.encode(), path.encode(), words, timestamp.encode("utf-8", "surrogateescape"), key]
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _prove(game: Game, keys: Sequence[SecretValue]) -> SecretValue:
    """The key that the call is proved with. Every valid one is compared. Raises SignatureError."""
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
    note_refusal(PARTNER, ENDPOINT, game, reason, status)
    return plain_error(status, message)


def _second(name: str) -> int:
    text = request.args.get(name, "")
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > LAST_SECOND:
        raise QueryError(f"{name}: use Unix seconds")
    return int(text)


def _limit() -> int:
    text = request.args.get("limit", str(MOST_ROWS))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_ROWS:
        raise QueryError(f"limit: use a whole number from 1 to {MOST_ROWS}")
    return int(text)


def _cursor(text: str) -> tuple[str, int] | None:
    """Time and id of the last payment told; None, which an empty cursor means too, begins."""
    if not text:
        return None
    try:
        found = _CURSOR.fullmatch(base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii"))
        if found is not None:
            clock.seconds(found[1])
            return found[1], int(found[2])
    except (ValueError, OverflowError):
        pass
    raise QueryError("cursor: use next_cursor as it was told")


def _cursor_of(row: Row) -> str:
    return base64.urlsafe_b64encode(f"{row['purchased_at']}/{row['id']}".encode()).decode()


def _as_told(game: Game, row: Row) -> dict[str, object]:
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
    """A market of that platform and type: the game's own name for it first, else the usual one, else the platform."""
    wanted = (platform, distribution_type)
    own = [name for name, words in game.family("playcamp.market.").items() if tuple(words.split(",")) == wanted]
    usual = [name for name, place in rules(game).markets.items() if place == wanted]
    return next(iter([*own, *usual]), None if platform is None else platform.lower())
