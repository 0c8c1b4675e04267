"""What the owner can try on a page: an expression on data, and one window of the game's payment API."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coinslot.games.games import Game
from coinslot.payments.parsing import Payment


@dataclass(frozen=True)
class Sample:
    """A document to try an expression on. ``is_real``: it came from the game or the partner, and not out of a guide."""

    name: str
    title: str
    document: Any = field(repr=False)
    is_real: bool = False


@dataclass(frozen=True)
class Made:
    """What an expression makes of a document, and in sentences what would become of that."""

    value: Any
    notes: Sequence[str] = ()
    is_good: bool = True


@dataclass(frozen=True)
class Formula:
    """A setting that holds an expression.

    ``read`` gives the document of a pasted body as it would be read of the other side, or raises ValueError; ``apply``
    raises :class:`coinslot.base.expressions.ExpressionError`.
    """

    key: str
    title: str
    about: str
    samples: Callable[[Game], Sequence[Sample]]
    read: Callable[[bytes], Any]
    apply: Callable[[Game, str, Any], Made]


@dataclass(frozen=True)
class TriedRow:
    """A row as it came, and the payment it becomes; ``problem``: why that would be parked."""

    raw: Any
    payment: Mapping[str, Any] | None
    problem: str | None
    kept_because: str | None = None


@dataclass(frozen=True)
class Window:
    """The first pages of one window that was asked for, and stored nowhere. ``error``: why there is none, or no more.

    ``rows`` are the first ones; ``first`` is the first payment that can be sent, on any page. ``parked`` are the
    reasons why ``parked_count`` rows cannot be, and of how many each; those of most rows first. ``next`` is what the
    page after is asked for by, None when that was the last.
    """

    method: str
    address: str  # secrets masked
    start: str
    end: str
    error: str | None = None
    count: int = 0
    pages: int = 0
    rows: Sequence[TriedRow] = ()
    first: Payment | None = None
    parked: Mapping[str, int] = field(default_factory=dict)
    parked_count: int = 0
    next: str | None = None  # secrets masked
    doubt: str | None = None  # why there may be more, though nothing leads on

    @property
    def wrong(self) -> str | None:
        """What the owner has to fix, in a sentence; None while payments can be read and sent."""
        if self.error is None and self.count and self.parked_count == self.count:
            return f"no row can be sent: {next(iter(self.parked))}"
        if self.error is None and self.doubt is not None:
            return (
                f"{self.doubt}, and nothing leads to a next page: the rest is lost before playcamp.payments.next is set"
            )
        return self.error
