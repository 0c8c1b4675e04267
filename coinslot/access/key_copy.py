"""Whether a copy of the master key, kept in another place, opens this installation; and when that was last shown.

Without the key no backup can be restored. A copy that was never read back may be incomplete, or of an earlier key.
"""

from coinslot.access import keyring
from coinslot.access.vault import MasterKey, Vault, VaultError, database_key_id
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Database

CHECKED_KEY = "vault.checked_key_id"  # the fact: id of the key of which a copy was shown


def check(database: Database, vault: Vault, copy: MasterKey) -> int:
    """Open every sealed value with ``copy``, and note that it was shown today; returns how many values there are.

    The key that the server uses is not asked: this works while that one is lost. Raises VaultError, with no key in it.
    """
    with database.snapshot() as connection:
        key_id = database_key_id(connection)
        if key_id is None:
            raise VaultError("the database is under no master key yet; start the server once")
        if copy.id != key_id:
            is_earlier = any(key.id == copy.id for key in vault.put_aside())
            earlier = (
                "an earlier one, which only backups from before the rotation need" if is_earlier else "another one"
            )
            raise VaultError(f"this does not open the installation: it is under master key {key_id}, this is {earlier}")
        count = keyring.open_each(connection, copy)

    def note(tx: Connection) -> None:
        queries.set_fact(tx, CHECKED_KEY, copy.id)
        audit.record(tx, None, "command", "key.check", copy.id)

    database.write_here(note)
    return count


def checked_at(connection: Connection) -> str | None:
    """When a copy of the present master key was last shown; None: never."""
    found: str | None = queries.value(
        connection,
        """SELECT c.updated_at FROM installation c JOIN installation k ON k.name = 'vault.key_id' AND k.value = c.value
           WHERE c.name = :name""",
        {"name": CHECKED_KEY},
    )
    return found
