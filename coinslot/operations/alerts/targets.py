"""Alert targets: who is sent the alerts. The URL of each is a secret, sealed by the vault; only its scheme is shown."""

from coinslot.access import own_secrets
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.outbox.checks import NAME
from coinslot.relay import jobs
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Row

JOB = "alerts"  # the job that looks at the troubles and sends
MOST = 20


class AlertError(CoinslotError):
    """What was asked for an alert target cannot be done. The message holds nothing of a URL."""


def check_name(connection: Connection, name: str) -> None:
    """Raises :class:`AlertError` unless a target of this name can be added."""
    if not NAME.fullmatch(name):
        raise AlertError(f"{name!r} is not a name: use up to 63 of a-z, 0-9 and -, not at the ends")
    if find(connection, name) is not None:
        raise AlertError(f"there is an alert target {name} already")
    if len(listing(connection)) >= MOST:
        raise AlertError(f"there are {MOST} alert targets already")


def add(tx: Connection, vault: Vault, name: str, url: str, scheme: str, actor: str) -> None:
    """Add a target whose URL Apprise has understood. What stands is sent to it. Raises :class:`AlertError`."""
    check_name(tx, name)
    row = {"name": name, "scheme": scheme, "is_new": 1, "created_at": clock.stamp()}
    queries.insert(tx, "alert_targets", row)
    own_secrets.put(tx, vault, _secret(name), url)
    audit.record(tx, None, actor, "alert.add", f"{name} ({scheme})")
    jobs.wake(tx, jobs.INSTALLATION, JOB)


def remove(tx: Connection, name: str, actor: str) -> None:
    """Remove a target, and what waits for it. Raises :class:`AlertError` when there is none."""
    check_exists(tx, name)
    tx.execute("DELETE FROM alert_targets WHERE name = :name", {"name": name})
    own_secrets.delete(tx, _secret(name))
    audit.record(tx, None, actor, "alert.remove", name)


def check_exists(connection: Connection, name: str) -> None:
    """Raises :class:`AlertError` when there is no such target."""
    if find(connection, name) is None:
        raise AlertError(f"there is no alert target {name}")


def find(connection: Connection, name: str) -> Row | None:
    return queries.row(connection, "SELECT * FROM alert_targets WHERE name = :name", {"name": name})


def listing(connection: Connection) -> list[Row]:
    """All targets by name: scheme, when something last arrived, how it last failed. No URL."""
    return connection.execute("SELECT * FROM alert_targets ORDER BY name").fetchall()


def url(connection: Connection, vault: Vault, name: str) -> str | None:
    """The URL of a target; None when there is none. Raises VaultError when it does not open."""
    return own_secrets.opened(connection, vault, _secret(name))


def _secret(name: str) -> str:
    return f"alert.{name}"
