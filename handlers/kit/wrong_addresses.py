"""Calls under a partner's root to an address that does not exist, or with another method than it takes: kept for the
owner, answered like any other 404 or 405.

Kept is what names a game of ours, or comes close to one of the partner's addresses: a word short or long, another case,
a slash or a blank too many; and whatever a key of a game proves, wherever it went. A stranger's guesses are not.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from urllib.parse import unquote

from flask import current_app, request
from werkzeug.exceptions import HTTPException

from coinslot.access.vault import VaultError
from coinslot.games import games
from coinslot.store.db import DatabaseError, EngineError
from handlers.kit.partner import Partner
from handlers.kit.receive import PROOFS, current_installation, find_claim, note_refusal, partners

REASON = "no_address"
LONGEST_PATH = 200  # characters; a longer one comes close to nothing
MOST_WORDS = 6
ALIKE = 0.7  # of two words, by difflib: hook and webhook
OTHER = "other"  # endpoint of a call that comes close to no address


@dataclass(frozen=True)
class Near:
    """What was called, and what was probably meant.

    ``path`` is what was called, with ``*`` for each word that is not ours, since it may be an id. ``meant`` is
    empty where nothing is close, and has ``{game}`` where the call named no game of ours. Where only the method was
    wrong, both begin with one.
    """

    partner: Partner
    endpoint: str
    path: str
    meant: str
    slug: str | None


def note(status: int) -> None:
    """Keep the current request, which no address takes. The caller learns nothing of it but ``status``."""
    has_proof = any(name in request.headers for name in (*PROOFS, "Authorization"))
    if len(request.path) > LONGEST_PATH or not (has_proof or _named(request.path, partners())):
        return
    # What cannot be kept must not change the answer: a body that is too large, a database that does not answer.
    with suppress(HTTPException, DatabaseError, EngineError, VaultError):
        installation = current_installation()
        called = request.path if status == 404 else f"{request.method} {request.path}"
        near = nearest(called, partners(), [row["slug"] for row in games.every(installation.database.read())])
        if near is None and has_proof:
            near = _proved_elsewhere()
        if near is not None:
            game = None if near.slug is None else installation.games.by_slug(near.slug)
            note_refusal(
                near.partner.name,
                near.endpoint,
                game,
                REASON,
                status,
                keeps_body=False,
                keeps_query=False,
                found={"meant": near.meant},
                path=near.path,
                detail=f"{near.path}; did you mean {near.meant}?" if near.meant else near.path,
            )


def _proved_elsewhere() -> Near | None:
    """The current request, if a key of a game proves it though its path comes close to no address of that partner."""
    for partner in partners():
        for address in partner.addresses:
            if find_claim(partner.name, address.endpoint, None)[1] is not None:
                return Near(partner, address.endpoint, "*", "", None)
    return None


def nearest(called: str, known: Sequence[Partner], slugs: Iterable[str]) -> Near | None:
    """What a path was probably meant to be; None for a random guess. ``called`` is a path, or a method and a path."""
    method, _, path = ("", "", called) if called.startswith("/") else called.partition(" ")
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
    shown = "/".join(part if part.strip().lower() in ours or not part else "*" for part in unquote(path).split("/"))
    shown = f"{method} {shown}" if method else shown
    if not is_near or address is None:
        return Near(partner, OTHER, shown, "", slug)
    meant = address.path.replace("{game}", slug or "{game}")
    if method:
        taken = set(current_app.url_map.bind("").allowed_methods(meant)) - {"HEAD", "OPTIONS"}
        meant = f"{' or '.join(sorted(taken))} {meant}"
    return Near(partner, address.endpoint, shown, meant, slug)


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
