"""What a careful studio would write by hand: it verifies, inserts on a unique key, fsyncs and answers. Nothing more.

No conversion, no books, no grants for a game to read, no deliveries, no troubles: the least that pays once.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import threading
import time
from pathlib import Path

from flask import Flask, jsonify, request

app = Flask(__name__)
HOME = Path(os.environ["COINSLOT_HOME"])
KEYS = json.loads((HOME / "keys.json").read_text())
TOLERANCE_SECONDS = 86_400  # as in bench/orders.py: signing happens before the run
local = threading.local()


def database() -> sqlite3.Connection:
    if not hasattr(local, "connection"):
        local.connection = sqlite3.connect(HOME / "careful.db", isolation_level=None, timeout=30)
        local.connection.execute("PRAGMA journal_mode = WAL")
        local.connection.execute("PRAGMA synchronous = FULL")
        local.connection.execute("CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, player_id, body)")
    return local.connection


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")


@app.post("/appcharge/<game>/orders")
def report_order(game: str):
    body = request.get_data()
    signed = dict(part.split("=", 1) for part in request.headers["signature"].split(","))
    mac = hmac.new(KEYS["appcharge.main_key"].encode(), signed["t"].encode() + b"." + body, hashlib.sha256)
    is_signed = hmac.compare_digest(mac.hexdigest(), signed["v1"])
    is_token = hmac.compare_digest(request.headers["x-publisher-token"], KEYS["appcharge.publisher_token"])
    if not (is_signed and is_token and abs(time.time() - int(signed["t"]) / 1000) <= TOLERANCE_SECONDS):
        return jsonify(error="Unauthorized"), 401
    order = json.loads(body)
    database().execute(
        "INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (order["orderId"], order["playerId"], body)
    )
    return jsonify(publisherPurchaseId=f"{game}-{order['orderId']}")
