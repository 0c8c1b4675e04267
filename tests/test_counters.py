"""Figures rolled up as they happen: what is read of them."""

import pytest

from coinslot import counters
from tests.conftest import Studio

DAYS = ("2026-06-30", "2026-07-01", "2026-07-31", "2026-08-01")


@pytest.fixture
def add(house, studio):
    """Figures of certain days, as if they had happened then."""

    def put(partner, name, *days, game_id=None, value=1):
        rows = [(game_id or studio.row["id"], partner, name, day, value) for day in days]
        house.database.write_here(lambda tx: tx.executemany("INSERT INTO counters VALUES (?, ?, ?, ?, ?)", rows))

    return put


@pytest.fixture
def money(house, studio):
    def read():
        rows = counters.money_between(house.database.read(), studio.row["id"], "2026-07-01", "2026-08-01")
        return [tuple(row) for row in rows]

    return read


class TestMoneyBetween:
    def test_it_has_what_was_paid_and_what_went_back_on_those_days(self, add, money):
        add("appcharge", "gross.USD", *DAYS, value=999)
        add("appcharge", "refunded.USD", "2026-07-31", value=99)
        add("playtem", "gross.EUR", "2026-07-01", value=5)

        assert money() == [
            ("appcharge", "gross.USD", "2026-07-01", 999),
            ("appcharge", "gross.USD", "2026-07-31", 999),
            ("appcharge", "refunded.USD", "2026-07-31", 99),
            ("playtem", "gross.EUR", "2026-07-01", 5),
        ]

    def test_it_has_nothing_else(self, house, add, money):
        for name in (
            "item.coins",
            "returned.USD",
            "credited",
            "gross",
            "gross/",
            "grosser.USD",
            "refunded",
            "refused.x",
        ):
            add("appcharge", name, *DAYS)
        add("appcharge", "gross.USD", *DAYS, game_id=Studio(house, "other").row["id"])

        assert money() == []

    def test_it_reads_no_figure_of_an_item(self, house, studio, add, money):
        """However many items there are, it takes as many steps."""

        def steps():
            connection, count = house.database.read(), 0

            def tick():
                nonlocal count
                count += 1

            connection.set_progress_handler(tick, 1)
            try:
                counters.money_between(connection, studio.row["id"], "2026-07-01", "2026-08-01")
            finally:
                connection.set_progress_handler(None, 1)
            return count

        add("appcharge", "gross.USD", *DAYS)
        add("appcharge", "item.0", *DAYS)
        before = steps()
        for number in range(1, 500):
            add("appcharge", f"item.{number}", *DAYS)

        assert steps() == before
