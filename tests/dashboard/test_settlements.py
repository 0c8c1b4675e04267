"""The pages of months: closed, brought on and opened again in a browser."""

import csv
import html
import io
import re

import pytest

from coinslot.operations import uploads
from coinslot.settlement import differences as purchase_differences
from coinslot.settlement import partner_rows, purchases, runs
from coinslot.settlement.runs import ReconciliationError
from handlers.dashboard.frame import pages
from handlers.dashboard.settlement import differences, documents
from tests.books import Books
from tests.fakes.appcharge import FakeAppcharge
from tests.pages import assert_has
from tests.reconciler import seed_every_difference

HOSTILE = '"><script>alert(1)</script>\u202e\x00😀' + "x" * 10_000


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


@pytest.fixture
def july(clock):
    clock.move_to(1785801600)  # 2026-08-04


@pytest.fixture
def appcharge(studio):
    with FakeAppcharge() as fake:
        studio.config("appcharge.base_url", fake.url)
        yield fake


MONTH = "/games/demo/settlements/2026-07"
DIFFERENCES = f"{MONTH}/differences"


def upload(browser, content, partner="playcamp", name="report.csv"):
    return browser.client.post(
        f"{DIFFERENCES}/upload",
        data={"form_token": browser.form_token(), "partner": partner, "file": (io.BytesIO(content), name)},
        content_type="multipart/form-data",
    )


def drain(installation):
    installation.new_relay().drain()


def test_an_open_month_shows_what_it_came_to_so_far_and_is_closed_with_a_button(browser, books, july, db):
    books.order("o-1")
    books.order("o-2", gross=None, currency=None)

    listed = browser.get("/games/demo/settlements").text
    closed = browser.post("/games/demo/settlements/2026-07/close", note="all in")
    page = browser.get(closed.location).text

    assert "2026-07" in listed
    assert closed.status_code == 303
    assert_has(page, "9.99 USD", "all in")
    assert [row["state"] for row in db("SELECT state FROM settlements")] == ["closed"]
    assert ("owner", "settlement.state") in [(row["actor"], row["action"]) for row in db("SELECT * FROM audit")]


def test_a_month_that_is_not_over_is_not_closed(browser, books, july):
    books.order("o-1", at="2026-08-02T00:00:00.000000Z")
    assert "can be closed once it is over" in browser.get("/games/demo/settlements/2026-08").text
    answer = browser.post("/games/demo/settlements/2026-08/close")
    assert (answer.status_code, "is not over before" in answer.text) == (400, True)


def test_no_step_is_passed_over_without_a_word(browser, books, july, db):
    books.order("o-1")
    books.close()
    steps = "/games/demo/settlements/2026-07/steps"

    refused = browser.post(steps, state="payment_confirmed")
    passed = browser.post(steps, state="payment_confirmed", skipping="on", note="their report is late")

    assert (refused.status_code, "is not reconciled" in refused.text) == (400, True)
    assert passed.status_code == 303
    assert "passed over" in browser.get("/games/demo/settlements/2026-07").text
    assert browser.post(steps, state="open").status_code == 400


def test_a_month_is_opened_again_with_a_reason(browser, books, july, db):
    books.order("o-1")
    books.close()
    reopen = "/games/demo/settlements/2026-07/reopen"
    assert browser.post(reopen, note="").status_code == 400
    assert browser.post(reopen, note=HOSTILE).status_code == 400
    assert browser.get("/games/demo/settlements/%3Cscript%3E").status_code == 404
    assert browser.post(reopen, note="wrong fee").status_code == 303
    assert [row["state"] for row in db("SELECT state FROM settlements")] == ["reopened"]


def test_months_of_a_game_are_its_own(browser, installation, books, july, studio):
    type(studio)(installation, "other")
    books.order("o-1")
    books.close()
    assert "9.99 USD" not in browser.get("/games/other/settlements/2026-07").text
    assert browser.post("/games/other/settlements/2026-07/reopen", note="x").status_code == 400
    assert browser.get("/games/nobody/settlements/2026-07").status_code == 404


class TestDocuments:
    def test_every_file_is_what_the_command_writes(self, browser, books, july, app):
        books.pay("GP-1")
        books.order("o-1")
        books.close()
        for document, form in (
            ("statement.csv", "csv"),
            ("everything.csv", "all"),
            ("creators.csv", "creators"),
            ("month.beancount", "beancount"),
        ):
            answer = browser.get(f"{MONTH}/files/{document}")
            assert answer.headers["Content-Disposition"] == f'attachment; filename="demo-2026-07-{document}"'
            written = app.test_cli_runner().invoke(args=["settlement", "export", "demo", "2026-07", "--format", form])
            assert answer.text.removeprefix("\ufeff") == written.output
        page = browser.get(MONTH).text
        assert all(f"/files/{name}" in page for name in ("statement.csv", "everything.csv", "month.beancount"))

    def test_an_open_month_has_nothing_on_paper(self, browser, books, july):
        books.order("o-1")
        for path in ("files/statement.csv", "print", "creators", "differences", "differences.csv"):
            assert browser.get(f"{MONTH}/{path}").status_code == 404, path
        books.close()
        assert browser.get(f"{MONTH}/files/x.csv").status_code == 404

    def test_the_page_to_print_says_all_that_an_accountant_asks_for(self, browser, books, july, studio):
        studio.config("settlement.zone", "Asia/Seoul")
        books.pay("GP-1")
        books.order("o-1")
        books.order("o-2", gross=0)
        books.close(note="all in")
        page = browser.get(f"{MONTH}/print").text
        for told in ("Asia/Seoul", "9,900 KRW", "2,970 KRW", "6,930 KRW", "MOBILE_STORE", "30 %", "all in", "1 free"):
            assert told in page, told

    def test_a_creator_has_a_statement_of_their_own(self, browser, books, july, studio, installation):
        studio.config("settlement.share", "10")
        creator = '=1+1"><script>alert(1)</script>\u202e'
        books.boost("alice", creator, "2026-07-01")
        books.boost("bob", "LUNA", "2026-07-01")
        books.pay("GP-1", player="alice")
        books.pay("GP-2", player="bob")
        books.pay("GP-3", player="carol")
        books.close()

        everyone = browser.get(f"{MONTH}/creators").text
        luna = browser.get(f"{MONTH}/creators?creator=LUNA").text
        hostile = browser.get(f"{MONTH}/creators", query_string={"creator": creator}).text
        file = browser.get(f"{MONTH}/files/creators.csv", query_string={"creator": creator}).text

        assert everyone.count("693 KRW") == 2
        assert ("LUNA" in luna, luna.count("script&gt;"), "693 KRW" in luna) == (True, 0, True)
        assert_has(everyone + hostile, without=("<script>alert", "\u202e"))
        assert ("LUNA" in file, ",\"'=1+1" in file) == (False, True)
        assert browser.get(f"{MONTH}/creators?creator=nobody").status_code == 404


class TestPurchases:
    def test_a_line_leads_to_what_it_is_made_of(self, browser, books, july):
        books.pay("GP-1")
        books.pay("GP-2", "9.99", "USD", "pc")
        books.order("o-1")
        books.close()
        page = browser.get(MONTH).text
        (address,) = {
            html.unescape(each) for each in re.findall(r'href="([^"]*purchases[^"]*currency=KRW[^"]*)"', page)
        }

        listed = browser.get(address).text
        orders = browser.get(f"{MONTH}/purchases?partner=appcharge&currency=USD").text

        assert ("GP-1" in listed, "GP-2" in listed) == (True, False)
        (transaction,) = re.findall(r'href="(/games/demo/transactions/[^"]+)"', orders)
        assert browser.get(transaction).status_code == 200

    def test_its_pages_miss_and_repeat_nothing(self, browser, books, july, monkeypatch):
        monkeypatch.setattr(documents, "PER_PAGE", 3)
        monkeypatch.setattr(purchases, "PURCHASES_AT_ONCE", 2)
        monkeypatch.setattr(documents, "MOST_READ", 4)
        for number in range(11):
            books.pay(f"GP-{number:02d}", currency="KRW" if number % 3 else "JPY")
        address, seen = f"{MONTH}/purchases?partner=playcamp&currency=KRW", []
        for _ in range(20):
            page = browser.get(address).text
            seen += re.findall(r">(GP-\d\d)<", page)
            found = re.search(r'href="([^"]+)" rel="next"', page)
            if not found:
                break
            address = html.unescape(found[1])
        assert seen == [f"GP-{number:02d}" for number in range(11) if number % 3]

    def test_what_makes_no_sense_is_no_page(self, browser, books, july):
        books.order("o-1")
        for query in ("", "?partner=nobody", "?partner=appcharge&after=x", f"?partner=appcharge&after={'9' * 5000}"):
            assert browser.get(f"{MONTH}/purchases{query}").status_code == 404
        assert "no such purchase" in browser.get(f"{MONTH}/purchases?partner=appcharge&currency=XXX").text


class TestDifferences:
    def test_a_partner_is_asked_with_a_button_and_what_differs_is_listed(self, browser, books, july, appcharge, db):
        seed_every_difference(books, appcharge)
        books.close()
        assert "This month was not compared with anything yet" in browser.get(DIFFERENCES).text

        begun = browser.post(f"{DIFFERENCES}/ask", partner="appcharge")
        waiting = browser.get(begun.location).text
        drain(books.installation)
        page = browser.get(DIFFERENCES).text

        assert begun.status_code == 303
        assert ("<progress" in waiting, "0% compared" in waiting) == (True, True)
        assert '<meta http-equiv="refresh" content="5">' in waiting
        assert '<meta http-equiv="refresh"' not in page
        assert ("Charged but not granted" in page, "10.115 USD" in page) == (True, True)
        assert_has(
            page,
            "Retry Award",
            "<code>flask refund reverse demo there --at 2026-07-10T10:00:00.000000Z "
            "--reason &#39;given back at Appcharge&#39;</code>",
            "100% compared",
        )
        assert "Charged but not granted: 2" in browser.get(MONTH).text
        assert ("owner", "settlement.reconcile") in [(row["actor"], row["action"]) for row in db("SELECT * FROM audit")]

    def test_the_list_is_filtered_and_turned_over(self, browser, books, july, appcharge, monkeypatch):
        monkeypatch.setattr(differences, "PER_PAGE", 4)
        expected = seed_every_difference(books, appcharge)
        books.close()
        browser.post(f"{DIFFERENCES}/ask", partner="appcharge")
        drain(books.installation)

        def listed(address):
            return re.findall(r'data-label="Purchase"><span><a href="[^"]+">([^<]+)</a>', browser.get(address).text)

        first = browser.get(DIFFERENCES).text
        following = html.unescape(re.search(r'href="([^"]+)" rel="next"', first)[1])
        assert sorted(listed(DIFFERENCES) + listed(following)) == sorted(expected)
        assert sorted(listed(f"{DIFFERENCES}?result=missing_here")) == ["fraction", "not-granted"]
        assert listed(f"{DIFFERENCES}?reference=amount&partner=appcharge") == ["amount"]
        assert listed(f"{DIFFERENCES}?partner=playcamp") == []
        assert listed(f"{DIFFERENCES}?reference=nothing") == []
        (address,) = re.findall(
            r'data-label="Purchase"><span><a href="([^"]+)"', browser.get(f"{DIFFERENCES}?reference=here").text
        )
        assert "/transactions/" in browser.get(address).location

        rows = list(csv.DictReader(io.StringIO(browser.get(f"{DIFFERENCES}.csv").text.removeprefix("\ufeff"))))
        assert sorted(row["reference"] for row in rows) == sorted(expected)
        (row,) = csv.DictReader(
            io.StringIO(browser.get(f"{DIFFERENCES}.csv?reference=amount").text.removeprefix("\ufeff"))
        )
        assert (row["at_stake"], row["ours"], row["theirs"], row["theirs_currency"]) == ("1.00", "9.99", "8.99", "USD")

    def test_a_partner_that_cannot_be_asked_is_told_of(self, browser, books, july):
        books.pay("GP-1")
        books.close()
        assert "It cannot be asked" in browser.get(DIFFERENCES).text
        answer = browser.post(f"{DIFFERENCES}/ask", partner="playcamp")
        assert (answer.status_code, "cannot be asked" in answer.text) == (400, True)
        assert browser.post(f"{DIFFERENCES}/ask", partner="playtem").status_code == 404

    def test_why_it_does_not_go_on_is_said(self, browser, books, july, appcharge):
        books.order("o-1")
        books.close()
        appcharge.script.extend([lambda handler: answer_with(handler, 500)] * 5)
        browser.post(f"{DIFFERENCES}/ask", partner="appcharge")
        drain(books.installation)
        assert "The last try to compare ended with" in browser.get(DIFFERENCES).text

    def test_what_is_left_is_accepted_with_a_note(self, browser, books, july, db):
        books.pay("GP-1")
        books.close()
        assert browser.post(f"{DIFFERENCES}/accept", note=" ").status_code == 400
        assert browser.post(f"{DIFFERENCES}/accept", note="x" * 1000).status_code == 400
        accepted = browser.post(f"{DIFFERENCES}/accept", note="they are sending it again")
        assert accepted.status_code == 303
        assert "Accept what is left" not in browser.get(DIFFERENCES).text
        (step,) = db("SELECT * FROM settlement_steps WHERE state = 'reconciled'")
        assert (step["actor"], step["note"]) == ("owner", "they are sending it again (not reconciled: playcamp)")
        assert ("owner", "2026-07: reconciled") in [(row["actor"], row["subject"]) for row in db("SELECT * FROM audit")]

    def test_differences_of_a_game_are_its_own(self, browser, books, july, appcharge, installation, studio):
        other = Books(installation, type(studio)(installation, "other"))
        other.close()
        seed_every_difference(books, appcharge)
        books.close()
        browser.post(f"{DIFFERENCES}/ask", partner="appcharge")
        drain(installation)
        page = browser.get("/games/other/settlements/2026-07/differences").text
        assert "not-granted" not in page
        assert "was not compared with anything" in page
        assert "not-granted" not in browser.get("/games/other/settlements/2026-07/differences.csv").text


class TestReports:
    REPORT = (
        b"Payment,Gross,Currency,status\n"
        b"GP-1,9.99,usd,COMPLETED\nGP-2,9.99,USD,REFUNDED\nGP-9,19.99,USD,COMPLETED\n?,,,\n,,,\n"
    )

    def test_columns_below_a_title_are_shown_whatever_the_files_encoding(self, browser, books, july, db, installation):
        books.pay("GP-1", "9.99", "USD")
        books.close()
        text = "Sales of July;;\r\n\r\nNr;Betrag;Währung\r\nGP-1;9,99;USD\r\n"
        for encoding in ("utf-16", "cp1252"):
            uploaded = upload(browser, text.encode(encoding))
            form = browser.get(uploaded.location).text
            assert ("Betrag" in form, "Währung" in form, "9,99" in form, "Sales of July" in form) == (True,) * 3 + (
                False,
            )
            begun = browser.post(uploaded.location, reference="0", amount="1", currency="2", unit="major")
            assert begun.status_code == 303
            drain(installation)
            assert db("SELECT * FROM differences") == []
            assert "every purchase agrees" in browser.get(DIFFERENCES).text.lower()

    def test_a_file_is_uploaded_its_columns_chosen_and_compared(self, browser, books, july, db, installation):
        books.pay("GP-1", "9.99", "USD")
        books.pay("GP-2", "9.99", "USD")
        books.close()

        uploaded = upload(browser, self.REPORT)
        form = browser.get(uploaded.location).text
        begun = browser.post(uploaded.location, reference="0", amount="1", currency="", kind="3", unit="major")
        assert (begun.status_code, "choose the column of the currency" in begun.text) == (400, True)
        assert db("SELECT * FROM reconciliations") == []
        assert '<option value="0" selected>Payment' in begun.text
        begun = browser.post(uploaded.location, reference="0", amount="1", kind="3", unit="major", all_currency="usd")
        drain(installation)
        page = browser.get(DIFFERENCES).text

        assert ("Payment" in form, "GP-2" in form, '<option value="2" selected>Currency' in form) == (True, True, True)
        assert begun.status_code == 303
        assert ("Counted there, not reported here" in page, "19.99 USD" in page, "by a file" in page) == (True,) * 3
        assert "Reported, unreadable" in page
        assert {row["reference"]: row["result"] for row in db("SELECT * FROM differences")} == {
            "GP-2": "refunded_there",
            "GP-9": "missing_here",
            "?": "unreadable",
        }
        assert browser.get(uploaded.location).status_code == 404, "the file is gone once it is read"
        assert ("owner", "2026-07 playcamp by file") in [
            (row["actor"], row["subject"]) for row in db("SELECT * FROM audit")
        ]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "no names of columns"),
            (b"\xff\xfe\x00", "not UTF-8"),
            (b'a,"' + b"x" * 200_000, "is no CSV"),
            (b"\n\n", "no names of columns"),
        ],
    )
    def test_what_is_no_report_is_refused_in_words(self, browser, books, july, content, words, db):
        books.close()
        answer = upload(browser, content, name="<script>alert(1)</script>.csv")
        assert (answer.status_code, words in answer.text) == (400, True)
        assert "<script>alert" not in answer.text
        assert db("SELECT name FROM uploads") == []

    def test_a_file_that_tells_nothing_begins_nothing(self, browser, books, july, db):
        books.close()
        form = {"reference": "0", "amount": "1", "currency": "2", "unit": "major"}
        where = upload(browser, b"transactionId,amount,currency\na,x,USD\n").location
        assert "no row of it can be read" in browser.post(where, **form).text
        for wrong in ({"unit": "x"}, {"reference": ""}, {"amount": "99"}, {"currency": "1", "amount": "-1"}):
            assert browser.post(where, **(form | wrong)).status_code == 400
        assert db("SELECT * FROM reconciliations") == []

    def test_hostile_columns_and_ids_show_as_text_and_run_in_no_spreadsheet(self, browser, books, july, installation):
        books.close()
        file = io.StringIO()
        csv.writer(file).writerows(
            [
                [HOSTILE, "<b>amount</b>", "", "=cmd|x", "<b>AMOUNT</b>"],
                ["=HYPERLINK(1)<script>alert(1)</script>", "9.99", "USD", HOSTILE, "1"],
                ["{game.settings}`x`", "1", "USD", "", ""],
                ["x" * 10_000, "1", "USD", "", ""],
            ]
        )
        where = upload(browser, file.getvalue().replace("\x00", "").encode()).location
        form = browser.get(where).text
        assert_has(form, "column 3, without a name", without=("<script>alert", "\u202e"))
        assert form.count("&lt;b&gt;AMOUNT") == 1, "of two columns with one name only the first can be chosen"

        begun = browser.post(where, reference="0", amount="1", currency="2", unit="major")
        drain(installation)
        page = browser.get(DIFFERENCES).text
        exported = browser.get(f"{DIFFERENCES}.csv").text

        assert begun.status_code == 303
        assert_has(page, "{game.settings}<code>x</code>", without=("<script>alert",))
        assert_has(exported, "'=HYPERLINK", without=("\n=HYPERLINK",))

    def test_a_file_is_found_by_its_own_game_month_and_partner_alone(self, browser, books, july, installation, studio):
        type(studio)(installation, "other")
        books.close()
        Books(installation, type("Other", (), {"slug": "other"})).close()
        where = upload(browser, self.REPORT).location
        assert browser.get(where).status_code == 200
        assert browser.get(where.replace("/demo/", "/other/")).status_code == 404
        assert browser.post(where.replace("/demo/", "/other/")).status_code == 404
        assert browser.get(where.replace("/playcamp/", "/appcharge/")).status_code == 404
        assert browser.get(where.replace("/playcamp/", "/nobody/")).status_code == 404
        assert browser.get(where.rpartition("/")[0] + "/" + "0" * 32).status_code == 404
        assert browser.get(f"{DIFFERENCES}/playcamp/..%2f..%2fmaster.key").status_code == 404

    def test_a_file_that_is_too_large_is_refused_and_old_ones_make_room(self, browser, books, july, monkeypatch, db):
        books.close()
        monkeypatch.setitem(pages.UPLOADS, "dashboard.upload_report", 100_000)
        assert upload(browser, b"x" * 200_000).status_code == 413
        monkeypatch.setattr(uploads, "MOST_KEPT", 3)
        for _ in range(5):
            assert upload(browser, self.REPORT).status_code == 303
        assert len(db("SELECT DISTINCT name FROM uploads")) == 3

    def test_the_same_file_goes_on_where_its_reading_was_broken_off(
        self, browser, books, july, installation, monkeypatch, db
    ):
        monkeypatch.setattr(runs, "ROWS_AT_ONCE", 2)
        books.close()
        form = {"reference": "0", "amount": "1", "currency": "2", "unit": "major"}
        content = b"id,amount,currency\n" + b"".join(b"GP-%d,1,USD\n" % number for number in range(5))
        add_rows = partner_rows.add_rows

        def broken(database, run, rows, cursor, **more):
            if cursor != "2":
                raise ReconciliationError("the machine stopped")
            return add_rows(database, run, rows, cursor, **more)

        with monkeypatch.context() as patched:
            patched.setattr(partner_rows, "add_rows", broken)
            assert browser.post(upload(browser, content).location, **form).status_code == 400
        assert "upload the same file again" in browser.get(DIFFERENCES).text
        assert browser.post(upload(browser, content).location, **form).status_code == 303
        drain(installation)
        (run,) = db("SELECT * FROM reconciliations")
        assert (run["state"], run["rows_read"]) == ("done", 5)


def test_the_months_have_a_chart_of_one_currency(browser, books, july):
    books.pay("GP-1", at="2026-06-10T00:00:00Z")
    books.pay("GP-2")
    books.order("o-1")
    books.close("2026-06")
    books.close("2026-07")
    page = browser.get("/games/demo/settlements").text
    dollars = browser.get("/games/demo/settlements?currency=USD").text
    assert ("PlayCamp: 9,900" in page, "in KRW" in page) == (True, True)
    assert "Appcharge: 9.99" in dollars
    assert browser.get("/games/demo/settlements?currency=%3Cscript%3E").status_code == 200


def test_a_list_of_differences_reads_no_more_than_it_shows(installation, books):
    plan = installation.database.read().execute(
        f"EXPLAIN QUERY PLAN {runs._OF_ANY_RESULT}", {"id": 1, "after": 0, "limit": 10, "result": None}
    )
    words = " ".join(row["detail"] for row in plan)
    assert words.count("SEARCH differences USING INDEX differences_by_result") == len(purchase_differences.RESULTS)
    assert "TEMP B-TREE" not in words


def answer_with(handler, status):
    handler.send_response(status)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_on_the_page_too_a_report_that_does_not_agree_has_to_be_accepted(
    browser, books, july, appcharge, installation, db
):
    books.order("o-1")
    books.close()
    browser.post(f"{DIFFERENCES}/ask", partner="appcharge")
    drain(installation)
    assert "newest report of Appcharge does not agree" in browser.get(MONTH).text
    for state in ("reconciled", "payment_confirmed"):
        for form in ({"note": "why"}, {"note": "why", "skipping": "on"}, {"accepting": "on"}):
            refused = browser.post(f"{MONTH}/steps", state=state, **form)
            assert (refused.status_code, "does not agree" in refused.text) == (400, True)
    taken = browser.post(f"{MONTH}/steps", state="payment_confirmed", accepting="on", note="it is known")
    assert taken.status_code == 303
    states = [row["state"] for row in db("SELECT state FROM settlement_steps ORDER BY id")]
    assert states == ["closed", "reconciled", "payment_confirmed"]


def test_on_the_page_too_an_open_separator_is_asked_for(browser, books, july, installation, db):
    books.pay("GP-1", "1000", "USD")
    books.close()
    where = upload(browser, b"sep=;\r\nPayment ID;Total;Currency\r\nGP-1;1.000;USD\r\n").location
    form = browser.get(where).text
    assert ('<option value="0" selected>Payment ID' in form, '<option value="1" selected>Total' in form) == (True, True)
    chosen = {"reference": "0", "amount": "1", "currency": "2", "unit": "major"}
    asked = browser.post(where, **chosen)
    assert (asked.status_code, "1.000 on line 3 may be thousands or a fraction" in asked.text) == (400, True)
    assert browser.post(where, **chosen, decimal="comma").status_code == 303
    drain(installation)
    assert db("SELECT * FROM differences") == []
