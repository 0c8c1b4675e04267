"""Why a call was refused, in one sentence, found by trying: what every partner's explanations share.

Only the owner reads this, after the refusal. A partner brings a table of its sentences, a :class:`Case` that reads its
calls, and for each reason the hypotheses in an order, the likeliest first; the first that fits is the sentence. A
signature fits or does not, so that a sentence about one is no guess; what cannot be tried is said to be so. Trying is
bounded: :class:`Attempts` counts what was hashed and ends it.
"""

import re
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

LONGEST_SHOWN = 80  # of a stranger's text in a sentence

Tried = TypeVar("Tried")

_ROW = re.compile(r"(\w+(?:, \w+)*)(?: \((\w+)\))?(\?)?: (.+)")


@dataclass(frozen=True)
class Finding:
    """One sentence, and what to do. ``link`` is a kind of page that mends it; ``is_sure`` is False for a guess."""

    sentence: str
    hint: str = ""
    link: str = ""
    is_sure: bool = True


@dataclass(frozen=True)
class Known:
    """What a diagnosis may look at. The functions ask the database, so that only a hypothesis that needs it does."""

    games: Sequence[Game]
    alike: Callable[[Refused], Sequence[Refused]] = lambda call: ()  # refused for the same reason on the same day
    proved_at: Callable[[Refused], float | None] = lambda call: None  # when a call last proved itself there
    changed: Callable[[Refused], Mapping[str, str]] = lambda call: {}  # secret -> since when its old value is no more
    names: Mapping[str, str] = field(default_factory=dict)  # secret -> what its partner calls it

    def game(self, game_id: int | None) -> Game | None:
        return next((game for game in self.games if game.id == game_id), None)

    def named(self, slug: str) -> Game | None:
        return next((game for game in self.games if game.slug == slug), None)


# Sentences


def table(text: str) -> dict[str, Finding]:
    """A partner's sentences by name, over those that all share.

    A row is ``name (link)?: sentence`` and, indented in the line below, the hint. One sentence may have several names;
    the link, the hint, and the ``?`` that marks a guess may be left out. A ``{place}`` is filled by :meth:`Case.say`.
    """
    return {**_COMMON, **_rows(text)}


def _rows(text: str) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for row in re.split(r"\n+(?=\S)", text.strip()):
        first, _, hint = row.partition("\n")
        match = _ROW.fullmatch(first)
        if match is None:
            raise ValueError(f"no row of a table: {first}")
        names, link, guess, sentence = match.groups()
        finding = Finding(" ".join(sentence.split()), " ".join(hint.split()), link or "", is_sure=not guess)
        found |= dict.fromkeys(names.split(", "), finding)
    return found


def spelled(value: object) -> str:
    """A stranger's text inside of a sentence: short. (Pages make visible what cannot be seen in it.)"""
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


_COMMON = _rows("""
unknown?: Nothing here knows why.
unopened?: What was kept of this call cannot be opened with the master key that is in use.
too_large?: The body of this call ({size:,} bytes) is larger than what is kept of one, so its signature cannot be tried.
    Look at a smaller call that was refused for the same reason.
not_kept?: Bodies of logins may hold passwords and are not kept, so the signature of this call cannot be tried.
    Look at a call to another address that was refused for the same reason: the key is the same.

set_since: It is signed with {key}, which was set after this call came.
    The next one will pass.
another_body: A proxy or middleware {how} after it was signed.{with_key}
    What stands in front of Coinslot has to pass the body on byte for byte.
in_vain (integration): It was signed with a key that is not stored here, or the {what} was changed on the way.
    {hint}

sent_twice: An old call was sent again: it was signed {away} before it came, and came more than once ({allowed}).
    If it still matters, have the partner send it anew with a new signature.
local_time: Its time is off by {zone}, to the minute: whoever signed it took local time for UTC.
    The signature is right. The sender has to sign the time in UTC.
sent_late: An old call was sent again: it was signed {away} before it came ({allowed}), while others of that day came \
    on time.
    Nothing is wrong with the key or with the clock here.
sender_ahead: The sender's clock is {away} ahead: others of that day came with the right time ({allowed}).
    Nothing is wrong with the key or with the clock here.
behind: This machine's clock is {away} behind: the call was signed that much later than it came here ({allowed}).
    Set the clock, and have it kept right by NTP (timedatectl set-ntp true).
maybe_behind?: This machine's clock is {away} behind: the call was signed that much later than it came here ({allowed}).
    Set the clock, and have it kept right by NTP (timedatectl set-ntp true).
ahead: This machine's clock is {away} ahead: {count} calls of that day were that much too old ({allowed}).
    Set the clock, and have it kept right by NTP (timedatectl set-ntp true).
late_or_ahead?: It was signed {away} before it came ({allowed}): an old call was sent again, or this machine's clock \
    is ahead.
    The signature is right. Compare this machine's clock with another one.

no_address (settings): X-Forwarded-For says {forwarded}, in which there is no address where the trusted proxies write \
    one; so nobody knows where it came from.
    COINSLOT_TRUSTED_PROXIES has to say how many proxies stand in front of Coinslot, and each has to add an address \
    to X-Forwarded-For.
by_a_proxy (settings): It came from {address}, which is not on {setting}; it says that a proxy brought it for \
    {forwarded}.
    If that proxy is yours, COINSLOT_TRUSTED_PROXIES has to say how many stand in front of Coinslot.
address (settings): It came from {address}, which is not on {setting}{allowed}.
    If the partner calls from there, add that address.
game_set_up_since (integration): The game {slug} was not set up for {service} when this call came; now it is.
game_not_set_up (integration): The game {slug} is not set up for {service}: a key that proves its calls is missing.
    Set the partner's keys; until then its addresses answer 404.
no_game: There is no game {slug!r} here.
no_game_named?: There is no game {slug!r} here.
game_nearly_named: There is no game {slug!r} here; there is {near}.
    Look at the address that is pasted into the partner's dashboard.
not_looked_up (players): {player} is unknown to the game: players.lookup_url said that there is nobody.
player (players): {player} was not registered when this call came.
    Register the player, or set players.unknown to create or lookup; then have the partner report it again.
item (items): {item} was not registered when this call came.
    Register the item, or set items.unknown to accept; then have the partner report it again.
conflict (conflicts): The same transaction was credited before with other content, so nobody was credited this time.
    Look at both and decide: the first one stands.
game_down (deliveries): The game could not be reached, and the owner has chosen to refuse new credits then.
    Once a destination of the game takes deliveries again, have the partner report it again.
""")


# Cases


@dataclass(frozen=True)
class Case:
    """A refused call, and what is tried of it. A partner's own reads what proves its calls.

    ``service`` is what a game is set up for at the address that was called, and ``what`` is what its calls sign.
    """

    partner: ClassVar[str]
    service: ClassVar[str]
    what: ClassVar[str] = "body"
    findings: ClassVar[Mapping[str, Finding]]

    call: Refused
    known: Known
    attempts: Attempts = field(default_factory=Attempts)

    @cached_property
    def game(self) -> Game | None:
        return self.known.game(self.call.game_id)

    @property
    def slug(self) -> str:
        """The game that the path names."""
        return (self.call.text("path").strip("/").split("/")[1:2] or [""])[0]

    @property
    def signed_at(self) -> float | None:
        """When the call says that it was signed, in Unix seconds."""
        return None

    def is_configured(self, game: Game) -> bool:
        """Whether the address that was called answers for this game."""
        raise NotImplementedError

    def is_right(self, key: Key) -> bool:
        """Whether a call like this one passes with this key, by what is configured now."""
        raise NotImplementedError

    def setting(self, name: str, default: str = "") -> str:
        return default if self.game is None else self.game.settings[f"{self.partner}.{name}"]

    @cached_property
    def stored(self) -> list[Key]:
        """Every secret there is: those that are right now, then the likeliest."""
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
        """The sentence of this name with its places filled."""
        found = self.findings[row]
        return replace(found, sentence=found.sentence.format(**words), hint=found.hint.format(**words))

    def about_key(self, key: Key) -> Finding:
        """Why a call that this key has signed did not pass."""
        row = "another_secret" if self.is_own(key) else "another_game"
        row = "misread" if key.how else "set_since" if self.is_right(key) else row
        return self.say(row, key=self.name(key), how=key.how, slug=key.game.slug)

    def search(
        self,
        tries: Iterable[tuple[Key, bytes, Tried]],
        given: str,
        made: Callable[[bytes, bytes], str] = hmac_hex,
    ) -> tuple[Key, Tried] | None:
        """The first key and message of which ``made`` makes what was given, with what the message was tried as."""
        for key, message, tried in tries:
            if not self.attempts.allow(len(message)):
                return None
            if made(key.value, message) == given:
                return key, tried
        return None


AnyCase = TypeVar("AnyCase", bound=Case)
Hypothesis: TypeAlias = Callable[[AnyCase], Finding | None]


def diagnosed(case: AnyCase, hypotheses: Mapping[str, Sequence[Hypothesis[AnyCase]]]) -> Finding:
    """The finding of the first hypothesis that fits, of those for the reason of the refusal."""
    for each in hypotheses.get(case.call.reason, ()):
        found = each(case)
        if found is not None:
            return found
    return case.say("unknown")


def every(keys: Iterable[Key], messages: Sequence[tuple[bytes, Tried]]) -> Iterator[tuple[Key, bytes, Tried]]:
    return ((key, message, tried) for key in keys for message, tried in messages)


# What any call may be refused for


def unopened(case: Case) -> Finding | None:
    return None if case.call.is_opened else case.say("unopened")


def untried(case: Case) -> Finding | None:
    """Why a signature over the body cannot be tried, where that is so."""
    if case.call.is_whole:
        return None
    return case.say("too_large" if case.call.text("body") else "not_kept", size=case.call.body_size)


def in_vain(case: Case) -> Finding:
    """Nothing that was tried fits."""
    changed = {
        name: since for name, since in case.known.changed(case.call).items() if name.startswith(f"{case.partner}.")
    }
    hint = "Compare the key in the partner's dashboard with the one that is set here, character by character."
    if changed:
        name, since = max(changed.items(), key=lambda each: each[1])
        hint = (
            f"An older value of the {case.known.names.get(name, name)} was given up on {since[:10]}: if the partner "
            "still signs with that one, set the new one there."
        )
    if case.attempts.is_spent:
        hint += " It is large, so that not everything was tried."
    return case.say("in_vain", what=case.what, hint=hint)


def address(case: Case) -> Finding:
    setting = f"allowlist.{case.partner}"
    allowed = "" if case.game is None else case.game.settings[setting]
    forwarded = case.call.headers.get("x-forwarded-for", "")
    row = "address"
    if forwarded and case.call.remote_address == addresses.UNKNOWN:
        row = "no_address"
    elif forwarded and case.call.remote_address != addresses.forwarded(forwarded, 1):
        row = "by_a_proxy"
    return case.say(
        row,
        address=spelled(case.call.remote_address) or "an unknown address",
        forwarded=spelled(forwarded),
        setting=setting,
        allowed=f" ({spelled(allowed)})" if allowed else ", which is empty by now",
    )


def no_game(case: Case) -> Finding:
    game = case.known.named(case.slug)
    if game is not None:
        row = "game_set_up_since" if case.is_configured(game) else "game_not_set_up"
        return case.say(row, slug=case.slug, service=case.service)
    near = get_close_matches(case.slug.lower(), [each.slug for each in case.known.games], 1, 0.6)
    row = "game_nearly_named" if near else "no_game" if case.slug else "no_game_named"
    return case.say(row, slug=spelled(case.slug), near="".join(near))


def player(case: Case, player_id: str) -> Finding:
    rule = "reject" if case.game is None else case.game.settings["players.unknown"]
    named = f"The player {spelled(player_id)}" if player_id else "The player"
    return case.say("not_looked_up" if rule == "lookup" else "player", player=named)


def item(case: Case, skus: Sequence[str]) -> Finding:
    different = list(dict.fromkeys(skus))
    return case.say("item", item=f"The item {spelled(different[0])}" if len(different) == 1 else "An item")


def named_by_its_reason(case: Case) -> Finding:
    """The sentence that has the name of the reason: there is nothing to try."""
    return case.say(case.call.reason)
