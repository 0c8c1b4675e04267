"""Why PlayCamp's calls are refused: here its webhooks, which sign their body.

Entries, which sign their player, are in ``explain_entries.py``; payment queries, which sign their address, in
``explain_queries.py``.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from coinslot.base import signing
from coinslot.games.games import Game
from coinslot.operations.refusals import Refused
from handlers.kit import explain, explain_bodies
from handlers.kit.explain import Hypothesis, Known, every, spelled
from handlers.kit.explain_bodies import SignedBody
from handlers.kit.explain_keys import Key, as_hex
from handlers.kit.explain_words import Finding
from handlers.playcamp import explain_entries, explain_queries
from handlers.playcamp.entries import entry
from handlers.playcamp.events import payload, webhooks
from handlers.playcamp.events.signature import AHEAD_SECONDS
from handlers.playcamp.explain_words import RECIPES, WEBHOOKS
from handlers.playcamp.payments import query

HOOK_KEY = "playcamp.webhook_secret"


def diagnose(call: Refused, known: Known) -> Finding:
    """Why this call was refused, as far as trying can tell."""
    if call.endpoint == entry.ENDPOINT:
        return explain.diagnosed(explain_entries.Case(call, known), explain_entries.HYPOTHESES)
    if call.endpoint == query.ENDPOINT:
        return explain.diagnosed(explain_queries.Case(call, known), explain_queries.HYPOTHESES)
    return explain.diagnosed(Case(call, known), HYPOTHESES)


class Case(SignedBody):
    """A webhook that was refused."""

    partner = "playcamp"
    service = "PlayCamp's webhooks"
    signed_by = HOOK_KEY
    findings = WEBHOOKS
    recipes = RECIPES

    @property
    def header(self) -> str:
        headers = self.call.headers
        return headers.get("x-webhook-signature") or headers.get("x-gateway-signature") or self.call.text("signature")

    @property
    def is_converted(self) -> bool:
        """Whether another gateway has signed it."""
        headers = self.call.headers
        return "x-webhook-signature" not in headers and "x-gateway-signature" in headers

    @cached_property
    def parts(self) -> tuple[str, str]:
        if self.is_converted:
            return self.call.headers.get("x-gateway-timestamp", ""), as_hex(self.header)
        times, given = explain_bodies.parts_of(self.header)
        return (times or [""])[-1], as_hex((given or [self.header])[-1])

    @property
    def signed_at(self) -> float | None:
        try:
            return signing.unix_seconds(self.parts[0].lstrip("+"))
        except ValueError:
            return None

    @property
    def hook(self) -> str | None:
        """The webhook whose own address was called."""
        words = self.call.text("path").strip("/").split("/")
        return words[3] if len(words) == 4 else None

    def message(self, body: bytes) -> bytes:
        timestamp = self.parts[0]
        if not self.is_converted and re.fullmatch(r"[+-]?[0-9]{1,18}", timestamp):
            timestamp = str(int(timestamp))
        return timestamp.encode() + b"." + body if timestamp else body

    def other_messages(self) -> Iterator[tuple[bytes, str]]:
        yield from super().other_messages()
        for name, value in self.call.headers.items():
            if "timestamp" in name and value.isdigit() and value != self.parts[0]:
                yield value.encode() + b"." + self.call.body, f"with the time of the header {spelled(name)}"

    def is_right(self, key: Key) -> bool:
        return self.is_usual(key) and not key.how and self.hook in (None, _hook_of(key))

    def is_configured(self, game: Game) -> bool:
        return bool(webhooks.secrets_of(game, self.hook))

    def about_key(self, key: Key) -> Finding:
        if self.is_usual(key) and not key.how and not self.is_right(key):
            hook = _hook_of(key)
            whose = f"of the webhook {hook}" if hook else "of the address without a webhook's name"
            return self.say("another_hook", hook=spelled(self.hook), whose=whose)
        return super().about_key(key)


def _hook_of(key: Key) -> str:
    return key.secret.name.removeprefix(HOOK_KEY).removeprefix(".")


def gateway_without_time(case: Case) -> Finding | None:
    return case.say("no_gateway_time") if case.header and case.is_converted and not case.parts[0] else None


def header_of_another_form(case: Case) -> Finding | None:
    """A header that our verifier cannot read, though its signature may be right."""
    timestamp, digest = case.parts
    if not digest:
        return case.say("no_digest")
    bare = case.header.strip().lower()
    is_plain = bare == digest or (timestamp.lstrip("+-").isdigit() and f"v1={digest}" in bare.replace(" ", ""))
    if is_plain or not case.call.is_whole:
        return None
    body = case.call.body
    found = case.search(every(case.stored, [(body, None), (f"{timestamp}.".encode() + body, None)]), digest)
    return found and case.say("another_form", key=case.name(found[0]), start=spelled(case.header[:12]))


def stale(case: Case) -> Finding | None:
    if case.signed_at is None:
        return None
    if not case.is_converted and len(case.parts[0].lstrip("+-")) >= signing.MILLISECOND_DIGITS:
        return case.say("milliseconds")
    is_late = case.call.received > case.signed_at
    allowed = float(case.setting("tolerance_seconds", "300")) if is_late or case.is_converted else AHEAD_SECONDS
    return explain.timed(case, allowed)


def malformed(case: Case) -> Finding | None:
    if not case.call.body_size:
        return case.say("empty")
    try:
        payload.parse(case.call.body)
    except ValueError as error:
        whole = "" if case.call.is_whole else " (only its beginning was kept)"
        return case.say("unreadable", error=error, whole=whole)
    return None


def no_hook(case: Case) -> Finding | None:
    game = case.game or case.named_game
    if game is None or case.hook is None:
        return None
    if webhooks.secrets_of(game, case.hook):
        return case.say("hook_set_up_since", hook=spelled(case.hook))
    others = ", ".join(name.removeprefix(f"{HOOK_KEY}.") for name in game.secrets if name.startswith(f"{HOOK_KEY}."))
    there = f" Those with one: {spelled(others)}." if others else ""
    return case.say("no_hook", hook=spelled(case.hook), game=game.slug, there=there)


HYPOTHESES: Mapping[str, tuple[Hypothesis[Case], ...]] = {
    "signature": (
        gateway_without_time,
        explain_bodies.no_header,
        header_of_another_form,
        *explain_bodies.OVER_BODY,
    ),
    "timestamp": (stale,),
    "malformed": (malformed,),
    "unknown_game": (no_hook, explain.no_game),
}
