"""Games and their configuration.

A change of settings or secrets gives the game a new ``revision``. :class:`Games` compares it on every request, unless
no process has committed anything that could have changed it. So a change by any process holds in all of them from the
next request on.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coinslot.access import keyring
from coinslot.access.keyring import SecretValue
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.games import registry
from coinslot.games.options import Setting, declared
from coinslot.store import audit, queries, revision
from coinslot.store.db import Connection, Database, Row

_READ = "SELECT g.id, g.slug, g.name, g.revision FROM games g"
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
LONGEST_NAME = 255


class GameError(CoinslotError):
    """A change of a game that cannot be made."""


@dataclass(frozen=True)
class Game:
    """One game as a request sees it: its settings with defaults, its secrets opened."""

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
        """The settings that begin with ``prefix``, by the rest of their key."""
        return {key.removeprefix(prefix): value for key, value in self.settings.items() if key.startswith(prefix)}


class Games:
    """The games of this installation, opened once and kept until their revision changes."""

    def __init__(self, database: Database, vault: Vault, catalogue: Mapping[str, Setting]) -> None:
        self._database = database
        self._vault = vault
        self._catalogue = catalogue
        self._kept: dict[int, tuple[str, Game]] = {}
        self._by_slug: dict[str, tuple[int | None, Game]] = {}

    def by_slug(self, slug: str) -> Game | None:
        """The game with this slug; None when there is none."""
        changes = self._database.changes()  # before the game is read: it may change meanwhile
        last_changes, game = self._by_slug.get(slug, (None, None))
        if game is not None and changes is not None and changes == last_changes:
            return game
        row = queries.row(self._database.read(), f"{_READ} WHERE g.slug = :slug", {"slug": slug})
        if row is None:
            return None
        game = self._open(row)
        self._by_slug[slug] = (changes, game)
        return game

    def among(self, slug: str) -> tuple[Game | None, list[Row]]:
        """The game with this slug, and :func:`names` of all, in one query; see :meth:`by_slug`."""
        rows = names(self._database.read())
        return next((self._open(row) for row in rows if row["slug"] == slug), None), rows

    def opened(self) -> list[Game]:
        """Every game, in the order of the slugs; in one query for those that have not changed."""
        return [self._open(row) for row in self._database.read().execute(f"{_READ} ORDER BY g.slug").fetchall()]

    def by_token(self, token: str) -> Game | None:
        """The game with this API token, the newest or an earlier one that is not retired. Timing tells nothing: hashes
        are compared.
        """
        row = queries.row(
            self._database.read(),
            f"""{_READ} WHERE g.api_token_hash = :hash
                UNION ALL {_READ} JOIN replaced_tokens r ON r.game_id = g.id WHERE r.token_hash = :hash""",
            {"hash": token_hash(token)},
        )
        return None if row is None else self._open(row)

    def by_setting(self, key: str, value: str) -> Game | None:
        """The one game with this value; None when there is none or more than one."""
        sql = f"{_READ} JOIN settings s ON s.game_id = g.id WHERE s.key = :key AND s.value = :value LIMIT 2"
        rows = self._database.read().execute(sql, {"key": key, "value": value}).fetchall()
        return self._open(rows[0]) if len(rows) == 1 else None

    def _open(self, row: Row) -> Game:
        kept = self._kept.get(row["id"])
        if kept is not None and kept[0] == row["revision"]:
            return kept[1]
        connection = self._database.read()
        settings = _defaults(self._catalogue) | stored_settings(connection, row["id"])
        secrets = keyring.open_all(connection, self._vault, row["id"], row["slug"])
        game = Game(row["id"], row["slug"], row["name"], settings, secrets)
        self._kept[game.id] = (row["revision"], game)
        return game


def add(tx: Connection, slug: str, name: str, actor: str) -> str:
    """Add a game; returns its API token, of which only a hash is stored. Raises :class:`GameError`."""
    if not SLUG.fullmatch(slug):
        raise GameError(f"{slug!r} is no slug: use up to 63 of a-z, 0-9 and -, not at the ends")
    try:
        registry.checked_text(name, LONGEST_NAME)
    except ValueError as error:
        raise GameError(f"the game's name: {error}") from None
    token = new_token()
    its_columns = {
        "slug": slug,
        "name": name,
        "api_token_hash": token_hash(token),
        "revision": revision.new(),
        "created_at": clock.stamp(),
    }
    row = queries.insert(tx, "games", its_columns, "ON CONFLICT (slug) DO NOTHING RETURNING id")
    if row is None:
        raise GameError(f"there is a game {slug} already")
    audit.record(tx, row["id"], actor, "game.add", slug)
    return token


def replace_token(tx: Connection, slug: str, actor: str) -> str:
    """Give a game a new API token; returns it. Earlier tokens stay valid until :func:`retire_tokens`."""
    token = new_token()
    game = find(tx, slug)
    replaced = {"token_hash": game["api_token_hash"], "game_id": game["id"], "replaced_at": clock.stamp()}
    queries.insert(tx, "replaced_tokens", replaced)
    tx.execute("UPDATE games SET api_token_hash = :hash WHERE id = :id", {"hash": token_hash(token), "id": game["id"]})
    audit.record(tx, game["id"], actor, "game.token", slug)
    return token


def retire_tokens(tx: Connection, slug: str, actor: str) -> int:
    """End every API token of a game except the newest, from the next request on; returns how many.

    Raises :class:`GameError` when there is none.
    """
    game_id = find(tx, slug)["id"]
    count = tx.execute("DELETE FROM replaced_tokens WHERE game_id = :game_id", {"game_id": game_id}).rowcount
    if count == 0:
        raise GameError(f"{slug} has no earlier token that is valid")
    audit.record(tx, game_id, actor, "game.token.retire", slug)
    return count


def token_replaced_at(connection: Connection, game_id: int) -> str | None:
    """When the newest earlier token that is still valid was replaced; None: only one token is valid."""
    found: str | None = queries.get(connection, "max(replaced_at)", "replaced_tokens", game_id=game_id)
    return found


def find(connection: Connection, slug: str) -> Row:
    """The game's row. Raises :class:`GameError` when there is none."""
    row = queries.row(connection, "SELECT * FROM games WHERE slug = :slug", {"slug": slug})
    if row is None:
        raise GameError(f"there is no game {slug}")
    return row


def every(connection: Connection) -> list[Row]:
    """The rows of all games, in the order of the slugs."""
    return connection.execute("SELECT * FROM games ORDER BY slug").fetchall()


def names(connection: Connection) -> list[Row]:
    """Id, slug, name and revision of every game, in the order of the names."""
    return connection.execute("SELECT id, slug, name, revision FROM games ORDER BY name, slug").fetchall()


def outlines(connection: Connection, catalogue: Mapping[str, Setting], rows: Sequence[Row] = ()) -> list[Game]:
    """Every game with its settings; its secrets have names but empty values, since they are not opened.

    It takes two statements for any number of games, or one with the ``rows`` of :func:`names`, and no master key.
    """
    settings: dict[int, dict[str, str]] = {}
    named: dict[int, dict[str, tuple[SecretValue, ...]]] = {}
    found = connection.execute(
        """SELECT game_id, key AS name, value, NULL AS slot FROM settings
           UNION ALL SELECT game_id, name, NULL, slot FROM secrets ORDER BY name, slot"""
    )
    for row in found:
        name = row["name"]
        if row["slot"] is None:
            settings.setdefault(row["game_id"], {})[name] = row["value"]
        else:
            values = named.setdefault(row["game_id"], {})
            values[name] = (*values.get(name, ()), SecretValue(name, row["slot"], b""))
    defaults = _defaults(catalogue)
    return [
        Game(row["id"], row["slug"], row["name"], defaults | settings.get(row["id"], {}), named.get(row["id"], {}))
        for row in rows or every(connection)
    ]


def acknowledge(tx: Connection, game_id: int, through: int) -> int:
    """Note that the game has applied every grant up to ``through``; returns the highest id it ever acknowledged.

    Raises :class:`GameError` for an id that no grant has yet.
    """
    last_id = queries.get(tx, "last_id", "sequences", name="grants")
    if through > last_id:
        raise GameError(f"no grant has an id above {last_id} yet")
    acked_through = queries.value(
        tx,
        """UPDATE games SET acked_through = CASE WHEN acked_through < :through THEN :through ELSE acked_through END,
                  acked_at = :now WHERE id = :id
           RETURNING acked_through""",
        {"through": through, "now": clock.stamp(), "id": game_id},
    )
    return int(acked_through)


def set_setting(tx: Connection, catalogue: Mapping[str, Setting], slug: str, key: str, value: str, actor: str) -> str:
    """Store a setting; returns the value that holds now. An empty value restores the default.

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
        queries.insert(
            tx,
            "settings",
            {"game_id": game_id, "key": key, "value": stored, "updated_at": clock.stamp()},
            "ON CONFLICT (game_id, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        )
    else:
        tx.execute("DELETE FROM settings WHERE game_id = :game_id AND key = :key", {"game_id": game_id, "key": key})
    revision.touch(tx, game_id)
    audit.record(tx, game_id, actor, "config.set", f"{key} = {stored}")
    return stored


def stored_settings(connection: Connection, game_id: int) -> dict[str, str]:
    """The settings of a game that were set, without defaults."""
    rows = connection.execute("SELECT key, value FROM settings WHERE game_id = :id", {"id": game_id})
    return dict(map(tuple, rows))


def new_token() -> str:
    return f"coinslot_{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> str:
    # Plain SHA-256 is enough: the token is 256 random bits, not a password that a person chose.
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).hexdigest()


def _defaults(catalogue: Mapping[str, Setting]) -> dict[str, str]:
    return {key: setting.default for key, setting in catalogue.items() if not key.endswith(".*")}
