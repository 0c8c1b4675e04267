"""Why a call was refused, in one sentence for the owner: what all partners' explanations share.

A partner brings a table of sentences, a :class:`Case` that reads its calls, and for each reason of a refusal its
hypotheses, the likeliest first. The first hypothesis that fits gives the sentence. A signature is tried with every key
and message that may have been used, so a sentence about one is no guess; a sentence that could not be tried says so.
:class:`Attempts` bounds how much is tried.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import ClassVar, TypeAlias, TypeVar

from coinslot.base import addresses
from coinslot.games.games import Game
from coinslot.operations.refusals import Refused
from handlers.kit import explain_keys
from handlers.kit.explain_keys import Attempts, Key, hmac_hex
from handlers.kit.explain_words import Finding

ALIKE_SECONDS = 90.0  # two calls whose clocks differ by about the same
ZONE_SECONDS = 120.0  # from a whole number of half hours: a local time was taken for UTC
LONGEST_SHOWN = 80  # characters of a caller's text in a sentence

Tried = TypeVar("Tried")


@dataclass(frozen=True)
class Known:
    """What a hypothesis may look at. The functions read the database, only when a hypothesis calls them."""

    games: Sequence[Game]
    alike: Callable[[Refused], Sequence[Refused]] = lambda call: ()  # refused for the same reason on the same day
    proved_at: Callable[[Refused], float | None] = lambda call: None  # when the last good call came to that address
    changed: Callable[[Refused], Mapping[str, str]] = lambda call: {}  # secret -> when its old value stopped being used
    names: Mapping[str, str] = field(default_factory=dict)  # secret -> what its partner calls it


@dataclass(frozen=True)
class Case:
    """A refused call and what may be tried. Each partner has its own, which reads the proof of its calls.

    ``service`` names what a game is set up for at this address, ``what`` is what calls sign, and ``signed_by`` is the
    secret that they sign with.
    """

    partner: ClassVar[str]
    service: ClassVar[str]
    what: ClassVar[str] = "body"
    signed_by: ClassVar[str]
    findings: ClassVar[Mapping[str, Finding]]

    call: Refused
    known: Known
    attempts: Attempts = field(default_factory=Attempts)

    @cached_property
    def game(self) -> Game | None:
        return next((game for game in self.known.games if game.id == self.call.game_id), None)

    @property
    def slug(self) -> str:
        """The game that the path names."""
        return (self.call.text("path").strip("/").split("/")[1:2] or [""])[0]

    @property
    def named_game(self) -> Game | None:
        return next((game for game in self.known.games if game.slug == self.slug), None)

    @property
    def signed_at(self) -> float | None:
        """The time of the signature in Unix seconds; None where the call has none."""
        return None

    def is_configured(self, game: Game) -> bool:
        """Whether this address is set up for a game."""
        return bool(game.keys(self.signed_by))

    def is_right(self, key: Key) -> bool:
        """Whether a call signed with this key would be accepted now."""
        return self.is_own(key) and not key.how and key.secret.name == self.signed_by

    def made(self, key: bytes, message: bytes) -> str:
        """The proof of a message with a key, in small letters. HMAC-SHA256, unless the partner uses another."""
        return hmac_hex(key, message)

    def setting(self, name: str, default: str = "") -> str:
        return default if self.game is None else self.game.settings[f"{self.partner}.{name}"]

    @cached_property
    def stored(self) -> list[Key]:
        """Every stored secret: the right ones first, then the likeliest."""
        found = explain_keys.keys(self.known.games, self.game, self.partner)
        return sorted(found, key=lambda key: not self.is_right(key))

    @property
    def likely(self) -> list[Key]:
        return [key for key in self.stored if key.is_likely]

    def is_own(self, key: Key) -> bool:
        return self.game is not None and key.game.id == self.game.id

    def name(self, key: Key) -> str:
        return explain_keys.name_of(key, self.game, self.known.names)

    def say(self, row: str, /, **words: object) -> Finding:
        """The sentence of a row with its places filled."""
        found = self.findings[row]
        return replace(found, sentence=found.sentence.format(**words), hint=found.hint.format(**words))

    def about_key(self, key: Key) -> Finding:
        """Why a call that is signed with this key was refused."""
        row = "another_secret" if self.is_own(key) else "another_game"
        row = "misread" if key.how else "set_since" if self.is_right(key) else row
        return self.say(row, key=self.name(key), how=key.how, slug=key.game.slug)

    def search(
        self,
        tries: Iterable[tuple[Key, bytes, Tried]],
        given: str,
        made: Callable[[bytes, bytes], str] | None = None,
    ) -> tuple[Key, Tried] | None:
        """The first key and message whose proof is the ``given`` one, with what the message was tried as."""
        made = made or self.made
        for key, message, tried in tries:
            if not self.attempts.allow(len(message)):
                return None
            if made(key.value, message) == given:
                return key, tried
        return None


AnyCase = TypeVar("AnyCase", bound=Case)
Hypothesis: TypeAlias = Callable[[AnyCase], Finding | None]


def diagnosed(case: AnyCase, hypotheses: Mapping[str, Sequence[Hypothesis[AnyCase]]]) -> Finding:
    """The finding of the first hypothesis that fits, of those for the reason of the refusal.

    A reason without hypotheses is explained by the row of its name, where there is one: nothing needs to be tried.
    """
    reason = case.call.reason
    wanted = hypotheses.get(reason) or _ANY.get(reason)
    if wanted is None:
        return case.say(reason if reason in case.findings else "unknown")
    if not case.call.is_opened and reason != "address":  # the address is stored in clear
        return case.say("unopened")
    tried = (hypothesis(case) for hypothesis in wanted)
    return next((found for found in tried if found is not None), None) or case.say("unknown")


def every(keys: Iterable[Key], messages: Sequence[tuple[bytes, Tried]]) -> Iterator[tuple[Key, bytes, Tried]]:
    """Each key with each message."""
    return ((key, message, tried) for key in keys for message, tried in messages)


# Hypotheses for any partner


def untried(case: Case) -> Finding | None:
    """The body was not kept, or not whole, so no signature over it can be tried."""
    if case.call.is_whole:
        return None
    return case.say("too_large" if case.call.text("body") else "not_kept", size=case.call.body_size)


def in_vain(case: Case) -> Finding:
    """Nothing that was tried fits."""
    hint = "Compare the key in the partner's dashboard with the one that is set here, character by character."
    changed = [(since, name) for name, since in case.known.changed(case.call).items() if name.startswith(case.partner)]
    if changed:
        since, name = max(changed)
        hint = (
            f"An older value of the {case.known.names.get(name, name)} was replaced on {since[:10]}: if the partner "
            "still signs with that one, set the new one there."
        )
    if case.attempts.is_spent:
        hint += " The call is large, so not everything was tried."
    return case.say("in_vain", what=case.what, hint=hint)


def timed(case: Case, tolerance_seconds: float) -> Finding | None:
    """Whether a clock is wrong or an old call was sent again, judged by the other calls of that day.

    The signature is right. None where the call does not say when it was signed.
    """
    if case.signed_at is None:
        return None
    lag, received = case.call.received - case.signed_at, case.call.received
    others = [replace(case, call=each) for each in case.known.alike(case.call) if each.id != case.call.id]
    lags = [each.call.received - each.signed_at for each in others if each.signed_at is not None]
    is_repeated = any(
        each.signed_at == case.signed_at and each.call.text("signature") == case.call.text("signature")
        for each in others
    )
    is_repeated = is_repeated or case.call.seen > 1
    proved_at = case.known.proved_at(case.call)
    is_clock_right = proved_at is not None and abs(proved_at - received) < 86400
    half_hours = round(lag / 1800)
    is_zone = 2 <= abs(half_hours) <= 28 and abs(lag - half_hours * 1800) < ZONE_SECONDS
    alike = sum(abs(each - lag) < ALIKE_SECONDS for each in lags)
    if is_repeated and lag > 0:
        row = "sent_twice"
    elif is_zone and (is_clock_right or not alike):
        row = "local_time"
    elif is_clock_right:
        row = "sent_late" if lag > 0 else "sender_ahead"
    elif lag < 0:
        row = "behind" if alike else "maybe_behind"
    else:
        row = "ahead" if alike else "late_or_ahead"
    return case.say(
        row,
        away=duration(lag),
        allowed=f"{duration(tolerance_seconds)} are allowed",
        zone=duration(half_hours * 1800),
        count=alike + 1,
    )


def address(case: Case) -> Finding:
    """The caller's address is not on the allow-list, or not known."""
    setting = f"allowlist.{case.partner}"
    allowed = "" if case.game is None else case.game.settings[setting]
    forwarded = case.call.headers.get("x-forwarded-for", "")
    row = "address" if forwarded or case.call.remote_address != addresses.UNKNOWN else "nobody_said"
    if forwarded and case.call.remote_address == addresses.UNKNOWN:
        row = "no_address"
    elif forwarded and case.call.remote_address != addresses.forwarded(forwarded, 1):
        row = "by_a_proxy"
    return case.say(
        row,
        address=spelled(case.call.remote_address) or "an unknown address",
        forwarded=spelled(forwarded),
        setting=setting,
        allowed=f" ({spelled(allowed)})" if allowed else ", which is empty now",
    )


def no_game(case: Case) -> Finding:
    """The game of the path is not there, or not set up for this partner."""
    if case.named_game is not None:
        row = "game_set_up_since" if case.is_configured(case.named_game) else "game_not_set_up"
        return case.say(row, slug=case.slug, service=case.service)
    near = get_close_matches(case.slug.lower(), [each.slug for each in case.known.games], 1, 0.6)
    row = "game_nearly_named" if near else "no_game" if case.slug else "no_game_named"
    return case.say(row, slug=spelled(case.slug), near="".join(near))


def other_game(case: Case) -> Finding:
    """A key of this game signed it, and it came to another game's address."""
    return case.say("other_game", slug=spelled(case.slug))


def player(case: Case, player_id: str) -> Finding:
    """The player is not registered."""
    rule = "reject" if case.game is None else case.game.settings["players.unknown"]
    named = f"The player {spelled(player_id)}" if player_id else "The player"
    return case.say("not_looked_up" if rule == "lookup" else "player", player=named)


def item(case: Case, skus: Sequence[str]) -> Finding:
    """An item is not registered; it is named where the call has only one."""
    different = list(dict.fromkeys(skus))
    return case.say("item", item=f"The item {spelled(different[0])}" if len(different) == 1 else "An item")


def spelled(value: object) -> str:
    """A caller's text for a sentence, cut to :data:`LONGEST_SHOWN`. (Pages make invisible characters visible.)"""
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def duration(seconds: float) -> str:
    """How long: 7 minutes, 3 hours, 2 days. A time that is no whole number of a unit is given in a smaller one."""
    seconds = abs(seconds)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (seconds >= size and seconds % size < size / 10):
            count = round(seconds / size)
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    if seconds >= 3600:
        return f"{round(seconds / 60):,} minutes"
    return f"{round(seconds):,} seconds"


_ANY: Mapping[str, Sequence[Hypothesis[Case]]] = {
    "address": (address,),
    "unknown_game": (no_game,),
    "other_game": (other_game,),
}
