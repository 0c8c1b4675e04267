"""When a secret needs a new value, and when its previous value may be retired. Doctor and pages show the same advice.

A rotation has three steps: set the new value here, where the old one stays valid; enter the new one at the other side;
retire the old one once it is no longer used. The dates of a secret show how far a rotation has come.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from coinslot.base import clock

OLD_KEY_DAYS = 365
ROTATION_DAYS = 7  # after which a rotation should be over


class Dated(Protocol):
    """The dates of one value of a secret."""

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
    """What to do next about a secret. ``what`` is its state in a word; ``step`` what the owner does, if anything:
    ``rotate`` or ``retire``, now or once the sentence's condition is met. ``is_due``: it needs attention.
    """

    what: str
    sentence: str
    step: str | None = None
    is_due: bool = False


def advice(values: Iterable[Dated], now: float) -> dict[str, list[Advice]]:
    """Secret -> advice on it, the most urgent last. Each sentence continues after the secret's name."""
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
    found = []
    if days >= OLD_KEY_DAYS:
        found.append(Advice("old", f"is {days} days old; keys are rotated yearly", "rotate", is_due=True))
    if previous is None:
        return found or [Advice("ok", "needs nothing now")]
    since = f"was rotated {days} days ago" if days else "was rotated today"
    used = previous.last_used_at
    is_due = days >= ROTATION_DAYS
    if used is not None and used > max(current.created_at, clock.stamp(now - ROTATION_DAYS * 86400)):
        sentence = f"and its previous value was still used on {used[:10]}: enter the new one there too, then retire it"
        found.append(Advice("still used", f"{since}, {sentence}", "retire", is_due))
    elif current.last_used_at is None:
        sentence = "and its previous value is still valid: once the new one is entered at the other side, retire it"
        found.append(Advice("not entered", f"{since} {sentence}", "retire", is_due))
    elif is_due:
        sentence = (
            f"the new value is in use and the previous one has not been used for {ROTATION_DAYS} days: it is safe to "
            "retire it"
        )
        found.append(Advice("safe to retire", f"{since}, {sentence}", "retire", is_due))
    else:
        quiet_from = max(clock.seconds(current.created_at), clock.seconds(used) if used is not None else 0.0)
        until = clock.stamp(quiet_from + ROTATION_DAYS * 86400)[:10]
        sentence = f"the new value is in use: retire the previous one if it stays unused until {until}"
        found.append(Advice("waiting", f"{since}, {sentence}", "retire"))
    return found
