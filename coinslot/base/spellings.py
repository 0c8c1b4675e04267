"""One form for all spellings of what a person types in.

Keyboards, browsers and servers may write the same letter as one character or as two (NFC and NFD), and add invisible
characters.
"""

import unicodedata
from typing import Literal

# Longer texts are not normalized: many marks on one letter take quadratic time.
LONGEST = 1024

_UNSEEN_LETTERS = "\u115f\u1160\u3164\uffa0"  # Hangul fillers: letters by their category


def normal(form: Literal["NFC", "NFKC", "NFKD"], text: str) -> str:
    return text if len(text) > LONGEST else unicodedata.normalize(form, text)


def composed(text: str) -> str:
    """Passwords and names as they are hashed, compared and sent on."""
    return normal("NFC", text)


def code(text: str) -> str:
    """A code of digits, without the blanks and dashes between them, whatever digits were typed."""
    return "".join(
        str(unicodedata.decimal(each, each))
        for each in normal("NFKC", text)
        if not each.isspace() and each != "\N{MINUS SIGN}" and unicodedata.category(each) not in ("Pd", "Cf")
    )


def login_name(text: str) -> str:
    """A login name as it is looked up: case counts, invisible characters do not."""
    return normal("NFC", "".join(each for each in text if unicodedata.category(each) != "Cf")).strip()


def login_names_alike(text: str) -> str:
    """The same text for all login names that some server may take for the same.

    Databases ignore case, width, accents, blanks and control characters in various combinations. So this is coarser
    than :func:`login_name`: it slows down guesses and does not tell players apart.
    """
    return searched(login_name(text))


def searched(text: str) -> str:
    """An id or a name as it is searched: in any case, with or without accents, blanks and invisible characters."""
    seen = normal("NFKD", text).upper().casefold()
    return "".join(
        each
        for each in normal("NFKD", seen)
        if unicodedata.category(each)[0] not in "CMZ" and each not in _UNSEEN_LETTERS
    )


def shown(text: str, longest: int) -> str:
    """A stranger's text on one line of at most ``longest`` characters, without control characters."""
    line = "".join(character if character.isprintable() else "\N{MIDDLE DOT}" for character in text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"
