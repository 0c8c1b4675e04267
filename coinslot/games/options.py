"""The settings and secrets of a game that do not depend on its partners, and the checks of values."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from coinslot.base import addresses

T = TypeVar("T")
LONGEST_KEY = 320  # of a setting in a family: an id has up to 255 characters


@dataclass(frozen=True)
class Setting:
    """One configuration key: what it means, how a value is checked, its default, and its name for people.

    A key of the catalogue that ends in ``.*`` is a family: any key that begins so. ``check`` returns the value
    to store, or raises ValueError with a message for the owner.
    """

    about: str
    check: Callable[[str], str]
    default: str = ""
    title: str = ""

    def checked(self, value: str) -> str:
        """The value to store. Raises ValueError, also for NUL, which some databases cannot store."""
        stored = self.check(value)
        if "\0" in stored:
            raise ValueError("use no NUL character")
        return stored


def in_family(catalogue: Mapping[str, T], stored: Mapping[str, str], family: str) -> dict[str, str]:
    """The settings of a family such as ``settlement.fee.*``: the part in place of ``*`` -> value, in order."""
    prefix = family.removesuffix("*")
    return {
        key.removeprefix(prefix): stored[key]
        for key in sorted(stored)
        if key.startswith(prefix) and key != prefix and key not in catalogue
    }


def declared(catalogue: Mapping[str, T], key: str) -> T | None:
    """The catalogue's entry for a key, of its own or of its family; None when there is none."""
    if key in catalogue:
        return None if key.endswith(".*") else catalogue[key]
    if not key.isprintable() or len(key) > LONGEST_KEY or key != key.strip():
        return None
    families = (each for each in catalogue if each.endswith(".*") and key.startswith(each[:-1]) and key != each[:-1])
    return next((catalogue[each] for each in families), None)


@dataclass(frozen=True)
class OneOf:
    """One of these words; a page offers them in a list."""

    words: tuple[str, ...]

    def __call__(self, value: str) -> str:
        if value not in self.words:
            raise ValueError(f"use one of: {', '.join(self.words)}")
        return value


def one_of(*words: str) -> OneOf:
    return OneOf(words)


def whole_number(lowest: int, highest: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(r"[0-9]{1,10}", value) or not lowest <= int(value) <= highest:
            raise ValueError(f"use a whole number from {lowest} to {highest}")
        return str(int(value))

    return check


_DURATION = re.compile(r"([1-9][0-9]{0,3}) ?([mhd])")
_UNITS_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def duration(*words: str) -> Callable[[str], str]:
    """A time such as ``90m``, ``6h`` or ``2d``, or one of the words."""

    def check(value: str) -> str:
        found = _DURATION.fullmatch(value)
        if found is None and value not in words:
            raise ValueError(f"use {', '.join(words)}, or a time such as 90m, 6h or 2d")
        return value if found is None else "".join(found.groups())

    return check


def seconds_of(value: str) -> int | None:
    """The seconds of a stored :func:`duration`; None for a word."""
    found = _DURATION.fullmatch(value)
    return None if found is None else int(found[1]) * _UNITS_SECONDS[found[2]]


def text(longest: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if len(value) > longest or not value.isprintable():
            raise ValueError(f"use up to {longest} printable characters")
        return value

    return check


def web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or not value.isprintable() or " " in value:
        raise ValueError("use an http:// or https:// address")
    if "@" in parts.netloc:  # it would be stored in clear text and shown on pages
        raise ValueError("leave out the user name and password: addresses are not kept secret")
    return value


def networks(value: str) -> str:
    """Addresses and CIDR blocks, separated by commas or spaces; empty lets everyone through."""
    return ",".join(str(addresses.network(word)) for word in re.split(r"[,\s]+", value) if word)


_policy = one_of("revoke", "revoke_negative", "flag", "ignore")
COMMON_SETTINGS: dict[str, Setting] = {
    "players.unknown": Setting(
        "a credit for a player who is not registered: refuse it, register the player, or ask players.lookup_url",
        one_of("reject", "create", "lookup"),
        "reject",
        title="Unknown players",
    ),
    "players.lookup_url": Setting(
        "the game's own answer to 'does this player exist?'", web_address, title="Address of the player look-up"
    ),
    "items.unknown": Setting(
        "a credit with an item that is not registered: refuse it or let it pass",
        one_of("reject", "accept"),
        "reject",
        title="Unknown items",
    ),
    "players.login_url": Setting(
        "the game's own check of a login name and password", web_address, title="Address of the login check"
    ),
    "refunds.revoke": Setting(
        "the default row of the refund policy: on asks the game to take the items back, off does nothing",
        one_of("on", "off"),
        "off",
        title="Take items back",
    ),
    "refunds.refund": Setting(
        "policy when money is refunded; empty: the default row", _policy, title="When money is refunded"
    ),
    "refunds.chargeback": Setting(
        "policy when a dispute is lost; empty: the default row", _policy, title="When a dispute is lost"
    ),
    "refunds.refund.*": Setting(
        "policy for one item (its sku in place of *) when money is refunded",
        _policy,
        title="When money is refunded, per item",
    ),
    "refunds.chargeback.*": Setting(
        "policy for one item (its sku in place of *) when a dispute is lost",
        _policy,
        title="When a dispute is lost, per item",
    ),
}
COMMON_SECRETS: dict[str, str] = {"game.lookup_key": "bearer token we send to players.lookup_url and players.login_url"}
