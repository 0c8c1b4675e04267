"""Secrets of the installation itself, sealed by the vault, one row per name (``installation_secrets``)."""

from coinslot.access.vault import Sealed, Vault
from coinslot.base import clock
from coinslot.store import queries
from coinslot.store.db import Connection


def put(tx: Connection, vault: Vault, name: str, secret: str) -> None:
    """Store a secret in place of the one of this name."""
    # Sealed for the row's name, by which keyring.reseal opens it.
    sealed = vault.seal(tx, name, secret.encode())
    delete(tx, name)
    queries.insert(tx, "installation_secrets", {"name": name, **vars(sealed), "created_at": clock.stamp()})


def opened(connection: Connection, vault: Vault, name: str, oldest: str = "") -> str | None:
    """The secret; None when there is none, or it was stored before the stamp ``oldest``. Raises VaultError."""
    sql = "SELECT * FROM installation_secrets WHERE name = :name AND created_at > :oldest"
    row = queries.row(connection, sql, {"name": name, "oldest": oldest})
    return None if row is None else vault.unseal(connection, name, Sealed.of(row)).decode()


def has(connection: Connection, name: str) -> bool:
    """Whether there is a secret of this name, without opening it."""
    return queries.get(connection, "name", "installation_secrets", name=name) is not None


def delete(tx: Connection, name: str) -> bool:
    """Delete a secret; returns whether there was one."""
    return tx.execute("DELETE FROM installation_secrets WHERE name = :name", {"name": name}).rowcount > 0
