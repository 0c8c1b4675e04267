"""The documents of a closed month, made from its frozen lines alone: the same bytes each time.

Amounts are in major units with the currency's decimals. An adjustment has the earlier month that it belongs to. The
US dollar figures of orders in another currency are a row of their own, so that each column can be summed per currency.
The gross of orders for which the store gave no fee or no net is repeated in a column of its own, ``without_figures``.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from coinslot.base import csv_text, money
from coinslot.settlement import months
from coinslot.settlement.lines import COUNTED, IN_TOTALS, Line
from coinslot.settlement.months import Settlement
from coinslot.settlement.order_lines import USD
from coinslot.settlement.terms import DEFAULT_FEES
from coinslot.store.db import Connection

COLUMNS = "month,partner,currency,distribution_type,creator,count,gross,refunds,fee,net,creator_share,without_figures"
ALL_COLUMNS = f"{COLUMNS},statement,section,is_registered,refund_count,tax,unsaid,undated,reference"
CREATOR_COLUMNS = "month,creator,partner,currency,distribution_type,count,gross,refunds,fee,net,creator_share"

_KINDS = {name: name.title().replace("_", "") for name in DEFAULT_FEES}  # MOBILE_STORE is MobileStore
_IN_ACCOUNTS = re.compile(r"[^A-Za-z0-9-]+")


def statement_csv(connection: Connection, found: Settlement, *, is_whole: bool = False) -> Iterator[str]:
    """The month as CSV, line by line; ``is_whole``: with what is listed apart, and every column."""
    yield f"{ALL_COLUMNS if is_whole else COLUMNS}\n"
    for line in months.frozen_lines(connection, found.id):
        if is_whole or line.section in IN_TOTALS:
            for cells in _rows(line):
                yield _csv([*cells, *_more(found, line)] if is_whole else cells)


def creator_csv(connection: Connection, found: Settlement, creator: str | None = None) -> Iterator[str]:
    """What each creator brought and is owed, or one of them; those that brought nothing have no row."""
    yield f"{CREATOR_COLUMNS}\n"
    for line in months.frozen_lines(connection, found.id):
        if line.section in IN_TOTALS and line.creator is not None and creator in (None, line.creator):
            month, partner, currency, kind, name, *figures, _ = _rows(line)[0]
            yield _csv([month, name, partner, currency, kind, *figures])


def beancount(connection: Connection, found: Settlement, game_name: str) -> Iterator[str]:
    """The month in double entry, as beancount reads it: one transaction for each line that moves money.

    Files of several months may be put together: the plugin opens accounts. Sales are in the currency that was paid. A
    web store gives tax, fee and net in US dollars alone: those of orders in another currency go through an account for
    conversions. The rest between gross and the sum of the store's figures has an account, and so has the gross of
    orders without such figures.
    """
    yield "; Made by Coinslot out of a closed month. To correct it, close the next month; do not edit it here.\n"
    yield f'option "title" "{_quoted(f"{game_name}: settlements")}"\n'
    yield 'plugin "beancount.plugins.auto_accounts"\n'
    for line in months.frozen_lines(connection, found.id):
        postings = [each for each in _postings(line) if each[1]]
        if not postings:
            continue
        what = "adjustment of " if line.month != found.month.name else ""
        about = " ".join(filter(None, (line.distribution_type, line.currency, line.creator)))
        yield f'\n{found.month.last_day} * "{_quoted(line.partner)}" "{_quoted(f"{what}{line.month} {about}")}"\n'
        yield f"  count: {line.count}\n  refunds: {line.refund_count}\n"
        for account, minor, currency in postings:
            yield f"  {account}  {money.in_major(minor, currency)} {currency}\n"


def _postings(line: Line) -> Sequence[tuple[str, int, str]]:
    """Account, minor units and currency. In each currency they sum to 0."""
    partner, own = _account(line.partner), line.currency
    share: list[tuple[str, int, str]] = []
    if line.creator is not None:
        creator = _account(line.creator)
        share = [
            (f"Expenses:Creators:{creator}", line.share_minor, own),
            (f"Liabilities:Creators:{creator}", -line.share_minor, own),
        ]
    if line.section not in IN_TOTALS:
        return []
    if line.section != COUNTED:
        return share  # the money itself is in the web store's own lines
    if line.distribution_type:
        kind = _KINDS.get(line.distribution_type) or _account(line.distribution_type)
        return [
            (f"Income:{partner}:Sales:{kind}", -line.gross_minor, own),
            (f"Income:{partner}:Refunds:{kind}", line.refunds_minor, own),
            (f"Expenses:{partner}:Fees:{kind}", line.fee_minor or 0, own),
            (f"Assets:Receivable:{partner}:{kind}", line.net_minor or 0, own),
            *share,
        ]
    tax, fee, net = (each or 0 for each in (line.usd_tax, line.usd_fee, line.usd_net))
    explained = line.gross_minor - line.refunds_minor - line.unsaid_minor
    sold = [
        (f"Income:{partner}:Sales", -line.gross_minor, own),
        (f"Income:{partner}:Refunds", line.refunds_minor, own),
        (f"Assets:Receivable:{partner}:WithoutFigures", line.unsaid_minor, own),
    ]
    if own != USD:
        dollars = tax + fee + net if line.usd_gross is None else line.usd_gross
        sold += [
            (f"Equity:Conversions:{partner}", explained, own),
            (f"Equity:Conversions:{partner}", -dollars, USD),
        ]
        explained = dollars
    return [
        *sold,
        (f"Liabilities:{partner}:Tax", tax, USD),
        (f"Expenses:{partner}:Fees", fee, USD),
        (f"Assets:Receivable:{partner}", net, USD),
        (f"Expenses:{partner}:Unexplained", explained - tax - fee - net, USD),
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
    """A line's cells in the order of :data:`COLUMNS`; two rows if the partner gives part of it in dollars."""
    about = [line.month, line.partner, line.currency, line.distribution_type, line.creator or ""]
    figures = (
        line.gross_minor,
        line.refunds_minor,
        line.fee_minor,
        line.net_minor,
        line.share_minor,
        line.unsaid_minor,
    )
    rows = [[*about, str(line.count), *(_figure(each, line.currency) for each in figures)]]
    if line.currency != USD and (line.usd_fee is not None or line.usd_net is not None):
        about[2:4] = USD, f"of {line.currency}"
        rows.append([*about, "0", "", "", _figure(line.usd_fee, USD), _figure(line.usd_net, USD), "", ""])
    return rows


def _figure(minor: int | None, currency: str) -> str:
    """In major units. A line apart may be in an unknown currency; it has no figures but 0."""
    return "" if minor is None else money.in_major(minor, currency) if minor or money.exponent(currency) else "0"


def _more(found: Settlement, line: Line) -> list[str]:
    return [
        found.month.name,
        line.section,
        "" if line.is_registered is None else "yes" if line.is_registered else "no",
        str(line.refund_count),
        _figure(line.tax_minor, line.currency),
        str(line.unsaid),
        str(line.undated),
        line.reference,
    ]


def _csv(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([csv_text.harmless(cell) for cell in cells])
    return line.getvalue()
