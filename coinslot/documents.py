"""The documents of a closed month, out of its frozen lines alone: the same bytes each time.

Amounts are in major units with the currency's decimals. In the file of a month an adjustment stands under the month
that it is of, which is an earlier one. What a web store tells in US dollars of orders in another currency is a row of
its own, in dollars, so that each column can be summed per currency.
"""

import csv
import hashlib
import io
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from coinslot import money, settlement
from coinslot.settlement import Settlement
from coinslot.statement import COUNTED, IN_TOTALS, USD, Line, added
from coinslot.terms import DEFAULT_FEES

COLUMNS = tuple("month,partner,currency,distribution_type,creator,count,gross,refunds,fee,net,creator_share".split(","))
ALL_COLUMNS = (*COLUMNS, *"statement,section,is_registered,refund_count,tax,unsaid".split(","))
CREATOR_COLUMNS = tuple(
    "month,creator,partner,currency,distribution_type,count,gross,refunds,fee,net,creator_share".split(",")
)

_KINDS = {name: name.title().replace("_", "") for name in DEFAULT_FEES}  # MOBILE_STORE is MobileStore
_IN_ACCOUNTS = re.compile(r"[^A-Za-z0-9-]+")


def statement_csv(connection: sqlite3.Connection, found: Settlement, *, is_whole: bool = False) -> Iterator[str]:
    """The month as CSV, line by line; ``is_whole``: with what stands apart, and every column."""
    yield _csv(ALL_COLUMNS if is_whole else COLUMNS)
    for line in settlement.lines(connection, found.id):
        if not is_whole and line.section not in IN_TOTALS:
            continue
        for cells in _rows(line):
            yield _csv([*cells, *_more(found, line)] if is_whole else cells)


def creator_csv(connection: sqlite3.Connection, found: Settlement, creator: str | None = None) -> Iterator[str]:
    """What each creator brought and is owed, or one of them; those that brought nothing have no row."""
    yield _csv(CREATOR_COLUMNS)
    for line in settlement.lines(connection, found.id):
        if line.section in IN_TOTALS and line.creator is not None and creator in (None, line.creator):
            month, partner, currency, kind, name, *figures = _rows(line)[0]
            yield _csv([month, name, partner, currency, kind, *figures])


def creators(connection: sqlite3.Connection, found: Settlement) -> list[Line]:
    """One line per creator and currency, adjustments included: what they are owed is ``share_minor``."""
    sums: dict[tuple[str, str], Line] = {}
    with money.exactly():
        for line in settlement.lines(connection, found.id):
            if line.section in IN_TOTALS and line.creator is not None:
                key = (line.creator, line.currency)
                sums[key] = line if key not in sums else added(sums[key], line)
    return [sums[key] for key in sorted(sums)]


def beancount(connection: sqlite3.Connection, found: Settlement, game_name: str) -> Iterator[str]:
    """The month in double entry, as beancount reads it: one transaction for each line that moves money.

    Files of several months may be put together: accounts are opened by the plugin. A web store's orders are booked in
    US dollars, in which alone it tells fee and net; what its own figures leave between gross and their sum is named.
    """
    yield "; Made by Coinslot out of a closed month. To correct it, close the next month; do not edit it here.\n"
    yield f'option "title" "{_quoted(f"{game_name}: settlements")}"\n'
    yield 'plugin "beancount.plugins.auto_accounts"\n'
    for line in settlement.lines(connection, found.id):
        postings = [each for each in _postings(line) if each[1]]
        if not postings:
            continue
        currency = line.currency if _is_by_fee_table(line) else USD
        what = "adjustment of " if line.month != found.month.name else ""
        about = " ".join(filter(None, (line.distribution_type, line.currency, line.creator)))
        yield f'\n{found.month.last_day} * "{_quoted(line.partner)}" "{_quoted(f"{what}{line.month} {about}")}"\n'
        yield f"  count: {line.count}\n  refunds: {line.refund_count}\n"
        if not _is_by_fee_table(line):
            yield f'  gross: "{money.in_major(line.gross_minor, line.currency)} {line.currency}"\n'
        for account, cents in postings:
            yield f"  {account}  {money.in_major(cents, currency)} {currency}\n"


def _is_by_fee_table(line: Line) -> bool:
    """Whether fee and net are reckoned in the line's own currency, and not told by a web store."""
    return line.usd_net is None and line.usd_fee is None and line.fee_minor is not None


def _postings(line: Line) -> Sequence[tuple[str, int | Decimal]]:
    partner = _account(line.partner)
    share: list[tuple[str, int | Decimal]] = []
    if line.creator is not None:
        creator = _account(line.creator)
        share = [
            (f"Expenses:Creators:{creator}", line.share_minor),
            (f"Liabilities:Creators:{creator}", -line.share_minor),
        ]
    if line.section not in IN_TOTALS:
        return []
    if line.section != COUNTED:
        return share  # the money itself is in the web store's own lines
    if _is_by_fee_table(line):
        kind = _KINDS.get(line.distribution_type) or _account(line.distribution_type)
        return [
            (f"Income:{partner}:Sales:{kind}", -line.gross_minor),
            (f"Income:{partner}:Refunds:{kind}", line.refunds_minor),
            (f"Expenses:{partner}:Fees:{kind}", line.fee_minor or 0),
            (f"Assets:Receivable:{partner}:{kind}", line.net_minor or 0),
            *share,
        ]
    with money.exactly():
        # To whole cents before they are added up: the parts of a transaction must come to nothing.
        gross, tax, fee, net = (
            money.rounded(each or Decimal(0)) for each in (line.usd_gross, line.usd_tax, line.usd_fee, line.usd_net)
        )
    if line.usd_gross is None:
        gross = tax + fee + net
    return [
        (f"Income:{partner}:Sales", -gross),
        (f"Liabilities:{partner}:Tax", tax),
        (f"Expenses:{partner}:Fees", fee),
        (f"Assets:Receivable:{partner}", net),
        (f"Expenses:{partner}:Unexplained", gross - tax - fee - net),
    ]


def _account(name: str) -> str:
    """A name as a part of an account. Another name never becomes the same part."""
    kept = _IN_ACCOUNTS.sub("-", name).strip("-")
    kept = kept[:1].upper() + kept[1:]
    is_same = kept.lower() == name.lower() and kept == name[:1].upper() + name[1:]
    if is_same and kept[:1].isalnum():
        return kept
    return f"X{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _quoted(text: str) -> str:
    kept = "".join(character if character.isprintable() else " " for character in text)
    return kept.replace("\\", "\\\\").replace('"', '\\"')


def _rows(line: Line) -> list[list[str]]:
    """A line's cells in the order of :data:`COLUMNS`; two rows where the partner tells part of it in dollars."""
    rows = [
        [
            line.month,
            line.partner,
            line.currency,
            line.distribution_type,
            line.creator or "",
            str(line.count),
            *(
                "" if each is None else money.in_major(each, line.currency)
                for each in (line.gross_minor, line.refunds_minor, line.fee_minor, line.net_minor, line.share_minor)
            ),
        ]
    ]
    if line.currency != USD and (line.usd_fee is not None or line.usd_net is not None):
        with money.exactly():
            told = [None if each is None else money.rounded(each) for each in (line.usd_fee, line.usd_net)]
        fee, net = ("" if each is None else money.in_major(each, USD) for each in told)
        name = (line.month, line.partner, USD, f"of {line.currency}", line.creator or "")
        rows.append([*name, "0", "", "", fee, net, ""])
    return rows


def _more(found: Settlement, line: Line) -> list[str]:
    return [
        found.month.name,
        line.section,
        "" if line.is_registered is None else "yes" if line.is_registered else "no",
        str(line.refund_count),
        "" if line.tax_minor is None else money.in_major(line.tax_minor, line.currency),
        str(line.unsaid),
    ]


def _csv(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return line.getvalue()


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    is_number = re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", cell) is not None
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number else cell
