"""Amounts, ids and jobs as pages and commands write them."""

import re

import pytest

from coinslot.base.clock import now, stamp
from coinslot.store.db import SCHEMA_FILE
from handlers.dashboard.frame.words import TONE_OF
from handlers.kit import wording
from handlers.kit.job_names import job_name


@pytest.mark.parametrize(
    ("major", "currency", "said"),
    [
        ("12000", "KRW", "12,000 KRW"),
        ("9.9", "USD", "9.90 USD"),
        ("1234567.891", "USD", "1,234,567.891 USD"),
        ("1.5", "KWD", "1.500 KWD"),
        ("-3", "JPY", "-3 JPY"),
        ("12", "", "12"),
        ("much", "USD", "much USD"),
        ("1e9999999", "USD", "1e9999999 USD"),
        ("NaN", "USD", "NaN USD"),
    ],
)
def test_an_amount_of_a_payment_is_written_as_all_others(major, currency, said):
    assert wording.amount(major, currency) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "less than a minute"),
        (1080, "18 minutes"),
        (5400, "90 minutes"),
        (36000, "10 hours"),
        (-60, "less than a minute"),
    ],
)
def test_what_lasts_is_said_with_for(seconds, said, clock):
    assert wording.for_time(stamp(now() - seconds)) == f"for {said}"


def test_an_id_loses_its_middle_and_keeps_both_ends():
    assert wording.shortened("68e25eebdcb1278", 24) == "68e25eebdcb1278"
    short = wording.shortened("750b8559-16e1-4b3c-9d0a-8a7c9f21b1d4", 24)
    assert (short, len(short)) == ("750b8559-16e1-…c9f21b1d4", 24)
    assert "\u202e" not in wording.shortened("\u202e" * 50, 24)


def test_every_job_has_a_name_for_people(app, installation):
    with app.app_context():
        nameless = [name for name in (*installation.jobs, *installation.own_jobs) if job_name(name) == name]
    assert nameless == []


def test_every_state_of_the_database_has_a_colour():
    schema = re.sub("--.*", "", SCHEMA_FILE.read_text())
    columns = re.findall(r"^ +(?:state|outcome|result) +TEXT[^,]*?\bIN\s*\(([^)]*)\)", schema, re.MULTILINE)
    words = {word for column in columns for word in re.findall(r"'(\w+)'", column)}
    assert {"dead", "open", "creators_settled", "ambiguous", "missing_here"} <= words
    assert sorted(words - set(TONE_OF)) == []
