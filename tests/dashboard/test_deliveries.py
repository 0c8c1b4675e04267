"""Deliveries: the queue, dead letters and their redrive, each attempt, and the request as it is sent."""

import csv
import io
import re

import pytest

from coinslot.outbox import lists
from tests.conftest import Studio
from tests.fakes.http import Receiver, status
from tests.owed import Owed
from tests.pages import HOSTILE, assert_has, every_page, follow, text_of

LIST = "/games/demo/deliveries"


@pytest.fixture
def owed(installation, studio):
    return Owed(installation, studio)


def listed(answer):
    return [int(number) for number in re.findall(r'href="/games/demo/deliveries/(\d+)"', answer.text)]


def bury(owed, count=1, name="game", **credited):
    """Deliveries that are dead; returns their ids."""
    owed.credit(count, **credited)
    for claim in owed.claim(count, name=name):
        owed.fail(claim)
    return [row["id"] for row in owed.deliveries("dead")]


class TestList:
    def test_the_three_states_newest_first(self, browser, owed):
        assert "this game reads its grants from the feed" in text_of(browser.get(LIST))
        owed.destination()
        owed.credit(3)
        (claim,) = owed.claim(1)
        owed.record(claim)
        assert listed(browser.get(LIST)) == [3, 2, 1]
        assert listed(browser.get(f"{LIST}?state=delivered")) == [claim.id]
        assert listed(browser.get(f"{LIST}?state=waiting")) == [3, 2]
        assert listed(browser.get(f"{LIST}?state=nonsense")) == [3, 2, 1]
        assert "Nothing waits" not in text_of(browser.get(f"{LIST}?state=waiting"))
        assert "No dead letter" in text_of(browser.get(f"{LIST}?state=dead"))

    def test_pages_follow_one_another_without_gaps(self, browser, owed):
        owed.destination()
        owed.credit(120)
        for claim in owed.claim(40):
            owed.record(claim)
        seen = [each for page in every_page(browser, LIST) for each in listed(page)]
        assert seen == list(range(120, 0, -1))

    def test_filters_look_on_page_after_page_and_find_everything(self, browser, owed, monkeypatch):
        monkeypatch.setattr(lists, "LOOKED_THROUGH", 7)
        owed.destination("one", events="grant.*")
        owed.credit(20)
        owed.destination("other", events="grant.*")
        owed.credit(2)
        owed.set_state("other", "removed")
        owed.credit(20)
        expected = [
            row["id"]
            for row in owed.rows(
                "SELECT v.id FROM deliveries v JOIN destinations d ON d.id = v.destination_id WHERE d.name = 'other'"
            )
        ]
        pages = [listed(page) for page in every_page(browser, f"{LIST}?destination=other")]
        assert [each for page in pages for each in page] == sorted(expected, reverse=True) != []
        assert len(pages) > 2
        assert listed(browser.get(f"{LIST}?type=grant.reversed")) == []

    def test_a_type_is_filtered_and_another_game_is_not_shown(self, browser, installation, owed):
        owed.destination()
        (grant,) = owed.credit()
        reversal = owed.reverse(grant)
        assert listed(browser.get(f"{LIST}?type=grant.reversed")) == [owed.delivery(reversal)["id"]]
        Studio(installation, "other")
        assert listed(browser.get("/games/other/deliveries")) == []
        assert browser.get("/games/other/deliveries/1").status_code == 404
        assert browser.post("/games/other/deliveries/1/redrive").status_code == 404
        assert browser.get(f"{LIST}/99").status_code == 404
        assert browser.get(f"{LIST}/{2**80}").status_code == 404

    def test_the_circuit_is_told_in_words_and_resumed(self, browser, owed, db):
        owed.destination()
        owed.credit(12)
        for claim in owed.claim(12):
            owed.fail(claim)
        page = text_of(browser.get(LIST))
        assert_has(page, "It is down after 12 failures in a row", "the next in less than a minute")
        answer = follow(browser, browser.post(f"{LIST}/destinations/game/resume"))
        assert "What has waited longest goes first" in text_of(answer)
        assert owed.state()["circuit_open_since"] is None
        assert "Nothing is sent until you resume it" in text_of(
            follow(browser, browser.post(f"{LIST}/destinations/game/pause"))
        )
        assert [(row["actor"], row["action"]) for row in db("SELECT * FROM audit ORDER BY id DESC LIMIT 2")] == [
            ("owner", "destination.paused"),
            ("owner", "destination.active"),
        ]

    def test_a_destination_of_another_game_is_not_there(self, browser, installation, owed):
        owed.destination()
        Studio(installation, "other")
        assert browser.post("/games/other/deliveries/destinations/game/pause").status_code == 404
        assert owed.state()["state"] == "active"
        assert browser.post(f"{LIST}/destinations/game/remove").status_code == 404

    def test_lists_are_read_by_their_index(self, owed):
        values = {
            "game_id": 1, "destination": "a", "event_type": "b", "before": 5, "limit": 5, "looked_through": 5,
            "waiting": 1, "dead": 1, "delivered": 1,
        }  # fmt: skip
        plan = owed.rows(f"EXPLAIN QUERY PLAN WITH {lists._LOOKED_THROUGH} SELECT * FROM looked_through", **values)
        assert not [row["detail"] for row in plan if "SCAN deliveries" in row["detail"] or "B-TREE" in row["detail"]]


class TestRedrive:
    def test_one_from_death_to_arrival(self, browser, installation, owed, db):
        with Receiver(status(500, b"no room"), status(200, b"ok")) as receiver:
            owed.destination(url=receiver.url, retry="0")
            owed.write(lambda tx: tx.execute("UPDATE destinations SET retry_seconds = '0'"))
            owed.credit()
            owed.write(lambda tx: tx.execute("UPDATE deliveries SET attempts_made = 1"))
            owed.drain()
            (dead,) = owed.deliveries("dead")
            page = browser.get(f"{LIST}/{dead['id']}")
            assert "no room" in page.text
            assert "not sent again until you redrive it" in text_of(page)
            answer = browser.post(f"{LIST}/{dead['id']}/redrive", reason="server was  full")
            assert "Redriven" in text_of(follow(browser, answer))
            owed.drain()
        page = text_of(browser.get(f"{LIST}/{dead['id']}"))
        assert_has(page, "It was delivered", "status 500", "status 200")
        (row,) = db("SELECT * FROM audit WHERE action = 'delivery.redrive'")
        assert (row["actor"], row["subject"]) == ("owner", f"{dead['id']}: server was full")

    def test_one_that_is_not_dead_is_refused_in_words_and_not_audited(self, browser, owed, db):
        owed.destination()
        owed.credit()
        answer = browser.post(f"{LIST}/1/redrive")
        assert answer.status_code == 409
        assert "There is no dead delivery 1. It is due, or being sent." in answer.text
        assert db("SELECT * FROM audit WHERE action = 'delivery.redrive'") == []

    def test_the_ticked_ones_and_how_many(self, browser, owed, db):
        owed.destination()
        owed.write(lambda tx: tx.execute("UPDATE destinations SET retry_seconds = '0'"))
        owed.credit(4)
        owed.write(lambda tx: tx.execute("UPDATE deliveries SET attempts_made = 1"))
        for claim in owed.claim(4):
            owed.fail(claim)
        assert len(owed.deliveries("dead")) == 4
        answer = browser.post(f"{LIST}/redrive", id=["1", "3", "77", "x", "1"], state="dead", which="selected")
        assert "2 redriven." in text_of(follow(browser, answer))
        assert [row["id"] for row in owed.deliveries("waiting")] == [1, 3]
        (row,) = db("SELECT * FROM audit WHERE action = 'delivery.redrive'")
        assert row["subject"] == "1, 3, 77, 1 (2)"

    def test_all_that_a_filter_leaves_over(self, browser, owed):
        for name in ("one", "other"):
            owed.destination(name)
        owed.write(lambda tx: tx.execute("UPDATE destinations SET retry_seconds = '0'"))
        owed.credit(3)
        owed.write(lambda tx: tx.execute("UPDATE deliveries SET attempts_made = 1"))
        for name in ("one", "other"):
            for claim in owed.claim(3, name=name):
                owed.fail(claim)
        path = f"{LIST}/redrive"
        answer = browser.post(path, which="all", state="dead", destination="one", type="grant.reversed")
        assert "There was nothing to do" in text_of(follow(browser, answer))
        answer = browser.post(path, which="all", state="dead", destination="nowhere")
        assert "There was nothing to do" in text_of(follow(browser, answer))
        answer = browser.post(path, which="all", state="dead", destination="one", reason=HOSTILE)
        assert "3 redriven." in text_of(follow(browser, answer))
        assert len(owed.deliveries("dead")) == 3
        assert "3 redriven." in text_of(follow(browser, browser.post(path, which="all", state="dead")))
        assert owed.deliveries("dead") == []

    def test_those_that_wait_are_put_back_too_one_or_all(self, browser, owed, db):
        owed.destination()
        owed.credit(3)
        later = "UPDATE deliveries SET attempts_made = 4, next_attempt_at = '2999-01-01T00:00:00.000000Z'"
        owed.write(lambda tx: tx.execute(later))

        assert "Redrive all" in browser.get(f"{LIST}?state=waiting").text
        assert "Redrive" in browser.get(f"{LIST}/1").text
        assert browser.post(f"{LIST}/1/redrive").status_code == 303
        answer = follow(browser, browser.post(f"{LIST}/redrive", which="all", state="dead"))
        assert "There was nothing to do" in text_of(answer)
        answer = follow(browser, browser.post(f"{LIST}/redrive", which="all", state="waiting"))
        assert "2 redriven." in text_of(answer)

        assert len(owed.claim()) == 3
        assert {row["attempts_made"] for row in owed.deliveries()} == {0}
        assert len(db("SELECT * FROM audit WHERE action = 'delivery.redrive'")) == 2

    def test_nothing_ticked_is_told(self, browser, owed):
        assert browser.post(f"{LIST}/redrive", which="selected").status_code == 400

    def test_one_that_was_overtaken_stays_dead_and_the_answer_says_so(self, browser, owed):
        owed.destination(format="playcamp")
        owed.write(lambda tx: tx.execute("UPDATE destinations SET retry_seconds = '0'"))
        owed.happen(2)
        owed.write(lambda tx: tx.execute("UPDATE deliveries SET attempts_made = 1"))
        (first,) = owed.claim(1)
        owed.fail(first)
        (second,) = owed.claim(1)
        owed.record(second)
        answer = follow(browser, browser.post(f"{LIST}/redrive", which="all", state="dead"))
        assert "1 stay dead: a later one of the same player has overtaken each" in text_of(answer)
        answer = browser.post(f"{LIST}/{first.id}/redrive")
        assert answer.status_code == 409
        assert "a later one of its player has overtaken it" in answer.text


class TestOne:
    def test_the_request_is_shown_as_it_is_sent_without_its_signature(self, browser, installation, owed):
        with Receiver() as receiver:
            secret = owed.destination(url=receiver.url)
            owed.credit()
            owed.drain()
            (sent,) = receiver.requests
            page = browser.get(f"{LIST}/1")
            body = re.search(r'<pre tabindex="0" aria-label="Body">(.*?)</pre>', page.text, re.S)[1]
            assert body.replace("&#34;", '"') == sent.body.decode()
            assert_has(page.text, receiver.url, sent.webhook_id, without=(sent.headers["webhook-signature"], secret))
        assert 'href="/games/demo/transactions/' in page.text

    def test_a_converted_body_is_shown_too(self, browser, owed):
        owed.destination(format="playcamp")
        owed.happen()
        page = browser.get(f"{LIST}/1")
        assert_has(page.text, "X-Gateway-Attempt: 1", "&#34;player_id&#34;: &#34;alice&#34;")
        owed.write(lambda tx: tx.execute("DELETE FROM conversions"))
        assert "There is no body yet" in browser.get(f"{LIST}/1").text

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("SELECT 1", "The next attempt is due now"),
            ("UPDATE destinations SET state = 'paused'", "waits until the destination is resumed"),
            ("UPDATE deliveries SET leased_until = '2999', lease_owner = 'x'", "An attempt is under way"),
            (
                "UPDATE destinations SET circuit_open_since = '2026-01-01T00:00:00.000000Z', "
                "next_probe_at = '2026-01-01T00:00:00.000000Z'",
                "The destination is down",
            ),
        ],
    )
    def test_what_comes_next_in_words(self, browser, owed, change, said):
        owed.destination()
        owed.credit()
        owed.write(lambda tx: tx.execute(change))
        assert said in text_of(browser.get(f"{LIST}/1"))
        assert browser.get(LIST).status_code == 200

    def test_a_reversal_says_what_it_waits_for(self, browser, owed):
        owed.destination()
        (grant,) = owed.credit()
        owed.reverse(grant)
        assert "It waits for delivery 1" in text_of(browser.get(f"{LIST}/2"))

    def test_attempts_that_failed_are_explained(self, browser, owed):
        owed.destination()
        owed.credit()
        owed.record(owed.claim()[0], "dns", detail="no such host", duration_ms=12)
        page = text_of(browser.get(f"{LIST}/1"))
        assert_has(page, "the name of the host was not found: no such host", "12 ms")

    def test_one_of_a_removed_destination_cannot_be_put_back(self, browser, owed):
        owed.destination()
        owed.credit()
        owed.set_state("game", "removed")
        page = browser.get(f"{LIST}/1")
        assert_has(page.text, "It was removed", without=("/deliveries/1/redrive",))


def test_the_list_as_csv(browser, owed):
    owed.destination()
    owed.write(lambda tx: tx.execute("UPDATE destinations SET retry_seconds = '0'"))
    owed.credit(3, player="=cmd|' /C calc'!A0")
    owed.write(lambda tx: tx.execute("UPDATE deliveries SET attempts_made = 1 WHERE id = 2"))
    for claim in owed.claim(3):
        owed.fail(claim)
    answer = browser.get(f"{LIST}.csv?state=dead")
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [row["id"] for row in rows] == ["2"]
    assert rows[0]["player_id"] == "'=cmd|' /C calc'!A0"
    assert rows[0]["dead_reason"].startswith("2 attempts")
    assert len(browser.get(f"{LIST}.csv").text.splitlines()) == 4
