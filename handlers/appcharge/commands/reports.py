"""What was paid and ordered in the store, by Appcharge's reports.

E-mail addresses, IP addresses and postal codes of players are left out of every report.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click

from coinslot.base import csv_text, exact
from coinslot.games.readers import at_path
from handlers.appcharge.api.client import as_json
from handlers.appcharge.commands.shared import cell, checked, game_and_client
from handlers.kit.api import ApiError
from handlers.kit.console import Command


def _period(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a report: its days and its format."""
    day = click.DateTime(["%Y-%m-%d"])
    for option in (
        click.option("--json", "is_json", is_flag=True, help="One JSON document per line."),
        click.option("--csv", "is_csv", is_flag=True, help="CSV with a header row."),
        click.option("--to", "until", type=day, required=True, help="The day after the last (UTC): not itself part."),
        click.option("--from", "since", type=day, required=True, help="First day (UTC), such as 2026-01-01."),
    ):
        command = option(command)
    return command


# Our column -> its path in a row of Appcharge's report.
TRANSACTION_COLUMNS: Mapping[str, str] = {
    "timestamp": "timestamp",
    "type": "transactionDetails.type",
    "amount_minor": "transactionDetails.amount",
    "tax_minor": "transactionDetails.totalTaxAmount",
    "currency": "transactionDetails.currencyCode",
    "order_id": "orderId",
    "player_id": "customerDetails.id",
    "transaction_id": "transactionDetails.id",
    "purchase_id": "purchaseId",
    "our_transaction_id": "publisherTransactionId",
    "offer_id": "offerDetails.offerId",
    "offer_name": "offerDetails.offerName",
    "country": "geolocation.countryCode2",
    "amount_usd_cents": "transactionDetails.amountUsd",
    "tax_usd_cents": "transactionDetails.totalTaxAmountUsd",
    "exchange_cost_usd_cents": "transactionDetails.currencyExchangeCostUsd",
    "chargeback_fee_usd_cents": "transactionDetails.chargebackFeeUsd",
    "transaction_fee_usd_cents": "transactionDetails.transactionFeeUsd",
    "net_usd_cents": "transactionDetails.publisherNetAmountUsd",
    "payment_method": "transactionDetails.paymentMethod",
}
ORDER_COLUMNS: Mapping[str, str] = {
    "created_at": "createdAt",
    "state": "state",
    "price_minor": "priceInCents",
    "tax_minor": "tax",
    "currency": "currency",
    "order_id": "acOrderId",
    "player_id": "playerId",
    "reason": "reason",
    "subtotal_minor": "subTotal",
    "offer_id": "publisherOfferId",
    "offer_name": "offerName",
    "price_in_dollar": "priceInDollar",
    "tax_in_dollar": "taxInDollar",
    "publisher_net_estimate": "estimatedPublisherNetAmount",
    "appcharge_fee_estimate": "estimatedAppchargeFee",
    "payment_method": "paymentMethod",
    "receipt_id": "receiptId",
    "discount": "discount",
    "promo_code": "promoCodeName",
}
WIDTHS_READ = (24, 16, 12, 9, 8, 24, 0)  # of the columns that people read; files get all columns


@click.command("transactions", cls=Command)
@click.argument("game")
@_period
def transactions(game: str, since: datetime, until: datetime, is_csv: bool, is_json: bool) -> None:
    """What was paid, refunded and disputed in GAME's store. Amounts are in the currency's lowest unit."""
    start, end = _days(since, until)
    _, client = game_and_client(game)
    odd = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal odd
        for document in client.transactions(start, end):
            row = _row(document, TRANSACTION_COLUMNS)
            odd += any(not _is_whole(value) for name, value in row.items() if name.endswith(("_minor", "_cents")))
            yield row

    _print_report(rows(), TRANSACTION_COLUMNS, is_csv, is_json)
    if odd:
        click.echo(f"{odd} of them have an amount that is no whole number: ask Appcharge what unit it is in", err=True)


@click.command("orders", cls=Command)
@click.argument("game")
@_period
@click.option("--status", "statuses", multiple=True, help="Such as payment_refunded or charge_failed; may repeat.")
@click.option("--free", "is_free", is_flag=True, help="The free orders instead of the paid ones.")
def orders(
    game: str, since: datetime, until: datetime, is_csv: bool, is_json: bool, statuses: tuple[str, ...], is_free: bool
) -> None:
    """Orders of GAME's store and their states: charge_... is about the award, payment_... about the money."""
    start, end = _days(since, until)
    _, client = game_and_client(game)
    found = client.orders(start, end, [checked(each) for each in statuses], is_free)
    _print_report((_row(document, ORDER_COLUMNS) for document in found), ORDER_COLUMNS, is_csv, is_json)


def _days(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    if until <= since:
        raise click.UsageError("--to must be later than --from; it is the first day that is not part of the report")
    return since.replace(tzinfo=UTC), until.replace(tzinfo=UTC)


def _row(document: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A report's row under our names: text, numbers, true, false or None."""
    values = {name: at_path(document, path) for name, path in columns.items()}
    return {name: value if isinstance(value, str | int | Decimal) else None for name, value in values.items()}


def _is_whole(value: Any) -> bool:
    if value is None:
        return True
    try:
        exact.whole(value, exact.QUANTITY_DIGITS)
    except ValueError:
        return False
    return True


def _print_report(rows: Iterator[dict[str, Any]], columns: Iterable[str], is_csv: bool, is_json: bool) -> None:
    """Row by row as they come. Raises a ClickException when the report breaks off."""
    if is_csv and is_json:
        raise click.UsageError("use --csv or --json")
    names = list(columns)
    count = 0
    if is_csv:
        click.echo(_csv_line(names))
    try:
        for row in rows:
            count += 1
            if is_json:
                click.echo(as_json(row))
            elif is_csv:
                click.echo(_csv_line([csv_text.harmless(cell(row[name], "")) for name in names]))
            else:
                if count == 1:
                    click.echo(_line(names))
                click.echo(_line([cell(row[name]) for name in names[: len(WIDTHS_READ)]]))
    except ApiError as error:
        raise click.ClickException(f"{error}\nWhat was printed is not all of the report.") from None
    if not (is_csv or is_json):
        click.echo(f"{count} in all.")


def _line(cells: Sequence[str]) -> str:
    """Cells one below the other, as far as that can be known before the last row is."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS_READ, strict=False)).rstrip()


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
