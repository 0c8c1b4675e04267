"""The studio's players and items: who may receive, and what there is to give."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from coinslot.base import clock, spellings
from coinslot.base.errors import CoinslotError
from coinslot.store.db import Connection, Row

# The player and the item that test traffic names. They always exist; what names them never counts.
RESERVED_ID = "coinslot-test"
LONGEST_ID = 255

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

COLUMNS = ("name", "profile_image", "country", "login_name", "password_hash")
PROVIDERS = ("google", "apple", "facebook")


class RegistryError(CoinslotError):
    """A registry entry cannot be stored; the message says which value is in the way."""


def checked_id(value: str) -> str:
    """An id of a player, an item or a transaction: 1 to 255 characters, none of them a control character.

    Raises ValueError. Blanks at the ends are refused too: two ids that look the same are one mistake too many.
    """
    if not value or len(value) > LONGEST_ID or value != value.strip():
        raise ValueError(f"use 1 to {LONGEST_ID} characters without blanks at the ends")
    return checked_text(value, LONGEST_ID)


def checked_text(value: str, longest: int) -> str:
    """A name or the like: any characters but control characters, up to ``longest`` of them. Raises ValueError."""
    if len(value) > longest:
        raise ValueError(f"use up to {longest} characters")
    if _CONTROL.search(value):
        raise ValueError("use no control characters")
    return value


def has_player(connection: Connection, game_id: int, player_id: str) -> bool:
    return player_id == RESERVED_ID or _is_registered(connection, game_id, player_id)


def has_item(connection: Connection, game_id: int, sku: str) -> bool:
    return sku == RESERVED_ID or _is_in_catalogue(connection, game_id, sku)


def player_by_identity(connection: Connection, game_id: int, provider: str, subject: str) -> str | None:
    row = connection.execute(
        "SELECT player_id FROM identities WHERE game_id = :game_id AND provider = :provider AND subject = :subject",
        {"game_id": game_id, "provider": provider, "subject": subject},
    ).fetchone()
    return None if row is None else str(row["player_id"])


def identity(connection: Connection, game_id: int, player_id: str, provider: str) -> str | None:
    """The account of a provider that a player is linked to."""
    row = connection.execute(
        "SELECT subject FROM identities WHERE game_id = :game_id AND player_id = :player_id AND provider = :provider",
        {"game_id": game_id, "player_id": player_id, "provider": provider},
    ).fetchone()
    return None if row is None else str(row["subject"])


def player_by_login_name(connection: Connection, game_id: int, login_name: str) -> Row | None:
    """``player_id`` and ``password_hash``; the latter is None for a player without a password here."""
    row: Row | None = connection.execute(
        "SELECT player_id, password_hash FROM players WHERE game_id = :game_id AND login_key = :login_key",
        {"game_id": game_id, "login_key": spellings.login_name(login_name)},
    ).fetchone()
    return row


def profile(connection: Connection, game_id: int, player_id: str) -> Row | None:
    """What a store is shown of a player: ``name``, ``profile_image`` and ``profile``, which is JSON text.

    Where ``is_profile_checked`` is 0, image and profile may be anything: the game pushed them before they were checked.
    """
    row: Row | None = connection.execute(
        """SELECT name, profile_image, profile, is_profile_checked FROM players
           WHERE game_id = :game_id AND player_id = :player_id""",
        {"game_id": game_id, "player_id": player_id},
    ).fetchone()
    return row


def player(connection: Connection, game_id: int, player_id: str) -> dict[str, Any] | None:
    """A registry entry: the columns, ``profile`` as a dict and ``identities`` as provider -> subject."""
    key = {"game_id": game_id, "player_id": player_id}
    row = connection.execute(
        "SELECT * FROM players WHERE game_id = :game_id AND player_id = :player_id", key
    ).fetchone()
    if row is None:
        return None
    identities = connection.execute(
        "SELECT provider, subject FROM identities WHERE game_id = :game_id AND player_id = :player_id", key
    )
    entry = dict(row)
    entry["profile"] = json.loads(row["profile"])
    entry["identities"] = {each["provider"]: each["subject"] for each in identities}
    return entry


def put_player(tx: Connection, game_id: int, player_id: str, entry: Mapping[str, Any]) -> bool:
    """Store a registry entry in place of what was there; returns whether the player is new.

    ``entry`` has any of :data:`COLUMNS`, ``profile`` (a dict) and ``identities``; what it lacks becomes empty. It
    counts as checked unless its ``is_profile_checked`` says otherwise.
    Raises :class:`RegistryError` when another player has the login name or an identity.
    """
    values = {column: entry.get(column) for column in COLUMNS}
    values |= {"game_id": game_id, "player_id": player_id, "now": clock.stamp()}
    values["profile"] = json.dumps(entry.get("profile", {}))
    values["is_checked"] = int(entry.get("is_profile_checked", True))
    values["login_key"] = None
    if values["login_name"] is not None:
        values["login_key"] = spellings.login_name(values["login_name"])
        taken = tx.execute(
            """SELECT 1 FROM players
               WHERE game_id = :game_id AND login_key = :login_key AND player_id <> :player_id""",
            values,
        ).fetchone()
        if taken:
            raise RegistryError("login_name belongs to another player")
    is_new = not _is_registered(tx, game_id, player_id)
    tx.execute(
        """INSERT INTO players (game_id, player_id, name, profile_image, country, login_name, login_key, password_hash,
                                profile, is_profile_checked, created_at, updated_at)
           VALUES (:game_id, :player_id, :name, :profile_image, :country, :login_name, :login_key, :password_hash,
                   :profile, :is_checked, :now, :now)
           ON CONFLICT (game_id, player_id) DO UPDATE SET
               name = excluded.name, profile_image = excluded.profile_image, country = excluded.country,
               login_name = excluded.login_name, login_key = excluded.login_key,
               password_hash = excluded.password_hash, profile = excluded.profile,
               is_profile_checked = excluded.is_profile_checked, updated_at = excluded.updated_at""",
        values,
    )
    _put_identities(tx, game_id, player_id, entry.get("identities", {}))
    return is_new


def register_player(tx: Connection, game_id: int, player_id: str, name: str | None = None) -> None:
    """Make sure a player exists; an entry that is there stays as it is, but takes a name if one is given."""
    tx.execute(
        """INSERT INTO players (game_id, player_id, name, created_at, updated_at)
           VALUES (:game_id, :player_id, :name, :now, :now)
           ON CONFLICT (game_id, player_id) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at
           WHERE excluded.name IS NOT NULL""",
        {"game_id": game_id, "player_id": player_id, "name": name, "now": clock.stamp()},
    )


def link_identity(tx: Connection, game_id: int, player_id: str, provider: str, subject: str) -> None:
    """Know a registered player by one more id. Raises :class:`RegistryError` when id or player are linked otherwise."""
    is_linked = tx.execute(
        """INSERT INTO identities (game_id, provider, subject, player_id)
           VALUES (:game_id, :provider, :subject, :player_id)
           ON CONFLICT (game_id, provider, subject) DO NOTHING
           ON CONFLICT (game_id, player_id, provider) DO NOTHING RETURNING 1""",
        {"game_id": game_id, "provider": provider, "subject": subject, "player_id": player_id},
    ).fetchone()
    if is_linked is None and player_by_identity(tx, game_id, provider, subject) != player_id:
        raise RegistryError(f"the {provider} identity belongs to another player, or the player has another one")


def put_item(tx: Connection, game_id: int, sku: str, name: str | None) -> bool:
    """Store an item; returns whether it is new."""
    is_new = not _is_in_catalogue(tx, game_id, sku)
    tx.execute(
        """INSERT INTO items (game_id, sku, name, created_at, updated_at)
           VALUES (:game_id, :sku, :name, :now, :now)
           ON CONFLICT (game_id, sku) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at""",
        {"game_id": game_id, "sku": sku, "name": name, "now": clock.stamp()},
    )
    return is_new


def register_item(tx: Connection, game_id: int, sku: str, name: str | None = None) -> bool:
    """Make sure an item exists; one that is there takes a name if one is given. Returns whether it is new."""
    is_new = not _is_in_catalogue(tx, game_id, sku)
    tx.execute(
        """INSERT INTO items (game_id, sku, name, created_at, updated_at)
           VALUES (:game_id, :sku, :name, :now, :now)
           ON CONFLICT (game_id, sku) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at
           WHERE excluded.name <> items.name OR (excluded.name IS NOT NULL AND items.name IS NULL)""",
        {"game_id": game_id, "sku": sku, "name": name, "now": clock.stamp()},
    )
    return is_new


def add_items(tx: Connection, game_id: int, names: Mapping[str, str | None]) -> list[str]:
    """Register those of the items that are missing, and return their skus.

    One that is there keeps its name, and takes one only where it has none.
    """
    known = {row["sku"] for row in items(tx, game_id)}
    tx.executemany(
        """INSERT INTO items (game_id, sku, name, created_at, updated_at)
           VALUES (:game_id, :sku, :name, :now, :now)
           ON CONFLICT (game_id, sku) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at
           WHERE items.name IS NULL AND excluded.name IS NOT NULL""",
        [{"game_id": game_id, "sku": sku, "name": name, "now": clock.stamp()} for sku, name in names.items()],
    )
    return [sku for sku in names if sku not in known]


def delete_item(tx: Connection, game_id: int, sku: str) -> bool:
    key = {"game_id": game_id, "sku": sku}
    return tx.execute("DELETE FROM items WHERE game_id = :game_id AND sku = :sku", key).rowcount > 0


def items(connection: Connection, game_id: int) -> list[Row]:
    return connection.execute(
        "SELECT sku, name FROM items WHERE game_id = :game_id ORDER BY sku", {"game_id": game_id}
    ).fetchall()


def _is_registered(connection: Connection, game_id: int, player_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM players WHERE game_id = :game_id AND player_id = :player_id",
        {"game_id": game_id, "player_id": player_id},
    ).fetchone()
    return row is not None


def _is_in_catalogue(connection: Connection, game_id: int, sku: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM items WHERE game_id = :game_id AND sku = :sku", {"game_id": game_id, "sku": sku}
    ).fetchone()
    return row is not None


def _put_identities(tx: Connection, game_id: int, player_id: str, identities: Mapping[str, str]) -> None:
    key = {"game_id": game_id, "player_id": player_id}
    tx.execute("DELETE FROM identities WHERE game_id = :game_id AND player_id = :player_id", key)
    for provider, subject in identities.items():
        taken = tx.execute(
            """INSERT INTO identities (game_id, provider, subject, player_id)
               VALUES (:game_id, :provider, :subject, :player_id)
               ON CONFLICT (game_id, provider, subject) DO NOTHING RETURNING 1""",
            {**key, "provider": provider, "subject": subject},
        ).fetchone()
        if taken is None:
            raise RegistryError(f"the {provider} identity belongs to another player")


def first_unknown_item(connection: Connection, game_id: int, skus: Iterable[str]) -> str | None:
    """The first of these that is not registered."""
    return next((sku for sku in skus if not has_item(connection, game_id, sku)), None)
