"""When a secret is due for a new value, and when the value before may go: one judgement, told by doctor and page alike.

Rotating is three steps: a new value here, where the old one stays valid; the new value at the other side; and the end
of the old one, once nobody uses it any more. Dates tell how far that has come.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from coinslot.base import clock

OLD_KEY_DAYS = 365
ROTATION_DAYS = 7  # after that a rotation should be over


class Dated(Protocol):
    """What is known of one value of a secret."""

    @property
    def name(self) -> str: ...
    @property
    def slot(self) -> str: ...
    @property
    def created_at(self) -> str: ...
    @property
    def last_used_at(self) -> str | None: ...


@dataclass(frozen=True)
class Advice:
    """What to do next about a secret. ``what`` is the state in a word, ``step`` what the owner is to do, if anything:
    ``rotate`` or ``retire``, now or once the sentence's condition is met. ``is_due``: a person should look at it.
    """

    what: str
    sentence: str
    step: str | None = None
    is_due: bool = False


def advice(values: Iterable[Dated], now: float) -> dict[str, list[Advice]]:
    """Secret -> what is to be said of it, the most pressing last. Each sentence goes on after the secret's name."""
    by_name: dict[str, dict[str, Dated]] = {}
    for value in values:
        by_name.setdefault(value.name, {})[value.slot] = value
    return {
        name: _of(slots["current"], slots.get("previous"), now) for name, slots in by_name.items() if "current" in slots
    }


def age_days(value: Dated, now: float) -> int:
    return int((now - clock.seconds(value.created_at)) // 86400)


def _of(current: Dated, previous: Dated | None, now: float) -> list[Advice]:
    days = age_days(current, now)
    told = []
    if days >= OLD_KEY_DAYS:
        told.append(Advice("old", f"is {days} days old; keys are rotated yearly", "rotate", is_due=True))
    if previous is None:
        return told or [Advice("ok", "needs nothing now")]
    since = f"was rotated {days} days ago" if days else "was rotated today"
    used = previous.last_used_at
    is_due = days >= ROTATION_DAYS
    if used is not None and used > max(current.created_at, clock.stamp(now - ROTATION_DAYS * 86400)):
        sentence = f"and its previous value was still used on {used[:10]}: enter the new one there too, then retire it"
        told.append(Advice("still used", f"{since}, {sentence}", "retire", is_due))
    elif current.last_used_at is None:
        sentence = "and its previous value is still valid: once the new one is entered at the other side, retire it"
        told.append(Advice("not entered", f"{since} {sentence}", "retire", is_due))
    elif is_due:
        sentence = (
            f"the new value is in use and the previous one has not been used for {ROTATION_DAYS} days: it is safe to "
            "retire it"
        )
        told.append(Advice("safe to retire", f"{since}, {sentence}", "retire", is_due))
    else:
        quiet_from = max(clock.seconds(current.created_at), clock.seconds(used) if used is not None else 0.0)
        until = clock.stamp(quiet_from + ROTATION_DAYS * 86400)[:10]
        sentence = f"the new value is in use: retire the previous one if it stays unused until {until}"
        told.append(Advice("waiting", f"{since}, {sentence}", "retire"))
    return told
