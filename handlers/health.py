"""For whoever watches the process: is it up, and could it credit something now."""

import shutil

from flask import Blueprint, Response, current_app, jsonify

from coinslot import clock, outbox
from coinslot.db import Connection, DatabaseError, EngineError
from coinslot.installation import Installation
from coinslot.vault import VaultError
from handlers import installation

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
        house.database.write(_touch_nothing)
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


def _relay_state(house: Installation) -> str:
    connection = house.database.read()
    beat = outbox.last_beat(connection)
    if beat is not None and clock.now() - beat <= outbox.OLDEST_BEAT_SECONDS:
        return "ok"
    return "not running" if outbox.active_destinations(connection) else "not needed"


def _touch_nothing(tx: Connection) -> None:
    """Takes the lock and begins; with nothing changed the commit writes nothing, so a caller cannot wear the disk."""
