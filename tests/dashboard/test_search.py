"""The search box of every page, and the page of what it found."""

import json
import re
from html import unescape
from urllib.parse import quote

import pytest

from coinslot.games import registry
from coinslot.operations import search_job
from tests.books import Books
from tests.conftest import Studio, appcharge_headers
from tests.owed import Owed
from tests.pages import HOSTILE, assert_has, text_of


@pytest.fixture(autouse=True)
def game(studio):
    return studio


@pytest.fixture
def rows(browser):
    """Cells of each row of the page: found, state, amount, what, player, when; and where it leads."""

    def search(text):
        answer = browser.get(f"/search?q={quote(text, safe='')}")
        assert answer.status_code == 200, answer.status
        found = []
        for row in re.findall(r"<tr>(.*?)</tr>", answer.text.partition("<tbody>")[2], re.DOTALL):
            cells = [
                unescape(" ".join(re.sub("<[^>]+>", " ", each).split()))
                for each in re.findall("<t[hd].*?</t[hd]>", row)
            ]
            link = re.search(r'<th[^>]*><span class="id"><a href="([^"]+)"', row)
            found.append((cells, None if link is None else unescape(link[1])))
        return found

    return search


def test_the_box_is_on_every_page_of_someone_signed_in_and_on_no_other(browser, client):
    for address in ("/", "/games/demo/players", "/account", "/search", "/games/none/players"):
        assert browser.get(address).text.count('action="/search" role="search"') == 1, address
    assert 'action="/search"' not in client.get("/login").text
    assert client.get("/search?q=alice").status_code == 303
    assert browser.post("/search", q="x").status_code in (404, 405)


def test_an_order_is_one_row_that_says_what_it_is(browser, rows, post_order):
    post_order()
    cells, link = rows("68E25EEBDCB1278")[0]
    assert cells[:5] == ["68e25eebdcb1278", "credited", "9.99 USD", "purchase, appcharge", "alice"]
    assert "/games/demo/transactions/" in link
    assert browser.get(link).status_code == 200


def test_what_was_found_leads_to_its_page(browser, rows, studio, installation, post_order):
    owed, books = Owed(installation, studio), Books(installation, studio)
    owed.destination()
    owed.credit()
    books.pay("GPA.1", player="only in payments")
    ((webhook_id,),) = owed.rows("SELECT webhook_id FROM deliveries")
    for text in (webhook_id, "1", "gpa.1", "alice", "only in payments"):
        found = rows(text)
        assert found, text
        for _, link in found:
            assert browser.get(link).status_code == 200, (text, link)


def test_hits_stand_under_their_games(browser, installation, post_order):
    Studio(installation, "other").player("alice")
    post_order()
    assert re.findall(r'<h2 id="game-\d">([^<]+)', browser.get("/search?q=alice").text) == ["Demo", "Other"]


def test_an_address_leads_to_the_player_and_is_shown_in_the_box_alone(browser, rows, post_order, installation, caplog):
    post_order(playerEmail="alice@example.com")
    search_job.fill(installation.database, installation.vault)
    ((cells, link),) = rows("Alice@Example.com")
    assert (cells[0], link) == ("alice by e-mail address", "/games/demo/players/alice")
    answer = browser.get("/search?q=Alice@Example.com")
    assert answer.text.count("Alice@Example.com") == 1
    assert "<title>Search" in answer.text
    assert "alice@example.com" not in caplog.text.lower()


class TestRefusedCalls:
    def test_a_refused_order_says_when_and_why_and_what_mends_it(self, browser, rows, post_order, clock):
        clock.move_to(1785801600 + 17 * 3600 + 48 * 60)
        assert post_order(playerId="Mallory").status_code == 400
        for text in ("68E25EEBDCB1278", "68e25eebdcb1278", "PR_750b85591e16", "68e25eebd76543210"):
            ((cells, link),) = rows(text)
            assert cells[3].startswith("Refused at 17:48: its player was not registered"), text
            assert "Register the player. Then press Retry Award for it in Appcharge's dashboard." in cells[3]
            assert (cells[4], cells[2], cells[1]) == ("Mallory", "9.99 USD", "refused")
            assert browser.get(link).status_code == 200
        clock.shift(86400)
        ((cells, _),) = rows("68e25eebdcb1278")
        assert cells[3].startswith("Refused at 2026-08-04 17:48: ")

    def test_its_player_leads_to_it_at_once_and_in_any_case_once_the_job_ran(
        self, browser, rows, post_order, installation
    ):
        assert post_order(playerId="Mallory").status_code == 400
        assert [cells[0] for cells, _ in rows("Mallory")] == ["68e25eebdcb1278", "Mallory"]
        assert rows("mallory") == []
        search_job.fill(installation.database, installation.vault)
        assert sorted(cells[0] for cells, _ in rows("mallory")) == ["68e25eebdcb1278", "Mallory"]

    def test_its_address_leads_to_it_until_the_player_is_forgotten(self, rows, post_order, installation, db):
        assert post_order(playerId="mallory", playerEmail="m@example.com").status_code == 400
        search_job.fill(installation.database, installation.vault)
        assert sorted(cells[0] for cells, _ in rows("M@example.com")) == [
            "68e25eebdcb1278",
            "mallory by e-mail address",
        ]
        assert installation.forget_player(installation.games.by_slug("demo"), "mallory", "test")
        search_job.fill(installation.database, installation.vault)
        assert rows("m@example.com") == rows("mallory") == []
        assert db("SELECT * FROM search_keys WHERE player_id = 'mallory'") == []

    def test_once_it_is_credited_both_are_found_and_the_remedy_is_gone(self, rows, post_order, studio):
        post_order(playerId="mallory")
        studio.player("mallory")
        assert post_order(playerId="mallory").status_code == 200
        found = rows("68e25eebdcb1278")
        assert sorted(cells[1] for cells, _ in found) == ["credited", "refused mended"]
        assert not any("Register the player" in cells[3] for cells, _ in found)

    def test_a_call_that_proved_nothing_is_not_searched(self, rows, post_order, client, installation):
        body = json.dumps({"orderId": "forged", "playerId": "mallory"}).encode()
        client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, "another key"))
        installation.observations.flush()
        search_job.fill(installation.database, installation.vault)
        assert rows("forged") == rows("mallory") == []

    def test_the_job_reads_a_row_that_took_the_id_of_a_deleted_one(self, rows, post_order, installation):
        post_order(playerId="First")
        search_job.fill(installation.database, installation.vault)
        installation.database.write_here(lambda tx: tx.execute("DELETE FROM refusals"))
        search_job.fill(installation.database, installation.vault)
        assert rows("First") == rows("first") == []
        post_order(playerId="Second")
        search_job.fill(installation.database, installation.vault)
        assert len(rows("second")) == 2


@pytest.mark.parametrize("wanted", ["nobody", "'; DROP TABLE x", "\x00", "9" * 30, "%", HOSTILE])
def test_nothing_found_says_what_can_be_searched(browser, wanted):
    answer = browser.get(f"/search?q={quote(wanted, safe='')}")
    assert answer.status_code == 200
    assert_has(answer.text, "Nothing is known by that.", "which must be whole", without=("<script>alert",))


def test_an_unknown_address_is_said_to_be_one(browser):
    assert "No player is known by that e-mail address." in text_of(browser.get("/search?q=nobody@example.com"))


def test_too_long_a_text_is_refused_with_the_reason(browser):
    assert browser.get(f"/search?q={'x' * 256}").status_code == 200
    answer = browser.get(f"/search?q={'x' * 257}")
    assert (answer.status_code, "at most 256 characters" in text_of(answer)) == (400, True)


def test_a_short_beginning_lists_some_and_says_that_there_are_more(browser, rows, installation, studio):
    def add(tx):
        for number in range(60):
            registry.register_player(tx, studio.row["id"], f"p-{number:03}", f"Paul {number}")

    installation.database.write_here(add)
    search_job.fill(installation.database, installation.vault)
    assert 25 <= len(rows("p")) <= 50
    assert "Type more of it." in text_of(browser.get("/search?q=p"))
    assert "Type more of it." not in text_of(browser.get("/search?q=p-007"))


@pytest.mark.parametrize("wanted", ["1", "a", "alice", "o-1", "alice@example.com"])
def test_no_search_asks_more_than_twelve_questions(browser, installation, studio, post_order, wanted):
    owed, books = Owed(installation, studio), Books(installation, studio)
    owed.destination()
    owed.credit(30)
    books.pay("1")
    books.pay("a")
    post_order(orderId="1", playerEmail="alice@example.com")
    search_job.fill(installation.database, installation.vault)
    Studio(installation, "other").player("alice")
    answer, queries = browser.queries(f"/search?q={quote(wanted)}")
    assert (answer.status_code, len(queries) <= 12) == (200, True), json.dumps(queries, indent=1)
