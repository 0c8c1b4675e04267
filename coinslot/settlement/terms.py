"""The terms of a month: its time zone, store fees and creators' shares.

A rate is written as ``30``, in percent, and may change on a day: ``30, 15 from 2026-07-01``. The terms a month was
closed with are frozen with it; a change holds in open months, for the days it names.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache

from coinslot.base import moments
from coinslot.games.games import Game
from coinslot.games.options import Setting, one_of, whole_number
from coinslot.settlement import periods

ZONE = "settlement.zone"
LONGEST_RATES = 400
DEFAULT_FEES = {"MOBILE_STORE": "30", "PC_STORE": "30", "MOBILE_SELF_STORE": "0", "PC_SELF_STORE": "0"}

_RATE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%?(?:\s+from\s+([0-9]{4}-[0-9]{2}-[0-9]{2}))?")


@dataclass(frozen=True)
class Rates:
    """A rate by day. ``stamps`` are when all but the first begin, sorted; ``values`` are fractions of 1."""

    stamps: tuple[str, ...]
    values: tuple[Decimal, ...]

    def at(self, stamp: str) -> Decimal:
        """The rate that holds then."""
        return self.values[bisect_right(self.stamps, stamp)] if self.stamps else self.values[0]


@dataclass(frozen=True)
class InGame:
    """The partner that settles in-game payments.

    ``attribution`` is the type of its events that say which creator a payment belongs to (``creator_key`` and
    ``campaign_id`` of their data). ``counts_kept``: whether payments of a game count that are only kept here, because
    the partner asks for them.
    """

    partner: str
    attribution: str
    counts_kept: Callable[[Game], bool]


@dataclass(frozen=True)
class Terms:
    """As the settings have them; each rate is text. ``share_of`` is ``net`` or ``gross``."""

    zone: str = "UTC"
    fees: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_FEES))
    share: str = "0"
    shares_by_creator: Mapping[str, str] = field(default_factory=dict)
    shares_by_campaign: Mapping[str, str] = field(default_factory=dict)
    share_of: str = "net"
    counts_kept: bool = False

    @classmethod
    def of(cls, game: Game, in_game: InGame) -> "Terms":
        """The terms of a game by its settings."""
        return cls(
            zone=game.settings[ZONE],
            fees={**DEFAULT_FEES, **_members(game, "settlement.fee.")},
            share=game.settings["settlement.share"],
            shares_by_creator=_members(game, "settlement.share.creator."),
            shares_by_campaign=_members(game, "settlement.share.campaign."),
            share_of=game.settings["settlement.share_of"],
            counts_kept=in_game.counts_kept(game),
        )

    @classmethod
    def loads(cls, text: str) -> "Terms":
        """What :meth:`dumps` wrote."""
        return cls(**json.loads(text))

    def dumps(self) -> str:
        """The terms as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def fee_rates(self, distribution_type: str) -> Rates | None:
        """None for an unknown type."""
        text = self.fees.get(distribution_type)
        return None if text is None else rates(text, self.zone)

    def share_rates(self, creator: str, campaign: str | None) -> Rates:
        """The creator's own, else the campaign's, else the general share."""
        own = self.shares_by_creator.get(creator) or self.shares_by_campaign.get(campaign or "")
        return rates(own or self.share, self.zone)


@lru_cache(maxsize=1024)
def rates(text: str, zone: str) -> Rates:
    """Raises ValueError, in words for the owner."""
    found = _parse(text)
    return Rates(
        tuple(periods.day_begins(day, zone) for day, _ in found[1:]),
        tuple(percent / 100 for _, percent in found),
    )


def rates_text(value: str) -> str:
    """For settings: rates as they are stored. Raises ValueError, in words for the owner."""
    _parse(value)
    return value.strip()


def _parse(text: str) -> list[tuple[str, Decimal]]:
    """Days and percentages in order; the first has no day."""
    found: list[tuple[str, Decimal]] = []
    for word in text[:LONGEST_RATES].split(","):
        match = _RATE.fullmatch(word.strip())
        if match is None or Decimal(match.group(1)) > 100 or (match.group(2) is None) != (not found):
            raise ValueError("use a percentage such as 30, or 30, 15 from 2026-07-01")
        day = match.group(2) or ""
        if day:
            date.fromisoformat(day)
        if found and day <= found[-1][0]:
            raise ValueError("give the days in order")
        found.append((day, Decimal(match.group(1))))
    return found


def _members(game: Game, prefix: str) -> dict[str, str]:
    return {name: value for name, value in sorted(game.family(prefix).items()) if value}


def _zone(value: str) -> str:
    moments.time_zone(value)
    return value


SETTINGS: dict[str, Setting] = {
    ZONE: Setting("time zone of the game's months, such as Asia/Seoul", _zone, "UTC", title="Time zone of months"),
    "settlement.close_after_days": Setting(
        "a month is closed by itself so many days after its end; empty: by hand alone",
        whole_number(0, 60),
        title="Close months after, in days",
    ),
    "settlement.fee.*": Setting(
        "store fee in percent of the distributionType in place of *, such as 30, 15 from 2026-07-01; without it: "
        + ", ".join(f"{name} {fee}" for name, fee in DEFAULT_FEES.items()),
        rates_text,
        title="Store fees",
    ),
    "settlement.share": Setting(
        "creators' share in percent, where no other is set", rates_text, "0", title="Share of creators"
    ),
    "settlement.share.creator.*": Setting(
        "share of the creator whose key is in place of *", rates_text, title="Share per creator"
    ),
    "settlement.share.campaign.*": Setting(
        "share in the campaign whose id is in place of *", rates_text, title="Share per campaign"
    ),
    "settlement.share_of": Setting(
        "what creators have a share of: net (after the store fee) or gross (without what was given back)",
        one_of("net", "gross"),
        "net",
        title="Base of the share",
    ),
}
