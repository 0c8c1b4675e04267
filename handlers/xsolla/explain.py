"""Why Xsolla's calls are refused: the hypotheses in the order they are tried."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from coinslot.operations.refusals import Refused
from handlers.kit import explain, explain_bodies
from handlers.kit.explain import Hypothesis, Known, every
from handlers.kit.explain_bodies import SignedBody
from handlers.kit.explain_keys import as_hex, hmac_hex
from handlers.kit.explain_words import Finding
from handlers.xsolla import messages
from handlers.xsolla.explain_words import FINDINGS
from handlers.xsolla.settings import SIGNING_KEY


class Case(SignedBody):
    """A refused webhook."""

    partner = "xsolla"
    service = "Xsolla"
    signed_by = SIGNING_KEY
    findings = FINDINGS
    recipes: ClassVar[Mapping[str, str]] = {}

    @property
    def header(self) -> str:
        return self.call.found.get("authorization", "")

    @cached_property
    def parts(self) -> tuple[str, str]:
        digest = as_hex(self.header.strip().rpartition(" ")[2], 20)
        return "", digest

    def message(self, body: bytes) -> bytes:
        return body

    def made(self, key: bytes, message: bytes) -> str:
        return messages.signature_of(message, key)


def diagnose(call: Refused, known: Known) -> Finding:
    """Why this call was refused, as far as trying can tell."""
    return explain.diagnosed(Case(call, known), HYPOTHESES)


def no_digest(case: Case) -> Finding | None:
    return None if case.parts[1] else case.say("no_digest")


def another_way(case: Case) -> Finding | None:
    """The right secret, used in another way than Xsolla's."""
    ways = {
        "HMAC-SHA1": lambda key, body: hmac_hex(key, body, "sha1"),
        "SHA-1 over the secret key followed by the body": lambda key, body: hashlib.sha1(
            key + body, usedforsecurity=False
        ).hexdigest(),
    }
    for how, made in ways.items():
        found = case.search(every(case.likely, [(case.call.body, None)]), case.parts[1], made)
        if found is not None:
            return case.say("another_message", key=case.name(found[0]), how=how)
    return None


def unreadable(case: Case) -> Finding | None:
    try:
        document = messages.parse(case.call.body)
        messages.player_id(document)
        messages.lines(document)
    except ValueError as error:
        return case.say("unreadable", error=error)
    return None


def player(case: Case) -> Finding:
    return explain.player(case, messages.identifier(_document(case), "player") or "")


def item(case: Case) -> Finding:
    document = _document(case)
    return explain.item(case, [sku for sku, _ in messages.lines(document)] if document else [])


def _document(case: Case) -> Mapping[str, object]:
    try:
        return messages.parse(case.call.body)
    except ValueError:  # only the beginning of a large body is kept
        return {}


HYPOTHESES: Mapping[str, tuple[Hypothesis[Case], ...]] = {
    "signature": (
        explain_bodies.no_header,
        no_digest,
        explain.untried,
        explain_bodies.another_key,
        another_way,
        explain_bodies.another_body,
        explain.in_vain,
    ),
    "malformed": (unreadable,),
    "unknown_player": (player,),
    "unknown_item": (item,),
}
