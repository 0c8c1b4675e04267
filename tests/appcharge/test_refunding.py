"""The money of an order goes back through Appcharge's API: asked for once, followed to its event, never sent again."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coinslot.ledger import refund_requests
from coinslot.ledger.refund_requests import RequestError
from handlers.appcharge.api import refunding as asking
from handlers.kit import refunding, troubles
from handlers.kit.api import NotConfiguredError
from tests.conftest import appcharge_headers, order
from tests.fakes.appcharge import FakeAppcharge, report_order
from tests.fakes.http import after, reset, silence, status
from tests.killing import Process

ORDER = order()["orderId"]
HOUR = 3600


@pytest.fixture
def fake():
    with FakeAppcharge() as fake:
        fake.orders = [report_order(ORDER)]
        yield fake


@pytest.fixture
def game(studio, fake, post_order):
    """A game with one credited order that Appcharge knows."""
    studio.config("appcharge.base_url", fake.url)
    studio.config("refunds.revoke", "on")
    assert post_order().status_code == 200
    return studio


@pytest.fixture
def partner(app):
    return next(each for each in app.extensions["coinslot.partners"] if each.name == "appcharge")


@pytest.fixture
def ask(game, installation, partner, db):
    def send(reference=ORDER):
        row = next(iter(db("SELECT id, environment FROM transactions WHERE reference = :r", r=reference)), {})
        return refunding.send(
            *(installation, installation.games.by_slug("demo"), partner, reference),
            actor="owner",
            who="owner",
            reason="asked by mail",
            transaction_id=row.get("id"),
            environment=row.get("environment"),
        )

    return send


@pytest.fixture
def state(db):
    def read():
        return [refund_requests.state_of(row) for row in db("SELECT * FROM refund_requests ORDER BY id")]

    return read


@pytest.fixture
def post_event(client, game):
    def post(**changed):
        document = {"eventName": "order.refunded", "eventId": "e-1", "orderId": ORDER, "timestamp": 1767225600000}
        body = json.dumps(document | changed).encode()
        answer = client.post("/appcharge/demo/events", data=body, headers=appcharge_headers(body))
        assert answer.status_code == 200

    return post


@pytest.fixture
def look(installation, game):
    """The job that reads the report."""
    return lambda: asking.run(installation, installation.games.by_slug("demo"))


@pytest.fixture
def listed(app, installation):
    def read():
        with app.app_context():
            return {each.key: each for each in troubles.list_troubles(installation)}

    return read


def test_a_refund_is_sent_once_and_done_when_its_event_comes_and_only_then_the_items_go(
    ask, fake, state, db, feed, post_event
):
    assert ask() == ("sent", "")
    assert (fake.refunded, state()) == ([(ORDER, "owner")], ["sent"])
    assert [grant["kind"] for grant in feed()] == ["purchase"]

    post_event()
    assert (state(), [grant["kind"] for grant in feed()]) == (["done"], ["purchase", "reversal"])

    with pytest.raises(RequestError, match="reported already"):
        ask()
    assert len(fake.refunded) == 1
    audited = [row["action"] for row in db("SELECT action FROM audit WHERE action LIKE 'order.refund%'")]
    assert audited == ["order.refund", "order.refund.sent"]


def test_a_refusal_says_why_and_another_request_may_follow(ask, fake, state, listed):
    fake.script = [status(422, b'{"message": "the order is too old"}')]
    assert ask() == ("refused", "Appcharge answered 422: the order is too old")
    assert ask() == ("sent", "")
    assert state() == ["refused", "sent"]
    assert "refunds_unknown:demo" not in listed()


def test_a_limit_is_a_refusal_and_is_not_waited_for(ask, fake):
    fake.script = [status(429, Retry_After="1")]
    assert ask()[0] == "refused"
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "behaviour",
    [reset, status(500), status(503), status(408), after(0.1, reset)],
    ids=["cut", "500", "503", "408", "cut late"],
)
def test_without_an_answer_it_is_unknown_a_trouble_with_its_money_and_never_sent_again(
    ask, fake, state, behaviour, listed, look, clock
):
    fake.script = [behaviour]
    assert ask()[0] == "unknown"
    with pytest.raises(RequestError, match="asked for already"):
        ask()
    clock.shift(30)
    look()
    assert (state(), len(fake.requests)) == (["unknown"], 1)
    trouble = listed()["refunds_unknown:demo"]
    assert (trouble.severity, trouble.count, trouble.money) == ("wrong", 1, {"USD": "9.99"})
    assert "alice" not in trouble.sentence


def test_a_server_that_never_answers_keeps_nobody_longer_than_the_limit(ask, fake, monkeypatch, state):
    monkeypatch.setattr(asking, "LONGEST_REFUND_SECONDS", 0.3)
    fake.script = [silence]
    assert ask()[0] == "unknown"
    assert state() == ["unknown"]


def test_a_name_that_leads_nowhere_is_a_refusal_for_nothing_was_sent(ask, game, state):
    game.config("appcharge.base_url", "https://nowhere.invalid")
    assert ask()[0] == "refused"


def test_the_event_ends_an_unknown_one(ask, fake, state, post_event, listed):
    fake.script = [reset]
    ask()
    post_event()
    assert state() == ["done"]
    assert "refunds_unknown:demo" not in listed()


def test_an_event_before_the_answer_counts_more_than_the_answer(ask, fake, state, post_event):
    def event_first(handler):
        post_event()
        status(201, b"{}")(handler)

    fake.script = [event_first]
    assert ask() == ("done", "")
    assert state() == ["done"]


def test_an_event_by_another_id_and_a_lost_answer(ask, fake, state, post_event):
    def event_first(handler):
        post_event(orderId=None, transactions=[{"purchaseId": order()["purchaseId"]}])
        reset(handler)

    fake.script = [event_first]
    assert ask()[0] == "done"
    assert state() == ["done"]


def test_a_dispute_and_a_test_event_end_no_request(ask, state, post_event, game):
    ask()
    post_event(eventName="order_dispute_lost", eventId="e-2")
    game.config("appcharge.environment", "sandbox")
    post_event(eventId="e-3")
    assert state() == ["sent"]


def test_two_who_press_at_once_send_one_request(app, ask, fake):
    barrier = threading.Barrier(8)

    def press(_):
        barrier.wait()
        try:
            return ask()[0]
        except RequestError:
            return "told"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(press, range(8))) == ["sent"] + ["told"] * 7
    assert len(fake.refunded) == 1


@pytest.mark.parametrize(
    ("reported", "becomes"),
    [
        ("payment_refunded", "done"),
        ("payment_refund_pending", "sent"),
        ("payment_refund_failed", "refused"),
        ("charge_succeed", "refused"),
        ("payment_dispute_open", "unknown"),
        ("a_new_state", "unknown"),
    ],
)
def test_the_report_decides_what_no_answer_left_open(ask, fake, state, look, clock, reported, becomes, feed):
    fake.script = [status(500)]
    ask()
    fake.orders = [report_order("other", reported), report_order(ORDER, reported)]
    clock.shift(2 * HOUR)
    assert look() == HOUR
    assert state() == [becomes]
    assert len(feed()) == 1, "the items go with the event"


def test_a_report_that_is_too_fresh_does_not_say_that_nothing_has_begun(ask, fake, state, look, clock):
    fake.script = [status(500)]
    ask()
    clock.shift(1200)
    look()
    assert state() == ["unknown"]
    clock.shift(HOUR)
    look()
    assert state() == ["refused"]
    assert look() is None


def test_a_lost_event_is_found_in_the_report_a_day_later(ask, fake, state, look, clock):
    ask()
    fake.orders = [report_order(ORDER, "charge_succeed")]
    clock.shift(25 * HOUR)
    look()
    assert state() == ["sent"], "Appcharge said that it has begun"
    fake.orders = [report_order(ORDER, "payment_refunded")]
    look()
    assert state() == ["done"]


def test_one_that_has_begun_and_does_not_end_is_looked_at(ask, clock, listed):
    ask()
    clock.shift(73 * HOUR)
    assert listed()["refunds_unended:demo"].severity == "look"


def test_the_job_is_due_ten_minutes_after_a_request(ask, db, clock):
    ask()
    (row,) = db("SELECT due_at FROM schedules WHERE name = 'appcharge.refunds'")
    assert row["due_at"] > db("SELECT created_at FROM refund_requests")[0]["created_at"]


def test_nothing_is_stored_where_the_game_cannot_ask(ask, game, db, installation):
    game.config("appcharge.environment", "sandbox")
    with pytest.raises(NotConfiguredError, match="from live"):
        ask()
    game.config("appcharge.environment", "live")
    game.config("appcharge.base_url", "http://192.0.2.1")
    with pytest.raises(NotConfiguredError, match="https"):
        ask()
    assert db("SELECT * FROM refund_requests") == []


def test_a_test_is_no_trouble(studio, fake, post_order, ask, listed, installation):
    installation.database.write_here(lambda tx: tx.execute("DELETE FROM refund_requests"))
    studio.config("appcharge.environment", "sandbox")
    post_order(orderId="o-2")
    fake.script = [reset]
    assert ask("o-2")[0] == "unknown"
    assert "refunds_unknown:demo" not in listed()


def test_forgetting_the_player_empties_what_was_typed_and_keeps_the_request(ask, installation, db):
    ask()
    installation.forget_player(installation.games.by_slug("demo"), "alice", "owner")
    (row,) = db("SELECT state, reason, detail, reference FROM refund_requests")
    assert row == {"state": "sent", "reason": "", "detail": "", "reference": ORDER}


def test_the_player_may_read_it(ask, client, studio):
    ask()
    answer = client.get("/game/v1/players/alice/export", headers={"Authorization": f"Bearer {studio.token}"})
    (bought,) = answer.json["transactions"]
    assert [(each["state"], each["reason"]) for each in bought["refund_requests"]] == [("sent", "asked by mail")]


KILLED = """
from app import create_app
from handlers.kit import refunding
app = create_app()
installation = app.extensions["coinslot"]
game = installation.games.by_slug("demo")
partner = next(each for each in app.extensions["coinslot.partners"] if each.name == "appcharge")
with app.app_context():
    refunding.send(installation, game, partner, "ORDER", actor="owner", who="owner", reason="x", transaction_id=1)
"""


@pytest.mark.parametrize("step", ["before the answer", "after it has arrived there"])
def test_a_process_that_is_killed_leaves_an_unknown_one_that_nobody_sends_again(
    game, ask, fake, installation, db, state, clock, look, listed, step
):
    fake.script = [silence]
    with Process(installation.settings.home, "-c", KILLED.replace("ORDER", ORDER)) as process:
        process.kill_when(lambda: fake.requests, "Appcharge was asked")
    assert [row["state"] for row in db("SELECT state FROM refund_requests")] == ["requested"]

    with pytest.raises(RequestError):
        ask()
    clock.shift(refund_requests.ANSWER_SECONDS + 60)  # the other process had a clock of its own
    assert state() == ["unknown"]
    assert listed()["refunds_unknown:demo"].money == {"USD": "9.99"}
    if step == "after it has arrived there":
        fake.orders = [report_order(ORDER, "payment_refunded")]
    clock.shift(2 * HOUR)
    look()
    assert state() == ["done" if fake.orders[0]["state"] == "payment_refunded" else "refused"]
    assert [each.route for each in fake.requests].count(f"POST /checkout/api/v1/order/{ORDER}/refund") == 1
