"""Whether a credit could be made now. ``/readyz`` says so, and the heartbeat is called only then."""

import logging
from contextlib import suppress

from coinslot.access.vault import Vault, VaultError
from coinslot.operations.findings import LEAST_FREE_BYTES
from coinslot.outbox import attempts, deliveries
from coinslot.store.db import Database, DatabaseError, EngineError

log = logging.getLogger("coinslot")


def checks(database: Database, vault: Vault) -> dict[str, str]:
    """What is checked -> ``ok``, ``not needed``, ``unknown``, or what is wrong: the writer gets its lock, key, disk and
    relay are there. Waits like a write, once: a database that cannot be written is asked nothing more.
    """
    found = {"database": "ok", "key": "unknown", "disk": "unknown", "relay": "unknown"}
    try:
        if database.is_refusing():
            found["database"] = "not writable"
    except (DatabaseError, EngineError, OSError) as error:
        log.error("not ready: %s", error)
        found["database"] = "not writable"
    with suppress(OSError):
        free = database.free_bytes()
        found["disk"] = "not needed" if free is None else "nearly full" if free < LEAST_FREE_BYTES else "ok"
    if found["database"] != "ok":
        return found
    try:
        vault.current(database.read())
        found["key"] = "ok"
    except (VaultError, DatabaseError, EngineError, OSError) as error:
        log.error("not ready: %s", error)
        found["key"] = "missing or wrong"
    with suppress(DatabaseError, EngineError, OSError):
        found["relay"] = _relay_state(database)
    return found


def is_ready(found: dict[str, str]) -> bool:
    return all(state in ("ok", "not needed") for state in found.values())


def _relay_state(database: Database) -> str:
    connection = database.read()
    if deliveries.is_relay_running(connection):
        return "ok"
    return "not running" if attempts.active_destinations(connection) else "not needed"
