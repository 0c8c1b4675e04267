"""Setup in a browser, and pages that tell a stranger nothing."""

import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug.security import check_password_hash

from coinslot import owner

PASSWORD = "correct horse battery"


@pytest.fixture
def token(house):
    return parse_qs(urlsplit(house.new_setup_link()).query)["token"][0]


def form(token, **changed):
    return {"token": token, "password": PASSWORD, "slug": "space-miner", "name": "Space Miner"} | changed


def test_setup_sets_the_password_adds_the_game_and_shows_its_token_once(client, house, token, db):
    assert client.get(f"/setup?token={token}").status_code == 200
    done = client.post("/setup", data=form(token))

    assert done.status_code == 200
    (api_token,) = re.findall(r"coinslot_[\w-]{43}", done.text)
    assert "http://127.0.0.1:8000/appcharge/space-miner/orders" in done.text
    assert "http://127.0.0.1:8000/playtem/space-miner/credit" in done.text
    assert client.get("/game/v1/items", headers={"Authorization": f"Bearer {api_token}"}).json == {"items": []}
    (row,) = db("SELECT value FROM installation WHERE name = 'owner.password_hash'")
    assert row["value"].startswith("scrypt:")
    assert check_password_hash(row["value"], PASSWORD)
    assert db("SELECT slug, name FROM games") == [{"slug": "space-miner", "name": "Space Miner"}]
    assert [each["action"] for each in db("SELECT action FROM audit")] == ["owner.setup", "game.add"]
    for path in house.settings.home.iterdir():
        assert api_token.encode() not in path.read_bytes()


def test_following_the_link_uses_nothing_up_and_posting_it_does(client, house, token):
    for _ in range(3):
        assert client.get(f"/setup?token={token}").status_code == 200
    assert client.post("/setup", data=form(token)).status_code == 200

    assert client.get(f"/setup?token={token}").status_code == 410
    assert client.post("/setup", data=form(token, slug="other")).status_code == 410
    assert house.new_setup_link() is None


def test_a_newer_link_a_password_and_time_end_a_link(client, house, token, clock):
    newer = parse_qs(urlsplit(house.new_setup_link()).query)["token"][0]
    assert client.get(f"/setup?token={token}").status_code == 410
    clock.shift(owner.SETUP_LINK_SECONDS - 1)
    assert client.get(f"/setup?token={newer}").status_code == 200
    clock.shift(2)
    assert client.get(f"/setup?token={newer}").status_code == 410

    latest = parse_qs(urlsplit(house.new_setup_link()).query)["token"][0]
    house.database.write_here(lambda tx: owner.set_password(tx, "hash", "command"))
    assert client.post("/setup", data=form(latest)).status_code == 410


@pytest.mark.parametrize("spoiled", ["", "x", "InRva2VuIg.aaaa.bbbb"])
def test_a_forged_link_is_403(client, house, token, spoiled):
    assert client.get(f"/setup?token={spoiled}").status_code == 403
    assert client.get("/setup").status_code == 403
    assert client.post("/setup", data=form(spoiled or token[:-1])).status_code == 403


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"password": "short"}, "at least 10 characters"),
        ({"slug": ""}, "is no slug"),
        ({"slug": "Über"}, "is no slug"),
        ({"slug": "-a"}, "is no slug"),
        ({"slug": "a" * 64}, "is no slug"),
    ],
)
def test_a_mistake_in_the_form_changes_nothing_and_the_link_stays_good(client, token, db, changed, said):
    answer = client.post("/setup", data=form(token, **changed))
    assert answer.status_code == 400
    assert said in answer.text
    assert PASSWORD not in answer.text
    assert db("SELECT * FROM games") == []
    assert client.post("/setup", data=form(token)).status_code == 200


def test_where_there_is_a_game_only_the_password_is_asked(client, studio, token, db):
    assert 'name="slug"' not in client.get(f"/setup?token={token}").text
    done = client.post("/setup", data={"token": token, "password": PASSWORD})
    assert done.status_code == 200
    assert "coinslot_" not in done.text
    assert len(db("SELECT * FROM games")) == 1


def test_only_one_of_many_gets_to_set_it_up(app, token, db):
    def post(number):
        return app.test_client().post("/setup", data=form(token, slug=f"game-{number}")).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(post, range(8)))
    assert answers == [200] + [410] * 7
    assert len(db("SELECT * FROM games")) == 1


def test_what_was_typed_is_shown_as_text(client, token):
    answer = client.post("/setup", data=form(token, slug='"><script>alert(1)</script>', name="<b>\u202e😀"))
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_every_page_forbids_scripts_frames_caches_and_referrers(client, token):
    for answer in (client.get("/"), client.get(f"/setup?token={token}"), client.get("/setup?token=x")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "<script" not in answer.text
        assert "style=" not in answer.text


def test_a_stranger_learns_nothing_from_the_status_page(client, studio, house):
    before = client.get("/").text
    assert "no owner yet" in before
    house.database.write_here(lambda tx: owner.set_password(tx, "hash", "command"))
    after = client.get("/").text
    assert "no owner yet" not in after
    assert "demo" not in before + after


class TestHealth:
    def test_up_and_ready(self, client, house):
        assert client.get("/healthz").json == {"status": "ok"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json["status"]) == (200, "ready")

    def test_not_ready_with_the_wrong_key(self, client, house, db):
        house.database.write_here(lambda tx: tx.execute("UPDATE installation SET value = 'other'"))
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json["checks"] == {
            "database": "ok",
            "key": "missing or wrong",
            "disk": "ok",
            "relay": "not needed",
        }

    def test_not_ready_without_a_writable_database(self, client, house):
        assert client.get("/readyz").status_code == 200
        house.database.close()
        house.database.path.rename(house.database.path.with_suffix(".gone"))
        house.database.path.write_bytes(b"not a database, but long enough to be looked at" * 100)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json["checks"]["database"] == "not writable"
        assert client.get("/healthz").status_code == 200
