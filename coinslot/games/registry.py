"""The studio's players and items: who may receive, and what there is to give."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from coinslot.base import clock, spellings
from coinslot.store.db import Connection, Row

# The player and the item that test traffic names. They always exist; what names them never counts.
RESERVED_ID = "coinslot-test"
LONGEST_ID = 255

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

COLUMNS = ("name", "profile_image", "country", "login_name", "password_hash")
PROVIDERS = ("google", "apple", "facebook")


class RegistryError(Exception):
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


# A converted body, which still waits for no destination; a dead letter of it is never sent again.
FORGOTTEN = "its player was forgotten"
_IS_CONVERTED = """SELECT c.event_id FROM events e JOIN conversions c ON c.event_id = e.id
                   WHERE {which} AND c.body IS NOT NULL AND NOT EXISTS (
                       SELECT 1 FROM deliveries w JOIN destinations t ON t.id = w.destination_id
                       WHERE w.event_id = e.id AND w.state = 'waiting' AND t.is_converted = 1)"""
_EMPTY_CONVERTED = (
    f"""UPDATE deliveries SET dead_reason = '{FORGOTTEN}'
        WHERE state = 'dead' AND event_id IN ({_IS_CONVERTED})
          AND destination_id IN (SELECT id FROM destinations WHERE is_converted = 1)""",  # noqa: S608  our own words
    f"UPDATE conversions SET body = NULL WHERE event_id IN ({_IS_CONVERTED})",  # noqa: S608  our own words
)
EMPTY_CONVERTED_OF_PLAYER = tuple(
    each.format(which="e.game_id = :game_id AND e.player_id = :player_id") for each in _EMPTY_CONVERTED
)
EMPTY_CONVERTED_OF_EVENT = tuple(each.format(which="e.id = :id") for each in _EMPTY_CONVERTED)


def forget_player(tx: Connection, game_id: int, player_id: str) -> bool:
    """Delete the person and keep the sums; returns whether there was anything to forget.

    Gone afterwards: the registry entry, the identities, logins under way, boosts, every kept body and signature of the
    player's transactions, conflicts and events, since those hold addresses, what was converted of the events, but for
    what still waits to be sent, and what the game answered to deliveries.
    Left: ids, quantities and money. What names the player in no column is for ``coinslot/operations/forgetting.py``.
    """
    key = {"game_id": game_id, "player_id": player_id}
    found = tx.execute("DELETE FROM players WHERE game_id = :game_id AND player_id = :player_id", key).rowcount
    emptied = tx.execute(
        """UPDATE transactions SET raw_body = NULL, signature = NULL, session_metadata = NULL
           WHERE game_id = :game_id AND player_id = :player_id AND raw_body IS NOT NULL""",
        key,
    ).rowcount
    for statement in (
        """UPDATE conflicts SET raw_body = NULL
           WHERE game_id = :game_id AND player_id = :player_id AND raw_body IS NOT NULL""",
        # Whomever the second report of the player's order named.
        """UPDATE conflicts SET raw_body = NULL
           WHERE raw_body IS NOT NULL AND transaction_id IN (
               SELECT id FROM transactions WHERE game_id = :game_id AND player_id = :player_id)""",
        """UPDATE events SET raw_body = NULL
           WHERE game_id = :game_id AND player_id = :player_id AND raw_body IS NOT NULL""",
        # An event about the player's order need not have named the player.
        """UPDATE events SET raw_body = NULL
           WHERE raw_body IS NOT NULL AND id IN (
               SELECT r.event_id FROM transactions t JOIN refunds r ON r.transaction_id = t.id
               WHERE t.game_id = :game_id AND t.player_id = :player_id
               UNION
               SELECT e.id FROM transactions t CROSS JOIN /* hint */ events e
                   ON e.game_id = t.game_id AND e.partner = t.partner AND e.external_id IN (t.external_id, t.reference)
               WHERE t.game_id = :game_id AND t.player_id = :player_id)""",
        # A game may repeat in its answer whatever it was sent, and more.
        """UPDATE attempts SET answer = NULL, detail = NULL
           WHERE (answer IS NOT NULL OR detail IS NOT NULL) AND delivery_id IN (
               SELECT d.id FROM transactions t JOIN grants g ON g.transaction_id = t.id
               JOIN deliveries d ON d.grant_id = g.id
               WHERE t.game_id = :game_id AND t.player_id = :player_id
               UNION
               SELECT d.id FROM events e JOIN deliveries d ON d.event_id = e.id
               WHERE e.game_id = :game_id AND e.player_id = :player_id)""",
        *EMPTY_CONVERTED_OF_PLAYER,
        "DELETE FROM logins WHERE game_id = :game_id AND player_id = :player_id",
        "DELETE FROM refreshes WHERE game_id = :game_id AND player_id = :player_id",
        "DELETE FROM boosts WHERE game_id = :game_id AND player_id = :player_id",
    ):
        emptied += tx.execute(statement, key).rowcount
    return found + emptied > 0


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
