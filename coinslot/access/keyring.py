"""A game's secrets: each has a current value and, while it is being rotated, a previous one that is still valid."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coinslot.access.vault import MasterKey, Sealed, Vault, VaultError
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.store import audit, revision
from coinslot.store.db import Connection, Database, Row

HINT_FROM_LENGTH = 12  # a shorter secret shows no last characters
SIGNING_PREFIX = "destination."  # of secrets that we sign with: nobody proves himself with them


class SecretError(CoinslotError):
    """What was asked for a secret cannot be done; the message is for the person who asked, and holds no value."""


@dataclass(frozen=True)
class SecretValue:
    """An opened secret. Its repr names it and keeps the value to itself."""

    name: str
    slot: str
    value: bytes = field(repr=False)

    @property
    def label(self) -> str:
        """What a transaction records of the key that proved it."""
        return f"{self.name}/{self.slot}"


@dataclass(frozen=True)
class SecretRow:
    """What a person may see of a stored secret. ``last_characters`` is None when it could not be opened."""

    name: str
    slot: str
    created_at: str
    last_used_at: str | None
    last_characters: str | None


def open_all(connection: Connection, vault: Vault, game_id: int, slug: str) -> Mapping[str, tuple[SecretValue, ...]]:
    """Every secret of a game, current value first. Raises VaultError when one does not open."""
    opened: dict[str, tuple[SecretValue, ...]] = {}
    rows = _rows(connection, game_id)
    if not rows:
        return opened
    unseal = vault.opener(connection)
    for row in rows:
        value = unseal(_purpose(slug, row["name"]), _sealed(row))
        opened[row["name"]] = (*opened.get(row["name"], ()), SecretValue(row["name"], row["slot"], value))
    return opened


def open_one(connection: Connection, vault: Vault, game_id: int, slug: str, name: str) -> tuple[SecretValue, ...]:
    """The values of one secret, current first; empty when it is not set. Raises VaultError when one does not open."""
    return tuple(
        SecretValue(name, row["slot"], vault.unseal(connection, _purpose(slug, name), _sealed(row)))
        for row in _rows(connection, game_id)
        if row["name"] == name
    )


def put(tx: Connection, vault: Vault, game: Row, name: str, value: str, actor: str) -> None:
    """Set the current value. A previous value, if a rotation left one, stays valid. Raises :class:`SecretError`."""
    _store_current(tx, vault, game, name, _checked(name, value))
    audit.record(tx, game["id"], actor, "secret.set", name)


def rotate(tx: Connection, vault: Vault, game: Row, name: str, value: str, actor: str) -> bool:
    """Set a new current value; the one it replaces stays valid as previous. Raises :class:`SecretError`.

    In a rotation under way, a current value that nobody has used was mistyped: that one is replaced, and the previous
    one, which the other side still has, stays. Returns whether it was so.
    """
    plaintext = _checked(name, value)
    current = tx.execute(
        "SELECT * FROM secrets WHERE game_id = :game_id AND name = :name AND slot = 'current'",
        {"game_id": game["id"], "name": name},
    ).fetchone()
    if current is None:
        raise SecretError(f"{name} has no value yet; set it first")
    if vault.unseal(tx, _purpose(game["slug"], name), _sealed(current)) == plaintext:
        raise SecretError(f"that is the current value of {name} already")
    previous = tx.execute(
        "SELECT 1 FROM secrets WHERE game_id = :game_id AND name = :name AND slot = 'previous'",
        {"game_id": game["id"], "name": name},
    ).fetchone()
    was_mistyped = previous is not None and current["last_used_at"] is None and not name.startswith(SIGNING_PREFIX)
    if not was_mistyped:
        _delete(tx, game["id"], name, "previous")
        tx.execute(
            "UPDATE secrets SET slot = 'previous' WHERE game_id = :game_id AND name = :name AND slot = 'current'",
            {"game_id": game["id"], "name": name},
        )
    _store_current(tx, vault, game, name, plaintext)
    audit.record(tx, game["id"], actor, "secret.rotate", name)
    return was_mistyped


def retire(tx: Connection, game: Row, name: str, actor: str) -> None:
    """End the previous value. Raises :class:`SecretError` when there is none."""
    if _delete(tx, game["id"], name, "previous") == 0:
        raise SecretError(f"{name} has no previous value")
    revision.touch(tx, game["id"])
    audit.record(tx, game["id"], actor, "secret.retire", name)


def delete(tx: Connection, game: Row, name: str) -> None:
    """End a secret with all its values."""
    for slot in ("current", "previous"):
        _delete(tx, game["id"], name, slot)
    revision.touch(tx, game["id"])


def listing(connection: Connection, vault: Vault, game: Row) -> list[SecretRow]:
    """What a person may see; works without the right master key too."""
    seen = []
    for row in _rows(connection, game["id"]):
        try:
            last: str | None = _hint(vault.unseal(connection, _purpose(game["slug"], row["name"]), _sealed(row)))
        except VaultError:
            last = None
        seen.append(SecretRow(row["name"], row["slot"], row["created_at"], row["last_used_at"], last))
    return seen


def listing_of(connection: Connection, game_id: int, opened: Mapping[str, tuple[SecretValue, ...]]) -> list[SecretRow]:
    """The same of a game whose secrets are open already."""
    hints = {(value.name, value.slot): _hint(value.value) for values in opened.values() for value in values}
    return [
        SecretRow(
            row["name"], row["slot"], row["created_at"], row["last_used_at"], hints.get((row["name"], row["slot"]))
        )
        for row in _rows(connection, game_id)
    ]


def used(tx: Connection, game_id: int, name: str, slot: str, at: str) -> None:
    tx.execute(
        """UPDATE secrets SET last_used_at = :at
           WHERE game_id = :game_id AND name = :name AND slot = :slot
             AND (last_used_at IS NULL OR last_used_at < :at)""",
        {"game_id": game_id, "name": name, "slot": slot, "at": at},
    )


def reseal(tx: Connection, old: MasterKey, new: MasterKey) -> int:
    """Put every sealed value of the database under another master key; returns how many there were."""
    secrets = tx.execute("SELECT s.*, g.slug FROM secrets s JOIN games g ON g.id = s.game_id").fetchall()
    for row in secrets:
        purpose = _purpose(row["slug"], row["name"])
        sealed = new.seal(purpose, old.unseal(purpose, _sealed(row)))
        tx.execute(
            """UPDATE secrets SET ciphertext = :ciphertext, nonce = :nonce, key_id = :key_id
               WHERE game_id = :game_id AND name = :name AND slot = :slot""",
            {**vars(sealed), "game_id": row["game_id"], "name": row["name"], "slot": row["slot"]},
        )
    refusals = tx.execute("SELECT id, ciphertext, nonce, key_id FROM refusals").fetchall()
    for row in refusals:
        sealed = new.seal(REFUSAL_PURPOSE, old.unseal(REFUSAL_PURPOSE, _sealed(row)))
        tx.execute(
            "UPDATE refusals SET ciphertext = :ciphertext, nonce = :nonce, key_id = :key_id WHERE id = :id",
            {**vars(sealed), "id": row["id"]},
        )
    own = tx.execute("SELECT name, ciphertext, nonce, key_id FROM installation_secrets").fetchall()
    for row in own:
        sealed = new.seal(row["name"], old.unseal(row["name"], _sealed(row)))
        tx.execute(
            """UPDATE installation_secrets SET ciphertext = :ciphertext, nonce = :nonce, key_id = :key_id
               WHERE name = :name""",
            {**vars(sealed), "name": row["name"]},
        )
    return len(secrets) + len(refusals) + len(own)


def rotate_master_key(database: Database, vault: Vault, new: MasterKey, actor: str) -> int:
    """Put everything sealed under a new master key, and say so in the audit; returns how many values there were."""

    def everything(tx: Connection, old: MasterKey, new: MasterKey) -> int:
        count = reseal(tx, old, new)
        audit.record(tx, None, actor, "key.rotate", f"{old.id} to {new.id}")
        return count

    return vault.rotate(database, everything, new)


REFUSAL_PURPOSE = "refusal"


def _hint(value: bytes) -> str:
    text = value.decode()
    return text[-4:] if len(text) >= HINT_FROM_LENGTH else ""


def _checked(name: str, value: str) -> bytes:
    """A value that can stand in a header; a private key in PEM may have lines. Raises :class:`SecretError`."""
    if not value:
        raise SecretError(f"{name}: the value is empty")
    is_pem = value.startswith("-----BEGIN ") and value.rstrip().endswith("-----")
    if not (value.replace("\r\n", "\n").replace("\n", "") if is_pem else value).isprintable():
        raise SecretError(f"{name}: there is a line end or another character in it that cannot be seen; copy it anew")
    return value.encode()


def _store_current(tx: Connection, vault: Vault, game: Row, name: str, value: bytes) -> None:
    _delete(tx, game["id"], name, "current")
    sealed = vault.seal(tx, _purpose(game["slug"], name), value)
    tx.execute(
        """INSERT INTO secrets (game_id, name, slot, ciphertext, nonce, key_id, created_at)
           VALUES (:game_id, :name, 'current', :ciphertext, :nonce, :key_id, :now)""",
        {**vars(sealed), "game_id": game["id"], "name": name, "now": clock.stamp()},
    )
    revision.touch(tx, game["id"])


def _delete(tx: Connection, game_id: int, name: str, slot: str) -> int:
    return tx.execute(
        "DELETE FROM secrets WHERE game_id = :game_id AND name = :name AND slot = :slot",
        {"game_id": game_id, "name": name, "slot": slot},
    ).rowcount


def _rows(connection: Connection, game_id: int) -> list[Row]:
    return connection.execute(
        "SELECT * FROM secrets WHERE game_id = :game_id ORDER BY name, slot", {"game_id": game_id}
    ).fetchall()


def _sealed(row: Row) -> Sealed:
    return Sealed(row["ciphertext"], row["nonce"], row["key_id"])


def _purpose(slug: str, name: str) -> str:
    return f"secret/{slug}/{name}"
