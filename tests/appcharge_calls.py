"""A good call to each of Appcharge's addresses; written by hand after the documentation's field tables."""

import json
from typing import Any

from tests.conftest import order

ENDPOINTS = ("orders", "auth", "otp", "players", "events")


def path(endpoint: str, game: str = "demo") -> str:
    return f"/appcharge/{game}/{endpoint}"


def document(endpoint: str, number: int = 1) -> dict[str, Any]:
    """What is accepted there of a game with a deep link and the player alice; another ``number`` is another fact."""
    return {
        "orders": order(orderId=f"o-{number}", purchaseId=f"pr-{number}", appChargePaymentId=f"pay-{number}"),
        "auth": {"authMethod": "userToken", "token": "alice", "date": "2026-01-01T00:00:00.000Z", "appId": "NA"},
        "otp": {"device": "DESKTOP", "date": "2026-01-01T00:00:00.000Z"},
        "players": {"playerId": "alice"},
        "events": {"eventName": "session.started", "eventId": f"event-{number}", "playerId": "alice"},
    }[endpoint]


def body(endpoint: str, number: int = 1, **more: Any) -> bytes:
    return json.dumps(document(endpoint, number) | more, separators=(",", ":")).encode()


def is_accepted(status: int, answered: Any) -> bool:
    """Whether an answer, as JSON, is one to a call that proved itself and made sense."""
    return status == 200 and "error" not in answered and answered.get("status", "valid") == "valid"
