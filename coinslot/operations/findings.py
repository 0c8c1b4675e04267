"""Troubles, as the overview, ``flask doctor``, ``/metrics`` and the alerts have them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ParamSpec, TypeAlias

from coinslot.access.vault import VaultError
from coinslot.base.money import in_major
from coinslot.store.db import DatabaseError, EngineError

WRONG, LOOK, NOTE = SEVERITIES = ("wrong", "look", "note")
LEAST_FREE_BYTES = 64 * 1024 * 1024  # on the disk; below this a credit is about to fail
LITTLE_FREE_BYTES = 1024 * 1024 * 1024
SENTENCES = 5  # about one thing; the rest is counted
P = ParamSpec("P")


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong. ``key`` names it as long as it lasts, the same in every process.

    ``severity`` is ``wrong`` (a player paid and has nothing, or will not get it; or secrets are readable by others),
    ``look`` (a person should look at it) or ``note`` (something optional, or that the owner cannot change). ``game`` is
    a slug, None where it concerns all. ``money`` is what is at stake: currency -> decimal text in major units.
    ``since`` is when it began and ``latest`` when it last happened, None where that is not known.

    ``remedy`` says what to do; ``link`` is the path of the page for that, and ``label`` the text of the link. No
    sentence holds a player's id.
    """

    key: str
    severity: str
    sentence: str
    remedy: str = ""
    link: str = ""
    label: str = ""
    game: str | None = None
    since: str | None = None
    latest: str | None = None
    count: int = 1
    money: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole_remedy(self) -> str:
        """The remedy with the page that helps, in one text."""
        return " ".join(filter(None, (self.remedy, f"{self.label}: {self.link}" if self.link else "")))

    def as_json(self) -> dict[str, object]:
        names = ("key", "severity", "game", "since", "count", "money", "sentence")
        return {**{name: getattr(self, name) for name in names}, "remedy": self.whole_remedy}


# What a check yields: a trouble, or a sentence on what was checked and is well.
Checked: TypeAlias = Trouble | str


def in_order(troubles: list[Trouble]) -> list[Trouble]:
    """The worst first, and those with money first among them."""
    return sorted(troubles, key=lambda each: (SEVERITIES.index(each.severity), not each.money, each.key))


def summed(amounts: Mapping[str, int | Decimal]) -> dict[str, str]:
    """Sums in minor units by currency as a trouble has them, without those that are 0."""
    return {currency: in_major(amount, currency) for currency, amount in sorted(amounts.items()) if amount}


def guarded(check: Callable[P, Iterator[Checked]], *args: P.args, **kwargs: P.kwargs) -> Iterator[Checked]:
    """What the check finds; an error that it raises is a trouble too."""
    try:
        yield from check(*args, **kwargs)
    except (EngineError, DatabaseError, VaultError, OSError, ValueError) as error:
        name = check.__name__.strip("_")
        yield Trouble(f"check:{name}", WRONG, f"{name.replace('_', ' ').capitalize()} could not be checked: {error}")


def size_text(count: int) -> str:
    """A number of bytes in words."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
