"""The world around a demo: it answers in the process what a real installation would ask of others. Nothing is sent.

The game's servers take every delivery, but for one that is down. The partners' APIs take what they are sent and have
nothing to report. Everybody else cannot be reached.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from coinslot.base import clock
from coinslot.base.outbound import Answer

GAMES = ".games.example"  # ends the host names of what listens
GONE = f"stats.space-miner{GAMES}"
UNREACHABLE = Answer("refused", detail="this is a demo: nothing is sent to anybody")
REFUSED = Answer("refused", detail="nobody listens there", duration_ms=2)
# Host -> from when to when nobody listens there, in Unix seconds. While a demo is made, its story says when that began.
down: dict[str, list[tuple[float, float]]] = {GONE: [(0, float("inf"))]}
TOOK_MS = (38, 41, 44, 47, 52, 58, 63, 71, 85, 120)


def answer(method: str, url: str, body: bytes | Iterator[bytes] | None) -> Answer:
    """What a call would have got."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.endswith(GAMES):
        return UNREACHABLE
    if any(since <= clock.now() < until for since, until in down.get(host, ())):
        return REFUSED
    content = body if isinstance(body, bytes) else b"".join(body or ())
    took = TOOK_MS[sum(content) % len(TOOK_MS)]
    document = _api(method, parts.path, content)
    return Answer(None, 200, json.dumps(document).encode(), duration_ms=took)


def _api(method: str, path: str, content: bytes) -> Any:
    """What the partners' APIs say, by the end of the path; the game's servers say ok."""
    if path.endswith("/payments/bulk"):
        asked = json.loads(content)["payments"]
        return {"data": {"results": [{"transactionId": each["transactionId"], "status": "SUCCESS"} for each in asked]}}
    if path.endswith("/refund") and method == "POST":
        return {"data": {"transactionId": path.split("/")[-2], "status": "REFUNDED"}}
    if path.endswith("/webview/ott"):
        return {"data": {"ott": "demo", "expiresIn": 60}}
    if "/reporting/" in path or "/transactions" in path:
        return {"results": [], "totalCount": 0}
    return {"ok": True}
