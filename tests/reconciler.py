"""Months reconciled with partners' figures, as commands, pages and the relay do it."""

from typing import Any

from coinslot.settlement import jobs, runs
from coinslot.settlement.columns import Layout
from coinslot.settlement.runs import Run
from handlers.kit import partner_reports
from tests.books import Books
from tests.fakes import appcharge as fake_appcharge
from tests.fakes.appcharge import FakeAppcharge

FOREVER = float("inf")


class Reconciler:
    """The reconciliations of one game, with its partners."""

    def __init__(self, app: Any, books: Books) -> None:
        self.books = books
        self.installation = books.installation
        self.partners = {partner.name: partner for partner in app.extensions["coinslot.partners"]}

    def layout(self, partner: str, columns: dict[str, str] | None = None, **options: Any) -> Layout:
        return Layout.of(self.partners[partner].report, columns or {}, **options)

    def begin(self, partner: str, month: str = "2026-07", file: Any = None) -> int:
        return partner_reports.begin(self.installation, self.books.game, month, self.partners[partner], "test", file)

    def carry_on(self, run_id: int, partner: str, deadline: float = FOREVER) -> bool:
        reader = partner_reports.reader(self.installation, self.books.game, self.partners[partner].report)
        return jobs.carry_on(self.installation.database, run_id, reader, deadline)

    def by_api(self, partner: str, month: str = "2026-07") -> Run:
        run_id = self.begin(partner, month)
        self.carry_on(run_id, partner)
        return self.run(run_id)

    def by_file(self, partner: str, path: Any, month: str = "2026-07", **columns: str) -> Run:
        layout = self.layout(partner, columns)
        run_id = self.begin(partner, month, file=(path, layout))
        jobs.take_file(self.installation.database, run_id, path, layout)
        self.carry_on(run_id, partner)
        return self.run(run_id)

    def by_text(self, partner: str, text: str, month: str = "2026-07", **columns: str) -> Run:
        """By a report of this content."""
        path = self.installation.settings.home / "report.csv"
        path.write_text(text)
        try:
            return self.by_file(partner, path, month, **columns)
        finally:
            path.unlink()

    def run(self, run_id: int) -> Run:
        found = runs.run_by_id(self.books.connection, run_id)
        assert found is not None
        return found

    def differences(self, run: Run) -> dict[str, tuple[Any, ...]]:
        """Of each purchase: the result, the amount at stake and what resolves it."""
        rows = runs.find_differences(self.books.connection, run.id)
        return {row["reference"]: (row["result"], row["stake_minor"], row["currency"], row["action"]) for row in rows}

    def results(self, run: Run) -> dict[str, str]:
        return {reference: each[0] for reference, each in self.differences(run).items()}

    def remedies(self, run: Run) -> dict[str, str]:
        """Of each purchase: what resolves it, in the words of commands and pages."""
        title = self.partners[run.partner].title
        rows = runs.find_differences(self.books.connection, run.id)
        return {row["reference"]: partner_reports.remedy(self.books.studio.slug, title, row) for row in rows}


def add_row(fake: FakeAppcharge, order_id: str, kind: str = "paid", amount: Any = 999, **more: Any) -> None:
    """A row of Appcharge's report."""
    at = more.pop("at", "2026-07-10T10:00:00.000Z")
    row = fake_appcharge.transaction(f"{order_id}-{kind}-{len(fake.transactions)}", at, type=kind, amount=amount)
    fake.transactions.append(row | {"orderId": order_id} | more)


def seed_every_difference(books: Books, appcharge: FakeAppcharge) -> dict[str, tuple[Any, ...]]:
    """Orders on both sides; returns what does not agree."""
    for order_id in ("agrees", "given-back", "won", "amount", "there", "here", "late", "not-there", "free", "gone"):
        books.order(order_id, *((0,) if order_id == "free" else ()), kind="bonus" if order_id == "free" else "purchase")
    for order_id in ("given-back", "here", "gone"):
        books.refund_order(order_id)
    books.refund_order("late", at="2026-08-03")
    for order_id in ("agrees", "given-back", "won", "there", "here", "late", "not-granted", "never-mind"):
        add_row(appcharge, order_id)
    add_row(appcharge, "amount", amount=899)
    add_row(appcharge, "fraction", amount="12.5")
    for order_id in ("given-back", "there", "never-mind"):
        add_row(appcharge, order_id, "refund", -999)
    add_row(appcharge, "won", "dispute_funds_withdrawn", -999)
    add_row(appcharge, "won", "dispute_funds_reinstated")
    add_row(appcharge, "free-and-lost", amount=0)
    return {
        "not-granted": ("missing_here", "999", "USD", "request_award"),
        "fraction": ("missing_here", "12.5", "USD", "request_award"),
        "not-there": ("missing_there", "999", "USD", "ask_partner"),
        "amount": ("amount_differs", "100", "USD", "ask_partner"),
        "there": ("refunded_there", "999", "USD", "record_refund"),
        "here": ("refunded_here", "999", "USD", "refund_order"),
    }
