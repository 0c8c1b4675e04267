"""Code for the game's side, in four languages, with this game's own values: never a secret, only where it is read from.

Each snippet is a text file in ``snippets/``. ``@@NAME@@`` is replaced by a value, text as a whole literal of the
language; a line that begins with ``@@word@@`` is kept where the word is true of the recipe, one with ``@@each_end@@``
comes once for each separator.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flask import Response, request

from coinslot.games.games import Game
from handlers.dashboard.frame.pages import page
from handlers.kit.partner import EntryRecipe
from handlers.kit.receive import current_installation, partners

FOLDER = Path(__file__).parents[1] / "snippets"
WRITTEN_IN_MESSAGE = ("user", "campaign", "nonce")  # values of any length: what ends them must not be in them


def _double_quoted(text: str) -> str:
    """Printable text as Python, JavaScript and Go write it alike."""
    return json.dumps(text, ensure_ascii=False)


def _single_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True)
class Language:
    """``key`` is the shared key's variable; ``prefix`` begins every variable, ``plus`` joins texts."""

    name: str
    title: str
    extension: str
    key: str = "key"
    prefix: str = ""
    plus: str = " + "
    literal: Callable[[str], str] = _double_quoted


LANGUAGES = (
    Language("python", "Python", "py", key="KEY"),
    Language("node", "Node", "js", key="KEY"),
    Language("go", "Go", "go"),
    Language("php", "PHP", "php", prefix="$", plus=" . ", literal=_single_quoted),
)


def snippets(game: Game) -> Response:
    """Code to paste into the game server."""
    wanted = request.args.get("language")
    language = next((each for each in LANGUAGES if each.name == wanted), LANGUAGES[0])
    recipes = [recipe for partner in partners() if (recipe := partner.entry(game)) is not None]
    return page(
        "integration_snippets.html",
        language=language,
        languages=LANGUAGES,
        feed=feed(game, language),
        webhook=webhook(game, language),
        entries=[(recipe, entry(game, language, recipe)) for recipe in recipes],
    )


def feed(game: Game, language: Language) -> str:
    """Reads the grants, each once, and acknowledges them."""
    return _filled("feed", language, _common(game, language))


def webhook(game: Game, language: Language) -> str:
    """Verifies a delivery."""
    return _filled("webhook", language, _common(game, language))


def entry(game: Game, language: Language, recipe: EntryRecipe) -> str:
    """Signs a player's entry as the game's recipe has it."""
    literal = language.literal
    user, campaign, auth = recipe.parameters
    places = set(recipe.form[1::2]) | set(recipe.message[1::2])
    algorithm = "-".join(
        [
            *(["hmac"] if recipe.is_keyed else []),
            recipe.digest,
            *([] if recipe.encoding == "hex" else [recipe.encoding]),
        ]
    )
    written = f"{_braced(recipe.form)} = {algorithm}({_braced(recipe.message)})"
    values = {
        "RECIPE": written.replace("?>", "? >"),  # in a comment, that would end PHP
        "MESSAGE": _joined(recipe.message, language),
        "FORM": _joined(recipe.form, language),
        "DIGEST": literal(recipe.digest),
        "DIGEST_PACKAGE": recipe.digest,
        "USER_PARAMETER": literal(user),
        "CAMPAIGN_PARAMETER": literal(campaign),
        "AUTH_PARAMETER": literal(auth),
        "ENTRY": literal(recipe.url + ("&" if "?" in recipe.url else "?")),
    }
    words = {recipe.digest, recipe.encoding, "hmac" if recipe.is_keyed else "plain", *places}
    if "nonce" in places or recipe.encoding == "hex":
        words.add("needs_hex")
    ends = [
        {"PLACE": language.prefix + place, "PLACE_NAME": literal(place), "END": literal(end)}
        for place, end in _ends(recipe.message)
    ]
    return _filled("entry", language, _common(game, language) | values, words, ends)


def _common(game: Game, language: Language) -> dict[str, str]:
    return {"SLUG": game.slug, "URL": language.literal(current_installation().settings.public_url)}


def _joined(parts: tuple[str, ...], language: Language) -> str:
    """The parts of a form or message as an expression; it begins with text, so that joining is of texts everywhere."""
    known = {"key": language.key, "time": "at", "time_ms": "at"}
    spelled = [
        language.prefix + known.get(part, part) if i % 2 else language.literal(part)
        for i, part in enumerate(parts)
        if i % 2 or part
    ]
    return language.plus.join(spelled)


def _braced(parts: tuple[str, ...]) -> str:
    return "".join(f"{{{part}}}" if i % 2 else part for i, part in enumerate(parts))


def _ends(message: tuple[str, ...]) -> list[tuple[str, str]]:
    """The character that ends each value of no fixed length, the last one's left out: it needs none."""
    found = [(part, message[i + 1][:1]) for i, part in enumerate(message) if i % 2 and part in WRITTEN_IN_MESSAGE]
    return [(place, end) for place, end in found[:-1] if end]


@cache
def _template(name: str, extension: str) -> str:
    return (FOLDER / f"{name}.{extension}.txt").read_text(encoding="utf-8")


def _filled(
    name: str,
    language: Language,
    values: Mapping[str, str],
    words: Iterable[str] = (),
    ends: Iterable[Mapping[str, str]] = (),
) -> str:
    known, lines = set(words), []
    pending: list[str] = []
    for line in [*_template(name, language.extension).splitlines(), ""]:
        condition = re.match(r"@@([a-z0-9_]+)@@", line)
        rest = line if condition is None else line[condition.end() :]
        if condition is not None and condition[1] == "each_end":
            pending.append(rest)
            continue
        lines += [_replaced(each, {**values, **end}) for end in ends for each in pending]
        pending = []
        if condition is None or condition[1] in known:
            lines.append(_replaced(rest, values))
    return "\n".join(lines)


def _replaced(line: str, values: Mapping[str, str]) -> str:
    return re.sub(r"@@([A-Z_]+)@@", lambda match: values[match[1]], line)
