"""Random studios against a bookkeeper who shares no code with us: every document of every month says the same."""

import csv
import io
import random
from collections import defaultdict
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
import time_machine

from app import create_app
from coinslot.settlement import closing as settlement
from coinslot.settlement import documents
from coinslot.settlement.months import SettlementError, find_closed
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
from tests.settlement.test_closing import boost

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Seoul", "Australia/Lord_Howe", "Asia/Kathmandu")
MONTHS = ["2026-02", "2026-03", "2026-04", "2026-05", "2026-06", "2026-07", "2026-08", "2026-09", "2026-10", "2026-11"]
MARKETS = {"google": "MOBILE_STORE", "pc": "PC_SELF_STORE", "web": "MOBILE_SELF_STORE"}
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
        self.fees = {name: ((None, Fraction(percent)),) for name, percent in
                     (("MOBILE_STORE", "30"), ("PC_SELF_STORE", "0"), ("MOBILE_SELF_STORE", "0"))}  # fmt: skip
        self.share: Any = ((None, Fraction(0)),)

    @property
    def agreed(self) -> Agreed:
        return Agreed(self.zone, dict(self.fees), self.share)

    def run(self) -> None:
        does = [self.order] * 6 + [self.pay] * 5 + [self.money_back] * 5 + [self.refund_payment] * 2 + [self.boost]
        does += (
            [self.close] * 3 + [self.close_two] * 2 + [self.reopen] * 2 + [self.change_zone] * 2 + [self.change_rate]
        )
        for _ in range(STEPS):
            self.random.choice(does)()
            self.clock.shift(self.random.choice((1, 60, 700, 7000)))
        for month in MONTHS:
            self.close(month)
        self.clock.move_to("2027-02-02T00:00:00Z")
        for month in ("2026-12", "2027-01"):  # what came late for those before
            self.close(month)

    # What happens

    def order(self) -> None:
        name, currency = f"o-{self.random.randrange(40)}", self.random.choice((*DECIMALS, "USD", "EUR", "QQQ"))
        gross = self.random.choice((0, 1, 99, 999, 920, 10**6, self.random.randrange(10**5)))
        fee, net = (self.random.choice((None, "0.3", "85.5", "764.5", "0.333333", "1")) for _ in "fn")
        at, now = self.moment(), self.now()
        told = self.random.choice((at, at, at, at, None, at.replace(year=1999), at.replace(year=2999)))
        self.books.order(name, gross, currency, told and stamp(told), kind="purchase" if gross else "bonus",
                         usd_fee=fee, usd_net=net, usd_gross=self.random.choice((None, "999")))  # fmt: skip
        if name not in self.keeper.orders:
            usd = [None if each is None else Fraction(each) for each in (fee, net)]
            self.keeper.orders[name] = Order(currency, gross, told if told is at else now, *usd)

    def money_back(self) -> None:
        name, reason = f"o-{self.random.randrange(40)}", self.random.choice(("refund", "chargeback", "reinstated"))
        at = self.random.choice((self.moment(), None))
        self.books.refund_order(name, reason, at and stamp(at))
        self.keeper.money_back[name].append((reason, at))

    def pay(self) -> None:
        name, currency = f"GP-{self.random.randrange(40)}", self.random.choice(tuple(DECIMALS))
        amount = self.random.choice(
            ("9900", "9.99", "0.01", "3.125", "0", "0.005", str(self.random.randrange(1, 10**5)))
        )
        market, player, at = self.random.choice(tuple(MARKETS)), self.random.choice("abc"), self.moment()
        is_new = name not in self.keeper.payments
        self.books.pay(name, amount, currency, market, stamp(at), player, is_registered=self.random.random() < 0.5)
        if is_new:
            self.keeper.payments[name] = Payment(currency, Fraction(amount), MARKETS[market], at, player)
        else:
            self.learn(name)

    def refund_payment(self) -> None:
        name = f"GP-{self.random.randrange(40)}"
        self.books.refund_payment(name, stamp(self.moment()))
        if name in self.keeper.payments:
            self.keeper.payments[name].is_refunded = True

    def learn(self, name: str) -> None:
        """Whether a report of a known payment corrected it is the business of other tests: take what is kept."""
        (row,) = self.books.installation.database.read().execute(
            "SELECT * FROM payments WHERE transaction_id = :name", {"name": name}
        )
        at = datetime.fromisoformat(row["purchased_at"])
        found = Payment(row["currency"], Fraction(row["amount"]), row["distribution_type"], at, row["player_id"])
        found.is_refunded = self.keeper.payments[name].is_refunded
        self.keeper.payments[name] = found

    def boost(self) -> None:
        player, creator, at = self.random.choice("abc"), self.random.choice(("AAA11", "BBB22")), self.moment()
        kind = self.random.choice(("created", "created", "ended"))
        boost(self.books, kind, player, creator, stamp(at))
        self.keeper.boosts.append((at, player, kind, creator))

    # What the owner does

    def close(self, month: str | None = None) -> None:
        month = month or self.random.choice(MONTHS)
        self.books.close(month)
        self.keeper.close(month, self.agreed)

    def close_two(self) -> None:
        months = [self.random.choice(MONTHS) for _ in "12"]
        game = self.books.game
        together(
            *(
                lambda month=month: settlement.close(
                    self.books.installation.database, game, self.books.installation.in_game, month, "test"
                )
                for month in months
            )
        )
        for month in months:
            self.keeper.close(month, self.agreed)

    def reopen(self) -> None:
        month = self.random.choice(MONTHS)
        with suppress(SettlementError):  # it is open, or a later month holds adjustments of it
            self.books.installation.database.write_here(
                lambda tx: settlement.reopen(tx, self.books.game.id, month, "test", "why")
            )
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

    # When

    def now(self) -> datetime:
        return datetime.now(UTC)

    def moment(self) -> datetime:
        """Often near the end of a month, where zones differ."""
        month = self.random.choice(MONTHS)
        first = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
        hours = self.random.choice((self.random.uniform(-16, 16), self.random.uniform(0, 650)))
        return first + timedelta(seconds=int(hours * 3600))


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000000Z").zfill(27)


def check(studio: RandomStudio) -> None:
    books, keeper = studio.books, studio.keeper
    connection = books.installation.database.read()
    plain: list[dict[str, str]] = []
    whole: list[dict[str, str]] = []
    booked: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    owed: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for month in (*MONTHS, "2026-12", "2027-01"):
        found = find_closed(connection, books.game.id, month)
        assert found is not None
        starts, ends, _ = keeper.closed[month]
        assert (found.month.starts_at, found.month.ends_at) == (stamp(starts), stamp(ends))
        plain += csv.DictReader(io.StringIO("".join(documents.statement_csv(connection, found))))
        whole += csv.DictReader(io.StringIO("".join(documents.statement_csv(connection, found, is_whole=True))))
        for row in csv.DictReader(io.StringIO("".join(documents.creator_csv(connection, found)))):
            owed[row["creator"], row["currency"]] += Fraction(row["creator_share"])
        for key, amount in balances("".join(documents.beancount(connection, found, "Demo"))).items():
            booked[key] += amount
    stated = added_up(plain)
    assert added_up(whole) == stated
    expected = {month: keeper.figures(month) for month in keeper.closed}
    assert stated == {month: lines for month, lines in expected.items() if lines}

    gross: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    shares: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for lines in expected.values():
        for (partner, currency, _, creator), line in lines.items():
            gross[partner.title(), currency] += line["gross"]
            shares[creator, currency] += line["creator_share"]
    sales: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for (account, currency), amount in booked.items():
        if ":Sales" in account:
            sales[account.split(":")[1], currency] -= amount
    assert nonzero(sales) == nonzero(gross)
    assert nonzero(owed) == nonzero(shares)


def nonzero(sums: dict[Any, Fraction]) -> dict[Any, Fraction]:
    return {key: amount for key, amount in sums.items() if amount}


def try_one(seed: int, home: Any) -> None:
    app = create_app({"COINSLOT_HOME": str(home)})
    installation = app.extensions["coinslot"]
    installation.prepare()
    studio = Studio(installation, "demo")
    studio.item("coins")
    with closing(installation.database), time_machine.travel("2026-12-20T12:00:00Z", tick=False) as clock:
        found = RandomStudio(seed, Books(installation, studio), clock)
        found.run()
        check(found)


@pytest.mark.parametrize("seed", range(4))
def test_all_closed_months_together_are_what_a_bookkeeper_reckons(seed, tmp_path):
    try_one(seed, tmp_path / "home")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 200))
def test_all_closed_months_of_a_hundred_studios_are_what_a_bookkeeper_reckons(seed, tmp_path):
    try_one(seed, tmp_path / "home")


def test_the_bookkeeper_knows_its_calendar_and_its_halves():
    assert following("2026-12") == "2027-01"
    assert (
        str(midnight("2026-11", "America/New_York")) == "2026-11-01 04:00:00+00:00"
    )  # summer time ends later that day
    assert str(midnight("2026-12", "America/New_York")) == "2026-12-01 05:00:00+00:00"
    halves = [rounded(Fraction(text), 0) for text in ("0.5", "1.5", "-0.5", "0.499999", "-1.5")]
    assert halves == [1, 2, -1, 0, -2]
