"""The sentences about refused calls: how a table of them is written, and the rows that all partners share."""

import re
from dataclasses import dataclass

_ROW = re.compile(r"(\w+(?:, \w+)*)(?: \((\w+)\))?(\?)?: (.+)")


@dataclass(frozen=True)
class Finding:
    """A sentence, and what to do. ``link`` is the kind of page to do it on; ``is_sure`` is False for a guess."""

    sentence: str
    hint: str = ""
    link: str = ""
    is_sure: bool = True


def table(text: str) -> dict[str, Finding]:
    """A partner's sentences by name, together with the shared ones, which it may replace.

    A row is ``name (link)?: sentence``, with the hint indented in the line below. One sentence may have several names.
    The link, the hint, and the ``?`` that marks a guess may be left out. :meth:`Case.say` fills each ``{place}``.
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


_COMMON = _rows("""
unknown?: No known cause matched.
unopened?: This call was stored with another master key than the one in use, so it cannot be read.
too_large?: The body of this call ({size:,} bytes) is too large to be kept whole, so its signature cannot be tried.
    Look at a smaller call that was refused for the same reason.
not_kept?: Bodies of logins may hold passwords and are not kept, so the signature of this call cannot be tried.
    Look at a call to another address that was refused for the same reason: the key is the same.

set_since: It is signed with {key}, which was set after this call came.
    The next call will be accepted.
another_body: A proxy or middleware {how} after it was signed.{with_key}
    Every proxy in front of Coinslot has to pass the body on unchanged.
in_vain (integration): It was signed with a key that is not stored here, or the {what} was changed on the way.
    {hint}

sent_twice: An old call was sent again: it was signed {away} before it came, and came more than once ({allowed}).
    If it still matters, ask the partner to send it with a new signature.
local_time: Its time is off by exactly {zone}: the sender used local time in place of UTC.
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
ahead: This machine's clock is {away} ahead: {count} calls of that day were as late ({allowed}).
    Set the clock, and have it kept right by NTP (timedatectl set-ntp true).
late_or_ahead?: It was signed {away} before it came ({allowed}): an old call was sent again, or this machine's clock \
    is ahead.
    The signature is right. Compare this machine's clock with another one.

no_address (settings): X-Forwarded-For is {forwarded} and has no address at the place where a trusted proxy writes it, \
    so the caller's address is unknown.
    Set COINSLOT_TRUSTED_PROXIES to the number of proxies in front of Coinslot; each has to add an address to \
    X-Forwarded-For.
nobody_said (settings): It came through a Unix socket without X-Forwarded-For, so the caller's address is unknown.
    Have the proxy set X-Forwarded-For, and set COINSLOT_TRUSTED_PROXIES to the number of proxies in front of Coinslot.
by_a_proxy (settings): It came from {address}, which is not on {setting}; its X-Forwarded-For says that a proxy passed \
    it on for {forwarded}.
    If that proxy is yours, set COINSLOT_TRUSTED_PROXIES to the number of proxies in front of Coinslot. Do not put the \
    proxy's own address on the list: that lets everybody in.
address (settings): It came from {address}, which is not on {setting}{allowed}.
    If the partner calls from there, add that address.
game_set_up_since (integration): The game {slug} was not set up for {service} when this call came; now it is.
game_not_set_up (integration): The game {slug} is not set up for {service}: a key that its calls are checked with is \
    missing.
    Set the partner's keys; until then its addresses answer 404.
other_game (integration): It is signed with a key of this game, and came to the address of the game {slug}.
    Correct the address in the partner's dashboard.
no_game: There is no game {slug!r} here.
no_game_named?: There is no game {slug!r} here.
game_nearly_named: There is no game {slug!r} here; there is {near}.
    Correct the address in the partner's dashboard.
not_looked_up (players): {player} is unknown to the game: players.lookup_url said that there is no such player.
player (players): {player} was not registered when this call came.
    Register the player, or set players.unknown to create or lookup; then have the partner report it again.
item (items): {item} was not registered when this call came.
    Register the item, or set items.unknown to accept; then have the partner report it again.
conflict (conflicts): The same transaction was credited before with other content, so nobody was credited this time.
    Compare both and decide: the first one counts.
game_down (deliveries): The game could not be reached, and its owner has chosen to refuse new credits then.
    Once a destination of the game accepts deliveries again, have the partner report it again.
""")
