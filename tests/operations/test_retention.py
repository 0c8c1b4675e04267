"""Retention: what is old goes as the settings say, what proves money stays, and everything else works after it."""

import io
import json
import shutil
import sqlite3
import zipfile

import pytest

from coinslot.base.clock import now, stamp
from coinslot.games import games
from coinslot.ledger import chain, credit, events, refund_requests, refused
from coinslot.operations import drill, retention
from coinslot.operations.backup import backup
from coinslot.operations.restore import restore
from coinslot.settlement import states
from coinslot.store import audit
from tests import databases
from tests.books import Books
from tests.conftest import Browser
from tests.killing import Process
from tests.owed import a_credit
from tests.pages import text_of
from tests.reconciler import Reconciler

pytestmark = pytest.mark.long
DAY = 86400.0
DELETING = (
    "from app import create_app; i = create_app().extensions['coinslot']; i.own_jobs['retention'](i); print('ended')"
)


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


class Past:
    """Months that were settled, and the job that deletes."""

    def __init__(self, app, installation, studio, books, clock):
        self.app, self.installation, self.studio, self.books, self.clock = app, installation, studio, books, clock

    def settle(self, month="2026-07"):
        self.books.close(month)
        self.confirm(month)

    def confirm(self, month="2026-07"):
        game_id = self.books.game.id
        self.books.write(
            lambda tx: states.advance(
                tx, game_id, month, "payment_confirmed", "test", "paid", is_skipping=True, is_accepting=True
            )
        )

    def delete(self, days=0):
        """Let days pass, and run the job until it has nothing to do."""
        self.clock.shift(days * DAY)
        while True:
            known = games.outlines(self.installation.database.read(), self.installation.catalogue)
            if retention.run(self.installation.database, known):
                return

    def event(self, key, type="appcharge.order.shipped", **changed):
        about = {"external_id": None, "raw_body": b'{"e":1}', "player_id": "alice", "data": {"read": key}} | changed
        about |= {"environment": "live", "is_test": False, "dedupe_key": key, "type": type}
        return self.books.write(lambda tx: events.record(tx, game_id=self.books.game.id, partner="appcharge", **about))

    def browser(self):
        """The owner signs in anew: an earlier session has ended meanwhile."""
        return Browser(self.app.test_client(), self.installation)

    def said(self):
        known = games.outlines(self.installation.database.read(), self.installation.catalogue)
        return list(retention.sentences(self.installation.database.read(), known))


@pytest.fixture
def past(app, installation, studio, books, clock):
    return Past(app, installation, studio, books, clock)


@pytest.fixture
def bodies(db):
    return lambda: {row["reference"] for row in db("SELECT reference FROM transactions WHERE raw_body IS NOT NULL")}


def everything(installation, db):
    """Every row of every table; without what time itself changes."""
    tables = databases.tables(installation)
    return {name: db(f"SELECT * FROM {name}") for name in tables if name not in ("schedules", "heartbeats")}


def test_by_default_nothing_about_money_goes(past, books, owed, installation, db):
    for number in range(3):
        books.order(f"o-{number}")
    books.refund_order("o-0")
    books.pay("GP-1")
    past.event("e-1")
    past.event("l-1", "player.login", raw_body=None)
    past.settle()
    before = everything(installation, db)

    past.delete(days=5 * 365)

    assert everything(installation, db) == before
    assert past.said() == ["game demo: retention: nothing was old enough to delete yet"]


class TestBodiesOfOrders:
    @pytest.fixture
    def orders(self, past, books, installation, db):
        """Orders of July, of which only ``plain-*`` may lose their bodies."""
        past.studio.config("retention.bodies_days", "180")
        for name in ("plain-1", "plain-2", "refunded", "disputed", "asked", "other-content", "no-amount"):
            books.order(name, *((None,) if name == "no-amount" else ()))
        books.order("of-august", at="2026-08-01")
        books.order("unsigned")
        books.refund_order("refunded")
        books.refund_order("disputed", "chargeback")

        def more(tx):
            (row,) = tx.execute("SELECT id, partner FROM transactions WHERE reference = 'asked'").fetchall()
            refund_requests.begin(
                *(tx, books.game.id, row["partner"], "asked"), actor="test", reason="why", transaction_id=row["id"]
            )
            (row,) = tx.execute("SELECT id FROM transactions WHERE reference = 'other-content'").fetchall()
            credit.record_conflict(tx, a_credit(books.game.id, "other-content", fingerprint="another"), row["id"])

        books.write(more)
        databases.change_guarded(
            books.installation, "UPDATE transactions SET signature = NULL WHERE reference = 'unsigned'"
        )
        past.settle()
        past.clock.shift(60)
        books.order("late", at="2026-07-31")
        return {row["reference"] for row in db("SELECT reference FROM transactions")}

    def test_only_those_of_settled_months_that_nobody_asks_for_go(self, past, bodies, orders):
        past.delete(days=58)
        assert bodies() == orders, "July ended 179 days before"

        past.delete(days=2)

        assert orders - bodies() == {"plain-1", "plain-2"}
        assert past.said() == [f"game demo: retention: bodies of 2 orders deleted on {stamp()[:10]}"]

    def test_what_the_owner_still_sees(self, past, books, orders, db, installation):
        (row,) = db("SELECT * FROM transactions WHERE reference = 'plain-1'")
        (stays,) = db("SELECT * FROM transactions WHERE reference = 'refunded'")
        lines = books.lines()
        documents = past.browser().get("/games/demo/settlements/2026-07/purchases").text.split("<main")[1]

        past.delete(days=70)

        browser = past.browser()
        (emptied,) = db("SELECT * FROM transactions WHERE reference = 'plain-1'")
        assert emptied == row | {"raw_body": None}
        assert list(chain.verify(installation.database.read())) == []
        page = browser.get(f"/games/demo/transactions/{row['public_id']}")
        assert "older than this game keeps bodies" in text_of(page)
        assert "forgotten" not in text_of(page)
        assert row["public_id"] in browser.get("/search?q=plain-1", follow_redirects=True).text
        pack = browser.get(f"/games/demo/transactions/{row['public_id']}/dispute.zip")
        with zipfile.ZipFile(io.BytesIO(pack.data)) as packed:
            assert "request/body.bin" not in packed.namelist()
            assert packed.read("request/signature.txt") == b"signature\n"
            assert "keeps it for some time only" in packed.read("README.txt").decode()
            assert json.loads(packed.read("verification.json"))["body_sha256"] == row["body_sha256"]
        whole = browser.get(f"/games/demo/transactions/{stays['public_id']}/dispute.zip")
        assert "request/body.bin" in zipfile.ZipFile(io.BytesIO(whole.data)).namelist()
        assert books.lines() == lines
        assert browser.get("/games/demo/settlements/2026-07/purchases").text.split("<main")[1] == documents
        assert "bodies of 2 orders deleted" in browser.get("/").text

    def test_a_duplicate_and_a_refund_are_known_after_it(self, past, books, orders, db):
        past.delete(days=70)
        before = len(db("SELECT 1 FROM grants"))

        books.order("plain-1")
        assert len(db("SELECT 1 FROM grants")) == before
        books.refund_order("plain-1")

        assert len(db("SELECT 1 FROM grants")) == before + 1

    def test_the_export_of_a_player_says_that_a_body_is_gone(self, past, installation, books, orders):
        past.delete(days=70)

        made = json.loads(b"".join(installation.export_player(books.game, "alice", "test")))

        told = {row["reference"]: (row["body"], "body_note" in row) for row in made["transactions"]}
        assert told["plain-1"] == (None, True)
        assert told["refunded"] == ("{}", False)
        assert not any("is_signed" in row for row in made["transactions"])

    def test_a_player_can_be_forgotten_after_it(self, past, installation, books, orders, db):
        past.delete(days=70)

        installation.forget_player(books.game, "alice", "test")

        assert db("SELECT 1 FROM transactions WHERE signature IS NOT NULL OR session_metadata IS NOT NULL") == []
        assert list(chain.verify(installation.database.read())) == []

    def test_a_copy_of_it_is_proved_and_restored(self, past, installation, orders, db, tmp_path):
        past.delete(days=70)
        before = db("SELECT * FROM transactions ORDER BY id")

        copy = backup(installation.database, tmp_path / "copy.db")
        place = tmp_path / "aside"
        place.mkdir(mode=0o700)
        newest = drill.Newest.of(installation.database.read())
        proved = list(drill.drill(place, copy.path, installation.vault, newest, shutil.copyfile))
        restore(installation.database, installation.vault, copy.path)

        assert [each.faults for each in proved if each.faults] == []
        assert db("SELECT * FROM transactions ORDER BY id") == before
        assert list(chain.verify(installation.database.read())) == []

    def test_a_month_that_is_not_paid_keeps_them(self, past, books, bodies):
        past.studio.config("retention.bodies_days", "180")
        books.order("o-1")
        books.close()

        past.delete(days=1000)

        assert bodies() == {"o-1"}

    def test_many_orders_of_several_months_go_one_after_the_other(self, past, books, bodies, monkeypatch):
        monkeypatch.setattr(retention, "ROWS_AT_ONCE", 3)
        past.studio.config("retention.bodies_days", "180")
        for month in ("2026-06", "2026-07"):
            for number in range(10):  # several at the same moment
                books.order(f"{month}-{number}", at=f"{month}-{10 + number // 4}")
            past.settle(month)

        past.delete(days=70)
        assert bodies() == set()
        books.order("another", at="2026-08-10")
        past.settle("2026-08")
        past.delete(days=40)

        assert bodies() == set()

    def test_its_rows_cannot_be_rewritten(self, installation, books):
        books.order("o-1")
        for change in ("raw_body = x'01'", "signature = 'other'", "session_metadata = '{}'"):
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                books.write(lambda tx, change=change: tx.execute(f"UPDATE transactions SET {change}"))
        books.write(lambda tx: tx.execute("UPDATE transactions SET raw_body = NULL"))
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            books.write(lambda tx: tx.execute("UPDATE transactions SET raw_body = x'01'"))


class TestEvents:
    def test_bodies_go_and_what_was_read_stays(self, past, db, client):
        past.studio.config("retention.event_bodies_days", "90")
        old = past.event("old")
        refund = past.event("refund")
        past.books.order("o-1")
        past.books.refund_order("o-1")
        past.books.write(lambda tx: tx.execute("UPDATE refunds SET event_id = :id", {"id": refund}))
        past.clock.shift(60 * DAY)
        new = past.event("new")

        past.delete(days=40)

        left = {row["id"] for row in db("SELECT id FROM events WHERE raw_body IS NOT NULL")}
        assert left == {refund, new}
        page = past.browser().get(f"/games/demo/events/{old}")
        assert "older than this game keeps bodies of events" in text_of(page)
        assert "old" in text_of(page)
        feed = client.get("/game/v1/events", headers={"Authorization": f"Bearer {past.studio.token}"}).json
        assert [each["id"] for each in feed["events"]] == [old, refund, new]

    def test_a_clock_that_was_ahead_once_holds_nothing_up(self, past, db):
        past.studio.config("retention.logins_days", "30")
        past.clock.shift(1000 * DAY)
        ahead = past.event("ahead", "player.login", raw_body=None)
        past.clock.shift(-1000 * DAY)
        past.event("old", "player.login", raw_body=None)

        past.delete(days=40)

        assert [row["id"] for row in db("SELECT id FROM events")] == [ahead]

    def test_sign_ins_go_and_no_other_event(self, past, db, owed):
        past.studio.config("retention.logins_days", "30")
        other = past.event("other")
        past.event("old", "player.login", raw_body=None)
        owed.destination()
        owed.set_state("game", "paused")
        owed_one = past.event("owed", "player.login", raw_body=None)
        past.clock.shift(20 * DAY)
        new = past.event("new", "player.login", raw_body=None)

        past.delete(days=15)

        assert [row["id"] for row in db("SELECT id FROM events ORDER BY id")] == [other, owed_one, new]
        assert past.said() == [f"game demo: retention: 1 sign-ins deleted on {stamp()[:10]}"]
        assert past.event("again", "player.login", raw_body=None) == new + 1


class TestOthers:
    def test_deliveries_go_after_the_time_that_is_set(self, past, owed, clock):
        owed.destination()
        owed.credit(2)
        for claim in owed.claim():
            owed.record(claim)
        past.delete(days=29)
        assert len(owed.deliveries()) == 2
        past.studio.config("retention.deliveries_days", "forever")
        past.delete(days=400)
        assert len(owed.deliveries()) == 2

        past.studio.config("retention.deliveries_days", "30")
        past.delete()

        assert (owed.deliveries(), owed.attempts()) == ([], [])

    def test_closed_refused_calls_go_and_open_ones_stay(self, past, installation, post_order, db):
        for number, player in enumerate(("nobody", "nobody", "nobody")):
            post_order(orderId=f"r-{number}", playerId=player)
        ids = [row["id"] for row in db("SELECT id FROM refusals WHERE state = 'open' ORDER BY id")]
        assert len(ids) == 3
        installation.database.write_here(lambda tx: refused.set_aside(tx, ids[:1], "seen"))
        past.delete(days=200)
        installation.database.write_here(lambda tx: refused.set_aside(tx, ids[1:2], "seen"))

        past.delete(days=200)

        assert [row["id"] for row in db("SELECT id FROM refusals ORDER BY id")] == ids[1:]
        assert {row["refusal_id"] for row in db("SELECT refusal_id FROM refusal_names")} == set(ids[1:])

    def test_rows_of_reports_go_and_differences_stay(self, app, past, books, db):
        past.studio.config("retention.reports_days", "90")
        for number in range(50):
            books.order(f"o-{number}")
        books.close()
        reconciler = Reconciler(app, books)
        report = "orderId,amount,currency,date\n" + "".join(
            f"o-{number},9.99,USD,2026-07-10T00:00:00Z\n" for number in range(49)
        )
        run = reconciler.by_text("appcharge", report)
        found = reconciler.results(run)
        assert set(found.values()) == {"missing_there"}
        past.confirm()
        assert len(db("SELECT 1 FROM partner_rows")) == 49

        past.delete(days=100)

        assert db("SELECT 1 FROM partner_rows") == []
        assert past.said() == [f"game demo: retention: 49 rows of partners' reports deleted on {stamp()[:10]}"]
        assert reconciler.results(reconciler.run(run.id)) == found

    def test_changes_go_and_moved_payments_stay(self, past, db):
        past.studio.config("retention.changes_days", "365")
        game_id = past.books.game.id
        past.books.write(lambda tx: audit.record(tx, game_id, "test", "payment.move", "2026-07-01"))
        past.books.write(lambda tx: audit.record(tx, None, "test", "restore", "file"))
        past.clock.shift(200 * DAY)
        past.books.write(lambda tx: audit.record(tx, game_id, "test", "item.add", "coins"))

        past.delete(days=200)

        left = {row["action"] for row in db("SELECT action FROM audit WHERE game_id IS NOT NULL")}
        assert left == {"payment.move", "item.add"}
        assert db("SELECT 1 FROM audit WHERE action = 'restore'")

    def test_each_game_has_settings_of_its_own(self, past, installation, db):
        past.studio.config("retention.logins_days", "30")
        installation.database.write_here(lambda tx: games.add(tx, "other", "Other", "test"))
        other_id = games.find(installation.database.read(), "other")["id"]
        for game_id in (past.books.game.id, other_id):
            installation.database.write_here(
                lambda tx, game_id=game_id: events.record(
                    *(tx,),
                    game_id=game_id,
                    partner="appcharge",
                    type="player.login",
                    dedupe_key="k",
                    data={},
                    raw_body=None,
                    environment="live",
                    is_test=False,
                )
            )

        past.delete(days=40)

        assert [row["game_id"] for row in db("SELECT game_id FROM events")] == [other_id]

    @pytest.mark.parametrize("value", ["0", "179", "3651", "never", "-1", "180.5", "1e3", ""])
    def test_a_time_that_is_too_short_is_refused(self, installation, value):
        with pytest.raises(ValueError, match="forever"):
            installation.catalogue["retention.bodies_days"].checked(value)

    def test_the_settings_page_says_what_is_lost(self, studio, browser):
        page = text_of(browser.get("/games/demo/settings?open=retention"))
        for words in ("Keep bodies of orders, days", "nobody can check the signature again", "Open ones stay"):
            assert words in page


def test_a_job_that_is_killed_goes_on_and_the_ledger_is_whole(past, books, installation, db, bodies):
    past.studio.config("retention.bodies_days", "180")
    at = now()
    past.clock.move_to(at - 400 * DAY)
    for number in range(300):
        books.order(f"o-{number:03}", at=stamp(now() - 40 * DAY)[:10])
    past.settle(stamp(now() - 40 * DAY)[:7])
    past.clock.move_to(at)
    killed = 0
    for _ in range(5):
        left = len(bodies())
        with Process(installation.settings.home, "-c", DELETING) as process:
            process.kill_when(lambda left=left: len(bodies()) < left or not left, "some are deleted")
        killed += 0 < len(bodies()) < 300
        assert list(chain.verify(installation.database.read())) == []

    past.delete()

    assert killed
    assert bodies() == set()
    assert list(chain.verify(installation.database.read())) == []
