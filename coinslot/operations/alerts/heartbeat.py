"""The heartbeat: a URL of a watcher outside, called once a minute while this installation is ready.

When the calls end, the watcher sends an alert of its own: so the owner learns that the whole machine is gone. The URL
is a secret, since a stranger who knows it can pretend that all is well.
"""

import logging
from dataclasses import dataclass

from coinslot.access import own_secrets
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.base.outbound import Outbound
from coinslot.games.options import web_address
from coinslot.operations.alerts.targets import AlertError
from coinslot.relay import jobs
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Database

JOB = "heartbeat"
EVERY_SECONDS = 60.0
TIMEOUT_SECONDS = 10.0
SECRET = "heartbeat.url"  # noqa: S105  a name
ARRIVED, FAILURE = "heartbeat.arrived_at", "heartbeat.failure"  # facts of the installation

log = logging.getLogger("coinslot")


@dataclass(frozen=True)
class State:
    """``arrived_at``: when the URL last answered 2xx. ``failure``: why the last call failed; None: it did not."""

    is_on: bool
    arrived_at: str | None
    failure: str | None


def state(connection: Connection) -> State:
    is_on = own_secrets.has(connection, SECRET)
    arrived_at, failure = (queries.fact(connection, name) if is_on else None for name in (ARRIVED, FAILURE))
    return State(is_on, arrived_at, failure)


def set_url(tx: Connection, vault: Vault, url: str, actor: str) -> None:
    """Call this URL from now on. Raises :class:`AlertError`, which holds nothing of it."""
    try:
        web_address(url)
    except ValueError:
        raise AlertError("heartbeat: use an http:// or https:// address without user name and password") from None
    _clear(tx)
    own_secrets.put(tx, vault, SECRET, url)
    audit.record(tx, None, actor, "heartbeat.on", "")
    jobs.wake(tx, jobs.INSTALLATION, JOB)


def turn_off(tx: Connection, actor: str) -> bool:
    """Call nobody any more; returns whether there was a heartbeat."""
    was_on = own_secrets.delete(tx, SECRET)
    _clear(tx)
    if was_on:
        audit.record(tx, None, actor, "heartbeat.off", "")
    return was_on


def beat(database: Database, vault: Vault, outbound: Outbound, is_ready: bool) -> float | None:
    """Call the URL if this installation is ready; returns when to run again, None while there is no URL.

    What it did not answer with 2xx is kept as a failure, until it does again. Raises VaultError.
    """
    url = own_secrets.opened(database.read(), vault, SECRET)
    if url is None:
        return None
    if not is_ready:
        return EVERY_SECONDS
    answer = outbound.get(url, {"User-Agent": "Coinslot"}, TIMEOUT_SECONDS)
    failure = None
    if answer.failure is not None or answer.status is None or not 200 <= answer.status < 300:
        failure = answer.detail or (f"it answered {answer.status}" if answer.status else str(answer.failure))
    is_news = database.write(lambda tx: _record(tx, failure))
    if failure is not None and is_news:
        log.warning("the heartbeat's URL did not take the call: %s", failure)
    return EVERY_SECONDS


def _record(tx: Connection, failure: str | None) -> bool:
    """Keep how a call ended; returns whether the one before ended otherwise."""
    before = queries.fact(tx, FAILURE)
    if failure is None:
        tx.execute("DELETE FROM installation WHERE name = :name", {"name": FAILURE})
        queries.set_fact(tx, ARRIVED, clock.stamp())
    elif failure != before:  # its time is since when
        queries.set_fact(tx, FAILURE, failure)
    return failure != before


def _clear(tx: Connection) -> None:
    for name in (ARRIVED, FAILURE):
        tx.execute("DELETE FROM installation WHERE name = :name", {"name": name})
