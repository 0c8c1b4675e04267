"""Which column of a partner's report is what, and what its words mean: the owner's names, then the partner's own, then
common ones.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coinslot.base import money, spellings
from coinslot.settlement.amounts import COMMA, POINT
from coinslot.settlement.judging import PAID, REFUNDED, REINSTATED
from coinslot.settlement.outcomes import ReconciliationError

FIELDS = ("reference", "row_id", "kind", "amount", "currency", "at", "ours")
NEEDED = ("reference", "amount")
DECIMALS = {"point": POINT, "comma": COMMA}
DIGEST_BYTES = 1024 * 1024
# What columns are called, best name first, in letters and digits alone.
COMMON_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "reference": (
        *("orderid", "transactionid", "paymentid", "purchaseid", "ordernumber", "orderno", "order", "reference"),
        *("transaction", "payment", "purchase", "acorderid", "id"),
    ),
    "row_id": ("rowid", "lineid", "movementid", "entryid"),
    "kind": ("type", "transactiontype", "status", "state", "kind", "event", "eventtype", "paymentstatus"),
    "amount": (
        *("amount", "grossamount", "gross", "totalamount", "total", "price", "amountminor", "amountcents"),
        *("priceincents", "priceminor", "grossminor", "value"),
    ),
    "currency": ("currency", "currencycode", "ccy", "cur", "currencyiso"),
    "at": (
        *("timestamp", "purchasedat", "paidat", "createdat", "created", "datetime", "date", "time", "occurredat"),
        *("transactiondate", "paymentdate", "purchasedate"),
    ),
    "ours": ("ourtransactionid", "publishertransactionid", "publisherpurchaseid"),
}
# What a row tells, in letters alone; a partner's own words come before these. Empty: it moves no money.
COMMON_KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("paid", "payment", "purchase", "sale", "charge", "charged", "order", "completed", "complete"), PAID
    ),
    **dict.fromkeys(("captured", "settled", "succeeded", "success", "successful", "paymentsucceed"), PAID),
    **dict.fromkeys(("chargesucceed", "chargepending", "chargefailed"), PAID),  # of an order's award: the money is paid
    **dict.fromkeys(("refund", "refunded", "chargeback", "chargedback", "paymentrefunded", "disputelost"), REFUNDED),
    **dict.fromkeys(("reinstated", "chargebackreversed", "chargebackreversal"), REINSTATED),
    **dict.fromkeys(("pending", "cancelled", "canceled", "failed", "declined", "expired", "paymentfailed"), ""),
}
_CODED = re.compile(r"(.+?)[ _(\[]+([A-Z]{3})[)\]]?")


@dataclass(frozen=True)
class ReportFormat:
    """What a partner's report is like.

    ``columns``: our name of a field -> the partner's; ``kinds``: its words for what a row says -> ours,
    empty for what moves no money; ``unit``: that of its amounts, ``major`` or ``minor``.
    """

    columns: Mapping[str, str]
    kinds: Mapping[str, str]
    unit: str


@dataclass(frozen=True)
class Layout:
    """What is said of a file. ``columns``: our name of a field -> the file's; those ``named`` have to be there.

    ``finds``: of fields whose column is not there, common names are looked for. ``currency`` is that of every row where
    no column tells it. ``unit`` is ``major`` or ``minor`` and ``decimal`` the sign; None: the file shows it.
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
        """The partner's own, with what the owner says otherwise. Raises ReconciliationError."""
        for name in columns:
            if name not in FIELDS:
                raise ReconciliationError(f"there is no field {name}; use some of {', '.join(FIELDS)}")
        if currency is not None and money.exponent(currency) is None:
            raise ReconciliationError(f"nobody knows how many decimals {currency} has")
        return cls({**report.columns, **columns}, unit, report, currency, decimal, frozenset(columns))

    def fingerprint(self, path: Path) -> str:
        """Of the file's content and how it is read."""
        told = [dict(self.columns), self.unit, self.currency, self.decimal, self.finds]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        with path.open("rb") as file:
            while block := file.read(DIGEST_BYTES):
                digest.update(block)
        return digest.hexdigest()


def known_places(head: list[str], layout: Layout) -> dict[str, int]:
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


def currency_of(head: list[str], places: Mapping[str, int], layout: Layout) -> str | None:
    """The one of every row that does not tell its own; the amount's column may name it (``Amount (USD)``)."""
    coded = _CODED.fullmatch(head[places["amount"]].strip())
    named = coded[2] if coded and money.exponent(coded[2]) is not None else None
    return layout.currency or (None if "currency" in places else named)


def places_of(head: list[str], layout: Layout) -> dict[str, int]:
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


def is_found(field: str, place: int, head: list[str], layout: Layout) -> bool:
    return plain(layout.columns.get(field, "")) != plain(head[place])


def plain(name: str) -> str:
    """A column's name as it is compared."""
    return name.strip().removeprefix("\ufeff").strip().lower()


def bare(name: str) -> str:
    return "".join(each for each in spellings.normal("NFKC", name).casefold() if each.isalnum())


def kind_of(word: str, kinds: Mapping[str, str]) -> str | None:
    """What a row tells, by its partner's words and by common ones; empty for no money, None where nobody knows."""
    own = kinds.get(word.lower())
    return own if own is not None else COMMON_KINDS.get(bare(word))
