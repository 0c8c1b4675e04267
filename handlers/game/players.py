"""Players: who may receive, and the profile a store shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, jsonify
from marshmallow import ValidationError

from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.registry import RegistryError
from coinslot.store import portions
from coinslot.store.db import Connection
from handlers.game.schemas import MOST_PASSWORDS, PlayerPatch, Players
from handlers.kit import player_entries, profile
from handlers.kit.player_entries import COLUMN_FIELDS, Player
from handlers.kit.problems import (
    LARGEST_BULK_BODY,
    ProblemError,
    caller,
    checked,
    conflict,
    nothing,
    read_body,
    unprocessable,
)
from handlers.kit.receive import current_installation

PLAYERS_AT_ONCE = 20

_player, _patch, _players = Player(), PlayerPatch(), Players()
_parts = profile.Profile().fields.keys()


def show(player_id: str) -> Response:
    game = caller()
    entry = registry.player(current_installation().database.read(), game.id, checked(player_id, "player_id"))
    if entry is None:
        raise ProblemError(404, "There is no such player")
    return jsonify(_shown(entry))


def replace(player_id: str) -> tuple[Response, int]:
    """Replace the whole entry. The password, which the game cannot read back, stays unless the body names it."""
    game = caller()
    player_id = checked(player_id, "player_id")
    wanted = player_entries.hashed(read_body(_player))
    notify = player_entries.notifier(game)

    def store(tx: Connection) -> tuple[bool, dict[str, Any]]:
        known = registry.player(tx, game.id, player_id)
        entry = player_entries.columns_of(wanted, known)
        is_new = registry.put_player(tx, game.id, player_id, entry)
        player_entries.unlock(tx, game, player_id, entry, wanted)
        notify(tx, [player_id] if player_entries.is_changed(entry, known) else [])
        return is_new, _stored(tx, game.id, player_id)

    is_new, entry = _write(store)
    return jsonify(_shown(entry)), 201 if is_new else 200


def merge(player_id: str) -> Response:
    """A merge patch (RFC 7396): what is named changes, null removes, everything else stays."""
    game = caller()
    player_id = checked(player_id, "player_id")
    patch = player_entries.hashed(read_body(_patch))
    notify = player_entries.notifier(game)

    def store(tx: Connection) -> dict[str, Any]:
        known = registry.player(tx, game.id, player_id)
        if known is None:
            raise ProblemError(404, "There is no such player")
        wanted = {name: known[name] for name in (*COLUMN_FIELDS, "password_hash", "identities")} | known["profile"]
        merged = _merged(wanted, patch)
        # A list is there whole or not at all, and was checked with the patch; what went into an object was not.
        insides = {name: merged[name] for name, value in patch.items() if isinstance(value, dict) and name in _parts}
        try:
            entry = player_entries.columns_of({**merged, **profile.checked(insides)}, None)
            entry["is_profile_checked"] = known["is_profile_checked"]  # what is not named was not looked at
        except ValidationError as error:
            raise unprocessable(error) from None
        registry.put_player(tx, game.id, player_id, entry)
        player_entries.unlock(tx, game, player_id, entry, patch)
        notify(tx, [player_id] if player_entries.is_changed(entry, known) else [])
        return _stored(tx, game.id, player_id)

    return jsonify(_shown(_write(store)))


def replace_many() -> Response:
    """Up to 1,000 entries, stored in portions, each of them whole: after an error the same call does the rest."""
    game = caller()
    with portions.one_at_a_time():
        created, count = _replace_many(game)
    return jsonify(created=created, replaced=count - created)


def export(player_id: str) -> Response:
    """Everything that is kept about the player, made as it is sent."""
    game = caller()
    pieces = current_installation().export_player(game, checked(player_id, "player_id"), "game")
    if pieces is None:
        raise ProblemError(404, "Nothing is kept about such a player")
    return Response(pieces, mimetype="application/json")


def _replace_many(game: Game) -> tuple[int, int]:
    """How many were new, of how many."""
    wanted = read_body(_players, LARGEST_BULK_BODY)["players"]
    if sum(entry.get("password") is not None for entry in wanted) > MOST_PASSWORDS:
        raise ProblemError(422, f"players: at most {MOST_PASSWORDS} entries of one call may carry a password")
    entries = {entry.pop("player_id"): player_entries.hashed(entry) for entry in wanted}
    if len(entries) != len(wanted):
        raise ProblemError(422, "players: a player_id occurs twice")

    notify = player_entries.notifier(game)

    def store(tx: Connection, some: Sequence[tuple[str, dict[str, Any]]]) -> int:
        created, changed = 0, []
        for player_id, sent in some:
            known = registry.player(tx, game.id, player_id)
            entry = player_entries.columns_of(sent, known)
            created += registry.put_player(tx, game.id, player_id, entry)
            player_entries.unlock(tx, game, player_id, entry, sent)
            if player_entries.is_changed(entry, known):
                changed.append(player_id)
        notify(tx, changed)
        return created

    some = portions.ready_made(list(entries.items()), PLAYERS_AT_ONCE)
    try:
        return sum(portions.write_each(current_installation().database.write, some, store)), len(entries)
    except RegistryError as error:
        raise conflict(error) from None


def forget(player_id: str) -> Response:
    """Forget the person and keep the sums."""
    game = caller()
    player_id = checked(player_id, "player_id")
    if not current_installation().forget_player(game, player_id, "game"):
        raise ProblemError(404, "There is no such player")
    return nothing()


def _write(store: Any) -> Any:
    try:
        return current_installation().database.write(store)
    except RegistryError as error:
        raise conflict(error) from None


def _stored(tx: Connection, game_id: int, player_id: str) -> dict[str, Any]:
    entry = registry.player(tx, game_id, player_id)
    assert entry is not None, "it was stored a moment ago, in this write"
    return entry


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as the game reads it: everything but the password."""
    shown = {name: entry[name] for name in ("player_id", *COLUMN_FIELDS, "identities", "created_at", "updated_at")}
    return {**entry["profile"], **shown, "has_password": entry["password_hash"] is not None}


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result
