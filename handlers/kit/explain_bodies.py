"""Signatures over a body: the hypotheses that hold for every partner, and the bodies that may have been signed."""

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, ClassVar

from handlers.kit.explain import Case, every, in_vain, spelled, untried
from handlers.kit.explain_keys import Key, as_hex
from handlers.kit.explain_words import Finding


class SignedBody(Case):
    """A call that is proved by a signature over its body, in a header."""

    # What may have been signed in place of the right message -> how to say so. Places: {body}, the {time} as it came,
    # that in {seconds} where it came in milliseconds, and that as a {number} where it was written otherwise.
    recipes: ClassVar[Mapping[str, str]]

    @property
    def header(self) -> str:
        """What the header holds; empty where there is none."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[str, str]:
        """The time in the header, and the signature in hexadecimal; each empty where it is not there."""
        raise NotImplementedError

    def message(self, body: bytes) -> bytes:
        """What is signed of this body."""
        raise NotImplementedError

    def other_messages(self) -> Iterator[tuple[bytes, str]]:
        """What the recipes make of the body, and how to say so."""
        time = self.parts[0]
        number = str(int(time)) if re.fullmatch("[0-9]{1,20}", time) else time
        places = {
            "{time}": time,
            "{seconds}": time[:-3] if time[1:].endswith("000") else "",
            "{number}": "" if number == time else number,
        }
        for recipe, how in self.recipes.items():
            before, _, after = recipe.partition("{body}")
            if all(places[place] for place in re.findall("{[a-z]+}", before + after)) and time:
                for place, value in places.items():
                    before, after = before.replace(place, value), after.replace(place, value)
                yield before.encode() + self.call.body + after.encode(), how

    def is_usual(self, key: Key) -> bool:
        """Whether this key is the one that anybody would expect, so that a sentence need not name it."""
        return self.is_own(key) and key.secret.name.startswith(self.signed_by)


def parts_of(header: str) -> tuple[list[str], list[str]]:
    """The times and the signatures in ``t=<time>,v1=<signature>``, each as it stands there."""
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times, given = ([value.strip() for name, _, value in pairs if name.strip() == wanted] for wanted in ("t", "v1"))
    return times, given


def no_header(case: SignedBody) -> Finding | None:
    if case.header:
        return None
    for name, value in case.call.headers.items():
        if "sign" in name and as_hex(value.rpartition("v1=")[2]):
            return case.say("renamed_header", name=spelled(name))
    return case.say("no_header")


def another_key(case: SignedBody) -> Finding | None:
    found = case.search(every(case.stored, [(case.message(case.call.body), None)]), case.parts[1])
    return found and case.about_key(found[0])


def another_message(case: SignedBody) -> Finding | None:
    """The header's time counts another unit than the one that was signed, or is not signed as it should be."""
    found = case.search(every(case.likely, list(case.other_messages())), case.parts[1])
    return found and case.say("another_message", key=case.name(found[0]), how=found[1])


def another_body(case: SignedBody) -> Finding | None:
    mine = [key for key in case.likely if case.is_own(key)]
    others = [key for key in case.likely if not case.is_own(key)]
    tries = (
        (key, case.message(body), how)
        for keys in (mine, others)
        for body, how in (readings(case.call.body) if keys else ())
        for key in keys
    )
    found = case.search(tries, case.parts[1])
    if found is None:
        return None
    key, how = found
    with_key = "" if case.is_usual(key) else f" It is signed with {case.name(key)}."
    return case.say("another_body", how=how, with_key=with_key)


OVER_BODY = (untried, another_key, another_message, another_body, in_vain)


def readings(body: bytes) -> Iterator[tuple[bytes, str]]:
    """The bodies that may have been signed before this one came, each with what was done to it on the way."""
    for ending, words in ((b"\n", "a line break"), (b"\r\n", "a line break"), (b" ", "a blank")):
        if body.endswith(ending):
            yield body[: -len(ending)], f"added {words} at the end of the body"
    if body.strip() != body:
        yield body.strip(), "added blanks or line breaks around the body"
    if body.startswith(b"\xef\xbb\xbf"):
        yield body[3:], "put a byte order mark in front of the body"
    for ending in (b"\n", b"\r\n"):
        yield body + ending, "cut the line break off the end of the body"
    yield b"\xef\xbb\xbf" + body, "cut the byte order mark off the front of the body"
    if b"\r\n" in body:
        yield body.replace(b"\r\n", b"\n"), "changed the line breaks in the body"
    elif b"\n" in body:
        yield body.replace(b"\n", b"\r\n"), "changed the line breaks in the body"
    yield from ((each, "re-formatted the body") for each in reprinted(body))


def reprinted(body: bytes) -> Iterator[bytes]:
    """The same JSON as other programs print it: spacing, order of names, what is escaped, how fractions are spelled.

    Nothing where it is no JSON, or as it came.
    """
    fractions: list[str] = []
    mark = secrets.token_hex(8)  # which nobody can have put into the body

    def fraction(text: str) -> str:
        fractions.append(text)
        return f"{mark}{len(fractions) - 1};"

    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=fraction)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict | list):
        return
    marked = re.compile(f'"{mark}([0-9]+);"')
    spelled_so = (fractions, map(_as_javascript, fractions), (repr(float(each)) for each in fractions))
    spellings = list(dict.fromkeys(tuple(each) for each in spelled_so))
    seen = {body}
    layouts: tuple[dict[str, Any], ...] = (
        {"separators": (",", ":")},
        {"separators": (", ", ": ")},
        {"indent": 2},
        {"indent": 4},
    )
    for layout, is_sorted, is_ascii in product(layouts, (False, True), (False, True)):
        try:
            text = json.dumps(document, sort_keys=is_sorted, ensure_ascii=is_ascii, **layout)
        except (ValueError, RecursionError):
            return
        for spelling in spellings:
            plain = marked.sub(lambda found, spelling=spelling: spelling[int(found[1])], text)  # type: ignore[misc]
            for printed in dict.fromkeys((plain, plain.replace("/", "\\/"))):
                made = printed.encode("utf-8", "surrogatepass")
                if made not in seen:
                    seen.add(made)
                    yield made


def _as_javascript(text: str) -> str:
    """A fraction as JSON.stringify prints it."""
    number = float(text)
    if number.is_integer() and abs(number) < 1e21:
        return str(int(number))
    if 1e-6 <= abs(number) < 1e-4:
        return _without_exponent(repr(number))
    return re.sub(r"e([+-])0*([0-9])", r"e\1\2", repr(number))


def _without_exponent(text: str) -> str:
    digits, _, exponent = text.partition("e")
    if not exponent:
        return text
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{digits.replace('.', '')}"
