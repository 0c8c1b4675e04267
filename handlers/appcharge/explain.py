"""Why Appcharge's calls are refused: its sentences, and the hypotheses in the order they are tried."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from coinslot.base import exact, signing
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.ledger.refused import NEVER_CAME
from coinslot.operations.refusals import Refused
from handlers.appcharge import encryption, order_body, receive
from handlers.appcharge.explain_words import FINDINGS, RECIPES
from handlers.appcharge.signature import SignatureError, parse
from handlers.kit import explain, explain_bodies
from handlers.kit.explain import Hypothesis, Known, spelled
from handlers.kit.explain_bodies import SignedBody
from handlers.kit.explain_keys import Key, as_hex
from handlers.kit.explain_words import Finding

MAIN, SECONDARY, TOKEN = "appcharge.main_key", "appcharge.secondary_key", "appcharge.publisher_token"
_HEX = re.compile(rb"\s*(?:[0-9A-Fa-f]{2})+\s*")
_OTHER_UNITS = {16: "microseconds", 19: "nanoseconds"}  # by digits; a time counts seconds or milliseconds


def diagnose(call: Refused, known: Known) -> Finding:
    """Why this call was refused, as far as trying can tell."""
    return FINDINGS["never_came"] if call.reason == NEVER_CAME else explain.diagnosed(Case(call, known), HYPOTHESES)


class Case(SignedBody):
    """A refused call of Appcharge's, and what its header says."""

    partner = "appcharge"
    service = "Appcharge"
    signed_by = MAIN
    findings = FINDINGS
    recipes = RECIPES

    @property
    def header(self) -> str:
        return self.call.headers.get("signature", self.call.text("signature"))

    @cached_property
    def parts(self) -> tuple[str, str]:
        try:
            return parse(self.header)
        except SignatureError:
            return "", ""

    @property
    def signed_at(self) -> float | None:
        timestamp = self.parts[0]
        return signing.unix_seconds(timestamp) if timestamp else None

    def message(self, body: bytes) -> bytes:
        return self.parts[0].encode() + b"." + body

    def is_right(self, key: Key) -> bool:
        names = [MAIN]
        names += [SECONDARY] if self.setting("secondary_role") == "backup" else []
        names += ["appcharge.events_secret"] if self.call.endpoint == "events" else []
        return self.is_own(key) and not key.how and key.secret.name in names

    def is_configured(self, game: Game) -> bool:
        return receive.is_configured(game)

    def about_key(self, key: Key) -> Finding:
        if self.is_own(key) and key.secret.name == SECONDARY and not key.how and not self.is_right(key):
            return self.say("secondary_key", key=self.name(key))
        return super().about_key(key)

    def own(self, name: str) -> Sequence[bytes]:
        """The values of a secret of this game."""
        return [] if self.game is None else [secret.value for secret in self.game.keys(name)]

    @cached_property
    def plain(self) -> bytes:
        """The JSON of a call that has proved itself."""
        if self.setting("payload") == "aes" and self.game is not None:
            with suppress(SignatureError):
                return encryption.decrypt(self.call.body, self.game.keys(MAIN), self.game.keys(SECONDARY))[0]
        return self.call.body


# The signature


def encrypted(case: Case) -> Finding | None:
    """No signature, as the encrypted payloads of 2023 have none."""
    if case.header or not _HEX.fullmatch(case.call.body):
        return None
    opened = _opening(case)
    if opened is None:
        return case.say("looks_encrypted")
    return case.say("encrypted", key=case.name(opened[0]), vector=case.name(opened[1]))


def header_of_another_form(case: Case) -> Finding | None:
    """One that cannot be read; what it signs is tried all the same."""
    if case.parts[1]:
        return None
    times, given = explain_bodies.parts_of(case.header)
    if len(times) > 1 or len(given) > 1:
        return case.say("named_twice")
    digest = as_hex(given[0] if given else case.header)
    if not times:
        return _signed(case, "body_alone", case.call.body, digest) or case.say("no_time")
    if not times[0].isdigit():
        return case.say("time_no_number")
    if not given:
        return case.say("no_v1")
    base64_v1 = _signed(case, "base64", f"{times[0]}.".encode() + case.call.body, digest)
    return base64_v1 or case.say("no_digest", length=len(given[0]))


def _signed(case: Case, row: str, message: bytes, digest: str) -> Finding | None:
    found = case.search(explain.every(case.stored, [(message, None)]), digest) if digest else None
    return found and case.say(row, key=case.name(found[0]))


def stale(case: Case) -> Finding | None:
    unit = _OTHER_UNITS.get(len(case.parts[0]))
    if unit:
        return case.say("other_unit", unit=unit)
    name = "events_tolerance_seconds" if case.call.endpoint == "events" else "tolerance_seconds"
    return explain.timed(case, float(case.setting(name) or 300))


# The publisher token, and the project


def token(case: Case) -> Finding | None:
    given = case.call.headers.get("x-publisher-token", case.call.text("token"))
    proved = "The call is encrypted, but" if case.setting("payload") == "aes" else "The signature is right, but"
    if not given:
        others = [name for name in case.call.headers if "token" in name]
        return case.say("no_token", proved=proved, also=f" A header {spelled(others[0])} is there." if others else "")
    ours = [value.decode("utf-8", "replace") for value in case.own(TOKEN)]
    if given in ours:
        return case.say("token_set_since")
    for key in case.stored:
        if key.value.decode("utf-8", "replace") == given:
            how = f", {key.how}," if key.how else ""
            return case.say("token_is_a_key", proved=proved, key=case.name(key), how=how)
    for each in ours:
        if each.strip().lower() == given.strip().lower():
            return case.say("token_nearly", proved=proved)
        if len(given) >= 8 and (each.startswith(given) or given.startswith(each)):
            return case.say("token_cut", proved=proved)
    return case.say("token_unknown", proved=proved)


def project(case: Case) -> Finding | None:
    given = case.call.headers.get("x-project-id", "")
    if not given:
        return None
    others = [game.slug for game in case.known.games if game.settings["appcharge.project_id"] == given]
    return case.say(
        "project",
        given=spelled(given),
        whose=f", which is that of the game {others[0]}" if others else "",
        ours=spelled(case.setting("project_id")) or "empty by now",
    )


# The encrypted payloads of 2023


def too_large_to_open(case: Case) -> Finding | None:
    size, most = case.call.body_size, encryption.LARGEST_BODY
    return case.say("too_large_to_open", size=size, most=most) if size > most else None


def not_encrypted(case: Case) -> Finding | None:
    body = case.call.body
    if _HEX.fullmatch(body):
        return None
    if body.lstrip()[:1] != b"{":
        return case.say("neither" if body else "empty")
    return _signed(case, "signed_and_plain", case.message(body), case.parts[1]) or case.say("plain")


def other_keys(case: Case) -> Finding | None:
    pair = _opening(case)
    if pair is None:
        sizes = [
            f"the {name} has {len(value)} characters and needs {size}"
            for name, secret, size in (
                ("main key", MAIN, encryption.KEY_BYTES),
                ("secondary key", SECONDARY, encryption.VECTOR_BYTES),
            )
            for value in case.own(secret)
            if len(value) != size
        ]
        return case.say("key_sizes", sizes=" and ".join(sizes)) if sizes else case.say("not_opened")
    key, vector = pair
    if (key.secret.name, vector.secret.name) == (SECONDARY, MAIN):
        return case.say("swapped")
    if not case.is_own(key):
        return case.say("opened_by_another", key=case.name(key), vector=case.name(vector), slug=key.game.slug)
    return _inside(case, key, vector)


def _inside(case: Case, key: Key, vector: Key) -> Finding:
    """It opens with this game's own keys: then the token inside was wrong, or the keys were set since."""
    _, document, _ = encryption.decrypt(case.call.body, [key.secret], [vector.secret])
    inside = document.get("publisherToken")
    if case.call.headers.get("x-publisher-token") is None:
        if inside is None:
            return case.say("no_token_inside")
        if not isinstance(inside, str) or inside.encode() not in case.own(TOKEN):
            return case.say("other_token_inside")
    return case.say("opened_since", key=case.name(key))


def _opening(case: Case) -> tuple[Key, Key] | None:
    """The key and the vector that open an encrypted body."""
    stored = [key for key in case.stored if not key.how]
    for key in (each for each in stored if len(each.value) == encryption.KEY_BYTES):
        for vector in (each for each in stored if len(each.value) == encryption.VECTOR_BYTES):
            if key.game is vector.game and case.attempts.allow(len(case.call.body)):
                with suppress(SignatureError):
                    encryption.decrypt(case.call.body, [key.secret], [vector.secret])
                    return key, vector
    return None


# What is no matter of proofs


def malformed(case: Case) -> Finding | None:
    if case.call.endpoint == "auth":
        return case.say("login_malformed")
    try:
        if case.call.endpoint == "orders":
            order_body.parse_order(case.plain)
        elif not isinstance(exact.parse_json(case.plain, allow_half_pairs=True), dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        return case.say("unreadable", error=spelled(error))
    return case.say("malformed")


def player(case: Case) -> Finding | None:
    try:
        document = exact.parse_json(case.plain, allow_half_pairs=True)
    except ValueError:
        document = None
    return explain.player(case, str(document.get("playerId") or "") if isinstance(document, dict) else "")


def item(case: Case) -> Finding | None:
    try:
        return explain.item(case, [sku for sku, _ in order_body.parse_order(case.plain)["lines"]])
    except ValueError:
        return explain.item(case, [])


def misplaced_event(case: Case) -> Finding | None:
    return case.say("misplaced_event", address=shown(case.call.text("path").rpartition("/")[0] + "/events", 200))


def deep_link(case: Case) -> Finding | None:
    return case.say("deep_link_set_since" if case.setting("deep_link") else "deep_link")


HYPOTHESES: Mapping[str, tuple[Hypothesis[Case], ...]] = {
    "signature": (
        encrypted,
        explain_bodies.no_header,
        header_of_another_form,
        *explain_bodies.OVER_BODY,
    ),
    "timestamp": (stale,),
    "token": (token,),
    "project": (project,),
    "encryption": (too_large_to_open, explain.untried, not_encrypted, other_keys),
    "malformed": (malformed,),
    "unknown_player": (player,),
    "unknown_item": (item,),
    "deep_link": (deep_link,),
    "misplaced_event": (misplaced_event,),
}
