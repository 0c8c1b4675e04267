"""The id of a call: on its answer, with what it caused, and on the pages."""

import re

from coinslot.base import request_ids
from coinslot.ledger import credit, reports
from tests.conftest import order


def test_each_answer_has_an_id_of_its_own_that_no_caller_chooses(client, studio, post_order):
    answers = [client.get(path, headers={"X-Request-ID": "ab" * 8}) for path in ("/healthz", "/login", "/nowhere") * 2]
    answers.append(post_order())

    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
    assert len({*ids, "ab" * 8}) == len(ids) + 1
    answers[0].close()
    assert request_ids.current() is None


def test_a_grant_and_an_event_keep_the_id_of_the_call_that_caused_them(post_order, db, browser, studio):
    credited = post_order().headers["X-Request-ID"]
    failed = post_order(orderId="o-failed", purchaseId="p", actionStatus="failed").headers["X-Request-ID"]
    post_order(awardFlow="manual_retry")

    assert [row["request_id"] for row in db("SELECT request_id FROM grants")] == [credited]
    assert [row["request_id"] for row in db("SELECT request_id FROM events")] == [failed]
    (public_id,) = (row["public_id"] for row in db("SELECT public_id FROM transactions"))
    assert credited in browser.get(f"/games/demo/transactions/{public_id}").text
    (event_id,) = (row["id"] for row in db("SELECT id FROM events"))
    assert failed in browser.get(f"/games/demo/events/{event_id}").text
    reversal = browser.post(f"/games/demo/transactions/{public_id}/reversal", policy="flag", reason="test")
    newest = db("SELECT request_id FROM grants ORDER BY id")[-1]["request_id"]
    assert newest == reversal.headers["X-Request-ID"] != credited
    assert newest in browser.get(f"/games/demo/transactions/{public_id}").text


def test_a_refused_call_shows_its_id(post_order, studio, db, browser, installation):
    proved = post_order(playerId="nobody")
    forged = post_order(headers={"signature": "t=1,v1=00"})
    installation.observations.flush()

    pages = [browser.get(f"/games/demo/refusals/{row['id']}").text for row in db("SELECT id FROM refusals ORDER BY id")]
    assert [answer.status_code for answer in (proved, forged)] == [400, 401]
    assert proved.headers["X-Request-ID"] in pages[0]
    assert forged.headers["X-Request-ID"] in pages[1]


def test_what_fails_on_our_side_is_logged_under_the_id_that_the_answer_names(client, studio, caplog, monkeypatch):
    def fail(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(client.application.extensions["coinslot"].games, "by_slug", fail)
    answer = client.post("/appcharge/demo/orders", json=order())

    assert answer.status_code == 503
    assert f"logged as {answer.headers['X-Request-ID']};" in answer.json["publisherErrorMessage"]


def test_what_no_call_causes_has_no_id(installation, studio, db):
    request_ids.end()  # of a test before: the test client closes no answer by itself
    wanted = reports.Credit(
        game_id=studio.row["id"],
        game_slug="demo",
        partner="appcharge",
        external_id="by-a-job",
        reference="by-a-job",
        kind="purchase",
        player_id="alice",
        lines=(("coins", 1),),
        fingerprint="f",
        raw_body=b"",
        signature="",
        signed_with="",
        answer_status=200,
        answer_body="",
    )
    installation.database.write(lambda tx: credit.credit(tx, wanted, reports.Rules("reject", "reject", True)))

    assert [row["request_id"] for row in db("SELECT request_id FROM grants")] == [None]
