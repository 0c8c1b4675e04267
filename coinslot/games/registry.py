"""The studio's players and items."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from coinslot.base import clock, spellings
from coinslot.base.errors import CoinslotError
from coinslot.store import queries
from coinslot.store.db import Connection, Row

# The player and the item that test traffic names. They always exist, and credits that name them are never counted.
RESERVED_ID = "coinslot-test"
LONGEST_ID = 255

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# In an upsert: whether an item takes the new name.
NEW_ITEM_NAME = "excluded.name <> items.name OR (excluded.name IS NOT NULL AND items.name IS NULL)"

COLUMNS = ("name", "profile_image", "country", "login_name", "password_hash")
PROVIDERS = ("google", "apple", "facebook")


class RegistryError(CoinslotError):
    """A registry entry cannot be stored; the message names the value."""


def checked_id(value: str) -> str:
    """An id of a player, an item or a transaction: 1 to 255 characters, none of them a control character.

    Raises ValueError, also for blanks at the ends: ids that look the same lead to mistakes.
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
    """Whether a player is registered; the reserved player always is."""
    return player_id == RESERVED_ID or _is_registered(connection, game_id, player_id)


def has_item(connection: Connection, game_id: int, sku: str) -> bool:
    """Whether an item is registered; the reserved item always is."""
    return sku == RESERVED_ID or _is_in_catalogue(connection, game_id, sku)


def first_unknown_item(connection: Connection, game_id: int, skus: Iterable[str]) -> str | None:
    """The first of these that is not registered; None when all are."""
    wanted = {f"sku_{number}": sku for number, sku in enumerate(skus) if sku != RESERVED_ID}
    if not wanted:
        return None
    rows = connection.execute(
        f"SELECT sku FROM items WHERE game_id = :game_id AND sku IN (:{', :'.join(wanted)})",  # noqa: S608  names of ours
        {"game_id": game_id, **wanted},
    )
    known = {row["sku"] for row in rows}
    return next((sku for sku in wanted.values() if sku not in known), None)


def player_by_identity(connection: Connection, game_id: int, provider: str, subject: str) -> str | None:
    """The player who is linked to an account of a provider."""
    key = {"game_id": game_id, "provider": provider, "subject": subject}
    found: str | None = queries.get(connection, "player_id", "identities", **key)
    return found


def identity(connection: Connection, game_id: int, player_id: str, provider: str) -> str | None:
    """The account of a provider that a player is linked to."""
    key = {"game_id": game_id, "player_id": player_id, "provider": provider}
    found: str | None = queries.get(connection, "subject", "identities", **key)
    return found


def player_by_login_name(connection: Connection, game_id: int, login_name: str) -> Row | None:
    """``player_id`` and ``password_hash``; the latter is None for a player without a password here."""
    sql = "SELECT player_id, password_hash FROM players WHERE game_id = :game_id AND login_key = :login_key"
    return queries.row(connection, sql, {"game_id": game_id, "login_key": spellings.login_name(login_name)})


def profile(connection: Connection, game_id: int, player_id: str) -> Row | None:
    """What a store is shown of a player: ``name``, ``profile_image`` and ``profile``, which is JSON text.

    Where ``is_profile_checked`` is 0, the game pushed image and profile before they were checked.
    """
    return queries.row(
        connection,
        """SELECT name, profile_image, profile, is_profile_checked FROM players
           WHERE game_id = :game_id AND player_id = :player_id""",
        {"game_id": game_id, "player_id": player_id},
    )


def player(connection: Connection, game_id: int, player_id: str) -> dict[str, Any] | None:
    """A registry entry: the columns, ``profile`` as a dict and ``identities`` as provider -> subject."""
    key = {"game_id": game_id, "player_id": player_id}
    row = queries.row(connection, "SELECT * FROM players WHERE game_id = :game_id AND player_id = :player_id", key)
    if row is None:
        return None
    identities = connection.execute(
        "SELECT provider, subject FROM identities WHERE game_id = :game_id AND player_id = :player_id", key
    )
    return {**dict(row), "profile": json.loads(row["profile"]), "identities": dict(map(tuple, identities))}


def put_player(tx: Connection, game_id: int, player_id: str, entry: Mapping[str, Any]) -> bool:
    """Store a registry entry in place of the old one; returns whether the player is new.

    ``entry`` has any of :data:`COLUMNS`, ``profile`` (a dict) and ``identities``; what it lacks becomes empty. It
    counts as checked unless its ``is_profile_checked`` says otherwise.
    Raises :class:`RegistryError` when another player has the login name or an identity.
    """
    login_name, now = entry.get("login_name"), clock.stamp()
    values = {
        "game_id": game_id,
        "player_id": player_id,
        **{column: entry.get(column) for column in COLUMNS},
        "login_key": None if login_name is None else spellings.login_name(login_name),
        "profile": json.dumps(entry.get("profile", {})),
        "is_profile_checked": int(entry.get("is_profile_checked", True)),
        "created_at": now,
        "updated_at": now,
    }
    taken = "SELECT 1 FROM players WHERE game_id = :game_id AND login_key = :login_key AND player_id <> :player_id"
    if queries.row(tx, taken, values) is not None:
        raise RegistryError("login_name belongs to another player")
    is_new = not _is_registered(tx, game_id, player_id)
    queries.insert(
        tx,
        "players",
        values,
        """ON CONFLICT (game_id, player_id) DO UPDATE SET
               name = excluded.name, profile_image = excluded.profile_image, country = excluded.country,
               login_name = excluded.login_name, login_key = excluded.login_key,
               password_hash = excluded.password_hash, profile = excluded.profile,
               is_profile_checked = excluded.is_profile_checked, updated_at = excluded.updated_at,
               is_in_search = CASE WHEN coalesce(excluded.name, '') = coalesce(players.name, '')
                                        AND excluded.profile = players.profile THEN players.is_in_search ELSE 0 END""",
    )
    _put_identities(tx, game_id, player_id, entry.get("identities", {}))
    return is_new


def register_player(tx: Connection, game_id: int, player_id: str, name: str | None = None) -> None:
    """Make sure a player exists. An existing entry stays as it is, but takes the name if one is given."""
    tx.execute(
        """INSERT INTO players (game_id, player_id, name, created_at, updated_at)
           VALUES (:game_id, :player_id, :name, :now, :now)
           ON CONFLICT (game_id, player_id)
           DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at, is_in_search = 0
           WHERE excluded.name IS NOT NULL""",
        {"game_id": game_id, "player_id": player_id, "name": name, "now": clock.stamp()},
    )


def link_identity(tx: Connection, game_id: int, player_id: str, provider: str, subject: str) -> None:
    """Link a registered player to one more account.

    Raises :class:`RegistryError` when the account has another player, or the player another account there.
    """
    is_linked = queries.insert(
        tx,
        "identities",
        {"game_id": game_id, "provider": provider, "subject": subject, "player_id": player_id},
        "ON CONFLICT DO NOTHING RETURNING 1",
    )
    if is_linked is None and player_by_identity(tx, game_id, provider, subject) != player_id:
        raise RegistryError(f"the {provider} identity belongs to another player, or the player has another one")


def put_item(tx: Connection, game_id: int, sku: str, name: str | None) -> bool:
    """Store an item and its name, also an empty one; returns whether the item is new."""
    return _put_item(tx, game_id, sku, name, "true")


def register_item(tx: Connection, game_id: int, sku: str, name: str | None = None) -> bool:
    """Make sure an item exists; an existing one takes the name if one is given. Returns whether the item is new."""
    return _put_item(tx, game_id, sku, name, NEW_ITEM_NAME)


def add_items(tx: Connection, game_id: int, names: Mapping[str, str | None]) -> list[str]:
    """Register those items that are missing, and return their skus. An existing item takes a name where it has none."""
    has_no_name = "items.name IS NULL AND excluded.name IS NOT NULL"
    return [sku for sku, name in names.items() if _put_item(tx, game_id, sku, name, has_no_name)]


def delete_item(tx: Connection, game_id: int, sku: str) -> bool:
    """Returns whether the item was there."""
    key = {"game_id": game_id, "sku": sku}
    return tx.execute("DELETE FROM items WHERE game_id = :game_id AND sku = :sku", key).rowcount > 0


def items(connection: Connection, game_id: int) -> list[Row]:
    """``sku`` and ``name`` of every registered item, in the order of the skus."""
    return connection.execute(
        "SELECT sku, name FROM items WHERE game_id = :game_id ORDER BY sku", {"game_id": game_id}
    ).fetchall()


def _put_item(tx: Connection, game_id: int, sku: str, name: str | None, condition: str) -> bool:
    """Insert an item, or change its name on this condition; returns whether the item is new."""
    is_new = not _is_in_catalogue(tx, game_id, sku)
    now = clock.stamp()
    queries.insert(
        tx,
        "items",
        {"game_id": game_id, "sku": sku, "name": name, "created_at": now, "updated_at": now},
        f"""ON CONFLICT (game_id, sku) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at
            WHERE {condition}""",
    )
    return is_new


def _is_registered(connection: Connection, game_id: int, player_id: str) -> bool:
    return queries.get(connection, "1", "players", game_id=game_id, player_id=player_id) is not None


def _is_in_catalogue(connection: Connection, game_id: int, sku: str) -> bool:
    return queries.get(connection, "1", "items", game_id=game_id, sku=sku) is not None


def _put_identities(tx: Connection, game_id: int, player_id: str, identities: Mapping[str, str]) -> None:
    key = {"game_id": game_id, "player_id": player_id}
    tx.execute("DELETE FROM identities WHERE game_id = :game_id AND player_id = :player_id", key)
    for provider, subject in identities.items():
        row = {**key, "provider": provider, "subject": subject}
        if not queries.insert(tx, "identities", row, "ON CONFLICT (game_id, provider, subject) DO NOTHING RETURNING 1"):
            raise RegistryError(f"the {provider} identity belongs to another player")
