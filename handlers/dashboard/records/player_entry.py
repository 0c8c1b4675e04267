"""A player's registry entry as the owner writes it: added, imported, and all that the game may push, changed."""

import json
from typing import Any

from flask import Response, request
from marshmallow import ValidationError
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import exact
from coinslot.games import csv_files, registry
from coinslot.games.games import Game
from coinslot.games.registry import LONGEST_ID, RegistryError, checked_id, checked_text
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, page, read, see_other, who, write
from handlers.dashboard.records.players import players
from handlers.kit import player_entries, problems, profile
from handlers.kit.player_entries import COLUMN_FIELDS, Player
from handlers.kit.receive import current_installation

LARGEST_PROFILE = 256 * 1024  # bytes of JSON that the form takes
CHANGED = "The game, or another person, has changed this player since the form was opened. It shows what is stored now."

_player = Player()


def add_player(game: Game) -> AnyResponse:
    """Register a player; one who is there takes the name."""
    player_id, name = request.form.get("player_id", "").strip(), request.form.get("name", "").strip()
    at = "player_id"
    try:
        checked_id(player_id)
        at = "name"
        checked_text(name, LONGEST_ID)
    except ValueError as error:
        return players(game, 400, at, f"Please {error}.")

    def add(tx: Connection) -> None:
        registry.register_player(tx, game.id, player_id, name or None)
        audit.record(tx, game.id, who(), "player.add", player_id)

    write(add)
    return see_other("players", "added", id=player_id)


def import_players(game: Game) -> AnyResponse:
    """Register the players of a file. Every line is checked before the first is stored."""
    upload, database = request.files.get("file"), current_installation().database
    if upload is None or not upload.filename:
        return players(game, 400, "import", "Please choose a file.")
    try:
        # In this thread, which has read the file: it is asked to wait until all is stored, however long that takes.
        done = csv_files.import_players(database, database.write_here, game.id, upload.stream, who())
    except RegistryError as error:
        return players(game, 400, "import", str(error))
    return players(game, done=f"{done.count:,} players imported, {done.new:,} of them new.")


def edit_player(game: Game) -> Response:
    """The form with everything that is stored of a player but the password."""
    player_id = request.args.get("id", "")
    entry = registry.player(read(), game.id, player_id)
    if entry is None:
        raise PageError(404, "This player is not in the registry")
    return _form(player_id, entry, _typed(entry))


def save_player(game: Game) -> AnyResponse:
    """Store what the form says, unless the entry was changed in between. Partners hear of it as of a push."""
    player_id, was = request.form.get("player_id", ""), request.form.get("was")
    known = registry.player(read(), game.id, player_id)
    if known is None:
        raise PageError(404, "This player is not in the registry")
    try:
        wanted = _read_form(known)
    except ValidationError as error:
        found = {each["path"].partition(".")[0]: each for each in reversed(problems.places_of(error.messages))}
        return _form(player_id, known, request.form, 400, found)
    wanted, notify = player_entries.hashed(wanted), player_entries.notifier(game)

    def store(tx: Connection) -> bool:
        stored = registry.player(tx, game.id, player_id)
        if stored is None or stored["updated_at"] != was:
            return False
        entry = player_entries.columns_of(wanted, stored)
        if entry["profile"] == stored["profile"]:
            entry["is_profile_checked"] = stored["is_profile_checked"]
        registry.put_player(tx, game.id, player_id, entry)
        player_entries.unlock(tx, game, player_id, entry, wanted)
        notify(tx, [player_id] if player_entries.is_changed(entry, stored) else [])
        audit.record(tx, game.id, who(), "player.edit", player_id)
        return True

    try:
        is_stored = write(store)
    except RegistryError as error:
        at = "login_name" if str(error).startswith("login_name") else "identities"
        return _form(player_id, known, request.form, 409, {at: {"path": at, "detail": str(error)}})
    if not is_stored:
        entry = registry.player(read(), game.id, player_id)
        if entry is None:
            raise PageError(404, "This player is not in the registry")
        return _form(player_id, entry, _typed(entry), 409, {"": {"path": "", "detail": CHANGED}})
    return see_other("players", "saved", id=player_id)


def export_player(game: Game) -> Response:
    """Everything that is kept about a player, as JSON."""
    player_id = request.args.get("id", "")
    pieces = current_installation().export_player(game, player_id, who())
    if pieces is None:
        raise PageError(404, "Nothing is kept about such a player")
    answer = Response(pieces, mimetype="application/json")
    answer.headers["Content-Disposition"] = f'attachment; filename="{game.slug}-player.json"'
    return answer


def _read_form(known: dict[str, Any]) -> dict[str, Any]:
    """The entry in the form, checked as the game API checks one. Raises ValidationError."""
    form = {name: value.strip() for name, value in request.form.items()}
    columns: dict[str, Any] = {name: form[name] for name in COLUMN_FIELDS if form.get(name)}
    if "country" in columns:
        columns["country"] = columns["country"].upper()
    columns["identities"] = {name: form[name] for name in registry.PROVIDERS if form.get(name)}
    if request.form.get("password"):
        columns["password"] = request.form["password"]
    elif form.get("has_no_password"):
        columns["password"] = None
    wanted: dict[str, Any] = _player.load(columns)
    text = form.get("profile", "").replace("\r\n", "\n")
    if text == _printed(known["profile"]):
        return {**known["profile"], **wanted}  # as it was, also where it is older than the checks of today
    if len(text.encode("utf-8", "replace")) > LARGEST_PROFILE:
        raise ValidationError({"profile": [f"longer than {LARGEST_PROFILE // 1024} KiB"]})
    try:
        document = exact.parse_json(text.encode("utf-8", "replace"), exact.finite) if text else {}
    except ValueError:
        raise ValidationError({"profile": ["this is no JSON"]}) from None
    if not isinstance(document, dict) or exact.is_deeper(document, problems.MOST_LEVELS):
        raise ValidationError({"profile": ["use one JSON object, not nested deeper than usual"]})
    try:
        return {**profile.checked(document), **wanted}
    except ValidationError as error:
        raise ValidationError({"profile": error.messages}) from None


def _typed(entry: dict[str, Any]) -> dict[str, str]:
    """A stored entry as the form has it."""
    columns = {name: entry[name] or "" for name in COLUMN_FIELDS}
    return {**columns, **entry["identities"], "profile": _printed(entry["profile"])}


def _printed(document: dict[str, Any]) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False) if document else ""
    return text.encode("utf-8", "backslashreplace").decode()


def _form(
    player_id: str,
    entry: dict[str, Any],
    typed: Any,
    status: int = 200,
    found: dict[str, dict[str, str]] | None = None,
) -> Response:
    """``found``: name of a field -> what is wrong there."""
    return page(
        "player_edit.html",
        status,
        player_id=player_id,
        entry=entry,
        typed=typed,
        problems={name: [f"{each['path']}: {each['detail']}".lstrip(": ")] for name, each in (found or {}).items()},
        providers=registry.PROVIDERS,
        example=EXAMPLE,
    )


EXAMPLE = '{"segments": ["vip"], "balances": [{"publisherProductId": "coins", "quantity": 1200}]}'
