"""Ids of one game, asked for under another: nothing is there, at every address of the URL map that has an id in it."""

import io
import re

import pytest

from tests import databases
from tests.conftest import Browser, Studio

pytestmark = pytest.mark.long
# The parts of addresses that name a row of a game: the part -> whose key in ``world``. All others are below.
IDS = {
    "public_id": "transaction",
    "delivery_id": "delivery",
    "event_id": "event",
    "refusal_id": "refusal",
    "transaction_id": "payment",
    "player_id": "player",
    "upload_id": "upload",
}
# Parts that name no row, and what is taken for them.
WORDS = {"partner": "playcamp", "verb": "resume", "document": "statement.csv", "hook": "coupons"}
NAMES = {"settlements": "2026-07", "destinations": "game"}  # ``name``, by what stands before it
FORM = {
    "policy": "flag", "reason": "x", "note": "x", "state": "removed", "sure": "yes", "player_id": "dora", "upload": "x",
    "step": "invoiced", "amount": "1", "currency": "USD", "choice": "x", "close": "2026-07", "month": "2026-07",
}  # fmt: skip


def filled(rule, world):
    """The address of a rule under the game ``other``, with ids of ``demo``; None where it has none.

    And whether it names a month alone: each game has one of that name, and it shows nothing of another's.
    """
    address, has_id, is_month = rule.rule, False, False
    for part in re.findall("<[^>]*>", address):
        name = part.strip("<>").rpartition(":")[2]
        if name in ("slug", "game_slug"):
            value = "other"
        elif name == "name":
            before = address.partition(part)[0].rstrip("/").rpartition("/")[2]
            if before not in NAMES:
                return None, False
            value, has_id, is_month = NAMES[before], True, before == "settlements"
        elif name in IDS:
            value, has_id, is_month = str(world[IDS[name]]), True, False
        else:
            value = WORDS[name]
        address = address.replace(part, value)
    return (address, is_month) if has_id else (None, False)


def rows_of_demo(installation, db):
    tables = databases.tables(installation)
    with_game = [name for name in tables if "game_id" in databases.columns(installation, name)]
    return {name: db(f"SELECT * FROM {name} WHERE game_id = 1") for name in with_game if name != "schedules"}


@pytest.fixture
def other(installation, world):
    """Another game with a destination and a month of its own that has nothing in it."""
    return Studio(installation, "other")


def test_at_every_page_and_form_of_another_game(app, world, other, installation, db):
    browser = Browser(app.test_client(), installation)
    before, wrong, seen = rows_of_demo(installation, db), [], 0
    for rule in app.url_map.iter_rules():
        address, is_month = filled(rule, world) if rule.rule.startswith("/games/<slug>/") else (None, False)
        endpoint = rule.endpoint.partition(".")[2]
        for method in sorted((rule.methods & {"GET", "POST"}) if address else ()):
            form = {name: value for name, value in FORM.items() if name != "upload"}
            if "upload" in endpoint:
                form["file"] = (io.BytesIO(b"a,b\n1,2\n"), "x.csv")
            answer = browser.get(address, buffered=True) if method == "GET" else browser.post(address, **form)
            seen += 1
            if answer.status_code == 404:
                continue
            if is_month and b"carol" not in answer.data and b"GP-" not in answer.data:
                continue
            wrong.append((method, address[:80], endpoint, answer.status_code, answer.location))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen > 30
    assert rows_of_demo(installation, db) == before


def test_at_every_call_of_the_game_api_with_another_games_token(app, installation, world, other, studio, client, db):
    studio.player("zoe")
    studio.item("ruby")
    before, seen = rows_of_demo(installation, db), 0
    headers = {"Authorization": f"Bearer {other.token}"}
    mine = {"Authorization": f"Bearer {studio.token}"}
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/game/v1/"):
            continue
        address = rule.rule.replace("<id:player_id>", "zoe").replace("<id:sku>", "ruby")
        assert "<" not in address, f"{rule.rule}: which id of a game is that?"
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            body = (
                {"json": {"name": "Z"} if method in ("PUT", "PATCH") else {"through": 10**6}} if method != "GET" else {}
            )
            answer = client.open(address, method=method, headers=headers, **body)
            assert answer.status_code < 500, (method, address)
            shown = answer.data.replace(b"zoe", b"") if "<" in rule.rule else answer.data  # an id that was asked for
            assert not [word for word in (b"GP-carol", b"o-1", b"carol", b"zoe") if word in shown], (method, address)
            seen += 1
    assert seen > 15
    assert rows_of_demo(installation, db) == before
    assert client.get("/game/v1/players/zoe", headers=mine).json["player_id"] == "zoe"
    assert (
        client.get("/game/v1/items", headers=mine).json["items"]
        != client.get("/game/v1/items", headers=headers).json["items"]
    )
