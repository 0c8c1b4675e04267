"""The owner's players: found by id or name, whatever their id is; with what they have, and forgotten on request."""

import csv
import io
import json
import re
from html import unescape
from urllib.parse import quote, urlsplit

import pytest

from coinslot.games import games, registry
from coinslot.ledger import boosts, events, reports
from coinslot.ledger import credit as ledger
from coinslot.operations import search_job
from handlers.dashboard.frame.words import player_address
from tests.pages import HOSTILE, assert_has, next_of

LIST = "/games/demo/players"
ODD = [
    *(
        "a/b",
        "/a",
        "a/",
        "//a",
        ".",
        "..",
        "../../login",
        "a b",
        "a?b=c",
        "a#b",
        "a%2Fb",
        "%",
        "a\\b",
        "id",
        "a&b",
        "a+b",
    ),
    *("é", ".hidden", "\U0001f4b0", "\u202egnp.exe", "<script>alert(1)</script>", "=1+1", "x" * 255),
]


@pytest.fixture(autouse=True)
def game(studio):
    return studio


@pytest.fixture
def put(installation, studio):
    def put_player(player_id, **entry):
        game_id = studio.row["id"]
        installation.database.write_here(lambda tx: registry.put_player(tx, game_id, player_id, entry))

    return put_player


@pytest.fixture
def event(installation, studio):
    def record(kind, player_id="alice", **data):
        values = {"game_id": studio.row["id"], "partner": "playcamp", "type": kind, "dedupe_key": f"{kind}{data}"}
        values |= {"data": data, "raw_body": None, "environment": "live", "is_test": False, "player_id": player_id}
        installation.database.write_here(lambda tx: events.record(tx, **values))

    return record


def listed(answer):
    return [unescape(each) for each in re.findall(r'data-label="Player"><a href="[^"]+">([^<]*)</a>', answer.text)]


class TestList:
    def test_registered_players_by_id_and_by_the_beginning_of_id_or_name(self, browser, put, installation):
        put("carol", name="Zoe")
        put("zed", name="Ann Carlos")
        search_job.fill(installation.database, installation.vault)
        assert listed(browser.get(LIST)) == ["alice", "bob", "carol", "zed"]
        assert listed(browser.get(f"{LIST}?q=b")) == ["bob"]
        assert listed(browser.get(f"{LIST}?q=car")) == ["carol", "zed"]
        assert listed(browser.get(f"{LIST}?q=Car")) == ["zed"]
        assert listed(browser.get(f"{LIST}?q=án")) == ["zed"]
        assert "No player&#39;s id or name" in browser.get(f"{LIST}?q=nobody").text.replace("'", "&#39;")
        assert listed(browser.get(f"{LIST}?q=%25")) == []
        for nobody in ("/nobody", "?id=nobody&show=timeline", "?id="):
            assert browser.get(f"{LIST}{nobody}").status_code == 404

    def test_pages(self, browser, installation, studio):
        game_id = studio.row["id"]

        def add(tx):
            for number in range(120):
                registry.register_player(tx, game_id, f"p-{number:03}")

        installation.database.write_here(add)
        seen, address = [], LIST
        while address:
            answer, queries = browser.queries(address)
            assert len(queries) <= 12
            seen += listed(answer)
            address = next_of(answer)
        assert seen == ["alice", "bob", *(f"p-{number:03}" for number in range(120))]

    def test_one_who_is_only_in_the_ledger_is_found(self, browser, studio, post_order):
        studio.config("players.unknown", "create")
        post_order(playerId="ghost")
        browser.post("/games/demo/forgotten-players", player_id="ghost", confirmation="ghost")
        assert browser.get(f"{LIST}?q=ghost").location == f"{LIST}/ghost"

    def test_csv(self, browser, put):
        put("=cmd", name="@SUM(A1)", country="DE")
        answer = browser.get("/games/demo/players.csv")
        rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
        assert [row["player_id"] for row in rows] == ["'=cmd", "alice", "bob"]
        assert rows[0]["name"] == "'@SUM(A1)"


class TestOne:
    @pytest.mark.parametrize("player_id", ODD)
    def test_whatever_the_id_is_the_list_leads_to_the_player(self, browser, put, player_id, app):
        put(player_id, name="the one that is meant")
        (href,) = [
            unescape(each)
            for each in re.findall(r'data-label="Player"><a href="([^"]+)">', browser.get(LIST).text)
            if each not in (f"{LIST}/alice", f"{LIST}/bob")
        ]
        assert urlsplit(href).path.startswith(LIST)
        answer = browser.get(href)
        assert answer.status_code == 200
        assert_has(answer.text, "the one that is meant", without=("<script>alert",))
        with app.test_request_context(LIST):
            assert player_address(player_id) == href
        assert browser.get(f"{LIST}?show=timeline&id={quote(player_id, safe='')}").status_code == 200

    def test_the_entry_shows_what_the_studio_gave_and_hides_what_lets_somebody_in(self, browser, put):
        put(
            "carol",
            name="Carol",
            country="DE",
            login_name="carol@example.com",
            password_hash="scrypt:very-secret",
            identities={"google": "117777777777777777777"},
            profile={"segments": ["vip"], "attributes": {"a": HOSTILE}},
        )
        text = browser.get(f"{LIST}/carol").text
        assert_has(text, "Carol", "vip")
        for hidden in ("carol@example.com", "very-secret", "117777777777777777777", "<script>alert", "\u202e"):
            assert hidden not in text

    def test_sums_are_exact_and_tests_stand_apart(self, browser, installation, studio):
        def credit(number, quantity, environment):
            values = {"game_id": studio.row["id"], "game_slug": "demo", "partner": "appcharge", "kind": "purchase"}
            values |= {"external_id": f"{number}", "reference": f"{number}", "player_id": "alice", "fingerprint": "x"}
            values |= {"lines": (("coins", quantity),), "raw_body": b"", "signature": "", "signed_with": "key"}
            credit = reports.Credit(**values, answer_status=200, answer_body="", environment=environment)
            installation.database.write_here(lambda tx: ledger.credit(tx, credit, reports.Rules()))

        credit(1, 10**40 - 1, "live")
        credit(2, 1, "live")
        credit(3, 77, "sandbox")
        browser.get(LIST)  # opens the game, which is kept
        answer, queries = browser.queries(f"{LIST}/alice")
        assert f"{10**40:,}" in answer.text
        assert "77" in answer.text.partition("From test traffic")[2].partition("</table>")[0]
        assert len(queries) <= 12, queries

    def test_boosts_and_logins_are_shown(self, browser, installation, studio, event):
        boost = boosts.Boost(studio.row["id"], "alice", "summer", "creator-7", False, "2026-01-01T00:00:00.000000Z")
        installation.database.write_here(lambda tx: boosts.begin(tx, boost))
        event("player.login", method="password")
        event("sponsor.created", creator_key=HOSTILE)
        text = browser.get(f"{LIST}/alice").text
        assert_has(text, "creator-7 in campaign summer", "player.login", without=("<script>alert",))

    def test_history_is_paged(self, browser, post_order):
        for number in range(30):
            post_order(orderId=f"o-{number}")
        answer = browser.get(f"{LIST}/alice")
        assert_has(answer.text, "o-5</a>", without=("o-4</a>",))
        assert "o-4</a>" in browser.get(next_of(answer)).text
        assert browser.get(f"{LIST}/alice?after=item-1").status_code == 404

    def test_the_timeline_tells_of_all_orders_and_events(self, browser, post_order, event):
        for number in range(3):
            post_order(orderId=f"o-{number}")
        event("player.login")
        answer, queries = browser.queries(f"{LIST}?id=alice&show=timeline")
        for words in ("order o-0", "order o-2", "credited to player alice", "signed in to the store"):
            assert words in answer.text
        assert len(queries) <= 12


class TestForgetting:
    def test_it_needs_the_id_deletes_the_person_keeps_the_sums_and_is_noted(self, browser, post_order, db, put):
        put("alice", name="Alice A", login_name="alice@example.com")
        post_order()
        for confirmation in ("", "bob", "ALICE"):
            answer = browser.post("/games/demo/forgotten-players", player_id="alice", confirmation=confirmation)
            assert answer.status_code == 400
        assert db("SELECT 1 FROM players WHERE player_id = 'alice'")

        answer = browser.post("/games/demo/forgotten-players", player_id="alice", confirmation="alice")

        assert answer.status_code == 303
        assert "The player is forgotten" in browser.get(answer.location).text
        assert not db("SELECT 1 FROM players WHERE player_id = 'alice'")
        (row,) = db("SELECT * FROM transactions")
        assert (row["raw_body"], row["signature"]) == (None, None)
        page = browser.get(f"{LIST}/alice").text
        assert_has(page, "not in the registry", "1,000")
        assert "the player was forgotten" in browser.get(f"/games/demo/transactions/{row['public_id']}").text
        assert [each["subject"] for each in db("SELECT subject FROM audit WHERE action = 'player.forget'")] == ["alice"]

    def test_nobody_to_forget(self, browser, db):
        answer = browser.post("/games/demo/forgotten-players", player_id="ghost", confirmation="ghost")
        assert answer.location.endswith("said=nothing")
        assert not db("SELECT 1 FROM audit WHERE action = 'player.forget'")

    def test_of_this_game_alone(self, browser, installation, db):
        installation.database.write_here(lambda tx: games.add(tx, "other", "Other", "test"))
        browser.post("/games/other/forgotten-players", player_id="alice", confirmation="alice")
        assert db("SELECT 1 FROM players WHERE player_id = 'alice'")


def test_a_profile_is_shown_as_json(browser, put):
    put("carol", profile={"balances": {"coins": 10**30}, "half": "\ud83d"})
    text = browser.get(f"{LIST}/carol").text
    assert_has(text, str(10**30), without=(json.dumps("x"),))
