"""The heartbeat: a URL of a watcher outside, called once a minute while this installation is ready.

The watcher sends an alert of its own when the calls end: that is how somebody hears that the whole machine is gone. The
URL is a secret, since who knows it can pretend that all is well.
"""

from dataclasses import dataclass

from coinslot.access import own_secrets
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.base.outbound import Outbound
from coinslot.games.options import web_address
from coinslot.operations.alerts.targets import AlertError
from coinslot.relay import jobs
from coinslot.relay.jobs import JobError
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Database

JOB = "heartbeat"
EVERY_SECONDS = 60.0
TIMEOUT_SECONDS = 10.0
SECRET = "heartbeat.url"  # noqa: S105  a name
ARRIVED = "heartbeat.arrived_at"  # fact of the installation


@dataclass(frozen=True)
class State:
    """``arrived_at``: when the URL last answered 2xx. ``failure``: why the last call failed; None: it did not."""

    is_on: bool
    arrived_at: str | None
    failure: str | None


def state(connection: Connection) -> State:
    is_on = own_secrets.has(connection, SECRET)
    failure = jobs.last_errors(connection, jobs.INSTALLATION).get(JOB) if is_on else None
    return State(is_on, queries.fact(connection, ARRIVED) if is_on else None, failure)


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
    jobs.wake(tx, jobs.INSTALLATION, JOB)  # a failure of before ends with it
    return was_on


def beat(database: Database, vault: Vault, outbound: Outbound, is_ready: bool) -> float | None:
    """Call the URL if this installation is ready; returns when to run again, None while there is no URL.

    Raises JobError when the URL did not answer 2xx; it is called again a minute later.
    """
    url = own_secrets.opened(database.read(), vault, SECRET)
    if url is None:
        return None
    if not is_ready:
        return EVERY_SECONDS
    answer = outbound.get(url, {"User-Agent": "Coinslot"}, TIMEOUT_SECONDS)
    if answer.failure is not None or answer.status is None or not 200 <= answer.status < 300:
        why = answer.detail or answer.failure or f"it answered {answer.status}"
        raise JobError(f"the heartbeat's URL did not take the call: {why}", pauses=[EVERY_SECONDS])
    database.write(lambda tx: queries.set_fact(tx, ARRIVED, clock.stamp()))
    return EVERY_SECONDS


def _clear(tx: Connection) -> None:
    tx.execute("DELETE FROM installation WHERE name = :name", {"name": ARRIVED})
