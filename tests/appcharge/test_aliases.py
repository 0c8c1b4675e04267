"""One purchase under several ids, reported in any order, at once, and after a restore."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinslot.operations import troubles
from coinslot.operations.backup import backup
from coinslot.operations.restore import restore
from handlers.commands import troubles as commands_of_troubles
from tests.pages import text_of

_numbers = itertools.count()


@pytest.fixture
def report(post_order, studio):
    """Report a purchase by the ids that a word names, o, p and e with a number: ``report("o2p2", player="bob")``."""

    def send(ids: str, player: str = "alice", of: str = "") -> Any:
        named = {ids[at]: f"{ids[at : at + 2].upper()}{of}" for at in range(0, len(ids), 2)}
        return post_order(
            orderId=named.get("o", ...),
            appChargePaymentId=named.get("p", ...),
            externalTransactionId=named.get("e", ...),
            purchaseId=...,
            playerId=player,
        )

    return send


@pytest.fixture
def twice(installation):
    def find():
        found = [each for each in troubles.find(installation.database.read()).found if each.kind == "credited_twice"]
        return dict(found[0].named) if found else {}

    return find


def test_an_order_is_asked_for_by_its_own_id_first(report, feed):
    first = report("o2")
    assert report("p2", player="bob").status_code == 200

    again = report("o2p2")

    assert (again.status_code, again.data) == (200, first.data)
    assert len(feed()) == 2


def test_an_order_keeps_its_answer_when_another_report_of_it_had_the_same_content(report):
    by_order, by_payment = report("o1"), report("p1")
    assert by_order.data != by_payment.data

    for _ in range(2):
        assert report("o1p1").data == by_order.data
        assert report("p1").data == by_payment.data
        assert report("o1").data == by_order.data


def test_a_fallback_id_keeps_its_answer_when_an_older_order_turns_out_to_share_it(report):
    report("o1")
    second = report("o2p1")
    assert report("p1").data == second.data
    report("o1p1")
    assert report("p1").data == second.data


def test_two_transactions_that_prove_to_be_one_purchase_are_named(report, twice, browser, app, studio, db):
    report("o2")
    assert report("p2").status_code == 200
    assert not twice()

    report("o2p2")

    assert twice() == {"O2 and P2": "1000 coins, 5 gems"}
    doctor = app.test_cli_runner().invoke(commands_of_troubles.doctor_command, []).output
    for said in (text_of(browser.get("/")), doctor):
        assert "O2 and P2 (1000 coins, 5 gems)" in said
        assert "alice" not in said
    (row,) = db("SELECT public_id FROM transactions WHERE external_id = 'payment:P2'")
    browser.post(f"/games/demo/transactions/{row['public_id']}/reversal", policy="revoke", reason="credited twice")
    assert not twice()


def test_what_another_player_was_given_for_the_same_payment_is_named_too(report, twice):
    report("o2")
    report("p2", player="bob")
    report("o2p2")
    assert twice() == {"O2 and P2": "1000 coins, 5 gems"}


def test_reports_by_two_fallback_ids_prove_it_as_well(report, twice):
    first, second = report("p1"), report("e1")
    assert report("p1e1").data == first.data
    assert report("e1").data == second.data
    assert list(twice()) == ["P1 and E1"]


def test_two_orders_that_share_a_payment_id_are_no_such_proof(report, twice):
    report("p1")
    report("o1p1")
    report("o2p1")
    for ids in ("o1p1", "o2p1", "p1"):
        report(ids)
    assert not twice()


def test_no_other_order_takes_over_what_proved_to_be_another_ones_twin(report, feed):
    first = report("o1")
    report("p1")
    report("o1p1")
    assert report("o3p1").data not in (first.data, report("p1").data)
    assert len(feed()) == 3


IDS = ["o1", "o2", "p1", "p2", "e1", "o1p1", "o1p2", "o2p1", "o2p2", "p1e1", "o1e1", "o1p1e1", "o2p2e1"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(["alice", "alice", "bob"])), min_size=2, max_size=9))
def test_whatever_the_order_of_arrival_an_answer_stays(report, db, reports):
    of, answers = f"-{next(_numbers)}", {}
    for ids, player in (*reports, *reports):
        answer = report(ids, player, of)
        key = (ids[:2], player)  # an order is named by the first id it brings
        if key in answers:
            assert (answer.status_code, answer.data) == (200, answers[key]), (ids, player)
        elif answer.status_code == 200:
            answers[key] = answer.data
    granted = db(
        "SELECT g.id FROM grants g JOIN transactions t ON t.id = g.transaction_id WHERE t.reference LIKE :of",
        of=f"%{of}",
    )
    assert len(granted) == len(set(answers.values())), "each grant answers a report"


@pytest.mark.parametrize("ids", [("o1", "p1", "o1p1"), ("p1", "p1e1", "e1", "o1p1"), ("o1p1", "o1", "o1p1", "p1")])
def test_at_once_each_report_is_credited_once_and_keeps_its_answer(report, feed, studio, ids):
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(report, ids * 4))
    assert {answer.status_code for answer in first} == {200}
    again = [report(each).data for each in ids]
    for each, answer in zip(ids, again, strict=True):
        assert report(each).data == answer
    transaction_ids = [grant["transaction_id"] for grant in feed()]
    assert len(transaction_ids) == len(set(transaction_ids)) <= len({each[:2] for each in ids})


class TestAfterARestore:
    """``transaction_id`` follows from the id that an order was first credited by; see docs/appcharge.md."""

    @pytest.fixture
    def replayed(self, installation, tmp_path):
        copy = tmp_path / "copy.db"
        backup(installation.database, copy)

        def go_back():
            restore(installation.database, installation.vault, copy)

        def named():
            found = [each for each in troubles.find(installation.database.read()).found if each.kind == "replayed"]
            return dict(found[0].named) if found else {}

        return go_back, named

    @pytest.fixture(autouse=True)
    def studio_first(self, studio):
        return studio

    def test_an_order_that_is_always_named_by_its_own_id_has_the_same_id(self, report, replayed):
        go_back, named = replayed
        first = report("o1")
        go_back()
        assert report("o1").data == first.data
        assert not named()

    def test_one_first_known_by_a_fallback_id_may_get_another_and_is_named(self, report, replayed, app):
        go_back, named = replayed
        first = report("p2")
        assert report("o2p2").data == first.data
        assert not named()
        go_back()

        assert report("o2p2").data != first.data

        assert named() == {"O2": f"perhaps known as {first.json['publisherPurchaseId']}"}
        doctor = app.test_cli_runner().invoke(commands_of_troubles.doctor_command, []).output
        assert "from before a restore came again: O2" in doctor

    def test_a_fallback_id_alone_is_named_too(self, report, replayed):
        go_back, named = replayed
        report("o2p2")
        go_back()
        report("p2")
        assert list(named()) == ["P2"]

    def test_what_was_bought_since_is_not(self, post_order, replayed, clock):
        go_back, named = replayed
        go_back()
        clock.shift(3600)
        post_order(purchaseDateAndTimeUtc="2099-01-01T00:00:00.000Z")
        assert not named()
        post_order(orderId="o-2", purchaseDateAndTimeUtc="")
        assert list(named()) == ["o-2"]
