"""Random studios against a bookkeeper who shares no code with us: every document of every month says the same."""

import csv
import io
import random
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from app import create_app
from coinslot.settlement import closing as months_closing
from coinslot.settlement import documents
from coinslot.settlement.lines import totals
from coinslot.settlement.months import SettlementError, closed_month
from tests import databases
from tests.bookkeeper import (
    DECIMALS,
    Agreed,
    Bookkeeper,
    Order,
    Payment,
    added_up,
    balances,
    following,
    midnight,
    rounded,
)
from tests.books import Books
from tests.conftest import Studio
from tests.servers import together

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Seoul", "Australia/Lord_Howe", "Asia/Kathmandu")
MONTHS = ["2026-02", "2026-03", "2026-04", "2026-05", "2026-06", "2026-07", "2026-08", "2026-09", "2026-10", "2026-11"]
LATE_MONTHS = ["2026-12", "2027-01"]  # what came late for those before
MARKETS = {"google": "MOBILE_STORE", "pc": "PC_SELF_STORE", "web": "MOBILE_SELF_STORE", "nowhere": None}
PERCENTS = ("30", "15", "33.333333", "0.333333", "66.666667", "0", "100", "12.5")
STEPS = 120


class RandomStudio:
    """Does the same to an installation and to the bookkeeper. Time only moves forward, by up to some hours a step."""

    def __init__(self, seed: int, books: Books, clock: Any) -> None:
        self.random = random.Random(seed)
        self.books = books
        self.clock = clock
        self.keeper = Bookkeeper()
        self.zone = "UTC"
        fees = {"MOBILE_STORE": "30", "PC_SELF_STORE": "0", "MOBILE_SELF_STORE": "0"}
        self.fees: Any = {name: ((None, Fraction(percent)),) for name, percent in fees.items()}
        self.share: Any = ((None, Fraction(10)),)
        books.studio.config("settlement.share", "10")

    @property
    def agreed(self) -> Agreed:
        return Agreed(self.zone, dict(self.fees), self.share)

    def run(self) -> None:
        often = {self.order: 6, self.pay: 5, self.money_back: 5, self.refund_payment: 2, self.boost: 3, self.close: 3}
        often |= {self.close_two: 2, self.reopen: 2, self.change_zone: 2, self.change_rate: 1}
        for step in self.random.choices(list(often), list(often.values()), k=STEPS):
            step()
            self.clock.shift(self.random.choice((1, 60, 700, 7000)))
        for month in MONTHS:
            self.close(month)
        self.clock.move_to("2027-02-02T00:00:00Z")
        for month in LATE_MONTHS:
            self.close(month)

    # What happens

    def order(self) -> None:
        name, currency = f"o-{self.random.randrange(40)}", self.random.choice((*DECIMALS, "USD", "EUR", "QQQ"))
        gross = self.random.choice((0, 1, 99, 999, 920, 10**6, self.random.randrange(10**5)))
        fee, net = (self.random.choice((None, "0.3", "85.5", "764.5", "0.333333", "1")) for _ in "fn")
        at, now = self.moment(), datetime.now(UTC)
        told = self.random.choice((at, at, at, at, None, at.replace(year=1999), at.replace(year=2999)))
        figures = {"usd_fee": fee, "usd_net": net, "usd_gross": self.random.choice((None, "999"))}
        kind = "purchase" if gross else "bonus"
        self.books.order(name, gross, currency, told and in_stamp(told), kind=kind, **figures)
        if name not in self.keeper.orders:
            usd = [None if each is None else Fraction(each) for each in (fee, net)]
            self.keeper.orders[name] = Order(currency, gross, told if told is at else now, *usd)

    def money_back(self) -> None:
        name, reason = f"o-{self.random.randrange(40)}", self.random.choice(("refund", "chargeback", "reinstated"))
        at = self.random.choice((self.moment(), None))
        self.books.refund_order(name, reason, at and in_stamp(at))
        self.keeper.money_back[name].append((reason, at))

    def pay(self) -> None:
        name, currency = f"GP-{self.random.randrange(40)}", self.random.choice(tuple(DECIMALS))
        some = str(self.random.randrange(1, 10**5))
        amount = self.random.choice(("9900", "9.99", "0.01", "3.125", "0", "0.005", some))
        market, player, at = self.random.choice(tuple(MARKETS)), self.random.choice("abc"), self.moment()
        is_new, is_registered = name not in self.keeper.payments, self.random.random() < 0.5
        self.books.pay(name, amount, currency, market, in_stamp(at), player, is_registered=is_registered)
        if is_new:
            self.keeper.payments[name] = Payment(currency, Fraction(amount), MARKETS[market], at, player)
        else:
            self.learn(name)

    def refund_payment(self) -> None:
        name = f"GP-{self.random.randrange(40)}"
        self.books.refund_payment(name, in_stamp(self.moment()))
        if name in self.keeper.payments:
            self.keeper.payments[name].is_refunded = True

    def learn(self, name: str) -> None:
        """Other tests prove whether a report of a known payment corrects it: take what is kept."""
        query = "SELECT * FROM payments WHERE transaction_id = :name"
        (row,) = self.books.connection.execute(query, {"name": name})
        at, was_refunded = datetime.fromisoformat(row["purchased_at"]), self.keeper.payments[name].is_refunded
        kept = (row["currency"], Fraction(row["amount"]), row["distribution_type"], at, row["player_id"])
        self.keeper.payments[name] = Payment(*kept, is_refunded=was_refunded)

    def boost(self) -> None:
        player, creator, at = self.random.choice("abc"), self.random.choice(("AAA11", "BBB22")), self.moment()
        is_end = self.random.randrange(3) == 0
        self.books.boost(player, creator, in_stamp(at), is_end=is_end)
        self.keeper.boosts.append((at, player, "ended" if is_end else "created", creator))

    # What the owner does

    def close(self, month: str | None = None) -> None:
        month = month or self.random.choice(MONTHS)
        self.books.close(month)
        self.keeper.close(month, self.agreed)

    def close_two(self) -> None:
        months = [self.random.choice(MONTHS) for _ in "12"]
        about = (self.books.installation.database, self.books.game, self.books.installation.in_game)
        together(*(lambda month=month: months_closing.close(*about, month, "test") for month in months))
        for month in months:
            self.keeper.close(month, self.agreed)

    def reopen(self) -> None:
        month = self.random.choice(MONTHS)
        with suppress(SettlementError):  # it is open, or a later month holds adjustments of it
            self.books.reopen(month)
            self.keeper.reopen(month)

    def change_zone(self) -> None:
        self.zone = self.random.choice(ZONES)
        self.books.studio.config("settlement.zone", self.zone)

    def change_rate(self) -> None:
        first, second = self.random.choice(PERCENTS), self.random.choice(PERCENTS)
        day = f"{self.random.choice(MONTHS)}-{self.random.randrange(1, 29):02d}"
        text, rates = f"{first}, {second} from {day}", ((None, Fraction(first)), (day, Fraction(second)))
        name = self.random.choice((*self.fees, "share"))
        if name == "share":
            self.books.studio.config("settlement.share", text)
            self.share = rates
        else:
            self.books.studio.config(f"settlement.fee.{name}", text)
            self.fees[name] = rates

    def moment(self) -> datetime:
        """Often near the end of a month, where zones differ."""
        first = datetime.fromisoformat(f"{self.random.choice(MONTHS)}-01T00:00:00+00:00")
        hours = self.random.choice((self.random.uniform(-16, 16), self.random.uniform(0, 650)))
        return first + timedelta(seconds=int(hours * 3600))


def in_stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000000Z").zfill(27)


def rows_of(parts: Iterable[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(parts))))


def check(studio: RandomStudio) -> None:
    books, keeper = studio.books, studio.keeper
    connection, months = books.connection, (*MONTHS, *LATE_MONTHS)
    plain: list[dict[str, str]] = []
    whole: list[dict[str, str]] = []
    sums: dict[str, dict[tuple[str, str], Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for month in months:
        found = closed_month(connection, books.game.id, month)
        starts, ends, _ = keeper.closed[month]
        assert (found.month.starts_at, found.month.ends_at) == (in_stamp(starts), in_stamp(ends))
        plain += rows_of(documents.statement_csv(connection, found))
        whole += rows_of(documents.statement_csv(connection, found, is_whole=True))
        for row in rows_of(documents.creator_csv(connection, found)):
            sums["owed"][row["creator"], row["currency"]] += Fraction(row["creator_share"])
        for (account, currency), amount in balances("".join(documents.beancount(connection, found, "Demo"))).items():
            if ":Sales" in account:
                sums["sold"][account.split(":")[1].lower(), currency] -= amount
    stated = added_up(plain)
    assert added_up(whole) == stated
    expected = {month: keeper.figures(month) for month in keeper.closed}
    assert stated == {month: lines for month, lines in expected.items() if lines}

    for lines in expected.values():
        for (partner, currency, _, creator), line in lines.items():
            sums["gross"][partner, currency] += line["gross"]
            sums["share"][creator, currency] += line["creator_share"]
    for total in totals(books.lines(*months)):
        unit = 10 ** DECIMALS[total.currency]
        sums["total"][total.partner, total.currency] = Fraction(total.gross_minor, unit)
        sums["total share"]["", total.currency] += Fraction(total.share_minor, unit)
        if total.partner == "playcamp":
            assert total.net_minor == total.gross_minor - total.refunds_minor - total.fee_minor

    def nonzero(name: str) -> dict[Any, Fraction]:
        return {key: amount for key, amount in sums[name].items() if amount}

    assert nonzero("sold") == nonzero("gross") == nonzero("total")
    assert nonzero("owed") == nonzero("share")
    assert sum(nonzero("owed").values()) == sum(nonzero("total share").values())


def try_one(seed: int, home: Any) -> None:
    app = create_app(databases.environment(home))
    installation = app.extensions["coinslot"]
    installation.prepare()
    studio = Studio(installation, "demo")
    studio.item("coins")
    with closing(installation.database), databases.travel("2026-12-20T12:00:00Z") as clock:
        found = RandomStudio(seed, Books(installation, studio), clock)
        found.run()
        check(found)
        frozen = found.books.lines(*MONTHS, *LATE_MONTHS)
        for month in MONTHS:
            found.books.close(month)
        assert found.books.lines(*MONTHS, *LATE_MONTHS) == frozen, "closing again has changed something"


@pytest.mark.parametrize("seed", range(4))
def test_all_closed_months_together_are_what_a_bookkeeper_reckons(seed, tmp_path):
    try_one(seed, tmp_path / "home")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 200))
def test_all_closed_months_of_a_hundred_studios_are_what_a_bookkeeper_reckons(seed, tmp_path):
    try_one(seed, tmp_path / "home")


def test_the_bookkeeper_knows_its_calendar_and_its_halves():
    assert following("2026-12") == "2027-01"
    # Summer time ends later on the first of these days.
    assert str(midnight("2026-11", "America/New_York")) == "2026-11-01 04:00:00+00:00"
    assert str(midnight("2026-12", "America/New_York")) == "2026-12-01 05:00:00+00:00"
    halves = [rounded(Fraction(text), 0) for text in ("0.5", "1.5", "-0.5", "0.499999", "-1.5")]
    assert halves == [1, 2, -1, 0, -2]
