"""Games and their configuration.

A change of settings or secrets gives the game a new ``revision``; :class:`Games` compares it on every request, so a
change made by any process holds from the next request in all of them.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from coinslot.access import keyring
from coinslot.access.keyring import SecretValue
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.games.options import Setting, declared
from coinslot.store import audit, revision
from coinslot.store.db import Connection, Database, Row

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class GameError(CoinslotError):
    """What was asked for a game cannot be done; the message is for the person who asked."""


@dataclass(frozen=True)
class Game:
    """One game as a request sees it: its configuration with defaults filled in, its secrets opened."""

    id: int
    slug: str
    name: str
    settings: Mapping[str, str]
    secrets: Mapping[str, tuple[SecretValue, ...]]

    def keys(self, name: str) -> tuple[SecretValue, ...]:
        """The values of a secret that are valid now, current first; empty when it is not set."""
        return self.secrets.get(name, ())

    def is_on(self, key: str) -> bool:
        return self.settings[key] == "on"

    def family(self, prefix: str) -> dict[str, str]:
        """The settings of a family, ``prefix`` cut off: of ``refunds.refund.*`` what each sku is set to."""
        return {key.removeprefix(prefix): value for key, value in self.settings.items() if key.startswith(prefix)}


class Games:
    """The games of this installation, opened once and kept until their revision changes."""

    def __init__(self, database: Database, vault: Vault, catalogue: Mapping[str, Setting]) -> None:
        self._database = database
        self._vault = vault
        self._catalogue = catalogue
        self._kept: dict[int, tuple[str, Game]] = {}

    def by_slug(self, slug: str) -> Game | None:
        row = self._database.read().execute(
            "SELECT id, slug, name, revision FROM games WHERE slug = :slug", {"slug": slug}
        )
        return self._open(row.fetchone())

    def opened(self) -> list[Game]:
        """Every game, by its slug; in one query for those that have not changed."""
        rows = self._database.read().execute("SELECT id, slug, name, revision FROM games ORDER BY slug").fetchall()
        return [game for row in rows if (game := self._open(row)) is not None]

    def by_token(self, token: str) -> Game | None:
        """The game whose API token this is, or was until it is retired. Compared as hashes, so timing tells nothing."""
        row = self._database.read().execute(
            """SELECT id, slug, name, revision FROM games WHERE api_token_hash = :hash
               UNION ALL
               SELECT g.id, g.slug, g.name, g.revision FROM replaced_tokens r JOIN games g ON g.id = r.game_id
               WHERE r.token_hash = :hash""",
            {"hash": token_hash(token)},
        )
        return self._open(row.fetchone())

    def by_setting(self, key: str, value: str) -> Game | None:
        """The one game that has this value; None when there is none or more than one."""
        rows = (
            self._database.read()
            .execute(
                """SELECT g.id, g.slug, g.name, g.revision FROM games g JOIN settings s ON s.game_id = g.id
                   WHERE s.key = :key AND s.value = :value LIMIT 2""",
                {"key": key, "value": value},
            )
            .fetchall()
        )
        return self._open(rows[0]) if len(rows) == 1 else None

    def _open(self, row: Row | None) -> Game | None:
        if row is None:
            return None
        kept = self._kept.get(row["id"])
        if kept is not None and kept[0] == row["revision"]:
            return kept[1]
        connection = self._database.read()
        settings = {key: setting.default for key, setting in self._catalogue.items() if not key.endswith(".*")}
        settings.update(stored_settings(connection, row["id"]))
        game = Game(
            id=row["id"],
            slug=row["slug"],
            name=row["name"],
            settings=settings,
            secrets=keyring.open_all(connection, self._vault, row["id"], row["slug"]),
        )
        self._kept[game.id] = (row["revision"], game)
        return game


def add(tx: Connection, slug: str, name: str, actor: str) -> str:
    """Add a game and return its API token, which is stored only as a hash. Raises :class:`GameError`."""
    if not SLUG.fullmatch(slug):
        raise GameError(f"{slug!r} is no slug: use up to 63 of a-z, 0-9 and -, not at the ends")
    token = new_token()
    row = tx.execute(
        """INSERT INTO games (slug, name, api_token_hash, revision, created_at)
           VALUES (:slug, :name, :hash, :revision, :now) ON CONFLICT (slug) DO NOTHING RETURNING id""",
        {"slug": slug, "name": name, "hash": token_hash(token), "revision": revision.new(), "now": clock.stamp()},
    ).fetchone()
    if row is None:
        raise GameError(f"there is a game {slug} already")
    audit.record(tx, row["id"], actor, "game.add", slug)
    return token


def replace_token(tx: Connection, slug: str, actor: str) -> str:
    """Give a game a new API token. Every token before it stays valid until :func:`retire_tokens`."""
    token = new_token()
    game = find(tx, slug)
    tx.execute(
        "INSERT INTO replaced_tokens (token_hash, game_id, replaced_at) VALUES (:hash, :game_id, :now)",
        {"hash": game["api_token_hash"], "game_id": game["id"], "now": clock.stamp()},
    )
    tx.execute("UPDATE games SET api_token_hash = :hash WHERE id = :id", {"hash": token_hash(token), "id": game["id"]})
    audit.record(tx, game["id"], actor, "game.token", slug)
    return token


def retire_tokens(tx: Connection, slug: str, actor: str) -> int:
    """End every token of a game but the newest, from the next request on; returns how many ended.

    Raises :class:`GameError` when there is none.
    """
    game_id = find(tx, slug)["id"]
    count = tx.execute("DELETE FROM replaced_tokens WHERE game_id = :game_id", {"game_id": game_id}).rowcount
    if count == 0:
        raise GameError(f"{slug} has no earlier token that is valid")
    audit.record(tx, game_id, actor, "game.token.retire", slug)
    return count


def token_replaced_at(connection: Connection, game_id: int) -> str | None:
    """Since when the newest token has an earlier one beside it; None where it is the only valid one."""
    row = connection.execute(
        "SELECT max(replaced_at) AS at FROM replaced_tokens WHERE game_id = :game_id", {"game_id": game_id}
    ).fetchone()
    return None if row["at"] is None else str(row["at"])


def find(connection: Connection, slug: str) -> Row:
    """The game's row. Raises :class:`GameError` when there is none."""
    row: Row | None = connection.execute("SELECT * FROM games WHERE slug = :slug", {"slug": slug}).fetchone()
    if row is None:
        raise GameError(f"there is no game {slug}")
    return row


def every(connection: Connection) -> list[Row]:
    return connection.execute("SELECT * FROM games ORDER BY slug").fetchall()


def outlines(connection: Connection, catalogue: Mapping[str, Setting]) -> list[Game]:
    """Every game with its configuration; its secrets are named and not opened, for whoever asks whether they are set.

    Two statements however many games, and no master key.
    """
    settings: dict[int, dict[str, str]] = {}
    named: dict[int, dict[str, tuple[SecretValue, ...]]] = {}
    rows = connection.execute(
        """SELECT game_id, key AS name, value, NULL AS slot FROM settings
           UNION ALL SELECT game_id, name, NULL, slot FROM secrets ORDER BY name, slot"""
    )
    for row in rows:
        name = row["name"]
        if row["slot"] is None:
            settings.setdefault(row["game_id"], {})[name] = row["value"]
        else:
            values = named.setdefault(row["game_id"], {})
            values[name] = (*values.get(name, ()), SecretValue(name, row["slot"], b""))
    defaults = {key: setting.default for key, setting in catalogue.items() if not key.endswith(".*")}
    return [
        Game(row["id"], row["slug"], row["name"], defaults | settings.get(row["id"], {}), named.get(row["id"], {}))
        for row in every(connection)
    ]


def acknowledge(tx: Connection, game_id: int, through: int) -> int:
    """The game has applied every grant up to ``through``; returns the highest id it ever said so of.

    Raises :class:`GameError` for an id that no feed has handed out yet.
    """
    (last_id,) = tx.execute("SELECT last_id FROM sequences WHERE name = 'grants'").fetchone()
    if through > last_id:
        raise GameError(f"no grant has an id above {last_id} yet")
    row = tx.execute(
        """UPDATE games SET acked_through = CASE WHEN acked_through < :through THEN :through ELSE acked_through END,
                  acked_at = :now WHERE id = :id
           RETURNING acked_through""",
        {"through": through, "now": clock.stamp(), "id": game_id},
    ).fetchone()
    return int(row["acked_through"])


def set_setting(tx: Connection, catalogue: Mapping[str, Setting], slug: str, key: str, value: str, actor: str) -> str:
    """Store a setting and return what holds from now on; an empty value goes back to the default.

    Raises :class:`GameError` for an unknown key or a bad value.
    """
    game_id = find(tx, slug)["id"]
    setting = declared(catalogue, key)
    if setting is None:
        raise GameError(f"there is no setting {key}; `flask config show {slug}` lists them")
    try:
        stored = setting.checked(value) if value else setting.default
    except ValueError as error:
        raise GameError(f"{key}: {error}") from None
    if value:
        tx.execute(
            """INSERT INTO settings (game_id, key, value, updated_at) VALUES (:game_id, :key, :value, :now)
               ON CONFLICT (game_id, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
            {"game_id": game_id, "key": key, "value": stored, "now": clock.stamp()},
        )
    else:
        tx.execute("DELETE FROM settings WHERE game_id = :game_id AND key = :key", {"game_id": game_id, "key": key})
    revision.touch(tx, game_id)
    audit.record(tx, game_id, actor, "config.set", f"{key} = {stored}")
    return stored


def stored_settings(connection: Connection, game_id: int) -> dict[str, str]:
    rows = connection.execute("SELECT key, value FROM settings WHERE game_id = :id", {"id": game_id})
    return {row["key"]: row["value"] for row in rows}


def new_token() -> str:
    return f"coinslot_{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> str:
    # Plain SHA-256 is enough here: the token is 256 random bits, not a password somebody chose.
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).hexdigest()


# What values may look like; each returns the value as stored or raises ValueError.
