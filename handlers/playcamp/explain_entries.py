"""Why players' entries are refused: other names of parameters, other keys and other recipes are tried."""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, cached_property
from itertools import permutations, product
from urllib.parse import unquote_plus, unquote_to_bytes

from handlers.kit import explain
from handlers.kit.explain import Hypothesis, every, spelled
from handlers.kit.explain_keys import Key
from handlers.kit.explain_words import Finding
from handlers.playcamp.entries import entry
from handlers.playcamp.explain_words import ENTRIES
from handlers.playcamp.recipe import FUTURE_SECONDS, LONGEST_CUSTOM_DATA, NAMED, Recipe

# Recipes that games use, or may have read out of PlayCamp's guide, besides the named ones.
RECIPES = (
    *NAMED.values(),
    *(each.replace("{user}", "{user}|{campaign}") for each in NAMED.values()),
    "{user}|{time}|{signature} = sha256({user}|{time}|{campaign}|{key})",
    "{user}|{time}|{signature} = hmac-sha256({user}|{time}|{campaign})",
    "{user}|{time}|{signature} = sha256({key}|{user}|{time})",
    "{user}|{time}|{signature} = sha256({time}|{user}|{key})",
    "{user}|{time}|{signature} = hmac-sha256({time}|{user})",
    "{user}|{time}|{signature} = sha512({user}|{time}|{key})",
    "{user}|{time}|{signature} = hmac-sha512({user}|{time})",
)
LAYOUTS = (
    "{user}|{time}|{signature}",
    "{user}|{campaign}|{time}|{signature}",
    "{time}|{signature}",
    "{signature}|{time}",
)
ENCODINGS = ("", "-base64", "-base64url")
SEPARATORS = ("|", ":", ".", "-", "_", ",")

_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_LIKE_SIGNED = re.compile(r"[0-9A-Fa-f]{64}|[A-Za-z0-9+/_-]{43}")
_MEANING = {"user": "player", "auth": "signature", "campaign": "campaign"}


class Case(explain.Case):
    """An entry that was refused."""

    partner = "playcamp"
    service = "PlayCamp's entries"
    what = "link"
    signed_by = "playcamp.shared_key"
    findings = ENTRIES

    @cached_property
    def given(self) -> dict[str, str]:
        pairs = [pair.partition("=") for pair in self.call.text("query").split("&") if pair]
        return {
            unquote_plus(name): unquote_to_bytes(value.encode("latin-1")).decode("utf-8", "replace")
            for name, _, value in pairs
        }

    @property
    def names(self) -> dict[str, str]:
        """Meaning of a parameter -> the name that is configured for it."""
        return {meaning: self.setting(f"param.{meaning}") for meaning in _MEANING}

    @cached_property
    def entry(self) -> dict[str, str]:
        """Meaning of a parameter -> its value, by the names that are configured; empty where it is missing."""
        return {meaning: self.given.get(name, "") for meaning, name in self.names.items()}

    @cached_property
    def recipe(self) -> Recipe | None:
        return None if self.game is None else entry.recipe_of(self.game)

    @property
    def signed_at(self) -> float | None:
        try:
            return float(self.call.found["signed_at"])
        except (KeyError, ValueError):
            return None


def parameters(case: Case) -> Finding | None:
    """The parameters have other names than the configured ones: each may be the player's, the campaign's or the
    signature's."""
    user, auth = case.names["user"], case.names["auth"]
    lacking = [name for name in (user, auth) if name not in case.given]
    if not lacking and not (_HEX.search(case.given[user]) and not _HEX.search(case.given[auth])):
        return None  # unless only the player's looks like a signature: then the two are swapped
    names = list(case.given)[:8]
    like_signed = {name for name in names if _LIKE_SIGNED.search(case.given[name])}
    for taken in permutations([*names, ""], 3):
        if not taken[0] or taken[1] not in like_signed:
            continue
        named = dict(zip(_MEANING, taken, strict=True))
        values = {meaning: case.given.get(name, "") for meaning, name in named.items()}
        differ = [(meaning, name) for meaning, name in named.items() if name and name != case.names[meaning]]
        if differ and any(_signer(case, recipe, values) for recipe in _recipes(case, values["auth"])[:8]):
            return case.say(
                "other_names",
                meanings=", ".join(f"{spelled(name)} is the {_MEANING[meaning]}" for meaning, name in differ),
                settings=" and ".join(f"playcamp.param.{meaning} to {spelled(name)}" for meaning, name in differ),
            )
    there = f"; there are {spelled(', '.join(names))}" if names else " and so is everything else"
    return case.say("lacking", names=" and ".join(lacking), there=there) if lacking else None


def another_recipe(case: Case) -> Finding | None:
    signers = ((recipe, _signer(case, recipe, case.entry)) for recipe in _recipes(case, case.entry["auth"]))
    recipe, key = next(((recipe, key) for recipe, key in signers if key is not None), (None, None))
    if recipe is None or key is None:
        return None
    if recipe == case.recipe:
        return case.about_key(key)
    with_key = "" if case.is_right(key) else f", with {case.name(key)}"
    with_key += f", {key.how}" if key.how else ""
    return case.say(
        "another_recipe", recipe=_setting_of(recipe), with_key=with_key, configured=case.setting("signature")
    )


def unlike_the_recipe(case: Case) -> Finding | None:
    user, custom_data = case.entry["user"], case.entry["auth"]
    if len(custom_data) > LONGEST_CUSTOM_DATA:
        return case.say("too_long", length=len(custom_data), most=LONGEST_CUSTOM_DATA)
    if custom_data and user and not custom_data.startswith(user) and custom_data.count("|") == 2:
        return case.say("begins_otherwise")
    return case.say(
        "unlike_the_recipe",
        name=case.names["auth"],
        length=len(custom_data),
        bars=custom_data.count("|"),
        configured=case.setting("signature"),
    )


def another_player(case: Case) -> Finding | None:
    signed, entering = (case.call.found.get(name, "") for name in ("signed", "entering"))
    words = {"signed": spelled(signed), "entering": spelled(entering)}
    if not signed or not entering:
        return case.say("another_player")
    rest = signed.removeprefix(entering)
    if signed != entering and signed.startswith(entering) and not rest[0].isalnum():
        return case.say("more_than_the_player", **words)
    return case.say("another_player_named", **words)


def stale(case: Case) -> Finding | None:
    allowed = float(case.setting("tolerance_seconds", "300"))
    if case.signed_at is None:
        return case.say("stale", allowed=explain.duration(allowed))
    return explain.timed(case, allowed if case.call.received > case.signed_at else FUTURE_SECONDS)


def campaign(case: Case) -> Finding | None:
    return case.say("campaign", allowed=spelled(case.setting("campaigns")) or "it is empty now")


def malformed(case: Case) -> Finding | None:
    return case.say("malformed") if case.call.status == 400 else None


def _recipes(case: Case, custom_data: str) -> list[Recipe]:
    """The configured recipe first, then those of the list, then every layout with every algorithm."""
    found = dict.fromkeys([] if case.recipe is None else [case.recipe])
    for separator in SEPARATORS:
        if separator in custom_data:
            found |= dict.fromkeys(_recipes_with(separator))
    return list(found)


@cache
def _recipes_with(separator: str) -> tuple[Recipe, ...]:
    texts = list(RECIPES)
    for layout, is_keyed, digest, encoding in product(LAYOUTS, (True, False), ("sha256", "sha512"), ENCODINGS):
        message = "{user}|{campaign}|{time}" if "campaign" in layout else "{user}|{time}"
        signing_way = f"hmac-{digest}{encoding}({message})" if is_keyed else f"{digest}{encoding}({message}|{{key}})"
        texts.append(f"{layout} = {signing_way}")
    found: dict[Recipe, None] = {}
    for text, place in product(texts, ("{time}", "{time_ms}")):
        with suppress(ValueError):
            found[Recipe.parse(text.replace("|", separator).replace("{time}", place))] = None
    return tuple(found)


def _setting_of(recipe: Recipe) -> str:
    """The value of playcamp.signature for a recipe."""
    for name in NAMED:
        if Recipe.parse(name) == recipe:
            return name
        if Recipe.parse(name, True) == recipe:
            return f"{name} with playcamp.signature_campaign on"
    form, message = (
        "".join(f"{{{part}}}" if i % 2 else part for i, part in enumerate(parts))
        for parts in (recipe.form, recipe.message)
    )
    encoding = "" if recipe.encoding == "hex" else f"-{recipe.encoding}"
    return f"{form} = {'hmac-' if recipe.is_keyed else ''}{recipe.digest}{encoding}({message})"


def _signer(case: Case, recipe: Recipe, given: Mapping[str, str]) -> Key | None:
    """The stored key with which this recipe signs this player and campaign as the entry does."""
    user, custom_data, campaign = given["user"], given["auth"], given["campaign"]
    if not custom_data or not user or "\0" in custom_data + user + campaign:
        return None
    read = recipe.read(custom_data, user, campaign)
    if read is None:
        return None
    values = {**read, "campaign": campaign}
    keys = case.stored if recipe == case.recipe else case.likely
    found = None
    with suppress(ValueError):  # another entry could have the same message
        found = case.search(
            every(keys, [(custom_data.encode(), None)]),
            recipe.normal(values["signature"]),
            lambda key, _: recipe.normal(recipe.sign(key, values)),
        )
    return found and found[0]


HYPOTHESES: Mapping[str, tuple[Hypothesis[Case], ...]] = {
    "signature": (parameters, another_recipe, explain.in_vain),
    "malformed": (malformed, parameters, another_recipe, unlike_the_recipe),
    "player": (another_player,),
    "timestamp": (stale,),
    "campaign": (campaign,),
}
