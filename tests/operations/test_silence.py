"""Silence: when an address that was called is no longer, found by what is usual there.

The histories are simulated, a year each. A false alarm is a pause that is over by itself and was longer than the limit.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from coinslot.base import clock as clocks
from coinslot.games import games
from coinslot.operations import contacts, pauses, silence
from coinslot.operations.pauses import Day

DAY = 86_400.0
YEAR = 365
SEEDS = range(5)
MOST_FALSE = 2


def open_hours(begin: int, end: int) -> Callable[[float], float]:
    return lambda at: 1.0 if begin <= at % DAY / 3600 < end else 0.0


def by_day(at: float) -> float:
    return 1 + 0.9 * math.sin(2 * math.pi * (at % DAY / DAY - 0.4))


def is_weekend(at: float) -> bool:
    return int(at // DAY) % 7 >= 5


# Name -> calls per day at most, and which part of that at a time.
HISTORIES: dict[str, tuple[float, Callable[[float], float]]] = {
    "even": (30, lambda at: 1.0),
    "daily rhythm": (60, open_hours(9, 23)),
    "soft daily rhythm": (80, lambda at: by_day(at) / 1.9),
    "weekly rhythm": (60, lambda at: 0.0 if is_weekend(at) else open_hours(9, 18)(at)),
    "soft weekly rhythm": (60, lambda at: (0.15 if is_weekend(at) else 1.0) * by_day(at) / 1.9),
    "weekends": (30, lambda at: 1.0 if is_weekend(at) else 0.02),
    "one a day": (1, lambda at: 1.0),
    "one in two days": (0.5, lambda at: 1.0),
    "one in ten days": (0.1, lambda at: 1.0),
    "growing": (100, lambda at: 200 ** (at / DAY / YEAR - 1)),
    "growing fast": (200, lambda at: min(1.0, 200 ** (at / DAY / 90 - 1))),
    "fading": (100, lambda at: 200 ** (-at / DAY / YEAR)),
}


def calls(name: str, rnd: random.Random) -> Iterator[float]:
    """The moments of the calls, in seconds from the beginning: a Poisson process whose rate follows the history."""
    per_day, part = HISTORIES[name]
    at = 0.0
    while (at := at + rnd.expovariate(per_day) * DAY) < YEAR * DAY:
        if rnd.random() < part(at):
            yield at


def busy(rnd: random.Random, per_day: int = 50_000) -> Iterator[tuple[int, int, float]]:
    """Days of a busy address: its number, calls and longest pause. By night there are a tenth of the calls."""
    for day in range(YEAR):
        longest = 0.0
        for part in (0.05, 0.95):
            count = int(per_day * part)
            mean = DAY / 2 / count
            longest = max(longest, -mean * math.log(1 - rnd.random() ** (1 / count)))
        yield day, per_day, longest


@dataclass
class Watched:
    """What is known of an address, as ``contacts.proved`` learns it, without a database."""

    days: list[Day] = field(default_factory=list)
    limits: tuple[float, float] | None = None
    last: float | None = None
    calls: int = 0
    first_limit: tuple[int, int] | None = None  # calls and days when the first limit was there
    false: int = 0
    longest: float = 0.0

    def call(self, at: float) -> None:
        pause = 0.0 if self.last is None else at - self.last
        self.last = at
        self.end_pause(int(at // DAY), 1, pause)

    def end_pause(self, day: int, count: int, pause: float) -> None:
        self.false += self.limits is not None and pause > self.limits[1]
        self.longest = max(self.longest, pause)
        self.calls += count
        last = self.days.pop() if self.days and self.days[-1].number == day else Day(day, 0, -1)
        self.days.append(Day(day, last.ended + count, max(last.longest_seconds, pause)))
        if pause > last.longest_seconds or self.limits is None:
            self.limits = silence.limits([each for each in self.days if day - each.number <= pauses.KEPT_DAYS], day)
        if self.limits is not None and self.first_limit is None:
            self.first_limit = (self.calls, len(self.days))


@pytest.mark.parametrize("name", HISTORIES)
def test_few_false_alarms_in_a_year_and_the_alarm_before_three_times_the_longest_pause(name):
    for seed in SEEDS:
        watched = Watched()
        for at in calls(name, random.Random(f"{name} {seed}")):
            watched.call(at)

        assert watched.false <= MOST_FALSE, (name, seed)
        assert watched.limits is not None
        assert watched.limits[1] <= 3 * watched.longest, (name, seed)  # it stops now
        assert watched.first_limit >= (silence.FEWEST_CALLS, silence.FEWEST_DAYS), (name, seed)


def test_a_busy_address_has_no_false_alarm_and_is_missed_within_minutes():
    for seed in SEEDS:
        watched = Watched()
        for day, count, longest in busy(random.Random(f"busy {seed}")):
            watched.end_pause(day, count, longest)

        assert watched.false == 0
        assert silence.LEAST_SECONDS <= watched.limits[1] <= 3 * watched.longest < 3600


def test_an_alarm_comes_early_wherever_in_the_year_the_calls_stop():
    for name in ("even", "daily rhythm", "weekly rhythm", "one a day", "growing"):
        watched = Watched()
        for at in calls(name, random.Random(name)):
            watched.call(at)
            if watched.limits is not None and watched.days[-1].number - watched.days[0].number >= silence.YOUNG_DAYS:
                assert watched.limits[1] <= 3 * watched.longest, (name, at / DAY)


def test_an_outage_that_is_over_does_not_make_the_next_one_usual():
    watched = Watched()
    for at in calls("daily rhythm", random.Random("outage")):
        if not 100 * DAY < at < 105 * DAY:
            watched.call(at)

    assert watched.longest >= 5 * DAY
    assert watched.limits[1] < 2 * DAY


def silent(installation) -> list[silence.Silent]:
    connection = installation.database.read()
    return silence.find(contacts.of_all(connection), games.outlines(connection, installation.catalogue))


def call(installation, count: int = 1, endpoint: str = "orders") -> None:
    for _ in range(count):
        installation.observations.called(1, "appcharge", endpoint)
    installation.observations.flush()


def days_of_calls(installation, clock, days: int, hours: tuple[int, ...] = (9, 10, 12, 13, 15, 17, 19, 21)) -> None:
    """Calls at these hours of each day, from the next midnight on; the clock stops after the last one."""
    midnight = (clocks.now() // DAY + 1) * DAY
    for day in range(days):
        for hour in hours:
            clock.move_to(midnight + day * DAY + hour * 3600)
            call(installation)


def test_the_database_learns_what_the_simulation_does(installation, studio, clock, db):
    watched = Watched()
    begin = (clocks.now() // DAY + 1) * DAY
    for at in calls("soft weekly rhythm", random.Random("same")):
        if at > 60 * DAY:
            break
        clock.move_to(begin + at)
        installation.database.write_here(lambda tx: contacts.proved(tx, 1, "appcharge", "orders"))
        watched.call(at)
    (row,) = db("SELECT * FROM contacts")

    assert row["usual_pause_seconds"] == pytest.approx(watched.limits[0], abs=1)
    assert clocks.seconds(row["silent_from"]) == pytest.approx(begin + watched.last + watched.limits[1], abs=3)
    assert sum(each["ended"] for each in db("SELECT ended FROM pauses")) == watched.calls


def test_an_address_that_stops_is_silent_until_it_is_called_again(installation, studio, clock):
    days_of_calls(installation, clock, 10)
    call(installation, endpoint="auth")  # another address learns for itself, and knows nothing yet
    last = clocks.stamp()
    clock.shift(12 * 3600)
    assert silent(installation) == []
    clock.shift(21 * 3600)

    assert silent(installation) == [silence.Silent("demo", "appcharge", "orders", last, 12 * 3600, "")]

    call(installation)
    assert silent(installation) == []


@pytest.mark.parametrize("enough", [True, False])
def test_nothing_is_silent_before_twenty_calls_on_three_days(installation, studio, clock, enough):
    days_of_calls(installation, clock, 3, (9, 10, 11, 12, 13, 14))
    call(installation, 2 if enough else 1)
    clock.shift(60 * DAY)

    assert bool(silent(installation)) is enough


def test_many_calls_on_two_days_are_not_enough(installation, studio, clock):
    days_of_calls(installation, clock, 2, tuple(range(24)))
    clock.shift(60 * DAY)

    assert silent(installation) == []


def test_an_address_that_was_never_called_is_not_silent(installation, studio, clock):
    installation.database.write_here(lambda tx: contacts.copied(tx, 1, "appcharge", "orders"))
    studio.config("silence.appcharge", "1h")
    clock.shift(60 * DAY)

    assert silent(installation) == []


def test_the_owner_fixes_the_limit_or_switches_it_off(installation, studio, clock):
    days_of_calls(installation, clock, 10)
    last = clocks.stamp()
    studio.config("silence.appcharge", "90 m")
    clock.shift(89 * 60)
    assert silent(installation) == []
    clock.shift(120)
    assert silent(installation) == [silence.Silent("demo", "appcharge", "orders", last, None, "90m")]

    studio.config("silence.appcharge", "60d")
    clock.shift(50 * DAY)
    assert silent(installation) == []
    studio.config("silence.appcharge", "")
    assert len(silent(installation)) == 1
    studio.config("silence.appcharge", "off")
    assert silent(installation) == []


@pytest.mark.parametrize("value", ["6", "h", "0h", "-1h", "6 hours", "1.5h", "100000d", "on"])
def test_what_is_no_time_is_refused(studio, value):
    with pytest.raises(Exception, match="use auto, off, or a time such as 90m, 6h or 2d"):
        studio.config("silence.appcharge", value)


def test_a_partner_whose_keys_were_removed_is_not_waited_for(installation, studio, clock, db):
    days_of_calls(installation, clock, 10)
    clock.shift(60 * DAY)
    assert len(silent(installation)) == 1

    installation.database.write_here(lambda tx: tx.execute("DELETE FROM secrets WHERE name LIKE 'appcharge.%'"))
    assert silent(installation) == []


def test_days_long_ago_are_deleted(installation, studio, clock, db):
    call(installation)
    clock.shift((pauses.KEPT_DAYS + 1) * DAY)
    call(installation)

    assert [row["day"] for row in db("SELECT day FROM pauses")] == [clocks.stamp()[:10]]


def test_a_clock_that_was_set_back_ends_no_pause_below_zero(installation, studio, clock, db):
    call(installation)
    clock.shift(-2 * DAY)
    call(installation)

    assert {row["longest_seconds"] for row in db("SELECT longest_seconds FROM pauses")} == {0}
