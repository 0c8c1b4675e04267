"""A player's registry entry as the game writes it through its API, and the owner on a page: checked and stored."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from marshmallow import fields, validate

from coinslot.access import throttle
from coinslot.games.games import Game
from coinslot.store.db import Connection
from handlers.kit import passwords
from handlers.kit.fields import Identifier, Strict, Text, WebAddress
from handlers.kit.profile import Profile
from handlers.kit.receive import partners


class Identities(Strict):
    google = Identifier(metadata={"description": "`sub` of the Google account"})
    apple = Identifier(metadata={"description": "`sub` of the Apple account"})
    facebook = Identifier(metadata={"description": "Facebook user id"})


class Player(Profile):
    """A registry entry as the game writes it."""

    keeps_nulls = True  # to remove a password

    name = Text(255)
    profile_image = WebAddress(2048)
    country = fields.String(validate=[validate.Length(equal=2), validate.Regexp("^[A-Z]{2}$")], allow_none=True)
    login_name = Identifier(allow_none=True)
    password = fields.String(
        validate=validate.Length(min=1, max=1024),
        allow_none=True,
        load_only=True,
        metadata={"description": "Stored as a scrypt hash. Left out: stays as it is; null: removed."},
    )
    identities = fields.Nested(Identities)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        if field_name != "identities":
            super().on_bind_field(field_name, field_obj)


# Fields with a column of their own; every other field of Player is part of the profile.
COLUMN_FIELDS = ("name", "profile_image", "country", "login_name")


def notifier(game: Game) -> Callable[[Connection, Sequence[str]], None]:
    """A function that tells the partners, inside a write, whose profiles have changed. Call this outside the write."""
    listeners = partners()

    def notify(tx: Connection, player_ids: Sequence[str]) -> None:
        if player_ids:
            for partner in listeners:
                partner.profiles_pushed(tx, game, player_ids)

    return notify


def is_changed(entry: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    """Whether a store would show the player differently."""
    old, new = known["profile"] if known else {}, entry["profile"]
    # Python takes 1 and true for the same.
    return bool(old != new) or json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True)


def unlock(tx: Connection, game: Game, player_id: str, entry: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
    """Forget the wrong guesses at the old password once there is a new one."""
    if "password_hash" in sent and entry["login_name"] is not None:
        for key in throttle.password_keys(entry["login_name"], player_id):
            throttle.clear(tx, game.id, key)


def hashed(wanted: dict[str, Any]) -> dict[str, Any]:
    """The entry with its password's hash. Hashing takes long, so it is done before anything is locked."""
    if "password" in wanted:
        password = wanted.pop("password")
        wanted["password_hash"] = None if password is None else passwords.hash_of(password)
    return wanted


def columns_of(wanted: Mapping[str, Any], known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Columns, identities and profile out of what the game sent."""
    entry: dict[str, Any] = {name: wanted.get(name) for name in COLUMN_FIELDS}
    entry["password_hash"] = wanted.get("password_hash", known["password_hash"] if known else None)
    entry["identities"] = wanted.get("identities", {})
    apart = (*COLUMN_FIELDS, "password_hash", "identities")
    entry["profile"] = {name: value for name, value in wanted.items() if name not in apart and value is not None}
    return entry
