"""A game's configuration: every key of the catalogue with its meaning, in groups; and the token of its server."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games import games, options
from coinslot.games.games import Game, GameError
from coinslot.games.options import LONGEST_KEY, OneOf, Setting
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, page, partner_titles, read, see_other, show_on_error, who, write
from handlers.kit.receive import current_installation

FEWEST_FOR_A_GROUP = 3  # keys with the same second word
SMALL_GROUP = 12  # keys; a larger group is divided
LONG_VALUE = 70  # characters; a longer value gets several lines
SHOWN_OF_FAMILY = 20
FAMILY_PAGE = 200

TITLES = {"allowlist": "Who may call", "lookup": "Tables for expressions", "silence": "When calls stop"}


@dataclass(frozen=True)
class Field:
    """One key on the page. ``value`` is the current value, or what was typed and is not valid."""

    key: str
    about: str
    default: str
    value: str
    was: str
    is_set: bool
    choices: tuple[str, ...]
    is_long: bool
    problem: str | None = None


@dataclass(frozen=True)
class Group:
    name: str
    title: str
    fields: list[Field]

    @property
    def count_set(self) -> int:
        return sum(field.is_set for field in self.fields)


@dataclass(frozen=True)
class Family:
    """Keys with the same beginning. ``rows``: the rest of the name -> its value, a page of them."""

    name: str
    about: str
    choices: tuple[str, ...]
    rows: dict[str, str]
    count: int
    next: str | None


def settings(
    game: Game,
    status: int = 200,
    opened: str | None = None,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> Response:
    """The page of all settings; after a mistake with what was typed and the problem of each key."""
    installation = current_installation()
    stored = games.stored_settings(read(), game.id)
    groups: dict[str, Group] = {}
    for key, name in _groups(installation.catalogue).items():
        group = groups.setdefault(name, Group(name, _title(name), []))
        setting, value, problem = installation.catalogue[key], (typed or {}).get(key), (problems or {}).get(key)
        group.fields.append(_field(key, setting, stored, value, problem))
    families = [_family(name, stored, SHOWN_OF_FAMILY) for name in installation.catalogue if name.endswith(".*")]
    prefixes = tuple(family.name.removesuffix("*") for family in families)
    first_words = list(dict.fromkeys(name.partition(".")[0] for name in groups))
    return page(
        "settings.html",
        status,
        groups=sorted(groups.values(), key=lambda group: first_words.index(group.name.partition(".")[0])),
        families=families,
        opened=opened or request.args.get("open", ""),
        token_replaced_at=games.token_replaced_at(read(), game.id),
        has_problem=bool(problems),
        unknown=sorted(key for key in stored.keys() - installation.catalogue.keys() if not key.startswith(prefixes)),
    )


def save_settings(game: Game) -> AnyResponse:
    """Save the changes in one group: all of them, or none when a value is not valid."""
    installation = current_installation()
    group = request.form.get("group", "")
    keys = [key for key, its_group in _groups(installation.catalogue).items() if its_group == group]
    if not keys:
        raise PageError(400, "There is no such group of settings")
    typed = {key: request.form[f"value:{key}"].replace("\r\n", "\n") for key in keys if f"value:{key}" in request.form}
    changed = {
        key: value
        for key, value in typed.items()
        if value != request.form.get(f"was:{key}", game.settings[key]).replace("\r\n", "\n")
    }
    found = {key: _problem(installation.catalogue[key], value) for key, value in changed.items()}
    problems = {key: problem for key, problem in found.items() if problem}
    if problems:
        return settings(game, 400, group, typed, problems)

    def save(tx: Connection) -> None:
        for key, value in changed.items():
            # A value that equals the default is not stored: it follows the default.
            chosen = "" if value == installation.catalogue[key].default else value
            games.set_setting(tx, installation.catalogue, game.slug, key, chosen, actor=who())

    if changed:
        write(save)
    said = "saved" if changed else "nothing"
    return see_other("settings", said=said, open=group, _anchor=group)


def setting_family(game: Game) -> Response:
    """All keys of a family that are set, a page at a time."""
    return _family_page(game, _family_named(request.args.get("family", "")))


def add_to_family(game: Game) -> AnyResponse:
    """Set one key of a family; an existing one takes the new value."""
    installation = current_installation()
    family = _family_named(request.form.get("family", ""))
    name, value = request.form.get("name", "").strip(), request.form.get("value", "").strip()
    key = family.removesuffix("*") + name
    if not name or options.declared(installation.catalogue, key) is None:
        return _family_page(game, family, "name", 400, f"Please use up to {LONGEST_KEY - len(family)} characters.")
    show_on_error(_family_page, game, family, "value")
    if not value:
        raise games.GameError(f"{key}: give it a value")
    write(lambda tx: games.set_setting(tx, installation.catalogue, game.slug, key, value, actor=who()))
    return _back_to_family(family, "saved")


def remove_from_family(game: Game) -> AnyResponse:
    installation = current_installation()
    family = _family_named(request.form.get("family", ""))
    name = request.form.get("name", "")
    key = family.removesuffix("*") + name
    stored = games.stored_settings(read(), game.id)
    if name not in options.in_family(installation.catalogue, stored, family):
        return _back_to_family(family, "nothing")
    write(lambda tx: games.set_setting(tx, installation.catalogue, game.slug, key, "", actor=who()))
    return _back_to_family(family, "removed")


def replace_token(game: Game) -> Response:
    """A new API token, on this answer only; the one before stays valid until it is retired."""
    token = write(lambda tx: games.replace_token(tx, game.slug, actor=who()))
    return page("token.html", api_token=token)


def retire_tokens(game: Game) -> AnyResponse:
    """End every API token but the newest."""
    if request.form.get("sure") != "yes":
        return settings(game, 400, "token")
    try:
        write(lambda tx: games.retire_tokens(tx, game.slug, actor=who()))
    except GameError:  # another tab has retired it
        return see_other("settings", "nothing")
    return see_other("settings", "retired")


def _field(key: str, setting: Setting, stored: Mapping[str, str], typed: str | None, problem: str | None) -> Field:
    holds = stored.get(key, setting.default)
    value = holds if typed is None else typed
    return Field(
        key=key,
        about=setting.about,
        default=setting.default,
        value=value,
        was=holds,
        is_set=key in stored,
        choices=_choices(setting),
        is_long=len(value) > LONG_VALUE or "\n" in value or "JMESPath" in setting.about or "JSON" in setting.about,
        problem=problem,
    )


def _choices(setting: Setting) -> tuple[str, ...]:
    if not isinstance(setting.check, OneOf):
        return ()
    words = setting.check.words
    return words if setting.default in words else (setting.default, *words)


def _problem(setting: Setting, value: str) -> str | None:
    """Why a value is not valid; an empty one, which means the default, always is."""
    try:
        if value:
            setting.checked(value)
    except ValueError as error:
        return str(error)
    return None


def _groups(catalogue: Mapping[str, Setting]) -> dict[str, str]:
    """Key -> its first word; or its first two, in a large group where several keys share both."""
    words = {key: [*re.split(r"[._]", key), ""][:2] for key in catalogue if not key.endswith(".*")}
    alike = Counter(map(tuple, words.values()))
    in_all = Counter(first for first, _ in words.values())
    return {
        key: f"{first}.{second}"
        if in_all[first] > SMALL_GROUP and alike[first, second] >= FEWEST_FOR_A_GROUP
        else first
        for key, (first, second) in words.items()
    }


def _title(group: str) -> str:
    first, _, second = group.partition(".")
    titles = TITLES | partner_titles()
    title = titles.get(first, first.capitalize())
    return f"{title}: {second.capitalize()}" if second else title


def _family_named(name: str) -> str:
    if not name.endswith(".*") or name not in current_installation().catalogue:
        raise PageError(404, "There is no such family of settings")
    return name


def _family(name: str, stored: Mapping[str, str], limit: int, after: str = "") -> Family:
    catalogue = current_installation().catalogue
    everything = options.in_family(catalogue, stored, name)
    names = [each for each in everything if each > after]
    return Family(
        name=name,
        about=catalogue[name].about,
        choices=_choices(catalogue[name]),
        rows={each: everything[each] for each in names[:limit]},
        count=len(everything),
        next=names[limit - 1] if len(names) > limit else None,
    )


def _family_page(game: Game, name: str, at: str = "", status: int = 200, problem: str | None = None) -> Response:
    stored = games.stored_settings(read(), game.id)
    return page(
        "setting_family.html",
        status,
        family=_family(name, stored, FAMILY_PAGE, request.args.get("after", "")),
        problem=problem,
        at=at,
        typed=request.form,
    )


def _back_to_family(family: str, said: str) -> AnyResponse:
    return see_other("setting_family", said=said, family=family)
