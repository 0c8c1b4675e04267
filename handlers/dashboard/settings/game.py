"""A game's configuration: every key of the catalogue with its meaning, in groups; and the token of its server."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games import games, options
from coinslot.games.games import Game, GameError
from coinslot.games.options import LONGEST_KEY, Setting
from handlers.dashboard.frame.pages import PageError, page, partner_titles, read, see_other, show_on_error, who, write
from handlers.dashboard.settings.fields import Field, Sent, choices_of, field_of
from handlers.kit.receive import current_installation, partners

FEWEST_FOR_A_GROUP = 4  # keys with the same second word
SMALL_GROUP = 12  # keys; a larger group is divided
SHOWN_OF_FAMILY = 20
FAMILY_PAGE = 200

TITLES = {"settlement": "Settlements"}
OF_EACH_PARTNER = ("allowlist", "silence")  # the second word of such a key names the partner


@dataclass(frozen=True)
class Group:
    """``partner`` is the name of the one whose settings they are; empty for those of the game itself."""

    name: str
    title: str
    partner: str
    fields: list[Field]

    @property
    def count_set(self) -> int:
        return sum(field.is_set for field in self.fields)


@dataclass(frozen=True)
class Family:
    """Keys with the same beginning. ``rows``: the rest of the name -> its value, a page of them."""

    name: str
    title: str
    about: str
    choices: tuple[str, ...]
    rows: dict[str, str]
    count: int
    next: str | None


def settings(game: Game, status: int = 200, opened: str | None = None, sent: Sent | None = None) -> Response:
    """The page of all settings; after a mistake with what was typed and the problem of each key."""
    catalogue = current_installation().catalogue
    stored = games.stored_settings(read(), game.id)
    groups: dict[str, Group] = {}
    for key, name in _groups(catalogue).items():
        group = groups.setdefault(name, Group(name, _title(name), _partner_of(name), []))
        group.fields.append(field_of(key, stored, sent))
    families = [_family(name, stored, SHOWN_OF_FAMILY) for name in catalogue if name.endswith(".*")]
    prefixes = tuple(family.name.removesuffix("*") for family in families)
    used = {each.name for each in partners() if any(name in game.secrets for name in each.secrets)}
    first_words = list(dict.fromkeys(name.partition(".")[0] for name in groups))
    in_order = sorted(groups.values(), key=lambda group: first_words.index(group.name.partition(".")[0]))
    idle = [each.title for each in partners() if each.name not in used]
    return page(
        "settings.html",
        status,
        groups=[group for group in in_order if not group.partner or group.partner in used],
        families=[family for family in families if _partner_of(family.name) in used | {""}],
        idle=idle,
        idle_groups=[group for group in in_order if group.partner and group.partner not in used],
        idle_families=[family for family in families if _partner_of(family.name) not in used | {""}],
        opened=opened or request.args.get("open", ""),
        token_replaced_at=games.token_replaced_at(read(), game.id),
        has_problem=sent is not None and bool(sent.problems),
        unknown=sorted(key for key in stored.keys() - catalogue.keys() if not key.startswith(prefixes)),
    )


def save_settings(game: Game) -> AnyResponse:
    """Save the changes in one group: all of them, or none when a value is not valid."""
    group = request.form.get("group", "")
    keys = [key for key, its_group in _groups(current_installation().catalogue).items() if its_group == group]
    if not keys:
        raise PageError(400, "There is no such group of settings")
    sent = Sent.of(game, keys)
    if sent.problems:
        return settings(game, 400, group, sent)
    said = "saved" if sent.save(game) else "nothing"
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


def _groups(catalogue: Mapping[str, Setting]) -> dict[str, str]:
    """Key -> its partner or first word; or its first two words, in a large group where several keys share both."""
    words = {key: [*re.split(r"[._]", key), ""][:2] for key in catalogue if not key.endswith(".*")}
    words |= {key: [second, ""] for key, (first, second) in words.items() if first in OF_EACH_PARTNER}
    alike = Counter(map(tuple, words.values()))
    in_all = Counter(first for first, _ in words.values())
    return {
        key: f"{first}.{second}"
        if in_all[first] > SMALL_GROUP and alike[first, second] >= FEWEST_FOR_A_GROUP
        else first
        for key, (first, second) in words.items()
    }


def _partner_of(name: str) -> str:
    """The partner whose settings begin so; empty for those of the game itself."""
    first = name.partition(".")[0]
    return first if first in partner_titles() else ""


def _title(group: str) -> str:
    first, _, second = group.partition(".")
    title = partner_titles().get(first, TITLES.get(first, first.capitalize()))
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
        title=catalogue[name].title,
        about=catalogue[name].about,
        choices=choices_of(catalogue[name]),
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
