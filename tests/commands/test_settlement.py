"""``flask settlement``, as an owner types it, and the jobs that do it unasked."""

import csv
import io
import json
from pathlib import Path

import pytest

from coinslot.base import clock as clocks
from coinslot.relay import jobs as schedules
from coinslot.settlement import jobs, months, periods
from handlers.kit import partner_reports
from tests.books import Books
from tests.conftest import appcharge_headers, order
from tests.fakes import appcharge as fake_appcharge
from tests.fakes.appcharge import FakeAppcharge
from tests.settlement.test_documents import bean_check


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


@pytest.fixture
def appcharge(studio):
    with FakeAppcharge() as fake:
        studio.config("appcharge.base_url", fake.url)
        yield fake


@pytest.fixture
def flask(app, studio):
    def run(*words, exit_code=0):
        result = app.test_cli_runner().invoke(args=["settlement", *words])
        assert result.exit_code == exit_code, result.output
        if exit_code == 1:
            assert isinstance(result.exception, SystemExit), "a traceback instead of words"
        return result.output

    return run


def test_a_month_from_its_orders_to_the_creators_money(flask, client, books, appcharge, tmp_path):
    body = json.dumps(
        order(
            purchaseDateAndTimeUtc="2026-07-21T14:17:27.329Z",
            priceTotalInDollar=999,
            taxInDollar=149,
            estimatedAppchargeFee=85.5,
            estimatedPublisherNetAmount=764.5,
        )
    ).encode()
    assert client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body)).status_code == 200
    for order_id in ("68e25eebdcb1278", "lost-order"):
        row = fake_appcharge.transaction(order_id, "2026-07-21T14:17:27.329Z")
        appcharge.transactions.append(row | {"orderId": order_id})

    assert "open; this is what it would be closed with" in flask("show", "demo", "2026-07")
    assert "2026-07 of demo is closed." in flask("close", "demo", "2026-07", "--note", "on time")
    assert "was closed" in flask("close", "demo", "2026-07")

    refused = flask("confirm", "demo", "2026-07", exit_code=1)
    assert "not reconciled" in refused
    told = flask("reconcile", "demo", "2026-07")
    assert "CHARGED BUT NOT GRANTED: 1 (9.99 USD)" in told
    assert "have Appcharge send the award of lost-order again" in told
    rows = list(csv.DictReader(io.StringIO(flask("differences", "demo", "2026-07"))))
    names = ("partner", "reference", "result", "stake", "ours", "theirs")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("appcharge", "lost-order", "missing_here", "9.99", "-", "9.99")
    ]

    assert "--note" in flask("reconcile", "demo", "2026-07", "--accept", exit_code=2)
    assert "reconciled." in flask(
        "reconcile", "demo", "2026-07", "--accept", "--note", "support has lost-order in hand"
    )
    assert "payment confirmed." in flask("confirm", "demo", "2026-07", "--note", "bank 12")
    assert "creators settled." in flask("confirm", "demo", "2026-07", "--creators")
    assert "as before" in flask("confirm", "demo", "2026-07")
    steps = flask("show", "demo", "2026-07", "--steps")
    assert [
        word for word in ("closed", "reconciled", "payment confirmed", "creators settled") if word not in steps
    ] == []
    assert "confirmed" in flask("reopen", "demo", "2026-07", "--note", "why", exit_code=1)
    assert "creators settled" in flask("list", "demo")

    exported = flask("export", "demo", "2026-07")
    assert exported == flask("export", "demo", "2026-07")
    assert exported == (
        "month,partner,currency,distribution_type,creator,count,gross,refunds,fee,net,creator_share,without_figures\n"
        "2026-07,appcharge,USD,,,1,9.99,0.00,0.86,7.65,0.00,0.00\n"
    )
    assert bean_check(flask("export", "demo", "2026-07", "--format", "beancount"), tmp_path / "july.beancount") == ""
    assert flask("export", "demo", "2026-07", "--format", "creators").count("\n") == 1
    assert flask("export", "demo", "2026-07", "--format", "all").startswith("month,partner,currency")


def test_a_report_as_a_file_with_columns_of_its_own(flask, books, tmp_path):
    books.pay("GP-1", "9.99", "USD")
    flask("close", "demo", "2026-07")
    report = tmp_path / "report.csv"
    report.write_text("Payment;x\n")
    words = ("reconcile", "demo", "2026-07", "--file", str(report))

    assert "--partner" in flask(*words, exit_code=2)
    assert "no column amount" in flask(*words, "--partner", "playcamp", exit_code=1)
    report.write_text("Payment,Cents\nGP-1,999\nGP-2,500\n")
    mapped = ("--map", "reference=Payment", "--map", "amount=Cents", "--unit", "minor", "--currency", "USD")
    told = flask(*words, "--partner", "playcamp", *mapped)
    assert "1 purchases agree" in told
    assert "COUNTED THERE AND NOT REPORTED HERE: 1 (5.00 USD)" in told


def test_without_anybody_to_ask_it_says_so(flask, books, studio):
    books.pay("GP-1")
    flask("close", "demo", "2026-07")
    assert "no partner of this month can be asked" in flask("reconcile", "demo", "2026-07", exit_code=1)
    assert "playtem has no figures" in flask("reconcile", "demo", "2026-07", "--partner", "playtem", exit_code=1)


def test_passing_over_a_state_takes_a_word_and_a_note(flask, books):
    books.pay("GP-1")
    flask("close", "demo", "2026-07")

    assert "not reconciled" in flask("confirm", "demo", "2026-07", "--skip", exit_code=1)
    flask("confirm", "demo", "2026-07", "--skip", "--note", "no report to be had")

    assert "reconciled (passed over)" in flask("show", "demo", "2026-07", "--steps")


def test_a_month_that_a_report_does_not_agree_with_is_confirmed_only_if_that_is_accepted(flask, books, appcharge):
    books.order("o-1")
    row = fake_appcharge.transaction("t-1", "2026-07-10T10:00:00.000Z")
    appcharge.transactions.append(row | {"orderId": "o-1"})
    flask("close", "demo", "2026-07")
    flask("reconcile", "demo", "2026-07")
    assert "reconciled" in flask("list", "demo")
    appcharge.transactions.append(fake_appcharge.transaction("t-2", "2026-07-10T10:00:00.000Z") | {"orderId": "o-2"})
    flask("reconcile", "demo", "2026-07")
    assert "closed" in flask("list", "demo")

    for words in ((), ("--accept",), ("--skip", "--note", "why"), ("--note", "why")):
        refused = flask("confirm", "demo", "2026-07", *words, exit_code=1)
        assert "does not agree with the newest report of appcharge" in refused
    assert "payment confirmed." in flask("confirm", "demo", "2026-07", "--accept", "--note", "o-2 is in hand")
    steps = flask("show", "demo", "2026-07", "--steps")
    assert "a newer report of appcharge does not agree" in steps
    assert steps.count("o-2 is in hand") == 2, "reconciled and confirmed"


def test_a_report_that_is_still_being_compared_is_not_passed_over(app, flask, installation, books, appcharge):
    books.order("o-1")
    appcharge.transactions.append(fake_appcharge.transaction("t", "2026-07-10T10:00:00.000Z") | {"orderId": "o-1"})
    flask("close", "demo", "2026-07")
    flask("reconcile", "demo", "2026-07")
    flask("reconcile", "demo", "2026-07", "--background")
    assert "does not agree" in flask("confirm", "demo", "2026-07", exit_code=1)
    installation.new_relay().drain()
    assert "payment confirmed." in flask("confirm", "demo", "2026-07")


def test_an_open_separator_is_asked_for_and_told(flask, books, tmp_path, db):
    books.pay("GP-1", "1000", "USD")
    flask("close", "demo", "2026-07")
    report = tmp_path / "report.csv"
    report.write_text("Payment ID;Total;Currency\nGP-1;1.000;USD\nTotal;1.000;\n")
    words = ("reconcile", "demo", "2026-07", "--file", str(report), "--partner", "playcamp")
    assert "1.000 on line 2 may be thousands or a fraction" in flask(*words, exit_code=1)
    assert db("SELECT * FROM reconciliations") == [], "what cannot be read replaces nothing"
    told = flask(*words, "--decimal", "comma")
    assert "1 purchases agree" in told
    assert "Line 3 was left out as a line of totals: Total, 1.000." in told
    assert "Columns were recognised: reference from Payment ID, amount from Total." in told


def test_reopened_and_closed_again(flask, books):
    books.pay("GP-1")
    flask("close", "demo", "2026-07")
    books.pay("GP-2")
    assert "open again" in flask("reopen", "demo", "2026-07", "--note", "a day was missing")
    flask("close", "demo", "2026-07")
    assert ",2,19800," in flask("export", "demo", "2026-07")


def test_a_month_shows_what_stands_apart_and_what_came_late(flask, books):
    books.order("o-1", 0, kind="bonus")
    books.close()
    books.pay("GP-1", is_registered=False)
    books.close("2026-08")
    assert "apart: 1 free (appcharge USD)" in flask("show", "demo", "2026-07")
    assert "adjustment" in flask("show", "demo", "2026-08")


@pytest.mark.parametrize("words", [("show",), ("close",), ("export",), ("reconcile",), ("confirm",)])
def test_what_is_no_game_or_month_is_told_in_words(flask, words):
    assert "there is no game nobody" in flask(*words, "nobody", "2026-07", exit_code=1)
    assert flask(*words, "demo", "2026-99", exit_code=1).startswith("Error: ")


def test_the_present_month_is_closed_only_if_you_insist(flask, books):
    present = periods.of(clocks.stamp(), "UTC")
    assert "not over" in flask("close", "demo", present, exit_code=1)
    assert "is closed" in flask("close", "demo", present, "--early")


def test_a_change_of_the_zone_is_said_with_the_month_from_which_it_holds(app, flask, browser, books):
    books.close()
    runner = app.test_cli_runner()
    said = runner.invoke(args=["config", "set", "demo", "settlement.zone", "Asia/Seoul"]).output
    note = (
        "changed from UTC to Asia/Seoul: that holds from 2026-08 on. 2026-08 begins 2026-08-01 00:00 UTC, where the "
        "closed month before it ended"
    )

    assert note in said
    assert note in flask("list", "demo")
    assert note in flask("show", "demo", "2026-08")
    assert note not in flask("show", "demo", "2026-07")
    for page in ("settlements", "settlements/2026-08"):
        assert note in browser.get(f"/games/demo/{page}").text
    assert note in flask("close", "demo", "2026-08")
    assert note in flask("list", "demo")


def test_an_open_month_shows_what_came_late_and_names_what_is_too_large(flask, books):
    books.close()
    books.pay("GP-1")
    books.order("huge", 10**18 - 1, at="2026-08-10T00:00:00.000000Z")

    shown = flask("show", "demo", "2026-08")

    assert "adjustment" in shown
    assert "apart: 1 too large to be summed: huge (appcharge USD)" in shown


class TestJobs:
    def test_months_close_by_themselves_in_the_games_zone_some_days_after_their_end(
        self, installation, books, studio, clock
    ):
        books.pay("GP-1", at="2026-06-10T00:00:00Z")
        studio.config("settlement.zone", "Asia/Seoul")
        studio.config("settlement.close_after_days", "3")
        clock.move_to("2026-08-03T14:59:59Z")

        installation.new_relay().drain()
        states = {each.month.name: each.state for each in months.month_list(installation.database.read(), books.game)}
        assert states == {"2026-06": "closed", "2026-07": "open", "2026-08": "open"}

        clock.move_to("2026-08-03T15:00:01Z")
        installation.new_relay().drain()
        states = {each.month.name: each.state for each in months.month_list(installation.database.read(), books.game)}
        assert states == {"2026-06": "closed", "2026-07": "closed", "2026-08": "open"}
        (step,) = months.steps(installation.database.read(), 1, "2026-07")
        assert (step.actor, step.note) == ("job", "3 days after its end")

    def test_without_the_setting_nothing_closes(self, installation, books):
        books.pay("GP-1")
        installation.new_relay().drain()
        assert {each.state for each in months.month_list(installation.database.read(), books.game)} == {"open"}

    def test_trouble_with_a_partner_is_waited_out(self, app, installation, books, appcharge, studio):
        books.order("o-1")
        books.close()
        appcharge_partner = next(each for each in app.extensions["coinslot.partners"] if each.name == "appcharge")
        partner_reports.begin(installation, books.game, "2026-07", appcharge_partner, "test")
        studio.secret("appcharge.publisher_token", "wrong")

        installation.new_relay().drain()

        (row,) = installation.database.read().execute(
            "SELECT * FROM schedules WHERE name = :name", {"name": jobs.RECONCILE_JOB}
        )
        assert "401" in row["last_error"]
        assert row["due_at"] is not None
        assert schedules.next_due(installation.database.read(), [jobs.RECONCILE_JOB]) is not None


def test_nothing_here_writes_a_secret_or_a_body(flask, books, appcharge, caplog):
    books.order("o-1")
    books.close()
    told = flask("reconcile", "demo", "2026-07")
    for secret in ("test-publisher-token", "alice@example.com", "192.0.2.7"):
        assert secret not in told + caplog.text
    assert not Path("report.csv").exists()
