"""Every address at which partners call, and how a good call to it is made.

A new partner's addresses join the shared tests (``tests/kit/test_partner_addresses.py``) by a row each.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from coinslot.base import clock
from handlers.playtem.payload import signature_of
from tests import appcharge_calls
from tests.conftest import MAIN_KEY, PLAYTEM_SECRET, appcharge_headers
from tests.fakes.playcamp import signed, sponsor_event

PLAYCAMP_SECRET = "whsec-of-the-tests"
PAYMENTS_KEY = "payments-key-of-the-tests"
XSOLLA_SECRET = "xsolla-key-of-the-tests"


@dataclass(frozen=True)
class Sent:
    """A call to make: ``number`` tells calls apart, ``key`` signs, ``age`` is that of the signature in seconds.

    ``unsigned`` leaves the signature out, ``spoil`` changes one byte after signing.
    """

    key: str
    number: int = 1
    age: float = 0
    player: str = "alice"
    items: tuple[str, ...] = ("coins",)
    unsigned: bool = False
    spoil: bool = False


@dataclass(frozen=True)
class Address:
    """An address: how a call to it is made, and what it answers to one that proves nothing.

    ``make`` gives the arguments of Flask's test client for a call. ``proof`` names the header that holds the signature,
    "" where the query does. ``refused`` is status and JSON, less the words of Playtem's message. ``stale`` are ages of
    a signature that are refused. ``keeps`` says that a repeat of a call stores nothing. ``not_credited`` is the status
    of a proved report that is refused, None where nothing is credited or nothing of it refused.
    """

    name: str
    path: str
    secret: str
    key: str
    make: Callable[[str, Sent], dict[str, Any]]
    refused: tuple[int, Mapping[str, Any]]
    proof: str = "signature"
    stale: tuple[float, ...] = (301, -301, 3600)
    keeps: bool = True
    not_credited: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def partner(self) -> str:
        return self.secret.partition(".")[0]

    @property
    def endpoint(self) -> str:
        return self.name.split()[1]

    def set_up(self, studio: Any) -> None:
        """Give a studio's game what this address needs."""
        studio.secret(self.secret, self.key)
        for key, value in self.settings.items():
            studio.config(key, value)

    def call(self, client: Any, game: str = "demo", *, remote: str = "127.0.0.1", headers: Any = (), **how: Any) -> Any:
        """Call as the partner does, or as :class:`Sent` says otherwise."""
        made = self.make(self.path, Sent(**{"key": self.key, **how}))
        if how.get("unsigned"):
            made["headers"].pop(self.proof, None)
        if how.get("spoil") and self.proof:
            made = self.make(self.path, Sent(self.key, player="alicf")) | {"headers": made["headers"]}
        made["headers"] |= dict(headers)
        return client.open(self.path.format(game=game), environ_base={"REMOTE_ADDR": remote}, **made)

    def is_accepted(self, answer: Any) -> bool:
        """Whether an answer is one to a call that proved itself and made sense."""
        if answer.status_code == 204:
            return answer.data == b""
        return appcharge_calls.is_accepted(answer.status_code, answer.get_json(silent=True) or {})

    def is_forbidden(self, answer: Any) -> bool:
        """Whether an answer is the one to a call that proves nothing."""
        told = {name: value for name, value in answer.json.items() if name != "ErrorMessage"}
        return (answer.status_code, told) == self.refused


def appcharge(path: str, sent: Sent) -> dict[str, Any]:
    endpoint = path.rpartition("/")[2]
    changed = {"playerId": sent.player, "playerEmail": "alice@example.com"}
    if endpoint == "auth":
        changed = {"token": sent.player}
    if endpoint == "orders":
        changed["products"] = [{"sku": sku, "amount": 1} for sku in sent.items]
    body = appcharge_calls.body(endpoint, sent.number, **changed)
    return {"method": "POST", "data": body, "headers": appcharge_headers(body, sent.key, at=clock.now() - sent.age)}


def playtem(path: str, sent: Sent) -> dict[str, Any]:
    items, transaction_id = list(sent.items), f"tx-{sent.number}"
    signature = signature_of(sent.key.encode(), f"3{sent.player}{''.join(items)}{transaction_id}")
    order = {"AppId": 3, "UserId": sent.player, "Items": ["coinz"] if sent.spoil else items}
    order |= {"TransactionId": transaction_id} | ({} if sent.unsigned else {"Signature": signature})
    payload = base64.b64encode(json.dumps(order).encode()).decode()
    return {"method": "GET", "query_string": f"payload={quote(payload, safe='')}", "headers": {}}


def playcamp(path: str, sent: Sent) -> dict[str, Any]:
    event = sponsor_event("sponsor.created", sent.player, "AAA11", callbackId=f"cb-{sent.number}")
    body = json.dumps({"events": [event | {"timestamp": "2026-01-02T03:04:05.678Z"}]}).encode()
    header = signed(body, sent.key, "timestamped", clock.now() - sent.age)
    return {"method": "POST", "data": body, "headers": {"X-Webhook-Signature": header}}


def playcamp_query(path: str, sent: Sent) -> dict[str, Any]:
    at = str(int(clock.now() - sent.age))
    query = f"from={sent.number}&to={sent.number + 9}"
    signed_query = query if sent.player == "alice" else f"{query}&limit=1"
    lines = "\n".join(("GET", path.format(game="demo"), "&".join(sorted(query.split("&"))), at, sent.key))
    fingerprint = hashlib.sha256(lines.encode()).hexdigest()
    return {"method": "GET", "query_string": signed_query, "headers": {"X-Timestamp": at, "X-Fingerprint": fingerprint}}


def xsolla(path: str, sent: Sent) -> dict[str, Any]:
    order = {"currency": "USD", "amount": "9.9900", "currency_type": "real", "invoice_id": f"tx-{sent.number}"}
    document = {
        "notification_type": "order_paid",
        "items": [{"sku": sku, "quantity": 1} for sku in sent.items],
        "order": order,
        "user": {"external_id": sent.player, "email": "alice@example.com"},
    }
    body = json.dumps(document).encode()
    signature = hashlib.sha1(body + sent.key.encode()).hexdigest()
    return {"method": "POST", "data": body, "headers": {"Authorization": f"Signature {signature}"}}


UNAUTHORIZED: Mapping[str, Any] = {"error": "Unauthorized"}
NO_PLAYTEM: Mapping[str, Any] = {"ErrorCode": 407}
APPCHARGE = ("appcharge.main_key", MAIN_KEY, appcharge)
PLAYTEM = ("playtem.secret", PLAYTEM_SECRET, playtem)
WEBHOOK = {"proof": "X-Webhook-Signature", "stale": (301, -6, 3600)}

ADDRESSES = (
    Address(
        "appcharge orders",
        "/appcharge/{game}/orders",
        *APPCHARGE,
        (401, {"error": "Unauthorized", "publisherErrorMessage": "Unauthorized"}),
        not_credited=400,
    ),
    # What else an answer to a login says, players would read.
    Address(
        "appcharge auth",
        "/appcharge/{game}/auth",
        *APPCHARGE,
        (401, {"error": "Unauthorized", "status": "invalid"}),
        keeps=False,
    ),
    Address(
        "appcharge otp",
        "/appcharge/{game}/otp",
        *APPCHARGE,
        (400, {"error": "Invalid signature"}),
        keeps=False,
        settings={"appcharge.deep_link": "demo://login?token={token}"},
    ),
    Address("appcharge players", "/appcharge/{game}/players", *APPCHARGE, (401, UNAUTHORIZED)),
    Address("appcharge events", "/appcharge/{game}/events", *APPCHARGE, (401, UNAUTHORIZED), stale=(1801, -1801)),
    Address(
        "playtem credit", "/playtem/{game}/credit", *PLAYTEM, (500, NO_PLAYTEM), proof="", stale=(), not_credited=500
    ),
    Address(
        "playtem credit by AppId",
        "/playtem/credit",
        *PLAYTEM,
        (500, NO_PLAYTEM),
        proof="",
        stale=(),
        not_credited=500,
        settings={"playtem.app_id": "3"},
    ),
    Address(
        "playcamp webhook",
        "/playcamp/{game}/webhook",
        "playcamp.webhook_secret",
        PLAYCAMP_SECRET,
        playcamp,
        (401, UNAUTHORIZED),
        **WEBHOOK,
    ),
    Address(
        "playcamp webhook of one hook",
        "/playcamp/{game}/webhook/coupons",
        "playcamp.webhook_secret.coupons",
        PLAYCAMP_SECRET,
        playcamp,
        (401, UNAUTHORIZED),
        **WEBHOOK,
    ),
    Address(
        "playcamp payments",
        "/playcamp/{game}/payments",
        "playcamp.payments_key",
        PAYMENTS_KEY,
        playcamp_query,
        (401, UNAUTHORIZED),
        proof="X-Fingerprint",
    ),
    Address(
        "xsolla webhook",
        "/xsolla/{game}/webhook",
        "xsolla.secret",
        XSOLLA_SECRET,
        xsolla,
        (400, {"error": {"code": "INVALID_SIGNATURE", "message": "Invalid signature"}}),
        proof="Authorization",
        stale=(),
        not_credited=400,
    ),
)
