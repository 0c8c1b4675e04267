"""A game server with a payment API of its own, in three awkward old shapes; real HTTP over loopback.

    with GamePayments("nested") as game:
        game.pay("GP-1", amount="9900", at=1767323045)
        game.set_up(studio)

- ``nested``: JSON in JSON, times in Seoul's local text, cursors, prices in hundredths, markets under names of its own.
- ``numbered``: pages by number, times in epoch milliseconds, amounts as JSON numbers, a count of pages.
- ``linked``: a POST with a JSON body, links to the next page, money as text with a currency behind it.

``settings`` is the configuration that reads each. ``key`` is what calls are proved with; those that are not hear 401.
What was asked is in ``requests``. ``trouble`` has the next calls answered by behaviours of ``tests/fakes/http.py``.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from coinslot.games import games
from tests.fakes.http import Behaviour, FakeServer, Request

SEOUL = ZoneInfo("Asia/Seoul")
MARKETS = {"google": "AOS", "apple": "IOS", "steam": "PC"}  # as the nested shape writes them


class GamePayments(FakeServer):
    def __init__(self, shape: str = "nested", key: str | None = None, certificate: Path | None = None) -> None:
        super().__init__(certificate=certificate)
        self.shape = shape
        self.key = key
        self.limit: int | None = None  # of a page, whatever is asked for
        self.rows: list[dict[str, Any]] = []
        self._kept: tuple[Any, list[dict[str, Any]]] = (None, [])  # of one range, for page after page

    @property
    def settings(self) -> dict[str, str]:
        """The configuration that reads this shape."""
        settings = {
            "nested": {
                "playcamp.payments.url": f"{self.url}/old/api?kind=payments&begin={{from_iso}}&finish={{to_iso}}"
                "&after={cursor}&n={limit}",
                "playcamp.payments.zone": "Asia/Seoul",
                "playcamp.payments.rows": "result.history[].entry",
                "playcamp.payments.next": "result.cursor.next",
                "playcamp.payments.map": "{transactionId: ids.order, userId: who.usn, productId: what.id,"
                " productName: what.names.ko, amount: scale(what.cents, `-2`), currency: what.cur,"
                " market: lookup('shop', from), purchasedAt: time(when.paid, '%Y/%m/%d %H:%M:%S'),"
                " status: when.back && 'refunded' || 'paid',"
                " refunded_at: when.back && time(when.back, '%Y/%m/%d %H:%M:%S') || null}",
                "lookup.shop.AOS": "google",
                "lookup.shop.IOS": "apple",
                "lookup.shop.PC": "steam",
            },
            "numbered": {
                "playcamp.payments.url": f"{self.url}/v2/pay/list?since={{from_ms}}&until={{to_ms}}"
                "&page={page}&size={limit}",
                "playcamp.payments.rows": "items",
                "playcamp.payments.next": "page < pages && sum([page, `1`]) || null",
                "playcamp.payments.map": "{transactionId: txn, userId: uid, productId: sku, amount: price,"
                " currency: ccy, market: store, purchasedAt: ts, status: lower(state)}",
            },
            "linked": {
                "playcamp.payments.url": f"{self.url}/rpc/payments",
                "playcamp.payments.method": "POST",
                "playcamp.payments.body": '{"range": [{from}, {to}], "limit": {limit}}',
                "playcamp.payments.rows": "data",
                "playcamp.payments.next": "links.next",
                "playcamp.payments.map": "{transactionId: id, userId: user, productId: product, amount: money[0],"
                " currency: money[1], platform: device, distributionType: channel, purchasedAt: date,"
                " status: refunded && 'refunded' || 'paid'}",
            },
        }
        return settings[self.shape]

    def set_up(self, studio: Any, **changed: str) -> None:
        """Configure a studio's game for this API; ``changed`` are settings without their ``playcamp.payments.``."""
        settings = self.settings | {f"playcamp.payments.{name}": value for name, value in changed.items()}

        def store(tx: Any) -> None:
            for key, value in settings.items():
                games.set_setting(tx, studio.installation.catalogue, studio.slug, key, value, "test")

        studio.installation.database.write_here(store)
        if self.key is not None:
            studio.secret("playcamp.payments_key", self.key)

    def pay(self, transaction_id: str, at: float, user: str = "100001", **changed: Any) -> dict[str, Any]:
        """A payment completed at some time; a dict to be changed later, as ``refunded_at`` when money goes back."""
        row = {"id": transaction_id, "at": at, "user": user, "product": "gem_100", "amount": "9900", "currency": "KRW"}
        row |= {"market": "google", "platform": "Android", "type": "MOBILE_STORE", "refunded_at": None, **changed}
        with self.mutex:
            self.rows.append(row)
        return row

    def trouble(self, *behaviours: Behaviour | None) -> None:
        """Have the next calls answered so; None: as always."""
        with self.mutex:
            self.script.extend(behaviours)

    def end_troubles(self) -> None:
        with self.mutex:
            self.script.clear()

    def is_proved(self, request: Request) -> bool:
        """Whether a call carries what :attr:`key` makes of it: any of the ways a call may be proved."""
        if self.key is None:
            return True
        path, _, query = request.target.partition("?")
        timestamp = request.headers.get("x-timestamp", "")
        lines = [request.method, path, "&".join(sorted(query.split("&"))), timestamp]
        printed = hashlib.sha256("\n".join([*lines, self.key]).encode()).hexdigest()
        lines += [hashlib.sha256(request.body).hexdigest()] if request.body else []
        signed = hmac.new(self.key.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
        return (
            request.headers.get("x-fingerprint") == printed
            or request.headers.get("x-signature") == signed
            or request.headers.get("x-api-key") == self.key
        )

    def reply(self, request: Request) -> tuple[int, Any]:
        if not self.is_proved(request):
            return 401, {"error": "who are you?"}
        query = request.query
        with self.mutex:
            if self.shape == "nested":
                return self._nested(query)
            if self.shape == "numbered":
                code, document = self._numbered(query)
                return code, as_json(document)
            return self._linked(query, json.loads(request.body))

    def _found(self, start: float, end: float) -> list[dict[str, Any]]:
        wanted = (start, end, len(self.rows))
        if self._kept[0] != wanted:
            rows = (row for row in self.rows if start <= row["at"] < end)
            self._kept = wanted, sorted(rows, key=lambda row: (row["at"], row["id"]))
        return self._kept[1]

    def _nested(self, query: Mapping[str, str]) -> tuple[int, Any]:
        begin, finish = (datetime.fromisoformat(query[name]) for name in ("begin", "finish"))
        assert begin.utcoffset() == finish.utcoffset() == datetime.now(SEOUL).utcoffset()
        rows = self._found(begin.timestamp(), finish.timestamp())
        at, size = int(query["after"] or "0", 16), self.limit or int(query["n"])
        entries = [
            {
                "entry": {
                    "ids": {"order": row["id"]},
                    "who": {"usn": int(row["user"])},
                    "what": {
                        "id": row["product"],
                        "names": {"ko": "보석 100개"},
                        "cents": int(Decimal(row["amount"]) * 100),
                        "cur": row["currency"].lower(),
                    },
                    "from": MARKETS.get(row["market"], row["market"]),
                    "when": {"paid": _seoul(row["at"]), "back": _seoul(row["refunded_at"])},
                }
            }
            for row in rows[at : at + size]
        ]
        following = format(at + size, "x") if at + size < len(rows) else None
        return 200, {"result": {"history": entries, "cursor": {"next": following}}}

    def _numbered(self, query: Mapping[str, str]) -> tuple[int, Any]:
        rows = self._found(int(query["since"]) / 1000, int(query["until"]) / 1000)
        page, size = int(query["page"]), self.limit or int(query["size"])
        items = [
            {
                "txn": row["id"],
                "uid": row["user"],
                "sku": row["product"],
                "price": _Number(row["amount"]),
                "ccy": row["currency"],
                "store": row["market"],
                "ts": round(row["at"] * 1000),
                "state": "PAID" if row["refunded_at"] is None else "REFUNDED",
            }
            for row in rows[(page - 1) * size : page * size]
        ]
        return 200, {"items": items, "page": page, "pages": -(-len(rows) // size)}

    def _linked(self, query: Mapping[str, str], asked: Mapping[str, Any]) -> tuple[int, Any]:
        rows = self._found(*asked["range"])
        at, size = int(query.get("skip", 0)), self.limit or asked["limit"]
        data = [
            {
                "id": row["id"],
                "user": row["user"],
                "product": row["product"],
                "money": [row["amount"], row["currency"]],
                "device": row["platform"].lower(),
                "channel": row["type"],
                "date": datetime.fromtimestamp(row["at"], UTC).isoformat(),
                "refunded": row["refunded_at"] is not None,
            }
            for row in rows[at : at + size]
        ]
        following = f"/rpc/payments?skip={at + size}&token=a%2Fb" if at + size < len(rows) else None
        return 200, {"data": data, "links": {"next": following}}


class _Number(float):
    """A JSON number with the digits it was given."""

    def __new__(cls, text: str) -> "_Number":
        made = super().__new__(cls, text)
        made.text = text  # type: ignore[attr-defined]
        return made

    def __repr__(self) -> str:
        return str(self.text)  # type: ignore[attr-defined]


def _seoul(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, SEOUL).strftime("%Y/%m/%d %H:%M:%S")


def as_json(document: Any) -> bytes:
    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(f"{json.dumps(name)}:{written(each)}" for name, each in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ",".join(written(each) for each in value) + "]"
        return repr(value) if isinstance(value, _Number) else json.dumps(value)

    return written(document).encode()
