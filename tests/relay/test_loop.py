"""The relay against real receivers: what arrives, in what order, how often, and what is written down of it.

Most tests hold the clock and drain; those with a relay that runs, in this process or another, take real time.
"""

import json
import logging
import random
import statistics
import time
from functools import partial

import pytest

from coinslot.access import keyring
from coinslot.base import clock as coinslot_clock
from coinslot.outbox import deliveries, destinations
from coinslot.outbox.formats import Format
from tests import databases
from tests.fakes.http import (
    FakeServer,
    Receiver,
    after,
    bad_headers,
    certificate,
    closed_port,
    huge,
    ok,
    raw,
    reset,
    silence,
    slow_body,
    slow_headers,
    status,
)
from tests.killing import Process, relay
from tests.owed import running
from tests.servers import until


def test_a_grant_arrives_signed_and_is_recorded(owed, clock):
    with Receiver(status(200, b"thanks")) as receiver:
        secret = owed.destination(url=receiver.url)
        (grant_id,) = owed.credit()
        assert owed.drain() == 1

    assert deliveries.is_relay_running(owed.installation.database.read())
    (request,) = receiver.requests
    assert request.verify(secret)["data"]["id"] == grant_id
    assert request.path == "/hook"
    (delivery,), (attempt,) = owed.deliveries(), owed.attempts()
    assert delivery["state"] == "delivered"
    assert (attempt["status"], attempt["failure"], bytes(attempt["answer"])) == (200, None, b"thanks")
    assert attempt["duration_ms"] is not None


def test_a_retry_has_the_same_id_and_bytes_and_a_time_of_its_own(owed, clock):
    with Receiver(status(500), status(503), status(200)) as receiver:
        secret = owed.destination(url=receiver.url)
        owed.credit()
        for _ in range(3):
            assert owed.drain() == 1
            clock.shift(70)

    first, second, third = receiver.requests
    assert first.webhook_id == second.webhook_id == third.webhook_id
    assert first.body == second.body == third.body
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == 3
    for request in receiver.requests:
        assert int(request.headers["webhook-timestamp"]) == int(request.at)
        request.verify(secret)
    assert owed.deliveries()[0]["state"] == "delivered"
    assert [row["status"] for row in owed.attempts()] == [500, 503, 200]


def test_an_attempt_under_way_during_a_restore_says_nothing_of_what_came_after_it(owed, installation, caplog):
    caplog.set_level(logging.INFO, "coinslot")

    def restore(handler):
        """As from a copy of before the credit, and another credit after it: the same ids for another delivery."""
        owed.write(lambda tx: [tx.execute("DELETE FROM attempts"), tx.execute("DELETE FROM deliveries")])
        owed.credit()
        status(200)(handler)

    with Receiver(restore, status(500)) as receiver:
        owed.destination(url=receiver.url)
        owed.credit()
        assert owed.drain() == 2

    (delivery,) = owed.deliveries()
    assert receiver.webhook_ids[1:] == [delivery["webhook_id"]]
    assert (delivery["id"], delivery["state"], delivery["attempts_made"]) == (1, "waiting", 1)
    assert [row["failure"] for row in owed.attempts()] == ["status"]
    assert "delivery 1 to game was overtaken by a restore" in caplog.text
    assert "not recorded:" not in caplog.text


@pytest.mark.parametrize(
    ("behaviour", "failure", "code"),
    [
        (silence, "timeout", None),
        (slow_headers, "timeout", None),
        (slow_body, "timeout", 200),
        (reset, "refused", None),
        (huge, "too_large", 200),
        (status(302, Location="http://127.0.0.1:1/"), "redirect", 302),
        (status(404), "status", 404),
        (status(500), "status", 500),
    ],
)
def test_every_failure_has_its_word_and_is_tried_again(owed, clock, caplog, behaviour, failure, code):
    with Receiver(behaviour, status(200)) as receiver:
        owed.destination(url=receiver.url, timeout_seconds=1)
        owed.credit()
        assert owed.drain() == 1
        (delivery,), (attempt,) = owed.deliveries(), owed.attempts()
        assert (delivery["state"], delivery["attempts_made"], delivery["leased_until"]) == ("waiting", 1, None)
        assert (attempt["failure"], attempt["status"]) == (failure, code)
        assert attempt["duration_ms"] < 1500
        assert failure in caplog.text

        clock.shift(6)
        assert owed.drain() == 1
    assert owed.deliveries()[0]["state"] == "delivered"


def test_interim_answers_leave_each_delivery_its_own_outcome(owed):
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    refused = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"

    with FakeServer(lambda request: raw(hints, 0.02, refused if b'"odd"' in request.body else ok())) as game:
        owed.destination(url=game.url)
        players = ["even", "odd"] * 4
        for player in players:
            owed.credit(player=player)
        owed.drain()

    statuses = {row["delivery_id"]: row["status"] for row in owed.attempts()}
    assert [statuses[row["id"]] for row in owed.deliveries()] == [200, 500] * 4


def test_refused_dns_and_tls_have_their_words(owed, clock, tmp_path):
    with Receiver(certificate=certificate(tmp_path, "127.0.0.1")) as receiver:
        owed.destination("refused", f"http://127.0.0.1:{closed_port()}/")
        owed.destination("dns", "http://no-such-host.invalid/")
        owed.destination("tls", receiver.url)
        owed.credit()
        assert owed.drain() == 3

    rows = owed.rows(
        """SELECT t.name, a.failure FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
           JOIN destinations t ON t.id = d.destination_id"""
    )
    assert {row["name"]: row["failure"] for row in rows} == {"refused": "refused", "dns": "dns", "tls": "tls"}
    assert not receiver.requests


def test_retry_after_is_honoured(owed, clock):
    with Receiver(status(503, Retry_After="3600")) as receiver:
        owed.destination(url=receiver.url)
        owed.credit()
        owed.drain()

    assert 3595 < owed.due_in(owed.deliveries()[0]["id"]) < 3601


def test_a_rotation_is_signed_twice_and_the_retired_secret_is_gone(owed, clock):
    with Receiver() as receiver:
        old = owed.destination(url=receiver.url)
        new = destinations.new_secret()
        name = destinations.secret_name("game")
        owed.write(lambda tx: keyring.rotate(tx, owed.installation.vault, owed.studio.row, name, new, "test"))
        owed.credit()
        owed.drain()
        owed.studio.retire(name)
        owed.credit()
        owed.drain()

    during, afterwards = receiver.requests
    during.verify(old)
    during.verify(new)
    afterwards.verify(new)
    with pytest.raises(Exception, match="No matching signature"):
        afterwards.verify(old)


def test_a_format_that_a_partner_brings_is_signed_ordered_and_tried_again_as_it_says(owed, installation, clock):
    made = Format(
        name="numbered",
        retry_seconds=(7,),
        success="200",
        sign=lambda webhook_id, number, at, content, secrets: {"X-Proof": f"{number} at {at} of {len(content)}"},
        id_header="X-Id",
        time_header="X-Time",
        signature_header="X-Proof",
        recipe="its number",
        keeps_order=True,
    )
    installation.formats = {**installation.formats, made.name: made}
    with Receiver(status(204), status(200), status(200)) as receiver:
        owed.destination(url=receiver.url, format="numbered")
        owed.credit(2)
        assert owed.drain() == 1, "the second of a player waits for the first"
        clock.shift(8)
        assert owed.drain() == 2

    first, again, second = receiver.requests
    assert again.body == first.body != second.body
    assert [each.headers["x-proof"].split(" at ")[0] for each in receiver.requests] == ["1", "2", "1"]
    assert [row["failure"] for row in owed.attempts()] == ["status", None, None]


def test_an_expression_decides_what_success_is(owed, clock):
    with Receiver(status(200, b'{"ok": false}'), status(200, b"<html>"), status(200, b'{"ok": true}')) as receiver:
        owed.destination(url=receiver.url, success="ok", retry="1,1,1")
        owed.credit()
        for _ in range(3):
            owed.drain()
            clock.shift(2)

    assert [row["failure"] for row in owed.attempts()] == ["rejected", "rejected", None]


def test_players_go_in_parallel_and_each_in_order(owed, clock):
    with Receiver(after(0.02, status(200))) as receiver:
        owed.destination(url=receiver.url, format="playcamp")
        for _ in range(6):
            for player in ("alice", "bob", "carol"):
                owed.happen(player=player)
        assert owed.drain() == 18

    seen = {}
    for request in receiver.requests:
        body = json.loads(request.body)
        seen.setdefault(body["player_id"], []).append(body["event_id"])
    assert all(ids == sorted(ids) and len(ids) == 6 for ids in seen.values())
    assert 2 <= receiver.most_at_once <= 3


def test_one_slow_destination_leaves_the_others_their_speed(owed):
    with Receiver(after(3, status(200))) as slow, Receiver() as fast:
        owed.destination("slow", slow.url)
        owed.destination("fast", fast.url)
        owed.credit(40)
        with running(owed.installation):
            until(lambda: len(fast.requests) == 40, "the fast one has everything", 2)
            assert len(slow.requests) <= 8
            slow.is_closing.set()
            slow.script = [status(200)]


CREDITS = """
import sys
import time
from app import create_app
from tests.conftest import Studio
from tests.owed import Owed

class Demo(Studio):
    def __init__(self, installation):
        self.installation, self.slug = installation, "demo"

installation = create_app().extensions["coinslot"]
owed = Owed(installation, Demo(installation))
for line in sys.stdin:
    owed.credited = int(line)
    owed.credit()
    print(time.time(), flush=True)
"""


def test_a_commit_of_another_process_leaves_at_once(owed):
    delays = []
    with Receiver() as receiver, Process(owed.installation.database.home, "-c", CREDITS) as other:
        owed.destination(url=receiver.url)
        with running(owed.installation):
            for number in range(10):
                committed = float(other.line(str(number)))
                until(lambda n=number: len(receiver.requests) > n, "it has left", 5)
                delays.append(receiver.requests[-1].at - committed)
                time.sleep(random.uniform(0, 0.05))

    assert statistics.median(delays) < 1


def test_stop_finishes_what_is_in_hand_and_claims_nothing_more(owed):
    with Receiver(after(0.5, status(200))) as receiver:
        owed.destination(url=receiver.url)
        owed.credit(20)
        with running(owed.installation) as relay:
            until(lambda: len(receiver.requests) >= 8, "eight are in hand")
            relay.stop()

    assert len(receiver.requests) == 8
    assert len(owed.deliveries("delivered")) == 8
    assert all(row["leased_until"] is None for row in owed.deliveries())
    assert all(row["duration_ms"] is not None for row in owed.attempts())


@pytest.mark.parametrize("why", ["the relay stops", "its turn came too late"])
def test_a_claim_that_was_not_begun_is_given_back(owed, installation, clock, why):
    with Receiver() as receiver:
        owed.destination(url=receiver.url)
        owed.credit()
        relay = installation.new_relay()
        (claim,) = owed.claim(owner=relay.owner)
        if why == "the relay stops":
            relay.stop()
        else:
            clock.shift(5)

        relay._deliver(claim, "a delivery")

    (delivery,) = owed.deliveries()
    assert (delivery["state"], delivery["leased_until"], delivery["attempts_made"]) == ("waiting", None, 0)
    assert owed.attempts() == []
    assert not receiver.requests


def test_trouble_with_the_database_is_waited_out(owed, installation, caplog):
    with Receiver() as receiver, running(installation):
        owed.destination(url=receiver.url)
        owed.credit()
        until(lambda: owed.deliveries("delivered"), "the first arrives")
        databases.change(installation, "ALTER TABLE deliveries RENAME TO hidden")
        until(lambda: "the relay waits" in caplog.text, "the relay notices")
        databases.change(installation, "ALTER TABLE hidden RENAME TO deliveries")
        owed.credit()
        until(lambda: len(receiver.requests) == 2, "the second arrives")


def test_a_row_that_makes_no_sense_does_not_end_the_loop(owed, installation, caplog):
    with Receiver() as receiver:
        owed.destination(url=receiver.url)
        owed.destination("odd", receiver.url)
        owed.change("UPDATE destinations SET retry_seconds = 'soon' WHERE name = 'odd'")
        owed.credit()
        with running(installation) as relay:
            until(lambda: "the relay waits" in caplog.text, "the relay notices")
            owed.change("UPDATE destinations SET retry_seconds = NULL")
            until(lambda: len(receiver.requests) == 2, "both arrive")
            assert not relay._is_stopping


def test_a_delivery_that_cannot_be_made_dies_on_its_schedule(owed, clock, caplog):
    with Receiver() as receiver:
        owed.destination(url=receiver.url, retry="1")
        owed.change(
            """INSERT INTO events (id, game_id, partner, type, dedupe_key, data, environment, is_test, received_at)
               VALUES (1, :game_id, 'p', 'broken', 'one', '{', 'live', 0, '')""",
            game_id=owed.game_id,
        )
        owed.write(lambda tx: deliveries.enqueue(tx, owed.game_id, "broken", event_id=1))
        owed.credit()
        for _ in range(2):
            owed.drain()
            clock.shift(2)

    assert [row["state"] for row in owed.deliveries()] == ["dead", "delivered"]
    assert "could not be made" in caplog.text
    assert "delivery 1 to game is dead: rejected" in caplog.text
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("sql", "detail"),
    [
        ("DELETE FROM secrets WHERE name = 'destination.game'", "it has no signing secret"),
        ("UPDATE secrets SET ciphertext = x'00' WHERE name = 'destination.game'", "its signing secret does not open"),
    ],
)
def test_without_its_secret_nothing_is_sent(owed, clock, caplog, sql, detail):
    with Receiver() as receiver:
        owed.destination(url=receiver.url)
        owed.credit()
        owed.change(sql)
        owed.drain()

    assert not receiver.requests
    (attempt,) = owed.attempts()
    assert (attempt["failure"], attempt["detail"]) == ("rejected", detail)
    assert ("cannot be signed" in caplog.text) == ("does not open" in detail)


def test_old_deliveries_are_deleted_by_a_job_of_the_relay(owed, installation):
    with Receiver() as receiver:
        owed.destination(url=receiver.url)
        with databases.travel(time.time() - 31 * 86400, tick=True):
            owed.credit(3)
            owed.drain()
        owed.credit()
        with running(installation):
            until(lambda: len(owed.deliveries()) == 1, "the old ones are gone")
            until(lambda: owed.deliveries("delivered"), "the new one is there")


def test_no_secret_signature_or_body_reaches_the_log(owed, clock, caplog):
    caplog.set_level(logging.DEBUG)
    with Receiver(bad_headers, silence, status(200)) as receiver:
        secret = owed.destination(url=receiver.url + "?token=hunter2", timeout_seconds=1, retry="1,1")
        owed.destination("refused", f"http://127.0.0.1:{closed_port()}/hunter2", retry="1")
        owed.destination("dns", "http://hunter2.invalid/hunter2", retry="1")
        owed.credit()
        for _ in range(3):
            owed.drain()
            clock.shift(2)

    assert "delivery" in caplog.text
    assert "hunter2" not in caplog.text
    assert secret not in caplog.text
    for request in receiver.requests:
        assert request.headers["webhook-signature"] not in caplog.text
        assert request.body.decode() not in caplog.text
    details = " ".join(str(row["detail"]) for row in owed.attempts())
    assert "hunter2" not in details


@pytest.mark.long
@pytest.mark.parametrize(
    ("answer", "count", "state", "requests"),
    [(200, 300, "delivered", 300), (500, 2, "dead", 10)],  # two are too few to open a circuit
)
def test_relays_of_many_threads_and_processes_attempt_nothing_twice_at_once(
    owed, installation, answer, count, state, requests
):
    home = installation.database.home
    with Receiver(after(0.01, status(answer))) as receiver:
        owed.destination(url=receiver.url, retry="0,0,0,0")
        with relay(home), relay(home), running(installation, relays=3):
            for _ in range(0, count, 50):
                owed.credit(min(count, 50))
            until(lambda: len(owed.deliveries(state)) == count, "everything has ended", 30)

    assert receiver.overlaps == 0
    assert receiver.most_at_once > 8 or count < 8  # they were really at it together
    assert len(receiver.requests) == len(owed.attempts()) == requests
    assert len(set(receiver.webhook_ids)) == count
    assert owed.rows("SELECT * FROM deliveries WHERE leased_until IS NOT NULL") == []


@pytest.mark.long
@pytest.mark.parametrize("step", ["claimed", "sent", ""])
def test_kill_9_loses_nothing_and_leaves_nothing_stuck(owed, installation, step):
    """Killed between claim and send, between send and record, and at moments that chance chooses."""
    rounds = 5 if step else 10
    with Receiver(after(0.02, status(200))) as receiver:
        owed.destination(url=receiver.url, timeout_seconds=1)
        for number in range(rounds):
            owed.credit(12)
            with pytest.raises(RuntimeError):
                owed.write(lambda tx: _credit_and_fail(tx, owed))
            before = len(receiver.requests)
            with relay(installation.database.home, step, 5) as process:
                if step == "claimed":
                    leased = partial(owed.rows, "SELECT 1 FROM deliveries WHERE leased_until > :now")
                    process.kill_when(lambda leased=leased: leased(now=coinslot_clock.stamp()), step)
                    assert len(receiver.requests) == before
                elif step == "sent":
                    until(lambda n=before: len(receiver.requests) > n, step)
                    time.sleep(0.05)
                    process.kill()
                else:
                    process.kill_after(0.15, random.Random(number))
        assert owed.rows("SELECT id FROM deliveries WHERE leased_until IS NOT NULL") or not step
        with databases.travel(time.time() + 6.5, tick=True):
            owed.drain()
        committed = {row["webhook_id"] for row in owed.deliveries()}
        assert {row["state"] for row in owed.deliveries()} == {"delivered"}

    assert len(committed) == rounds * 12
    assert set(receiver.webhook_ids) == committed
    assert receiver.overlaps == 0
    assert step != "sent" or len(receiver.requests) > len(committed)  # at least once means that some came again


def _credit_and_fail(tx, owed):
    (grant_id,) = tx.execute("SELECT max(id) FROM grants").fetchone()
    assert deliveries.enqueue(tx, owed.game_id, "grant.created", grant_id=grant_id) == 1
    raise RuntimeError("never committed")


@pytest.mark.long
def test_sigterm_ends_a_relay_process_tidily(owed, installation):
    with Receiver(after(0.5, status(200))) as receiver:
        owed.destination(url=receiver.url)
        owed.credit(20)
        with relay(installation.database.home) as process:
            until(lambda: len(receiver.requests) >= 8, "eight are in hand")
            assert process.terminate()[0] == 0

    assert len(owed.deliveries("delivered")) == len(receiver.requests)
    assert owed.rows("SELECT * FROM deliveries WHERE leased_until IS NOT NULL") == []
