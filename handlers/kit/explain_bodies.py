"""Signatures over a body: hypotheses for every partner, and the bodies that may have been signed."""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import product
from typing import Any, ClassVar

from handlers.kit.explain import Case, every, in_vain, spelled, untried
from handlers.kit.explain_keys import Key, as_hex
from handlers.kit.explain_words import Finding

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SignedBody(Case):
    """A call that is proved by a signature over its body, in a header."""

    # What else may have been signed -> how to say so. Places: {body}, the {time} as it came, that in {seconds} where it
    # came in milliseconds, and as a {number} where it has leading zeros.
    recipes: ClassVar[Mapping[str, str]] = {}

    @property
    def header(self) -> str:
        """The header with the signature; empty where there is none."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[str, str]:
        """The time in the header, and the signature in hexadecimal; each empty where it is missing."""
        raise NotImplementedError

    def message(self, body: bytes) -> bytes:
        """What the partner signs for a body."""
        raise NotImplementedError

    def other_messages(self) -> Iterator[tuple[bytes, str]]:
        """What else may have been signed, and how to say so."""
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
        """Whether this key is the expected one, so that a sentence need not name it."""
        return self.is_own(key) and key.secret.name.startswith(self.signed_by)


def parts_of(header: str) -> tuple[list[str], list[str]]:
    """The times and the signatures in ``t=<time>,v1=<signature>``."""
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
    """The bodies that may have been signed, each with what was done to it on the way here."""
    changes = [
        (body.removesuffix(b"\n"), "added a line break at the end of the body"),
        (body.removesuffix(b"\r\n"), "added a line break at the end of the body"),
        (body.removesuffix(b" "), "added a space at the end of the body"),
        (body.strip(), "added spaces or line breaks around the body"),
        (body.removeprefix(BYTE_ORDER_MARK), "put a byte order mark in front of the body"),
        (body + b"\n", "removed the line break at the end of the body"),
        (body + b"\r\n", "removed the line break at the end of the body"),
        (BYTE_ORDER_MARK + body, "removed the byte order mark in front of the body"),
        (body.replace(b"\r\n", b"\n"), "changed the line breaks in the body"),
        (re.sub(rb"\r?\n", b"\r\n", body), "changed the line breaks in the body"),
    ]
    yield from ((changed, how) for changed, how in changes if changed != body)
    yield from reprinted(body)


def reprinted(body: bytes) -> Iterator[tuple[bytes, str]]:
    """The same JSON as other programs print it: spacing, order of names, escapes, spelling of fractions.

    Nothing where it is not JSON, or already in that form.
    """
    fractions: list[str] = []
    mark = secrets.token_hex(8)  # no sender can have put it into the body

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
    ways: tuple[Callable[[str], str], ...] = (str, _as_javascript, lambda text: repr(float(text)))
    spellings = dict.fromkeys(tuple(map(way, fractions)) for way in ways)
    seen = {body}
    layouts: tuple[dict[str, Any], ...] = (
        {"separators": (",", ":")},
        {"separators": (", ", ": ")},
        {"indent": 2},
        {"indent": 4},
    )
    orders = [(document, False), (document, True)]
    if isinstance(document, dict):
        orders.append((dict(reversed(document.items())), False))
    for (ordered, is_sorted), layout, is_ascii in product(orders, layouts, (False, True)):
        is_reordered = is_sorted or ordered is not document
        how = "changed the order of the keys in the body" if is_reordered else "re-formatted the body"
        try:
            text = json.dumps(ordered, sort_keys=is_sorted, ensure_ascii=is_ascii, **layout)
        except (ValueError, RecursionError):
            return
        for spelling in spellings:
            plain = marked.sub(lambda found, spelling=spelling: spelling[int(found[1])], text)  # type: ignore[misc]
            for printed in (plain, plain.replace("/", "\\/")):
                made = printed.encode("utf-8", "surrogatepass")
                if made not in seen:
                    seen.add(made)
                    yield made, how


def _as_javascript(text: str) -> str:
    """A fraction as JSON.stringify prints it."""
    number = float(text)
    if number == 0:
        return "0"
    if 1e-6 <= abs(number) < 1e21:
        return format(Decimal(repr(number)), "f").removesuffix(".0")
    return re.sub(r"e([+-])0*", r"e\1", repr(number))
