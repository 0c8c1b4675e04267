"""For whoever watches the process: is it up, could it credit something now, and how much of what has there been."""

import hmac
import shutil

from flask import Blueprint, Response, current_app, jsonify, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from coinslot.access.vault import VaultError
from coinslot.base import clock
from coinslot.installation import Installation
from coinslot.outbox import deliveries
from coinslot.store.db import DatabaseError, EngineError
from handlers.figures import Figures
from handlers.kit.partner import installation, plain_error

LEAST_FREE_BYTES = 64 * 1024 * 1024

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers. Touches nothing."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> Response:
    """A credit could be made now: the writer gets its lock, key, disk and relay are there. 503 if not."""
    house = installation()
    checks = {"database": "ok", "key": "ok", "disk": "ok", "relay": "ok"}
    try:
        if house.database.is_refusing():
            checks["database"] = "not writable"
    except (DatabaseError, EngineError, OSError) as error:
        current_app.logger.error("not ready: %s", error)
        checks["database"] = "not writable"
    try:
        house.vault.current(house.database.read())
    except (VaultError, DatabaseError, EngineError, OSError) as error:
        current_app.logger.error("not ready: %s", error)
        checks["key"] = "missing or wrong"
    try:
        if shutil.disk_usage(house.settings.home).free < LEAST_FREE_BYTES:
            checks["disk"] = "nearly full"
    except OSError:
        checks["disk"] = "unknown"
    try:
        checks["relay"] = _relay_state(house)
    except (DatabaseError, EngineError, OSError):
        checks["relay"] = "unknown"
    is_ready = all(state in ("ok", "not needed") for state in checks.values())
    response = jsonify(status="ready" if is_ready else "not ready", checks=checks)
    response.status_code = 200 if is_ready else 503
    return response


@bp.get("/metrics")
def metrics() -> Response:
    """What has been counted, for Prometheus; there only where a token is set, and for whoever brings it."""
    house = installation()
    token = house.settings.metrics_token
    if token is None:
        return plain_error(404, "Not Found")
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Compared first, whatever the scheme, so that the time it takes tells nothing.
    is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    if not is_right or scheme.lower() != "bearer":
        response = plain_error(401, "Unauthorized")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(house))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _relay_state(house: Installation) -> str:
    connection = house.database.read()
    beat = deliveries.last_beat(connection)
    if beat is not None and clock.now() - beat <= deliveries.OLDEST_BEAT_SECONDS:
        return "ok"
    return "not running" if deliveries.active_destinations(connection) else "not needed"
