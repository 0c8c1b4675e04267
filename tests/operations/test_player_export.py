"""Everything kept about one player, as one document: whole, theirs alone, and made in little memory."""

import json
import tracemalloc

import pytest

from coinslot.ledger import boosts, events, reports
from coinslot.ledger import credit as ledger
from coinslot.operations import player_export
from tests.books import Books
from tests.conftest import TOKEN, Studio, appcharge_headers, order
from tests.owed import Owed
from tests.pages import HOSTILE

MARK = "only-alice@example.com"


@pytest.fixture
def api(client, studio):
    def get(player_id="alice", token=None):
        headers = {"Authorization": f"Bearer {token or studio.token}"}
        return client.get(f"/game/v1/players/{player_id}/export", headers=headers)

    return get


@pytest.fixture
def life(installation, client, studio, post_order):
    """Something of each kind about alice, and as much about bob."""
    studio.player("bob")
    owed, books = Owed(installation, studio), Books(installation, studio)
    owed.destination()
    for player, mail in (("alice", MARK), ("bob", "only-bob@example.com")):
        token = {"Authorization": f"Bearer {studio.token}"}
        entry = {"name": player.title(), "login_name": mail, "password": "x", "identities": {"google": f"g-{player}"}}
        entry |= {"segments": ["vip"], "attributes": {"mail": mail}}
        assert client.put(f"/game/v1/players/{player}", json=entry, headers=token).status_code == 200
        lines = [{"amount": 10**39, "sku": "coins"}]
        post_order(orderId=f"o-{player}", playerId=player, products=lines, customerEmail=mail)
        books.pay(f"GP-{player}", player=player)
        books.boost(player, f"creator-{player}", "2026-07-01")
        boost = boosts.Boost(studio.row["id"], player, "", f"creator-{player}", False, "2026-07-01T00:00:00.000000Z")
        installation.database.write_here(lambda tx, boost=boost: boosts.begin(tx, boost))
        body = json.dumps(order(orderId=f"x-{player}", playerId=player, customerEmail=mail)).encode()
        client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, "wrong", TOKEN))
        refused = json.dumps(
            order(orderId=f"y-{player}", playerId=player, customerEmail=mail, products=[{"amount": 1, "sku": "no"}])
        ).encode()
        assert (
            client.post("/appcharge/demo/orders", data=refused, headers=appcharge_headers(refused)).status_code == 400
        )
    for delivery in owed.claim():
        owed.record(delivery, "status", 500, answer=f"no such {MARK}".encode())
    return books


def test_everything_is_there_and_nothing_of_anybody_else(life, api, db):
    answer = api()

    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    found = answer.json
    assert (found["game"], found["player_id"]) == ("demo", "alice")
    assert found["registry"]["identities"] == {"google": "g-alice"}
    assert found["registry"]["profile"] == {"segments": ["vip"], "attributes": {"mail": MARK}}
    assert (found["registry"]["login_name"], found["registry"]["has_password"]) == (MARK, True)
    (transaction,) = found["transactions"]
    assert json.loads(transaction["body"])["customerEmail"] == MARK
    assert transaction["gross_minor"] == 999
    (grant,) = transaction["grants"]
    assert grant["items"] == [{"sku": "coins", "quantity": 10**39}]
    assert [each["destination"] for each in grant["deliveries"]] == ["game"]
    assert [each["transaction_id"] for each in found["payments"]] == ["GP-alice"]
    assert [each["creator_key"] for each in found["boosts"]] == ["creator-alice"]
    assert "sponsor.created" in [each["type"] for each in found["events"]]
    assert {(each["reason"], each["state"]) for each in found["refused_calls"]} == {
        *(("unknown_item", "open"), ("signature", None))
    }
    for other in ("bob", "Bob"):
        assert other not in answer.text.replace("no such only-alice", "")
    assert [(row["actor"], row["subject"]) for row in db("SELECT * FROM audit WHERE action = 'player.export'")] == [
        ("game", "alice")
    ]


def test_no_proof_is_in_it(life, api, db):
    text = api().text
    for sql in ("SELECT password_hash AS it FROM players", "SELECT signature AS it FROM transactions"):
        assert all(row["it"] not in text for row in db(sql) if row["it"])


def test_what_was_forgotten_is_not_in_it_and_the_sums_are(life, api, client, studio):
    client.delete("/game/v1/players/alice", headers={"Authorization": f"Bearer {studio.token}"})
    found = api()
    assert found.json["registry"] is None
    assert (MARK in found.text, found.json["boosts"], found.json["refused_calls"]) == (False, [], [])
    (transaction,) = found.json["transactions"]
    assert (transaction["body"], transaction["gross_minor"]) == (None, 999)


def test_events_about_an_order_are_with_it(life, api, db, installation, post_order):
    transaction_id = api().json["transactions"][0]["transaction_id"]
    (row,) = db("SELECT id, partner, reference FROM transactions WHERE public_id = :it", it=transaction_id)
    values = {"game_id": 1, "partner": row["partner"], "type": "appcharge.note", "dedupe_key": "n", "data": {"a": 1}}
    values |= {"raw_body": MARK.encode(), "environment": "live", "is_test": False, "external_id": row["reference"]}
    installation.database.write_here(lambda tx: events.record(tx, **values))
    (event,) = api().json["transactions"][0]["events"]
    assert (event["type"], event["data"], event["body"]) == ("appcharge.note", {"a": 1}, MARK)


def test_nobody_and_another_game(life, api, installation):
    assert api("nobody").status_code == 404
    assert api("alice", Studio(installation, "other").token).status_code == 404
    assert api(token="wrong").status_code == 401


def test_the_page_has_the_same_for_an_owner(life, browser, api, db):
    page = browser.get("/games/demo/players/alice").text
    assert 'href="/games/demo/player.json?id=alice"' in page
    answer = browser.get("/games/demo/player.json?id=alice")
    assert 'attachment; filename="demo-player.json"' in answer.headers["Content-Disposition"]
    assert {**answer.json, "exported_at": ""} == {**api().json, "exported_at": ""}
    assert browser.get("/games/demo/player.json?id=nobody").status_code == 404


def test_whatever_a_partner_wrote_the_document_can_be_read(life, api, installation, studio):
    values = {"game_id": 1, "game_slug": "demo", "partner": "appcharge", "kind": "purchase", "player_id": "alice"}
    values |= {"external_id": HOSTILE.replace("\x00", ""), "reference": "r", "fingerprint": "f", "answer_body": ""}
    values |= {"lines": (("coins", 1),), "signature": "s", "signed_with": "k", "answer_status": 200}
    odd = [b"\xff\xfe\x00", json.dumps({"half": "\ud83d"}).encode()]
    for number, body in enumerate(odd):
        one = reports.Credit(**values | {"external_id": f"odd-{number}"}, raw_body=body)
        installation.database.write_here(lambda tx, one=one: ledger.credit(tx, one, reports.Rules()))
    bodies = [each["body"] for each in api().json["transactions"][1:]]
    assert bodies == ["base64://4A", odd[1].decode()]


def test_many_orders_need_no_more_memory_than_a_few(installation, studio):
    """The pieces are made as they are read, some rows at a time."""
    values = {"game_id": 1, "game_slug": "demo", "partner": "appcharge", "kind": "purchase", "player_id": "alice"}
    values |= {"fingerprint": "f", "answer_body": "", "raw_body": b"x" * 2000, "answer_status": 200}
    values |= {"lines": (("coins", 1),), "signature": "s", "signed_with": "k"}

    def add(tx):
        for number in range(3000):
            one = reports.Credit(**values, external_id=f"o-{number}", reference=f"o-{number}")
            ledger.credit(tx, one, reports.Rules())

    installation.database.write_here(add)
    tracemalloc.start()
    size = sum(map(len, player_export.export(installation.database, installation.vault, 1, "demo", "alice")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 6_000_000
    assert peak < 2_000_000
