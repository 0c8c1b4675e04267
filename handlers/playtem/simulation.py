"""Playtem as ``flask simulate`` plays it: signed with the stored secret, naming only the reserved user and item."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from handlers.kit.partner import Call
from handlers.playtem.payload import Order, signature_of, signed_text


def simulate(game: Game) -> Iterator[Call]:
    """A purchase and its repeats, the boundary-shift replay, what must be refused, and a HEAD."""
    secret = game.keys("playtem.secret")[0].value
    app_id = game.settings["playtem.app_id"] or RESERVED_ID
    transaction_id = f"{RESERVED_ID}-{secrets.token_hex(6)}"

    def call(
        title: str,
        expected: str,
        expect: Callable[[int, bytes], str | None],
        method: str = "GET",
        payload: str | None = None,
        key: bytes = secret,
        signature: str | None = None,
        **changed: Any,
    ) -> Call:
        fields: dict[str, Any] = {"AppId": app_id, "UserId": RESERVED_ID, "Items": [RESERVED_ID]}
        fields |= {"TransactionId": transaction_id, **changed}
        path = _path(game, fields, key, payload, signature)
        return Call(title, method, path, {}, None, expected, expect)

    def credits(status: int, body: bytes) -> str | None:
        return None if status == 200 and body == b"" else "must be answered with an empty 200"

    def refuses(*codes: int) -> Callable[[int, bytes], str | None]:
        def expect(status: int, body: bytes) -> str | None:
            try:
                is_good = status == 500 and json.loads(body)["ErrorCode"] in codes
            except (ValueError, KeyError, TypeError):
                is_good = False
            return None if is_good else f"must be refused with 500 and ErrorCode {codes[0]}"

        return expect

    def head(status: int, body: bytes) -> str | None:
        return None if status == 405 else "a HEAD must get 405 and credit nothing"

    first = call("purchase", "200, empty", credits)
    yield call("HEAD before the purchase", "405", head, method="HEAD")
    yield replace(first, sample_of="credit")
    yield call("the same purchase again", "200, empty", credits)
    yield call("the same transaction, one more item", "500/400", refuses(400), Items=[RESERVED_ID] * 2)
    genuine = json.loads(base64.b64decode(unquote(first.path.split("=", 1)[1])))["Signature"]
    # The last letter of the item moves into the transaction id: the signed text stays the same where nothing separates.
    shifted: dict[str, Any] = {
        "Items": [RESERVED_ID[:-1]],
        "TransactionId": RESERVED_ID[-1] + transaction_id,
    }
    yield call("a letter moved over the boundary", "500/400 or 407", refuses(400, 407), signature=genuine, **shifted)
    yield call("signed with another secret", "500/407", refuses(407), key=b"not the secret")
    yield call("no Base64", "500/407", refuses(407), payload="%%%")


def proved(game: Game, endpoint: str, content: Mapping[str, Any]) -> Call:
    """A purchase with any UserId, Items and TransactionId, as the partner would report it."""
    fields = {"AppId": game.settings["playtem.app_id"] or RESERVED_ID, **content}
    path = _path(game, fields, game.keys("playtem.secret")[0].value)
    return Call(endpoint, "GET", path, {}, None, "", lambda status, body: None)


def _path(
    game: Game, fields: Mapping[str, Any], key: bytes, payload: str | None = None, signature: str | None = None
) -> str:
    """The address that reports a purchase, signed unless there is a ``signature`` or a whole ``payload``."""
    items = tuple(fields["Items"])
    order = Order(
        app_id=fields["AppId"],
        user_id=fields["UserId"],
        items=items,
        transaction_id=fields["TransactionId"],
        signature="",
        quoted=(True,) * len(items),
        items_text=json.dumps(items, separators=(",", ":")),
    )
    message = signed_text(order, game.settings["playtem.formats"].split(",")[0], game.settings) or ""
    signed = {**fields, "AppName": game.name, "Signature": signature or signature_of(key, message)}
    encoded = base64.b64encode(json.dumps(signed).encode()).decode() if payload is None else payload
    return f"/playtem/{game.slug}/credit?{game.settings['playtem.parameter']}={quote(encoded, safe='')}"
