"""The state of one of our addresses, found from its calls: a light, and a checklist.

Nothing here reads the database: :class:`Facts` in, words out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coinslot.base import clock
from handlers.dashboard.frame.times import moment
from handlers.kit.partner import Address

REPEATS_WITHIN_SECONDS = 120  # a partner that did not take an answer has called again by then
NOTED_WITHIN_SECONDS = 5  # calls are noted a moment after they were answered

# Reason of a refusal -> its name in lists, and the sentence after "the last call was refused: ".
REASONS: Mapping[str, tuple[str, str]] = {
    "signature": ("signature", "its signature fits none of the keys set here"),
    "timestamp": ("time of the signature", "its signature is too old, or from the future"),
    "token": ("publisher token", "its publisher token is not the one set here"),
    "project": ("project", "it came from another project"),
    "encryption": ("encryption", "its payload could not be decrypted"),
    "app_id": ("AppId", "it names another AppId"),
    "address": ("caller's address", "it came from an address that is not on the allowlist"),
    "unknown_game": ("no such game, or not set up", "the keys it needs were not set"),
    "malformed": ("cannot be read", "it could not be read"),
    "player": ("another player", "its signature is for another player"),
    "used": ("used before", "the entry had been used before"),
    "campaign": ("campaign", "it names a campaign that is not allowed"),
    "unknown_player": ("unknown player", "its player is not registered here"),
    "unknown_item": ("unknown item", "one of its items is not registered here"),
    "conflict": ("conflict", "it was credited before with other content"),
    "game_down": ("the game is down", "the game was down"),
    "deep_link": ("no deep link", "the link that opens the game is not set"),
}
UNPROVED = ("signature", "timestamp", "token", "project", "encryption", "address", "unknown_game", "app_id", "player")

TITLES: Mapping[str, str] = {
    "copied": "Copied",
    "seen": "First call seen",
    "proved": "Signature right",
    "player": "Player known",
    "credited": "Credited",
    "accepted": "Answer accepted",
    "read": "Read by the game",
}


@dataclass(frozen=True)
class Facts:
    """The facts about one partner of a game.

    ``contacts`` are the rows of its addresses, ``credit`` its newest credit that was no simulation
    (``coinslot/operations/contacts.py``); ``acked_through`` and ``acked_at`` say how far the game has come.
    """

    contacts: Mapping[str, Any]
    credit: Any
    acked_through: int
    acked_at: str | None
    now: float


@dataclass(frozen=True)
class Light:
    """``word`` is ``not set up``, ``configured``, ``seen`` or ``failing``; ``at`` the last call's time."""

    word: str
    sentence: str
    at: str | None = None


@dataclass(frozen=True)
class Step:
    """``word`` is ``done``, ``to do`` or ``failing``."""

    title: str
    word: str
    sentence: str


def light(lacking: Sequence[str], contact: Any) -> Light:
    """An address in one word. It fails when the last call there was refused."""
    proved_at, refused_at = _of(contact, "proved_at"), _of(contact, "refused_at")
    if lacking:
        are = "is" if len(lacking) == 1 else "are"
        return Light("not set up", f"{' and '.join(lacking)} {are} not set, so its calls are answered 404.")
    if refused_at is not None and refused_at >= (proved_at or ""):
        reason = _reason(contact)
        return Light("failing", f"The last call, on {moment(refused_at)}, was refused: {reason}.", refused_at)
    if proved_at is not None:
        return Light("seen", f"The last call proved itself on {moment(proved_at)}.", proved_at)
    return Light("configured", "It is ready, and nobody has called it yet.")


def checklist(address: Address, lacking: Sequence[str], facts: Facts) -> list[Step]:
    """The steps that can be checked for an address, in their order."""
    contact = facts.contacts.get(address.endpoint)
    steps = []
    for name in address.steps:
        word, sentence = _CHECKS[name](address, contact, facts)
        if lacking and word == "failing":  # the keys come first, and the light says so
            word = "to do"
        steps.append(Step(TITLES[name], word, sentence))
    return steps


Found = tuple[str, str]  # word and sentence of a step


def _copied(address: Address, contact: Any, facts: Facts) -> Found:
    copied_at = _of(contact, "copied_at")
    if copied_at is not None:
        return "done", f"You said so on {moment(copied_at)}."
    if _of(contact, "first_at") is not None:
        return "done", "The partner has it: calls arrive."
    return "to do", "Paste the address, then say so here."


def _seen(address: Address, contact: Any, facts: Facts) -> Found:
    first_at, refused_at = _of(contact, "first_at"), _of(contact, "refused_at")
    if first_at is not None:
        return "done", f"The first call that proved itself came on {moment(first_at)}."
    if refused_at is not None:
        return "done", f"A call came on {moment(refused_at)}."
    return "to do", "No call has come yet. One appears here within a second or two."


def _proved(address: Address, contact: Any, facts: Facts) -> Found:
    proved_at, refused_at = _of(contact, "proved_at"), _of(contact, "refused_at")
    is_refused = refused_at is not None and _of(contact, "refused_reason") in UNPROVED
    if is_refused and proved_at is None:
        return "failing", f"The call of {moment(refused_at)} did not prove itself: {_reason(contact)}."
    if proved_at is None:
        return "to do", "The first call will show whether both sides have the same keys."
    if is_refused and refused_at >= proved_at:
        return "failing", (
            f"Calls have proved themselves, the last on {moment(proved_at)}; the one of {moment(refused_at)} did not: "
            f"{_reason(contact)}. Was a key changed, or was that a stranger?"
        )
    return "done", f"Last on {moment(proved_at)}."


def _player(address: Address, contact: Any, facts: Facts) -> Found:
    refused_at = _of(contact, "refused_at")
    if _of(contact, "refused_reason") == "unknown_player" and refused_at >= _of(facts.credit, "received_at", ""):
        return "failing", (
            f"The player of the call of {moment(refused_at)} is not registered here. Register players through the game "
            "API, or set players.unknown to create or lookup."
        )
    if facts.credit is not None:
        return "done", "The newest credit names a player of yours."
    return "to do", "A credit shows it."


def _credited(address: Address, contact: Any, facts: Facts) -> Found:
    if facts.credit is not None:
        return "done", f"The newest credit is of {moment(facts.credit['received_at'])}."
    if _of(contact, "refused_reason") in ("unknown_item", "conflict", "malformed", "game_down"):
        return "failing", f"The call of {moment(_of(contact, 'refused_at'))} credited nothing: {_reason(contact)}."
    return "to do", "Nothing has been credited yet, apart from tests sent from here."


def _accepted(address: Address, contact: Any, facts: Facts) -> Found:
    return _followed(address, contact, facts) if address.followed_by else _not_repeated(contact, facts)


def _followed(address: Address, contact: Any, facts: Facts) -> Found:
    """A caller that goes on to another address has accepted the answer of this one."""
    first_at = _of(contact, "first_at")
    later = [_of(facts.contacts.get(endpoint), "proved_at") for endpoint in address.followed_by]
    after = [at for at in later if at is not None and first_at is not None and at >= first_at]
    if after:
        return "done", f"It went on from there: a call to {_listed(address.followed_by)} came on {moment(max(after))}."
    return "to do", f"A call to {_listed(address.followed_by)} after one to this address will show it."


def _not_repeated(contact: Any, facts: Facts) -> Found:
    """A partner repeats a call that got no good answer."""
    if facts.credit is None:
        return "to do", "A credit that is not sent again shows it."
    received_at = clock.seconds(facts.credit["received_at"])
    proved_at = _of(contact, "proved_at")
    if proved_at is not None and clock.seconds(proved_at) > received_at + NOTED_WITHIN_SECONDS:
        return "to do", (
            f"The call of {moment(proved_at)}, after the newest credit, brought nothing new. A repeat means that an "
            "answer did not arrive; now and then that is normal."
        )
    if facts.now < received_at + REPEATS_WITHIN_SECONDS:
        return "to do", "The newest credit is only just here. In two minutes it is clear whether it is sent again."
    return "done", f"The credit of {moment(facts.credit['received_at'])} was not sent again."


def _read(address: Address, contact: Any, facts: Facts) -> Found:
    if facts.credit is None:
        return "to do", "A credit shows it, once the game has read the feed or taken a delivery."
    if facts.credit["delivered_at"] is not None:
        return "done", f"The newest credit was delivered on {moment(facts.credit['delivered_at'])}."
    if facts.acked_at is not None and facts.credit["grant_id"] <= facts.acked_through:
        return "done", f"The game has applied it: it said so on {moment(facts.acked_at)}, or earlier."
    if facts.acked_at is not None:
        return "to do", (
            f"The game has read up to grant {facts.acked_through:,}; the newest credit is grant "
            f"{facts.credit['grant_id']:,}."
        )
    return "to do", "The game has not yet said that it applied a grant, and no delivery has arrived."


_CHECKS: Mapping[str, Callable[[Address, Any, Facts], Found]] = {
    "copied": _copied,
    "seen": _seen,
    "proved": _proved,
    "player": _player,
    "credited": _credited,
    "accepted": _accepted,
    "read": _read,
}


def _of(row: Any, column: str, otherwise: Any = None) -> Any:
    return otherwise if row is None or row[column] is None else row[column]


def _reason(contact: Any) -> str:
    reason = str(_of(contact, "refused_reason", ""))
    return REASONS[reason][1] if reason in REASONS else reason.replace("_", " ")


def _listed(endpoints: Sequence[str]) -> str:
    return " or ".join(f"…/{endpoint}" for endpoint in endpoints)
