"""Refused calls: kept without a commit in the request, sealed, bounded in number, size and time."""

import json
import threading

import pytest

from coinslot.access import keyring
from coinslot.access.vault import Sealed
from coinslot.operations import contacts, observations
from coinslot.operations.observations import Refusal
from handlers.kit.receive import SIMULATED, SIMULATED_SECONDS
from tests import databases
from tests.conftest import appcharge_headers


def refusal(studio, number=0, body="x"):
    return Refusal(
        game_id=studio.row["id"],
        game_slug="demo",
        partner="appcharge",
        endpoint="orders",
        reason="signature",
        status=401,
        remote_address="192.0.2.1",
        body_size=len(body),
        request={"body": body, "number": str(number)},
    )


def opened(installation, row):
    sealed = Sealed(row["ciphertext"], row["nonce"], row["key_id"])
    return json.loads(installation.vault.unseal(installation.database.read(), keyring.REFUSAL_PURPOSE, sealed))


def test_a_refusal_costs_the_request_no_commit(installation, studio, db, monkeypatch):
    monkeypatch.setattr(observations, "FLUSH_SECONDS", 3600)
    with databases.nothing_written(installation):
        installation.observations.refused(refusal(studio))
    installation.observations.flush()
    (row,) = db("SELECT * FROM refusals")
    assert opened(installation, row) == {"body": "x", "number": "0"}


def test_the_ring_is_bounded_and_keeps_the_newest(installation, studio, db, monkeypatch):
    monkeypatch.setattr(observations, "KEPT_PER_PARTNER", 10)
    for number in range(25):
        installation.observations.refused(refusal(studio, number))
        if number % 7 == 0:
            installation.observations.flush()
    installation.observations.flush()
    rows = db("SELECT * FROM refusals ORDER BY id")
    assert [opened(installation, row)["number"] for row in rows] == [str(number) for number in range(15, 25)]
    assert db("SELECT name, label, value FROM counters") == [{"name": "refused", "label": "signature", "value": 25}]


def test_a_flood_is_counted_but_not_all_kept(installation, studio, db, monkeypatch):
    monkeypatch.setattr(observations, "FLUSH_SECONDS", 3600)
    for number in range(1000):
        installation.observations.refused(refusal(studio, number))
    installation.observations.flush()
    assert len(db("SELECT 1 FROM refusals")) == observations.HELD_AT_MOST
    assert db("SELECT value FROM counters") == [{"value": 1000}]


def test_what_is_older_than_a_week_goes(installation, studio, db, clock):
    installation.observations.refused(refusal(studio))
    installation.observations.flush()
    clock.shift(8 * 24 * 3600)
    installation.observations.refused(refusal(studio, 1))
    installation.observations.flush()
    assert [opened(installation, row)["number"] for row in db("SELECT * FROM refusals")] == ["1"]


def test_a_body_is_cut_at_64_kib(client, studio, installation, db):
    client.post("/appcharge/demo/orders", data=b"a" * 900_000, headers={"signature": "t=1,v1=00"})
    installation.observations.flush()
    (row,) = db("SELECT * FROM refusals")
    assert row["body_size"] == 900_000
    assert 60_000 < len(opened(installation, row)["body"]) <= 65_536


def test_trouble_with_the_database_is_logged_and_over(installation, studio, caplog):
    with databases.Fault(installation, "INSERT ON refusals"):
        installation.observations.refused(refusal(studio))
        installation.observations.flush()
    assert "observations were not written" in caplog.text
    installation.observations.flush()


def test_who_stops_waits_for_what_another_thread_writes(installation, studio, db, monkeypatch):
    monkeypatch.setattr(observations, "FLUSH_SECONDS", 3600)
    writing, goes_on = threading.Event(), threading.Event()
    store = observations.Observations._store_refusal

    def slowly(self, tx, refusal):
        writing.set()
        goes_on.wait(4)
        store(self, tx, refusal)

    monkeypatch.setattr(observations.Observations, "_store_refusal", slowly)
    installation.observations.refused(refusal(studio))
    threads = [threading.Thread(target=installation.observations.flush) for _ in range(2)]
    threads[0].start()
    assert writing.wait(10)
    threads[1].start()
    threads[1].join(0.1)

    assert threads[1].is_alive()
    goes_on.set()
    for each in threads:
        each.join(10)
    assert len(db("SELECT 1 FROM refusals")) == 1


def test_of_each_address_the_first_and_the_last_call_are_known(installation, studio, clock):
    game_id = studio.row["id"]
    installation.observations.called(game_id, "appcharge", "orders")
    installation.observations.flush()
    first = contacts.of_game(installation.database.read(), game_id)[("appcharge", "orders")]
    clock.shift(60)
    installation.observations.called(game_id, "appcharge", "orders")
    installation.observations.refused(refusal(studio))
    installation.observations.flush()

    row = contacts.of_game(installation.database.read(), game_id)[("appcharge", "orders")]
    assert first["first_at"] == first["proved_at"] == row["first_at"] < row["proved_at"]
    assert (row["refused_reason"], row["copied_at"]) == ("signature", None)


def test_our_own_simulated_calls_say_nothing_of_the_partner_and_its_keys(
    client, studio, installation, db, browser, simulated
):
    ours = simulated
    body = json.dumps({"playerId": "alice"}).encode()
    client.post("/appcharge/demo/players", data=body, headers=appcharge_headers(body) | ours)
    client.post("/appcharge/demo/players", data=body, headers=ours)
    installation.observations.flush()

    assert contacts.of_game(installation.database.read(), studio.row["id"]) == {}
    assert db("SELECT name FROM secrets WHERE last_used_at IS NOT NULL") == []
    assert db("SELECT reason FROM refusals") == [{"reason": "signature"}]  # that one the owner may look into
    assert db("SELECT * FROM counters") == []
    page = browser.get("/games/demo/refusals").text
    assert page.count("(simulated)") == 1
    assert "Simulated" in browser.get("/games/demo/refusals/1").text

    client.post("/appcharge/demo/players", data=body, headers=appcharge_headers(body))
    installation.observations.flush()
    client.post("/appcharge/demo/players", data=body)
    installation.observations.flush()
    assert browser.get("/games/demo/refusals").text.count("(simulated)") == 1
    assert db("SELECT value FROM counters WHERE name = 'refused'") == [{"value": 1}]
    assert len(contacts.of_game(installation.database.read(), studio.row["id"])) == 1
    assert len(db("SELECT name FROM secrets WHERE last_used_at IS NOT NULL")) == 2


@pytest.mark.parametrize(
    "claim",
    [
        lambda ours: {"User-Agent": "coinslot-simulate"},
        lambda ours: {SIMULATED: "on"},
        lambda ours: {SIMULATED: "1."},
        lambda ours: {SIMULATED: ours.partition(".")[0] + "." + "0" * 64},
        lambda ours: {SIMULATED: f"1.{ours.partition('.')[2]}"},
        lambda ours: {SIMULATED: "\u0661" + ours},
    ],
)
def test_a_call_that_only_says_that_it_is_simulated_counts(client, studio, installation, db, simulated, claim):
    body = json.dumps({"playerId": "alice"}).encode()
    client.post("/appcharge/demo/players", data=body, headers=claim(simulated[SIMULATED]))
    installation.observations.flush()

    assert db("SELECT is_simulated FROM refusals") == [{"is_simulated": 0}]
    assert db("SELECT value FROM counters WHERE name = 'refused'") == [{"value": 1}]


def test_the_proof_of_a_simulated_call_ends(client, studio, installation, db, simulated, clock):
    clock.shift(SIMULATED_SECONDS + 2)
    client.post("/appcharge/demo/players", data=b"{}", headers=simulated)
    installation.observations.flush()

    assert db("SELECT is_simulated FROM refusals") == [{"is_simulated": 0}]
