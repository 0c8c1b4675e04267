"""Keys as a form: what is known of each, and what is done with the values that are typed in.

A value is never shown again, not even when it could not be saved.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import request

from coinslot.access import keyring, rotation
from coinslot.access.keyring import SecretError, SecretRow
from coinslot.access.rotation import Advice
from coinslot.base import clock
from coinslot.games import games, options
from coinslot.games.games import Game
from coinslot.games.options import COMMON_SECRETS
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, who, write
from handlers.kit.partner import Key
from handlers.kit.receive import current_installation, partners

LONGEST_KEY = 16 * 1024
GAME_KEYS = tuple(Key(name, "Lookup key", what_for, is_proof=False) for name, what_for in COMMON_SECRETS.items())
VALUE = "value:"  # a field's name begins so, and goes on with the name of the key


@dataclass(frozen=True)
class KeyField:
    """A secret as the page shows it. ``key`` is None for the secrets that sign our deliveries."""

    name: str
    key: Key | None
    current: SecretRow | None
    previous: SecretRow | None
    age_days: int
    advice: list[Advice]
    doubt: str  # what is wrong with the form of the current value
    problem: str  # why a new value was not saved just now

    @property
    def anchor(self) -> str:
        return anchor_of(self.name)


def key_fields(
    game: Game,
    rows: Sequence[SecretRow],
    names: Sequence[tuple[str, Key | None]],
    problems: Mapping[str, str] | None = None,
) -> list[KeyField]:
    """Keys as the page shows them. ``problems``: full name -> why a new value was not saved."""
    now = clock.now()
    advice = rotation.advice(rows, now)
    slots = {(row.name, row.slot): row for row in rows}
    fields = []
    for name, key in names:
        current, previous = slots.get((name, "current")), slots.get((name, "previous"))
        days = 0 if current is None else rotation.age_days(current, now)
        values = game.keys(name)
        doubt = key.doubt(values[0].value.decode()) if key is not None and values else ""
        problem = (problems or {}).get(name, "")
        fields.append(KeyField(name, key, current, previous, days, advice.get(name, []), doubt, problem))
    return fields


def named_keys(game: Game, keys: Sequence[Key]) -> list[tuple[str, Key | None]]:
    """Keys by their full names, set or not; of a family those that are set."""
    return [(name, key) for key in keys for name in _names(game, key)]


def _names(game: Game, key: Key) -> list[str]:
    if not key.secret.endswith(".*"):
        return [key.secret]
    prefix = key.secret[:-1]
    return sorted(name for name in game.secrets if name.startswith(prefix))


def save_keys(game: Game) -> tuple[dict[str, str], dict[str, str]]:
    """Save every key with a value in the form; returns two tables, by the keys' names.

    The first has the word of :data:`words.SAID` for each that is saved, the second says why another is not; of a family
    without a good name it has the family.
    """
    good: list[tuple[Key, str, str, bool]] = []
    problems: dict[str, str] = {}
    for field in request.form:
        value = request.form[field]
        if not field.startswith(VALUE) or not value.strip():
            continue
        asked = field.removeprefix(VALUE)
        try:
            key, name = _named_key(asked, request.form.get(f"suffix:{asked}", "").strip())
            good.append((key, name, _checked_value(name, value), request.form.get(f"is_leaked:{asked}") == "1"))
        except SecretError as error:
            problems[asked] = str(error)

    def store(tx: Connection) -> tuple[dict[str, str], dict[str, str]]:
        saved: dict[str, str] = {}
        failed: dict[str, str] = {}
        for key, name, value, is_leaked in good:
            try:
                saved[name] = _store(tx, game, key, name, value, is_leaked=is_leaked)
            except SecretError as error:  # found before anything of this key is written
                failed[name] = str(error)
        return saved, failed

    saved, failed = write(store) if good else ({}, {})
    return saved, problems | failed


def _store(tx: Connection, game: Game, key: Key, name: str, value: str, *, is_leaked: bool) -> str:
    vault, row = current_installation().vault, games.find(tx, game.slug)
    is_new = not game.keys(name)
    if is_new or is_leaked or not key.is_proof:
        keyring.put(tx, vault, row, name, value, actor=who())
        if is_leaked and len(game.keys(name)) > 1:
            keyring.retire(tx, row, name, actor=who())
        return "key-set" if is_new else "key-replaced"
    was_mistyped = keyring.rotate(tx, vault, row, name, value, actor=who())
    return "key-mistyped" if was_mistyped else "key-rotated"


def _named_key(name: str, suffix: str) -> tuple[Key, str]:
    """The key that a form names, and its full name where it is one of a family."""
    known = {key.secret: key for key in (*(key for partner in partners() for key in partner.keys), *GAME_KEYS)}
    if name.endswith(".*") and name in known:
        full = name[:-1] + suffix
        if options.declared(current_installation().secret_names, full) is None:
            raise SecretError("give it a name: letters, digits, dots, dashes and underscores")
        return known[name], full
    if name in known:
        return known[name], name
    family = next(
        (key for secret, key in known.items() if secret.endswith(".*") and name.startswith(secret[:-1])), None
    )
    if family is None or options.declared(current_installation().secret_names, name) is None:
        raise PageError(404, "There is no such key")
    return family, name


def _checked_value(name: str, value: str) -> str:
    """A key as it was pasted, without the blanks and line ends that come along. Raises SecretError."""
    value = value.replace("\r\n", "\n").strip()
    if len(value) > LONGEST_KEY:
        raise SecretError(f"{name}: that is too long for a key; use up to {LONGEST_KEY:,} characters")
    return value


def anchor_of(name: str) -> str:
    """The end of the anchor of a key's form."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:80]
