"""Months held against partners' figures, as commands, pages and the relay do it."""

from typing import Any

from coinslot.settlement import jobs, runs
from coinslot.settlement.columns import Layout
from coinslot.settlement.runs import Run
from handlers.kit import partner_reports
from tests.books import Books

FOREVER = float("inf")


class Room:
    """Reconciliations of one game, by its partners' rooms."""

    def __init__(self, app: Any, books: Books) -> None:
        self.books = books
        self.installation = books.installation
        self.partners = {partner.name: partner for partner in app.extensions["coinslot.partners"]}

    def begin(self, partner: str, month: str = "2026-07", file: Any = None) -> int:
        return partner_reports.begin(self.installation, self.books.game, month, self.partners[partner], "test", file)

    def carry_on(self, run_id: int, partner: str, deadline: float = FOREVER) -> bool:
        return jobs.carry_on(
            self.installation.database,
            run_id,
            partner_reports.reader(self.installation, self.books.game, self.partners[partner].report),
            deadline,
        )

    def by_api(self, partner: str, month: str = "2026-07") -> Run:
        run_id = self.begin(partner, month)
        self.carry_on(run_id, partner)
        return self.run(run_id)

    def by_file(self, partner: str, path: Any, month: str = "2026-07", **columns: str) -> Run:
        layout = Layout.of(self.partners[partner].report, columns)
        run_id = self.begin(partner, month, file=(path, layout))
        jobs.take_file(self.installation.database, run_id, path, layout)
        self.carry_on(run_id, partner)
        return self.run(run_id)

    def by_text(self, partner: str, text: str, month: str = "2026-07") -> Run:
        """By a report of this content."""
        path = self.installation.settings.home / "report.csv"
        path.write_text(text)
        try:
            return self.by_file(partner, path, month)
        finally:
            path.unlink()

    def run(self, run_id: int) -> Run:
        found = runs.run_by_id(self.installation.database.read(), run_id)
        assert found is not None
        return found

    def differences(self, run: Run) -> dict[str, tuple[Any, ...]]:
        """Of each purchase: the result, the sum at stake and what mends it."""
        rows = runs.find_differences(self.installation.database.read(), run.id)
        return {row["reference"]: (row["result"], row["stake_minor"], row["currency"], row["action"]) for row in rows}

    def results(self, run: Run) -> dict[str, str]:
        return {reference: each[0] for reference, each in self.differences(run).items()}

    def remedies(self, run: Run) -> dict[str, str]:
        """Of each purchase: what mends it, in the words of commands and pages."""
        title = self.partners[run.partner].title
        rows = runs.find_differences(self.installation.database.read(), run.id)
        return {row["reference"]: partner_reports.remedy(self.books.studio.slug, title, row) for row in rows}
