"""Which column of a partner's report has which field, and what its words mean.

The owner's names come first, then the partner's own, then common ones.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coinslot.base import money, spellings
from coinslot.settlement.differences import PAID, REFUNDED, REINSTATED
from coinslot.settlement.runs import ReconciliationError

FIELDS = ("reference", "row_id", "kind", "amount", "currency", "at", "ours")
NEEDED = ("reference", "amount")
# What columns are called, best name first, in letters and digits alone.
COMMON_COLUMNS: Mapping[str, Sequence[str]] = {
    "reference": "orderid transactionid paymentid purchaseid ordernumber orderno order reference transaction payment "
    "purchase acorderid id".split(),
    "row_id": "rowid lineid movementid entryid".split(),
    "kind": "type transactiontype status state kind event eventtype paymentstatus".split(),
    "amount": "amount grossamount gross totalamount total price amountminor amountcents priceincents priceminor "
    "grossminor value".split(),
    "currency": "currency currencycode ccy cur currencyiso".split(),
    "at": "timestamp purchasedat paidat createdat created datetime date time occurredat transactiondate paymentdate "
    "purchasedate".split(),
    "ours": "ourtransactionid publishertransactionid publisherpurchaseid".split(),
}
# What a row says happened, in letters alone. Empty: it moves no money. "charge..." are states of an order's award:
# the money is paid whatever they are.
_COMMON_WORDS = {
    PAID: "paid payment purchase sale charge charged order completed complete captured settled succeeded success "
    "successful paymentsucceed chargesucceed chargepending chargefailed",
    REFUNDED: "refund refunded chargeback chargedback paymentrefunded disputelost",
    REINSTATED: "reinstated chargebackreversed chargebackreversal",
    "": "pending cancelled canceled failed declined expired paymentfailed",
}
COMMON_KINDS: Mapping[str, str] = {word: kind for kind, words in _COMMON_WORDS.items() for word in words.split()}
_CODED = re.compile(r"(.+?)[ _(\[]+([A-Z]{3})[)\]]?")


@dataclass(frozen=True)
class ReportFormat:
    """What a partner's report is like.

    ``columns``: our name of a field -> the partner's; ``kinds``: its words for what a row says -> ours, empty for what
    moves no money; ``unit``: that of its amounts, ``major`` or ``minor``.
    """

    columns: Mapping[str, str]
    kinds: Mapping[str, str]
    unit: str


@dataclass(frozen=True)
class Layout:
    """What is known of a file. ``columns``: our name of a field -> the file's; those ``named`` must be there.

    ``finds``: common names are looked for where a field's column is missing. ``currency`` is that of every row where no
    column has it. ``unit`` is ``major`` or ``minor`` and ``decimal`` the sign; None: the file shows it.
    """

    columns: Mapping[str, str]
    unit: str | None
    report: ReportFormat
    currency: str | None = None
    decimal: str | None = None
    named: frozenset[str] = frozenset()
    finds: bool = True

    @classmethod
    def of(
        cls,
        report: ReportFormat,
        columns: Mapping[str, str],
        unit: str | None = None,
        currency: str | None = None,
        decimal: str | None = None,
    ) -> "Layout":
        """The partner's own, changed by what the owner says. Raises ReconciliationError."""
        for name in columns:
            if name not in FIELDS:
                raise ReconciliationError(f"there is no field {name}; use some of {', '.join(FIELDS)}")
        if currency is not None and money.exponent(currency) is None:
            raise ReconciliationError(f"it is not known how many decimals {currency} has")
        return cls({**report.columns, **columns}, unit, report, currency, decimal, frozenset(columns))

    def fingerprint(self, path: Path) -> str:
        """A digest of the file's content and of how it is read."""
        how = [dict(self.columns), self.unit, self.currency, self.decimal, self.finds]
        digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode())
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: digest).hexdigest()


def known_places(head: list[str], layout: Layout) -> dict[str, int]:
    """Field -> number of its column, of the fields whose column is found in this header."""
    names = [plain(name) for name in head]
    places = {field: names.index(plain(column)) for field, column in layout.columns.items() if plain(column) in names}
    for field in FIELDS:
        if field in places or field in layout.named or not layout.finds:
            continue
        bare_names = ["" if place in places.values() else bare(name) for place, name in enumerate(names)]
        known = (bare(layout.columns.get(field, "")), *COMMON_COLUMNS[field])
        found = next((name for name in known if name and name in bare_names), None)
        if found is not None:
            places[field] = bare_names.index(found)
        elif field == "amount":
            for place, name in enumerate(head):
                coded = _CODED.fullmatch(name.strip())
                if coded is not None and bare(coded[1]) in COMMON_COLUMNS[field]:
                    places[field] = place
    return places


def places_of(head: list[str], layout: Layout) -> dict[str, int]:
    """As :func:`known_places`. Raises ReconciliationError if a column is missing that is needed."""
    places = known_places(head, layout)
    for field in FIELDS:
        if field not in places and (field in NEEDED or field in layout.named):
            raise ReconciliationError(
                f"the file has no column {layout.columns.get(field, field)} ({field}); name another one: {field}=..."
            )
    if "currency" not in places and currency_of(head, places, layout) is None:
        raise ReconciliationError(
            f"the file has no column {layout.columns.get('currency', 'currency')}; say which currency it is"
        )
    return places


def currency_of(head: list[str], places: Mapping[str, int], layout: Layout) -> str | None:
    """The currency of rows that do not have their own; the amount's column may name it (``Amount (USD)``)."""
    coded = _CODED.fullmatch(head[places["amount"]].strip())
    named = coded[2] if coded and money.exponent(coded[2]) is not None else None
    return layout.currency or (None if "currency" in places else named)


def cell_of(cells: list[str], places: Mapping[str, int], field: str) -> str:
    """The cell of a field in a line; empty where the line has none."""
    place = places.get(field)
    return cells[place].strip() if place is not None and place < len(cells) else ""


def plain(name: str) -> str:
    """A column's name as names are compared."""
    return name.strip().removeprefix("\ufeff").strip().lower()


def bare(name: str) -> str:
    """Its letters and digits alone, in lower case."""
    return "".join(each for each in spellings.normal("NFKC", name).casefold() if each.isalnum())


def kind_of(word: str, kinds: Mapping[str, str]) -> str | None:
    """What a row says happened, by the partner's and common words; empty if no money moved, None if it is unknown."""
    own = kinds.get(word.lower())
    return own if own is not None else COMMON_KINDS.get(bare(word))
