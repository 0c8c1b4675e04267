"""A game's secrets: each has a current value and, during a rotation, a previous one that is still valid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from coinslot.access.vault import MasterKey, Sealed, Vault, VaultError
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.store import audit, queries, revision
from coinslot.store.db import Connection, Database, Row

HINT_FROM_LENGTH = 12  # a shorter secret shows no last characters
SIGNING_PREFIX = "destination."  # of secrets that we sign with: no caller proves itself with them
REFUSAL_PURPOSE = "refusal"


class SecretError(CoinslotError):
    """A change of a secret that cannot be made; the message holds no value."""


@dataclass(frozen=True)
class SecretValue:
    """An opened secret. Its repr does not show the value."""

    name: str
    slot: str
    value: bytes = field(repr=False)
    created_at: str = ""  # which value it is, whatever slot a rotation moves it to; empty: it is not stored

    @property
    def label(self) -> str:
        """The name under which a transaction records the key that proved it."""
        return f"{self.name}/{self.slot}"


@dataclass(frozen=True)
class SecretRow:
    """What a person may see of a stored secret. ``last_characters`` is None when the secret did not open."""

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
        value = unseal(_purpose(slug, row["name"]), Sealed.of(row))
        opened[row["name"]] = (
            *opened.get(row["name"], ()),
            SecretValue(row["name"], row["slot"], value, row["created_at"]),
        )
    return opened


def open_one(connection: Connection, vault: Vault, game_id: int, slug: str, name: str) -> tuple[SecretValue, ...]:
    """The values of one secret, current first; empty when it is not set. Raises VaultError when one does not open."""
    return tuple(
        SecretValue(
            name, row["slot"], vault.unseal(connection, _purpose(slug, name), Sealed.of(row)), row["created_at"]
        )
        for row in _rows(connection, game_id)
        if row["name"] == name
    )


def put(tx: Connection, vault: Vault, game: Row, name: str, value: str, actor: str) -> None:
    """Set the current value. A previous value, if a rotation left one, stays valid. Raises :class:`SecretError`."""
    _store_current(tx, vault, game, name, _checked(name, value))
    audit.record(tx, game["id"], actor, "secret.set", name)


def rotate(tx: Connection, vault: Vault, game: Row, name: str, value: str, actor: str) -> bool:
    """Set a new current value; the one it replaces stays valid as previous. Raises :class:`SecretError`.

    A current value that was never used during a rotation was mistyped: it is replaced. The previous value, which the
    other side still has, stays. Returns whether that was so.
    """
    plaintext = _checked(name, value)
    slots = {row["slot"]: row for row in _rows(tx, game["id"]) if row["name"] == name}
    if "current" not in slots:
        raise SecretError(f"{name} has no value yet; set it first")
    current = slots["current"]
    if vault.unseal(tx, _purpose(game["slug"], name), Sealed.of(current)) == plaintext:
        raise SecretError(f"that is the current value of {name} already")
    was_mistyped = "previous" in slots and current["last_used_at"] is None and not name.startswith(SIGNING_PREFIX)
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
    """End all values of a secret."""
    for slot in ("current", "previous"):
        _delete(tx, game["id"], name, slot)
    revision.touch(tx, game["id"])


def listing(connection: Connection, vault: Vault, game: Row) -> list[SecretRow]:
    """What a person may see; works without the right master key too."""

    def last_characters(row: Row) -> str | None:
        try:
            return _hint(vault.unseal(connection, _purpose(game["slug"], row["name"]), Sealed.of(row)))
        except VaultError:
            return None

    return [_secret_row(row, last_characters(row)) for row in _rows(connection, game["id"])]


def listing_of(connection: Connection, game_id: int, opened: Mapping[str, tuple[SecretValue, ...]]) -> list[SecretRow]:
    """The same for a game whose secrets are open already."""
    hints = {(value.name, value.slot): _hint(value.value) for values in opened.values() for value in values}
    return [_secret_row(row, hints.get((row["name"], row["slot"]))) for row in _rows(connection, game_id)]


def used(tx: Connection, game_id: int, name: str, created_at: str, at: str) -> None:
    """Note that a caller proved itself at a stamp with the value set at ``created_at``.

    It may be the previous one by now, or gone: the value in its place was not used.
    """
    tx.execute(
        """UPDATE secrets SET last_used_at = :at
           WHERE game_id = :game_id AND name = :name AND created_at = :created_at
             AND (last_used_at IS NULL OR last_used_at < :at)""",
        {"game_id": game_id, "name": name, "created_at": created_at, "at": at},
    )


def reseal(tx: Connection, old: MasterKey, new: MasterKey) -> int:
    """Put every sealed value of the database under another master key; returns how many there were."""
    count = 0
    for table, key, purpose_of in _sealed_tables(tx):
        is_row = " AND ".join(f"{column} = :{column}" for column in key)
        update = f"UPDATE {table} SET ciphertext = :ciphertext, nonce = :nonce, key_id = :key_id WHERE {is_row}"  # noqa: S608
        for row in tx.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608  our own words only
            purpose = purpose_of(row)
            sealed = new.seal(purpose, old.unseal(purpose, Sealed.of(row)))
            tx.execute(update, {**dict(row), **vars(sealed)})
            count += 1
    return count


def open_each(connection: Connection, key: MasterKey) -> int:
    """Open every sealed value of the database, and keep none; returns how many there are.

    Raises VaultError at the first that this key does not open.
    """
    count = 0
    for table, _, purpose_of in _sealed_tables(connection):
        for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608  our own words only
            key.unseal(purpose_of(row), Sealed.of(row))
            count += 1
    return count


def rotate_master_key(database: Database, vault: Vault, new: MasterKey, actor: str) -> int:
    """Put all sealed values under a new master key, and note it in the audit; returns how many values there were."""

    def reseal_and_note(tx: Connection, old: MasterKey, new: MasterKey) -> int:
        audit.record(tx, None, actor, "key.rotate", f"{old.id} to {new.id}")
        return reseal(tx, old, new)

    return vault.rotate(database, reseal_and_note, new)


def _sealed_tables(connection: Connection) -> tuple[tuple[str, tuple[str, ...], Callable[[Row], str]], ...]:
    """Every table with sealed values: its name, its key, and what the value of a row is bound to."""
    slugs = {row["id"]: row["slug"] for row in connection.execute("SELECT id, slug FROM games")}
    return (
        ("secrets", ("game_id", "name", "slot"), lambda row: _purpose(slugs[row["game_id"]], row["name"])),
        ("refusals", ("id",), lambda row: REFUSAL_PURPOSE),
        ("installation_secrets", ("name",), lambda row: str(row["name"])),
    )


def _secret_row(row: Row, last_characters: str | None) -> SecretRow:
    return SecretRow(row["name"], row["slot"], row["created_at"], row["last_used_at"], last_characters)


def _hint(value: bytes) -> str:
    text = value.decode()
    return text[-4:] if len(text) >= HINT_FROM_LENGTH else ""


def _checked(name: str, value: str) -> bytes:
    """A value that fits into a header; a private key in PEM may have several lines. Raises :class:`SecretError`."""
    if not value:
        raise SecretError(f"{name}: the value is empty")
    is_pem = value.startswith("-----BEGIN ") and value.rstrip().endswith("-----")
    if not (value.replace("\r\n", "\n").replace("\n", "") if is_pem else value).isprintable():
        raise SecretError(f"{name}: there is a line end or another character in it that cannot be seen; copy it again")
    return value.encode()


def _store_current(tx: Connection, vault: Vault, game: Row, name: str, value: bytes) -> None:
    _delete(tx, game["id"], name, "current")
    sealed = vault.seal(tx, _purpose(game["slug"], name), value)
    row = {"game_id": game["id"], "name": name, "slot": "current", **vars(sealed), "created_at": clock.stamp()}
    queries.insert(tx, "secrets", row)
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


def _purpose(slug: str, name: str) -> str:
    return f"secret/{slug}/{name}"
