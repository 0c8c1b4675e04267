"""What to do next about a secret, told from its dates alone."""

import pytest

from coinslot.access import rotation
from coinslot.access.keyring import SecretRow
from coinslot.base import clock

NOW = 1_800_000_000.0
DAY = 86400


def row(slot, days_old, used_days_ago=None):
    used = None if used_days_ago is None else clock.stamp(NOW - used_days_ago * DAY)
    return SecretRow("a.key", slot, clock.stamp(NOW - days_old * DAY), used, "")


def advice_on(*rows):
    return [(each.what, each.step, each.is_due) for each in rotation.advice(rows, NOW)["a.key"]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("current", 1)], [("ok", None, False)]),
        ([row("current", 364)], [("ok", None, False)]),
        ([row("current", 364.99)], [("ok", None, False)]),
        ([row("current", 365)], [("old", "rotate", True)]),
        ([row("current", 0.5), row("previous", 300)], [("not entered", "retire", False)]),
        ([row("current", 8), row("previous", 300, 9)], [("not entered", "retire", True)]),
        ([row("current", 3, 1), row("previous", 300, 2)], [("still used", "retire", False)]),
        ([row("current", 8, 1), row("previous", 300, 2)], [("still used", "retire", True)]),
        ([row("current", 3, 1), row("previous", 300, 4)], [("waiting", "retire", False)]),
        ([row("current", 7, 1), row("previous", 300, 7.5)], [("safe to retire", "retire", True)]),
        ([row("current", 8, 1), row("previous", 300, 7.5)], [("safe to retire", "retire", True)]),
        ([row("current", 8, 1), row("previous", 300)], [("safe to retire", "retire", True)]),
        ([row("current", 400, 1), row("previous", 800)], [("old", "rotate", True), ("safe to retire", "retire", True)]),
    ],
)
def test_what_is_next(rows, expected):
    assert advice_on(*rows) == expected


def test_a_rotation_says_from_when_on_the_old_value_may_go():
    (advice,) = rotation.advice([row("current", 3, 1), row("previous", 300)], NOW)["a.key"]
    assert advice.sentence.endswith(f"until {clock.stamp(NOW + 4 * DAY)[:10]}")


def test_a_previous_value_alone_is_nobodys_secret():
    assert rotation.advice([row("previous", 3)], NOW) == {}
