"""Calls under a partner's root to addresses that do not exist: which are kept, and how the owner hears of them."""

import re

import pytest

from handlers.commands import troubles
from tests.conftest import appcharge_headers
from tests.pages import text_of


@pytest.fixture
def doctor(app):
    return lambda: app.test_cli_runner().invoke(troubles.doctor_command, []).output


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/appcharge/demo/order", "/appcharge/demo/orders"),
        ("/appcharge/demo/orders/", "/appcharge/demo/orders"),
        ("/appcharge//demo/orders", "/appcharge/demo/orders"),
        ("/appcharge/demo/orders%20", "/appcharge/demo/orders"),
        ("/appcharge/demo/Orders", "/appcharge/demo/orders"),
        ("/AppCharge/demo/orders", "/appcharge/demo/orders"),
        ("/appcharge/orders", "/appcharge/{game}/orders"),
        ("/appcharge/demo/v1/orders", "/appcharge/demo/orders"),
        ("/appcharge/demo/event", "/appcharge/demo/events"),
        ("/appcharge/demo/authenticate", "/appcharge/demo/auth"),
        ("/playtem/demo/credit/", "/playtem/demo/credit"),
        ("/playtem/demo/credits", "/playtem/demo/credit"),
        ("/playtem/credit/", "/playtem/{game}/credit"),
        ("/playcamp/demo/webhook/", "/playcamp/demo/webhook"),
        ("/playcamp/demo/webhooks", "/playcamp/demo/webhook"),
        ("/api/demo/sponsors", "/api/demo/sponsor"),
        ("/appcharge/demo/grant-award", ""),
        ("/appcharge/demo", ""),
    ],
)
def test_a_nearly_right_address_is_named_with_the_right_one(
    client, studio, installation, browser, doctor, db, path, meant
):
    body = b'{"orderId":"o-secret","playerId":"alice","products":[]}'
    answers = [client.post(path, data=body, headers=appcharge_headers(body)) for _ in range(2)]
    installation.observations.flush()

    is_proved = path.lower().startswith("/appcharge")  # by Appcharge's signature
    assert [answer.status_code for answer in answers] == [404, 404]
    assert all("mean" not in answer.text and "orders" not in answer.text for answer in answers)
    for said in (text_of(browser.get("/")), doctor()):
        if is_proved:
            assert re.search("1 (order|call) of Appcharge was refused: there is no such address: o-secret", said)
            assert not meant or f"did you mean {meant}?" in said
        else:
            assert "2 calls went to" in said
            assert not meant or f"Did you mean {meant}?" in said
            assert "o-secret" not in said
    row, *others = db("SELECT * FROM refusals")
    assert (row["reason"], row["status"], len(others)) == ("no_address", 404, 0 if is_proved else 1)
    where = "" if row["game_id"] is None else "/games/demo"
    found = text_of(browser.get(f"{where}/refusals/{row['id']}"))
    assert "There is no such address as" in found
    assert not meant or f"did you mean {meant}?" in found


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/", "/appcharge/x/wp-login.php", "/appcharge/" + "x" * 5000,
                                  "/game/v1/nothing", "/x/orders"])  # fmt: skip
def test_a_strangers_guesses_leave_nothing(client, studio, installation, db, path):
    assert client.post(path).status_code == 404
    installation.observations.flush()
    assert db("SELECT * FROM refusals") == []


def test_words_that_may_be_an_id_are_not_shown(client, studio, installation, browser):
    client.post("/appcharge/demo/orders/alice")
    installation.observations.flush()
    page = text_of(browser.get("/"))
    assert "/appcharge/demo/orders/*" in page
    assert "alice" not in page


def test_a_body_that_is_too_large_or_a_database_that_is_gone_changes_no_answer(client, studio, installation):
    assert client.post("/appcharge/demo/order", data=b"x" * (1024 * 1024 + 1)).status_code == 404
    installation.database.write_here(lambda tx: tx.execute("ALTER TABLE games RENAME TO gone"))
    assert client.post("/appcharge/demo/order").status_code == 404


def test_our_own_simulated_calls_trouble_nobody(client, studio, installation, browser, simulated):
    client.post("/appcharge/demo/order", headers=simulated)
    installation.observations.flush()
    assert "no such address" not in text_of(browser.get("/"))


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/appcharge/demo/orders", "POST /appcharge/demo/orders"),
        ("PUT", "/appcharge/demo/events", "POST /appcharge/demo/events"),
        ("HEAD", "/appcharge/demo/players", "POST /appcharge/demo/players"),
        ("OPTIONS", "/playcamp/demo/webhook", "POST /playcamp/demo/webhook"),
        ("POST", "/playtem/demo/credit", "GET /playtem/demo/credit"),
        ("HEAD", "/playtem/demo/credit", "GET /playtem/demo/credit"),
        ("POST", "/api/demo/sponsor", "GET /api/demo/sponsor"),
    ],
)
def test_a_wrong_method_is_named_with_the_right_one(
    client, studio, installation, browser, doctor, db, method, path, meant
):
    assert client.open(path, method=method, data=b"o-secret").status_code == 405
    installation.observations.flush()

    for said in (text_of(browser.get("/")), doctor()):
        assert f"1 call went to {method} {path}, and there is no such address. Did you mean {meant}?" in said
    (row,) = db("SELECT * FROM refusals")
    assert (row["reason"], row["status"]) == ("no_address", 405)
    found = text_of(browser.get(f"/games/demo/refusals/{row['id']}"))
    assert f"There is no such address as {method} {path}; did you mean {meant}?" in found


def test_a_wrong_method_at_an_address_of_no_partner_leaves_nothing(client, studio, installation, db):
    assert client.post("/game/v1/grants").status_code == 405
    assert client.delete("/healthz").status_code == 405
    installation.observations.flush()
    assert db("SELECT * FROM refusals") == []
