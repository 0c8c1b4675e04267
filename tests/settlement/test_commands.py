"""``flask settlement``, as an owner types it, and the jobs that do it unasked."""

import csv
import io
import json
from pathlib import Path

import pytest

from coinslot.base import clock as clocks
from coinslot.relay import jobs as schedules
from coinslot.settlement import periods
from coinslot.settlement.runs import RECONCILE_JOB
from tests.conftest import appcharge_headers, order
from tests.reconciler import add_row
from tests.settlement.test_documents import bean_check

JULY = ("demo", "2026-07")


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
    figures = {"taxInDollar": 149, "estimatedAppchargeFee": 85.5, "estimatedPublisherNetAmount": 764.5}
    body = json.dumps(order(priceTotalInDollar=999, **figures)).encode()
    assert client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body)).status_code == 200
    for order_id in ("68e25eebdcb1278", "lost-order"):
        add_row(appcharge, order_id, at="2026-07-21T14:17:27.329Z")

    assert "open; this is what it would be closed with" in flask("show", *JULY)
    assert "2026-07 of demo is closed." in flask("close", *JULY, "--note", "on time")
    assert "was closed" in flask("close", *JULY)

    assert "not reconciled" in flask("confirm", *JULY, exit_code=1)
    printed = flask("reconcile", *JULY)
    assert "CHARGED BUT NOT GRANTED: 1 (9.99 USD)" in printed
    assert "have Appcharge send the award of lost-order again" in printed
    (row,) = csv.DictReader(io.StringIO(flask("differences", *JULY)))
    names = ("partner", "reference", "result", "stake", "ours", "theirs")
    assert [row[name] for name in names] == ["appcharge", "lost-order", "missing_here", "9.99", "-", "9.99"]

    assert "--note" in flask("reconcile", *JULY, "--accept", exit_code=2)
    assert "reconciled." in flask("reconcile", *JULY, "--accept", "--note", "support has lost-order in hand")
    assert "payment confirmed." in flask("confirm", *JULY, "--note", "bank 12")
    assert "creators settled." in flask("confirm", *JULY, "--creators")
    assert "as before" in flask("confirm", *JULY)
    steps = flask("show", *JULY, "--steps")
    for word in ("closed", "reconciled", "payment confirmed", "creators settled"):
        assert word in steps
    assert "confirmed" in flask("reopen", *JULY, "--note", "why", exit_code=1)
    assert "creators settled" in flask("list", "demo")

    exported = flask("export", *JULY)
    assert exported == flask("export", *JULY)
    assert exported == (
        "month,partner,currency,distribution_type,creator,count,gross,refunds,fee,net,creator_share,without_figures\n"
        "2026-07,appcharge,USD,,,1,9.99,0.00,0.86,7.65,0.00,0.00\n"
    )
    assert bean_check(flask("export", *JULY, "--format", "beancount"), tmp_path / "july.beancount") == ""
    assert flask("export", *JULY, "--format", "creators").count("\n") == 1
    assert flask("export", *JULY, "--format", "all").startswith("month,partner,currency")


def test_a_report_as_a_file_with_columns_of_its_own(flask, books, tmp_path):
    books.pay("GP-1", "9.99", "USD")
    flask("close", *JULY)
    report = tmp_path / "report.csv"
    report.write_text("Payment;x\n")
    words = ("reconcile", *JULY, "--file", str(report))

    assert "--partner" in flask(*words, exit_code=2)
    assert "no column amount" in flask(*words, "--partner", "playcamp", exit_code=1)
    report.write_text("Payment,Cents\nGP-1,999\nGP-2,500\n")
    mapped = ("--map", "reference=Payment", "--map", "amount=Cents", "--unit", "minor", "--currency", "USD")
    printed = flask(*words, "--partner", "playcamp", *mapped)
    assert "1 purchases agree" in printed
    assert "COUNTED THERE AND NOT REPORTED HERE: 1 (5.00 USD)" in printed


def test_an_open_separator_is_asked_for_and_told(flask, books, tmp_path, db):
    books.pay("GP-1", "1000", "USD")
    flask("close", *JULY)
    report = tmp_path / "report.csv"
    report.write_text("Payment ID;Total;Currency\nGP-1;1.000;USD\nTotal;1.000;\n")
    words = ("reconcile", *JULY, "--file", str(report), "--partner", "playcamp")
    assert "1.000 on line 2 may be thousands or a fraction" in flask(*words, exit_code=1)
    assert db("SELECT * FROM reconciliations") == [], "what cannot be read replaces nothing"
    printed = flask(*words, "--decimal", "comma")
    assert "1 purchases agree" in printed
    assert "Line 3 was left out as a line of totals: Total, 1.000." in printed
    assert "Columns were recognised: reference from Payment ID, amount from Total." in printed


def test_without_anybody_to_ask_it_says_so(flask, books, studio):
    books.pay("GP-1")
    flask("close", *JULY)
    assert "no partner of this month can be asked" in flask("reconcile", *JULY, exit_code=1)
    assert "playtem has no figures" in flask("reconcile", *JULY, "--partner", "playtem", exit_code=1)


def test_passing_over_a_state_takes_a_word_and_a_note(flask, books):
    flask("close", *JULY)

    assert "not reconciled" in flask("confirm", *JULY, "--skip", exit_code=1)
    flask("confirm", *JULY, "--skip", "--note", "no report to be had")

    assert "reconciled (passed over)" in flask("show", *JULY, "--steps")


def test_a_month_that_a_report_does_not_agree_with_is_confirmed_only_if_that_is_accepted(flask, books, appcharge):
    books.order("o-1")
    add_row(appcharge, "o-1")
    flask("close", *JULY)
    flask("reconcile", *JULY)
    assert "reconciled" in flask("list", "demo")
    add_row(appcharge, "o-2")
    flask("reconcile", *JULY)
    assert "closed" in flask("list", "demo")

    for words in ((), ("--accept",), ("--skip", "--note", "why"), ("--note", "why")):
        refused = flask("confirm", *JULY, *words, exit_code=1)
        assert "does not agree with the newest report of appcharge" in refused
    assert "payment confirmed." in flask("confirm", *JULY, "--accept", "--note", "o-2 is in hand")
    steps = flask("show", *JULY, "--steps")
    assert "a newer report of appcharge does not agree" in steps
    assert steps.count("o-2 is in hand") == 2, "reconciled and confirmed"


def test_a_report_that_is_still_being_compared_is_not_passed_over(flask, installation, books, appcharge):
    books.order("o-1")
    add_row(appcharge, "o-1")
    flask("close", *JULY)
    flask("reconcile", *JULY)
    flask("reconcile", *JULY, "--background")
    assert "does not agree" in flask("confirm", *JULY, exit_code=1)
    installation.new_relay().drain()
    assert "payment confirmed." in flask("confirm", *JULY)


def test_reopened_and_closed_again(flask, books):
    books.pay("GP-1")
    flask("close", *JULY)
    books.pay("GP-2")
    assert "open again" in flask("reopen", *JULY, "--note", "a day was missing")
    flask("close", *JULY)
    assert ",2,19800," in flask("export", *JULY)


def test_a_month_shows_what_stands_apart_and_what_came_late(flask, books):
    books.order("o-1", 0, kind="bonus")
    books.close()
    books.pay("GP-1", is_registered=False)
    books.order("huge", 10**18 - 1, at="2026-08-10")

    open_month = flask("show", "demo", "2026-08")
    books.close("2026-08")

    assert "apart: 1 free (appcharge USD)" in flask("show", *JULY)
    for shown in (open_month, flask("show", "demo", "2026-08")):
        assert "adjustment" in shown
        assert "apart: 1 too large to be summed: huge (appcharge USD)" in shown


@pytest.mark.parametrize("words", [("show",), ("close",), ("export",), ("reconcile",), ("confirm",)])
def test_what_is_no_game_or_month_is_told_in_words(flask, words):
    assert "there is no game nobody" in flask(*words, "nobody", "2026-07", exit_code=1)
    assert flask(*words, "demo", "2026-99", exit_code=1).startswith("Error: ")


def test_the_present_month_is_closed_only_if_you_insist(flask):
    present = periods.of(clocks.stamp(), "UTC")
    assert "not over" in flask("close", "demo", present, exit_code=1)
    assert "is closed" in flask("close", "demo", present, "--early")


def test_a_change_of_the_zone_is_said_with_the_month_from_which_it_holds(app, flask, browser, books):
    books.close()
    said = app.test_cli_runner().invoke(args=["config", "set", "demo", "settlement.zone", "Asia/Seoul"]).output
    note = (
        "changed from UTC to Asia/Seoul: that holds from 2026-08 on. 2026-08 begins 2026-08-01 00:00 UTC, where the "
        "closed month before it ended"
    )

    assert note not in flask("show", *JULY)
    pages = [browser.get(f"/games/demo/{page}").text for page in ("settlements", "settlements/2026-08")]
    shown = [said, *pages, flask("list", "demo"), flask("show", "demo", "2026-08"), flask("close", "demo", "2026-08")]
    assert [text for text in (*shown, flask("list", "demo")) if note not in text] == []


class TestJobs:
    def test_months_close_by_themselves_in_the_games_zone_some_days_after_their_end(
        self, installation, books, studio, clock
    ):
        books.pay("GP-1", at="2026-06-10T00:00:00Z")
        studio.config("settlement.zone", "Asia/Seoul")
        studio.config("settlement.close_after_days", "3")
        for now, state in (("2026-08-03T14:59:59Z", "open"), ("2026-08-03T15:00:01Z", "closed")):
            clock.move_to(now)
            installation.new_relay().drain()
            assert books.month_list() == [("2026-08", "open"), ("2026-07", state), ("2026-06", "closed")]
        (step,) = books.steps()
        assert (step.actor, step.note) == ("job", "3 days after its end")

    def test_without_the_setting_nothing_closes(self, installation, books):
        books.pay("GP-1")
        installation.new_relay().drain()
        assert {state for _, state in books.month_list()} == {"open"}

    def test_trouble_with_a_partner_is_waited_out(self, installation, books, appcharge, reconciler, studio):
        books.order("o-1")
        books.close()
        reconciler.begin("appcharge")
        studio.secret("appcharge.publisher_token", "wrong")

        installation.new_relay().drain()

        query = "SELECT * FROM schedules WHERE name = :name"
        (row,) = books.connection.execute(query, {"name": RECONCILE_JOB})
        assert "401" in row["last_error"]
        assert row["due_at"] is not None
        assert schedules.next_due(books.connection, [RECONCILE_JOB]) is not None


def test_nothing_here_writes_a_secret_or_a_body(flask, books, appcharge, caplog):
    books.order("o-1")
    books.close()
    printed = flask("reconcile", *JULY)
    for secret in ("test-publisher-token", "alice@example.com", "192.0.2.7"):
        assert secret not in printed + caplog.text
    assert not Path("report.csv").exists()
