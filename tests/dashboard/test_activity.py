"""The audit log as a page and as CSV."""

import csv
import io
import re

import pytest

from coinslot.store import audit
from coinslot.store.audit import Wanted
from coinslot.store.paging import LAST_ID
from handlers.dashboard.account.activity import MEANINGS
from tests.pages import STORABLE, assert_has
from tests.servers import ROOT


@pytest.fixture
def other(installation, studio):
    from tests.conftest import Studio

    return Studio(installation, "other")


def record(installation, *rows):
    def write(tx):
        for game_id, actor, action, subject in rows:
            audit.record(tx, game_id, actor, action, subject)

    installation.database.write_here(write)


def rows_of(answer):
    text = answer.get_data(as_text=True).removeprefix("\ufeff")
    return list(csv.DictReader(io.StringIO(text)))


def test_it_shows_who_did_what_to_which_game(browser, studio):
    page = browser.get("/activity").text
    assert_has(page, "Added the game", "Demo", "Signed in, from")


def test_it_filters_by_game_actor_and_word(browser, installation, studio, other, db):
    def subjects(query):
        return [row["subject"] for row in rows_of(browser.get(f"/activity.csv?{query}"))]

    record(
        installation,
        (studio.row["id"], "owner", "secret.set", "one"),
        (studio.row["id"], "command", "secret.rotate", "two"),
        (other.row["id"], "owner", "secret.set", "three"),
        (None, "owner", "person.password", "four"),
    )
    assert subjects("game=demo&actor=owner") == ["one"]
    assert subjects("action=secret&game=other") == ["three"]
    assert subjects("game=-&action=password") == ["four"]
    assert subjects("action=Secret.Rotate") == ["two"]
    assert subjects("action=%25") == subjects("actor=nobody") == []
    for query in ("game=demo&actor=owner", "action=secret&game=other"):
        assert browser.get(f"/activity?{query}").status_code == 200
    assert browser.get("/activity?game=nobody").status_code == 404
    assert browser.get("/activity.csv?game=nobody").status_code == 404


def test_pages_follow_one_another_without_a_gap(browser, installation, studio, db):
    record(installation, *((None, "owner", "config.set", f"<{number}>") for number in range(120)))
    seen, below = [], LAST_ID
    for _ in range(10):
        rows, below = audit.entries(installation.database.read(), Wanted(), below)
        seen += [row["id"] for row in rows]
        if below is None:
            break
    assert seen == [row["id"] for row in db("SELECT id FROM audit ORDER BY id DESC")]
    first = browser.get("/activity").text
    assert_has(first, "Older", without=("Newest",))
    assert browser.get("/activity?after=abc").status_code == browser.get("/activity?after=-1").status_code == 200
    assert "Newest" in browser.get("/activity?after=5").text


def test_few_among_many_are_found_a_stretch_at_a_time(installation, studio, monkeypatch):
    monkeypatch.setattr(audit, "MOST_LOOKED_AT", 100)
    record(
        installation, (None, "owner", "rare.thing", "found"), *((None, "owner", "config.set", "x") for _ in range(350))
    )
    assert [row["subject"] for row in audit.every_entry(installation.database.read(), Wanted(word="rare"))] == ["found"]
    rows, below = audit.entries(installation.database.read(), Wanted(word="rare", is_installation=True))
    assert rows == []
    assert below is not None


def test_anything_is_shown_as_text_and_no_cell_is_a_formula(browser, installation, studio):
    record(
        installation,
        (studio.row["id"], "game", "player.forget", STORABLE),
        (None, STORABLE, STORABLE, "x" * 10_000),
        (None, "owner", "config.set", "=HYPERLINK(1)"),
        (None, "owner", "config.set", "@SUM(1)\r\nx"),
    )
    page = browser.get("/activity").text
    assert_has(page, without=("<script>alert", "\u202e", "\x00", "x" * 500))
    exported = [row["subject"] for row in rows_of(browser.get("/activity.csv"))]
    assert "'=HYPERLINK(1)" in exported
    assert any(each.startswith("'@SUM") for each in exported)
    assert "<script>alert" not in browser.get("/activity?action=%3Cscript%3Ealert(1)").text


def test_the_export_is_streamed_and_whole(browser, installation, studio):
    record(installation, *((None, "owner", "config.set", str(number)) for number in range(2500)))
    answer = browser.get("/activity.csv?action=config.set")
    assert answer.mimetype == "text/csv"
    assert answer.is_streamed
    assert [row["subject"] for row in rows_of(answer)] == [str(number) for number in reversed(range(2500))]


@pytest.mark.parametrize("query", ["", "?game=demo", "?game=-&actor=command&action=zzz"])
def test_it_asks_little_of_the_database_and_only_by_index(browser, installation, studio, query):
    answer, queries = browser.queries(f"/activity{query}")
    assert answer.status_code == 200
    assert len(queries) <= 12
    connection = installation.database.read()
    for each in queries:
        if "FROM audit" in each:
            plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
            assert any("SEARCH audit" in step for step in plan), plan
            assert not any("TEMP B-TREE" in step for step in plan), plan
            assert not any(step == "SCAN audit" for step in plan), plan


def test_every_action_that_is_recorded_has_words():
    """Those whose word stands in the call; the others are made of parts, and stand in the table too."""
    sources = [each for folder in ("coinslot", "handlers") for each in (ROOT / folder).rglob("*.py")]
    calls = [call[:100] for each in sources for call in each.read_text().split("audit.record(")[1:]]
    actions = {word for call in calls for word in re.findall(r'"([a-z-]+(?:\.[a-z-]+)+)", ', call)}
    assert {"game.token.retire", "order.reverse", "secret.rotate"} <= actions
    assert sorted(actions - set(MEANINGS)) == []
