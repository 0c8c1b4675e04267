"""Settings as fields of a form, on each page that has some, and what was sent with such a form."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flask import request

from coinslot.games import games
from coinslot.games.games import Game
from coinslot.games.options import OneOf, Setting
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import who, write
from handlers.kit.receive import current_installation

LONG_VALUE = 70  # characters; a longer value gets several lines


@dataclass(frozen=True)
class Field:
    """One key on the page. ``value`` is the current value, or what was typed and is not valid."""

    key: str
    title: str
    about: str
    default: str
    value: str
    was: str
    is_set: bool
    choices: tuple[str, ...]
    is_long: bool
    problem: str | None = None


@dataclass(frozen=True)
class Sent:
    """What was sent with a form of settings: the values that were typed, those that were changed, and the problems."""

    typed: Mapping[str, str]
    changed: Mapping[str, str]
    problems: Mapping[str, str]

    @classmethod
    def of(cls, game: Game, keys: Iterable[str]) -> "Sent":
        """Only these keys are read; a value that is as it was when the form was made is not changed."""
        catalogue, form = current_installation().catalogue, request.form
        typed = {key: _lines(form[f"value:{key}"]) for key in keys if f"value:{key}" in form}
        changed, problems = {}, {}
        for key, value in typed.items():
            if value == _lines(form.get(f"was:{key}", game.settings[key])):
                continue
            problem = _problem(catalogue[key], value)
            if problem and not _problem(catalogue[key], value.strip()):
                value, problem = value.strip(), None  # blanks came along when it was pasted
            changed[key] = value
            if problem:
                problems[key] = problem
        return cls(typed, changed, problems)

    def save(self, game: Game) -> bool:
        """Store what was changed, all in one write; returns whether anything was."""
        catalogue = current_installation().catalogue

        def store(tx: Connection) -> None:
            for key, value in self.changed.items():
                # A value that equals the default is not stored: it follows the default.
                chosen = "" if value == catalogue[key].default else value
                games.set_setting(tx, catalogue, game.slug, key, chosen, actor=who())

        if self.changed:
            write(store)
        return bool(self.changed)


def field_of(key: str, stored: Mapping[str, str], sent: Sent | None = None) -> Field:
    """The field of a key; after a mistake with what was typed and its problem."""
    setting = current_installation().catalogue[key]
    holds = stored.get(key, setting.default)
    value = holds if sent is None else sent.typed.get(key, holds)
    return Field(
        key=key,
        title=setting.title or key,
        about=setting.about,
        default=setting.default,
        value=value,
        was=holds,
        is_set=key in stored,
        choices=choices_of(setting),
        is_long=len(value) > LONG_VALUE or "\n" in value or "JMESPath" in setting.about or "JSON" in setting.about,
        problem=None if sent is None else sent.problems.get(key),
    )


def choices_of(setting: Setting) -> tuple[str, ...]:
    """The words that a select offers; empty where any text may be typed."""
    if not isinstance(setting.check, OneOf):
        return ()
    words = setting.check.words
    return words if setting.default in words else (setting.default, *words)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _problem(setting: Setting, value: str) -> str | None:
    """Why a value is not valid; an empty one, which means the default, always is."""
    try:
        if value:
            setting.checked(value)
    except ValueError as error:
        return str(error)
    return None
