"""A partner's report of goods for a player: what it holds, and what may become of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from coinslot.base.exact import QUANTITY_DIGITS
from coinslot.games import registry
from coinslot.ledger import chain
from coinslot.ledger.chain import public_id as public_id


class RefusedError(Exception):
    """A credit that cannot be made; nothing of it is stored. ``reason`` and ``detail`` are as in Outcome."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ConflictError(RefusedError):
    """The transaction is known with other content. ``transaction_id`` is the row that was credited."""

    def __init__(self, transaction_id: int) -> None:
        super().__init__("conflict")
        self.transaction_id = transaction_id


@dataclass(frozen=True)
class Money:
    """What the partner said about money. None is "not said"; ``figures`` holds every figure under its own name."""

    currency: str | None = None
    gross_minor: int | None = None
    subtotal_minor: int | None = None
    tax_minor: int | None = None
    usd_gross: str | None = None
    usd_tax: str | None = None
    usd_fee: str | None = None
    usd_net: str | None = None
    usd_unit: str | None = None
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Credit:
    """A verified report of a partner, in our words: goods for one player.

    ``external_id`` is the unique key, ``reference`` the same as the partner writes it; where the two differ, the report
    came without its proper id and goes by a fallback. ``keys`` are other ids to find the transaction by; one of kind
    ``signature`` may credit only once. ``known_by`` are those keys under which another report of the same purchase,
    by another id, may be stored.
    """

    game_id: int
    game_slug: str
    partner: str
    external_id: str
    reference: str
    kind: str
    player_id: str
    lines: tuple[tuple[str, int], ...]
    fingerprint: str
    raw_body: bytes = field(repr=False)
    signature: str = field(repr=False)
    signed_with: str
    answer_status: int
    answer_body: str
    environment: str = "live"
    money: Money = Money()
    occurred_at: str | None = None
    session_metadata: str | None = None
    keys: tuple[tuple[str, str], ...] = ()
    known_by: tuple[tuple[str, str], ...] = ()

    @cached_property
    def is_test(self) -> bool:
        """Whether this never counts: it comes from a sandbox, or names the reserved player or item."""
        return self.environment == "sandbox" or self.is_simulated

    @cached_property
    def is_simulated(self) -> bool:
        """Whether it names the reserved player or item, as our own simulated calls do: it is in no figure."""
        return registry.RESERVED_ID in (self.player_id, *(sku for sku, _ in self.lines))

    @property
    def is_fallback(self) -> bool:
        return self.external_id != self.reference

    @cached_property
    def public_id(self) -> str:
        return public_id(self.game_slug, self.partner, self.external_id)


@dataclass(frozen=True)
class Rules:
    """What becomes of an unknown player (``reject``, ``create``, ``accept``) or item (``reject``, ``accept``)."""

    unknown_player: str = "reject"
    unknown_item: str = "reject"
    may_be_empty: bool = True


@dataclass(frozen=True)
class Credited:
    """The transaction as it is stored, and the first answer that its partner got."""

    public_id: str
    answer_status: int
    answer_body: str
    is_new: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a report. ``credited`` is the transaction, None when the report was refused.

    ``reason`` is ``credited`` or ``duplicate``, or why it was refused: ``conflict`` (the same id with other content,
    which is kept for a person), ``unknown_player``, ``unknown_item`` (``detail`` is its sku), ``empty``, ``quantity``
    (``detail`` says what is wrong), ``game_down``, or ``lookup_failed``: the game's server did not say whether it
    knows the player. All but the first three may succeed later.
    """

    reason: str
    credited: Credited | None = None
    detail: str = ""


def fingerprint(*parts: object, lines: Iterable[tuple[str, int]]) -> str:
    """What tells a retry from a conflict: some facts and the multiset of (sku, amount), in any order."""
    return chain.digest([*parts, sorted((sku, str(amount)) for sku, amount in lines)])


def merged(lines: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """One line per item, so that a game may read them into a mapping. Raises RefusedError above 40 digits."""
    sums: dict[str, int] = {}
    for sku, quantity in lines:
        sums[sku] = sums.get(sku, 0) + quantity
    if any(abs(quantity) >= 10**QUANTITY_DIGITS for quantity in sums.values()):
        raise RefusedError("quantity", f"a quantity has more than {QUANTITY_DIGITS} digits")
    return list(sums.items())
