"""Calls under a partner's root to an address that does not exist: kept for the owner, answered like any other 404.

Kept is what names a game of ours, or comes close to one of the partner's addresses: a word short or long, another case,
a slash or a blank too many. A stranger's guesses are not.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from urllib.parse import unquote

from flask import request
from werkzeug.exceptions import HTTPException

from coinslot.access.vault import VaultError
from coinslot.games import games
from coinslot.store.db import DatabaseError, EngineError
from handlers.kit.partner import Partner
from handlers.kit.receive import installation, note_refusal, partners

REASON = "no_address"
LONGEST_PATH = 200  # characters; a longer one comes close to nothing
MOST_WORDS = 6
ALIKE = 0.7  # of two words, by difflib: hook and webhook
OTHER = "other"  # endpoint of a call that comes close to no address


@dataclass(frozen=True)
class Near:
    """What was called, and what was probably meant.

    ``path`` is what was called, each word that is none of ours replaced by ``*``: it may be anybody's id. ``meant`` is
    empty where nothing is close, and has ``{game}`` where the call named no game of ours.
    """

    partner: Partner
    endpoint: str
    path: str
    meant: str
    slug: str | None


def note() -> None:
    """Keep the current request, for which there is no address. The caller learns nothing of it."""
    if len(request.path) > LONGEST_PATH or not _named(request.path, partners()):
        return
    # What cannot be kept must not change the answer: a body that is too large, a database that does not answer.
    with suppress(HTTPException, DatabaseError, EngineError, VaultError):
        house = installation()
        near = nearest(request.path, partners(), [row["slug"] for row in games.every(house.database.read())])
        if near is not None:
            game = None if near.slug is None else house.games.by_slug(near.slug)
            note_refusal(
                near.partner.name,
                near.endpoint,
                game,
                REASON,
                404,
                keeps_body=False,
                keeps_query=False,
                found={"meant": near.meant},
                path=near.path,
            )


def nearest(path: str, known: Sequence[Partner], slugs: Iterable[str]) -> Near | None:
    """What a path was probably meant to be; None for a stranger's guess."""
    words = _words(path)
    partner = _named(path, known)
    if partner is None or len(words) > MOST_WORDS:
        return None
    slug = next((word for word in words[1:] if word in set(slugs)), None)
    rest = [word for word in words[1:] if word != slug]
    likeness, near_word, address = max(
        ((_likeness(word, each.path.rpartition("/")[2]), word, each) for each in partner.addresses for word in rest),
        key=lambda each: each[0],
        default=(0.0, "", None),
    )
    is_near = address is not None and likeness >= ALIKE
    if not is_near and slug is None:
        return None
    ours = {words[0], slug, near_word if is_near else None}
    called = "/".join(part if part.strip().lower() in ours or not part else "*" for part in unquote(path).split("/"))
    if not is_near or address is None:
        return Near(partner, OTHER, called, "", slug)
    return Near(partner, address.endpoint, called, address.path.replace("{game}", slug or "{game}"), slug)


def _likeness(word: str, other: str) -> float:
    if len(word) >= 3 and (word.startswith(other) or other.startswith(word)):
        return 0.95 if word != other else 1.0
    return SequenceMatcher(None, word, other).ratio()


def _named(path: str, known: Iterable[Partner]) -> Partner | None:
    """The partner whose root the path begins with."""
    roots = {root: partner for partner in known for root in (partner.name, *partner.roots)}
    words = _words(path)
    return roots.get(words[0]) if words else None


def _words(path: str) -> list[str]:
    return [word for word in (each.strip().lower() for each in unquote(path).split("/")) if word]
