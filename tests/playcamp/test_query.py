"""The payment query tells each payment with one content and at one time, whatever is corrected meanwhile."""

import json
import threading
import time

import pytest

from coinslot.payments import queries
from handlers.playcamp.payments import query
from tests.books import quarantine
from tests.playcamp.conftest import NOW
from tests.playcamp.test_payments import PATH, made
from tests.servers import Server, together

KEY = "test-payments-key"


@pytest.fixture
def ask(app, studio, now):
    studio.secret("playcamp.payments_key", KEY)  # so that what is reported is only kept

    def get(start, end):
        words = f"from={start}&to={end}"
        proof = {"X-Timestamp": str(NOW), "X-Fingerprint": made("GET", PATH, words, str(NOW), KEY)}
        return app.test_client().get(f"{PATH}?{words}", headers=proof).json["payments"]

    return get


@pytest.mark.parametrize("name", ["amount", "purchasedAt"])
def test_a_correction_between_the_reading_and_the_marking_is_told_or_refused(ask, report, monkeypatch, name):
    """Another worker corrects it once the query has read it."""
    report("GP-1")
    read, outcomes = queries.paid_between, []

    def slow(*args, **kwargs):
        rows = read(*args, **kwargs)
        if not outcomes:
            outcomes.extend(report("GP-1", **{name: "2" if name == "amount" else NOW - 60}))
        return rows

    monkeypatch.setattr(query.queries, "paid_between", slow)
    first = ask(NOW - 700, NOW - 500)
    monkeypatch.undo()
    again, later = ask(NOW - 700, NOW - 500), ask(NOW - 100, NOW)

    assert outcomes == ["new"]
    assert first == again
    assert len(first) + len(later) == 1
    assert report("GP-1", amount="3") == ["conflict"]


def test_no_payment_is_told_twice_differently_under_parallel_corrections(ask, report):
    ids = [f"GP-{number}" for number in range(20)]
    report(*ids, is_registering=False)
    served: dict[str, set[str]] = {}
    is_over = threading.Event()

    def correct():
        number = 2
        while not is_over.is_set():
            report(*ids, is_registering=False, amount=str(number), purchasedAt=NOW - 600 + number % 500)
            number += 1

    def listen():
        while not is_over.is_set():
            for start in (NOW - 700, NOW - 400):
                for row in ask(start, start + 300):
                    with mutex:
                        served.setdefault(row["order_id"], set()).add(json.dumps(row, sort_keys=True))

    mutex = threading.Lock()
    threads = [threading.Thread(target=each) for each in (correct, listen, listen)]
    for each in threads:
        each.start()
    for number in range(20, 120):  # new ones, so that there is always something to correct
        ids.append(f"GP-{number}")
        report(f"GP-{number}", is_registering=False)
    is_over.set()
    for each in threads:
        each.join(30)

    assert len(served) > 20
    assert {name for name, contents in served.items() if len(contents) > 1} == set()


def test_what_was_told_keeps_its_content_though_playcamp_refuses_it_for_good(ask, report, write, db):
    report("GP-1", is_registering=True)
    ask(NOW - 700, NOW)
    write(quarantine, 1, "no such product")

    assert db("SELECT state FROM payments") == [{"state": "quarantined"}]
    assert report("GP-1", amount="2") == ["conflict"]


@pytest.mark.long
def test_two_workers_tell_each_payment_once_under_parallel_corrections(installation, studio):
    """What the game corrects through one worker is never told with two contents by another."""
    studio.secret("playcamp.payments_key", KEY)
    began = int(time.time())
    token = {"Authorization": f"Bearer {studio.token}", "Content-Type": "application/json"}
    served: dict[str, set[str]] = {}
    pushed: list[int] = []

    def push(server, ids, number):
        row = {"userId": "1", "productId": "gem", "currency": "USD", "market": "google", "amount": f"{number}.5"}
        rows = [{**row, "transactionId": each, "purchasedAt": began - 600 + number % 500} for each in ids]
        pushed.append(server.post("/game/v1/payments", json.dumps({"payments": rows}).encode(), token).status)

    def correct(server):
        for number in range(60):
            push(server, [f"GP-{each}" for each in range(number // 10 * 10, number // 10 * 10 + 10)], number + 1)

    def listen(server):
        for _ in range(60):
            for start in (began - 700, began - 575, began - 550):
                words, at = f"from={start}&to={start + (125 if start < began - 600 else 25)}", str(int(time.time()))
                proof = {"X-Timestamp": at, "X-Fingerprint": made("GET", PATH, words, at, KEY)}
                for row in server.get(f"{PATH}?{words}", proof).json["payments"]:
                    served.setdefault(row["order_id"], set()).add(json.dumps(row, sort_keys=True))

    with Server(installation.settings.home, WEB_CONCURRENCY="2") as server:
        together(*[lambda: correct(server)] * 2, *[lambda: listen(server)] * 3)

    assert set(pushed) == {200}
    assert len(served) > 20
    assert {name: contents for name, contents in served.items() if len(contents) > 1} == {}
