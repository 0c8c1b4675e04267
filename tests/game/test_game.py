"""The game's own server: its token, players and items, the feed it reads, the sums, and how it is told of errors."""

import io
import json
import logging
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.security import check_password_hash

from coinslot.games import games
from tests import databases
from tests.conftest import MAIN_KEY, TOKEN

MIB = 1024 * 1024
EVERY_CALL = [
    ("PUT", "players/alice"),
    ("PATCH", "players/alice"),
    ("GET", "players/alice"),
    ("DELETE", "players/alice"),
    ("POST", "players"),
    ("GET", "players/alice/granted"),
    ("PUT", "items/coins"),
    ("DELETE", "items/coins"),
    ("GET", "items"),
    ("GET", "grants"),
    ("POST", "grants/ack"),
]


class Api:
    """The game API as one game's server calls it."""

    def __init__(self, client: Any, token: str) -> None:
        self.client = client
        self.headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, body: Any = ..., **how: Any) -> Any:
        if body is not ...:
            how["data"] = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.open(f"/game/v1/{path}", method=method, headers=self.headers, **how)

    def player(self, player_id: str = "alice") -> Any:
        answer = self("GET", f"players/{quote(player_id, safe='')}")
        assert answer.status_code == 200, answer.text
        return answer.json

    def granted(self, player_id: str = "alice") -> Any:
        return self("GET", f"players/{player_id}/granted").json["granted"]


@pytest.fixture
def api(client, studio):
    return Api(client, studio.token)


@pytest.fixture
def other(client, studio, installation):
    """Another game on the same installation, with a player and an item of the same names."""
    other = type(studio)(installation, "other")
    other.secret("appcharge.main_key", MAIN_KEY)
    other.secret("appcharge.publisher_token", TOKEN)
    other.player("alice")
    other.item("coins", "gems")
    return Api(client, other.token)


def assert_problem(answer: Any, status: int, *words: str) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    assert answer.json["status"] == status
    assert answer.json["type"] == "about:blank"
    assert answer.json["title"]
    assert set(answer.json) <= {"type", "title", "status", "detail", "errors"}
    for word in words:
        assert word in answer.json["detail"]


class TestToken:
    @pytest.mark.parametrize(("method", "path"), EVERY_CALL)
    @pytest.mark.parametrize(
        "header",
        [None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer é", "Basic {token}", "{token}", "Bearer{token}"],
    )
    def test_without_it_nothing_is_told_and_nothing_happens(self, client, studio, db, method, path, header):
        before = db("SELECT * FROM players"), db("SELECT * FROM items"), db("SELECT * FROM games")
        headers = {} if header is None else {"Authorization": header.format(token=studio.token)}

        answer = client.open(f"/game/v1/{path}", method=method, headers=headers, data=b"{")

        assert_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (db("SELECT * FROM players"), db("SELECT * FROM items"), db("SELECT * FROM games")) == before

    @pytest.mark.parametrize("header", ["Bearer {token}", "bearer {token}", "BEARER  {token} "])
    def test_the_scheme_may_be_spelled_as_http_allows(self, client, studio, header):
        answer = client.get("/game/v1/items", headers={"Authorization": header.format(token=studio.token)})
        assert answer.status_code == 200

    def test_a_replaced_token_stays_valid_until_it_is_retired(self, client, studio, installation, api):
        new = installation.database.write_here(lambda tx: games.replace_token(tx, "demo", "test"))

        assert api("GET", "items").status_code == 200
        assert Api(client, new)("GET", "items").status_code == 200

        installation.database.write_here(lambda tx: games.retire_tokens(tx, "demo", "test"))

        assert_problem(api("GET", "items"), 401)
        assert Api(client, new)("GET", "items").status_code == 200

    def test_a_game_sees_and_changes_only_what_is_its_own(self, api, other, post_order, db):
        api("PUT", "players/alice", {"name": "Alice", "login_name": "al", "identities": {"google": "g-1"}})
        api("PUT", "items/swords", {})
        post_order()

        assert other.player()["name"] is None
        assert [item["sku"] for item in other("GET", "items").json["items"]] == ["coins", "gems"]
        assert other("GET", "grants").json == {"grants": [], "next_after": 0, "has_more": False}
        assert other.granted() == {}
        # The same login name and identity may belong to someone else there.
        assert other("PUT", "players/zoe", {"login_name": "al", "identities": {"google": "g-1"}}).status_code == 201
        assert_problem(other("DELETE", "players/bob"), 404)
        assert other("DELETE", "players/alice").status_code == 204
        assert api.player()["name"] == "Alice"
        assert db("SELECT raw_body IS NULL AS gone FROM transactions") == [{"gone": 0}]


class TestPut:
    FULL = {
        "name": "Älice 🦊",
        "profile_image": "https://example.com/a.png",
        "country": "DE",
        "login_name": "alice@example.com",
        "identities": {"google": "g-1", "apple": "a-1", "facebook": "f-1"},
        "session_metadata": {"shard": 3, "deep": {"list": [1, None, {"x": 1.5}]}},
        "segments": ["vip", "whale"],
        "balances": [{"publisherProductId": "gems", "quantity": 10**24 - 1}],
        "offers": [{"publisherOfferId": "starter", "productsSequence": [{"index": 1, "products": []}]}],
        "attributes": {"ab": "B", "level": 7, "ratio": 0.5, "new": False},
        "store_theme": {"logo": "asset-1"},
        "logo": "asset-2",
        "profile_frame_id": "frame",
        "player_level_name": "gold",
        "banner_external_id": "banner",
        "player_level": {"assetId": "x", "endsIn": 1790000000000},
        "player_level_banners": [{"assetId": "x", "designId": "y"}],
        "offers_order": "priceHighToLow",
        "sections_order": ["a", "b"],
        "focus": {"publisherBundleId": "starter"},
    }

    def test_every_field_is_kept_as_it_was_sent(self, api):
        answer = api("PUT", "players/carol", self.FULL)

        assert answer.status_code == 201
        about = {"player_id": "carol", "has_password": False}
        stamps = {name: answer.json[name] for name in ("created_at", "updated_at")}
        assert answer.json == self.FULL | about | stamps
        assert api.player("carol") == answer.json

    def test_it_replaces_all_that_was_there(self, api):
        api("PUT", "players/carol", self.FULL)
        answer = api("PUT", "players/carol", {"name": "Carol"})

        assert answer.status_code == 200
        assert {name: value for name, value in answer.json.items() if value} == {
            "player_id": "carol",
            "name": "Carol",
            "created_at": answer.json["created_at"],
            "updated_at": answer.json["updated_at"],
        }
        assert not set(answer.json) & {"segments", "balances", "session_metadata"}
        assert answer.json["updated_at"] > answer.json["created_at"]

    def test_null_is_as_good_as_left_out(self, api):
        answer = api("PUT", "players/carol", {"name": None, "country": None, "logo": None, "login_name": None})
        assert answer.status_code == 201
        assert answer.json["name"] is None
        assert "logo" not in answer.json

    @pytest.mark.parametrize(
        "image",
        [
            *("", None, "http://h", "https://h:8443/a@b?c=@#d", "https://h?x", "https://bücher.example/ä.png"),
            "http://[::1]/",
        ],
    )
    def test_an_image_is_an_address_of_the_web_or_none(self, api, image):
        assert api("PUT", "players/carol", {"profile_image": image}).status_code == 201
        assert api("PATCH", "players/carol", {"profile_image": image}).json["profile_image"] == image

    @pytest.mark.parametrize(
        ("body", "place"),
        [
            ({"nmae": "Alice"}, "nmae"),
            ({"player_id": "alice"}, "player_id"),
            ({"password_hash": "x"}, "password_hash"),
            ({"has_password": True}, "has_password"),
            ({"name": 7}, "name"),
            ({"name": "a" * 256}, "name"),
            ({"name": "a\u0000b"}, "name"),
            ({"profile_image": "javascript:alert(1)"}, "profile_image"),
            ({"profile_image": "a.png"}, "profile_image"),
            ({"profile_image": "data:image/png;base64,AA"}, "profile_image"),
            ({"profile_image": "https://"}, "profile_image"),
            ({"profile_image": " https://h/a"}, "profile_image"),
            ({"profile_image": "https://h/a b"}, "profile_image"),
            ({"profile_image": "https://h/a\nb"}, "profile_image"),
            ({"profile_image": "https://user:secret@h/a"}, "profile_image"),
            ({"profile_image": "https://h/" + "a" * 2040}, "profile_image"),
            ({"profile_image": 7}, "profile_image"),
            ({"country": "de"}, "country"),
            ({"country": "DEU"}, "country"),
            ({"country": "D\n"}, "country"),
            ({"login_name": ""}, "login_name"),
            ({"login_name": " al"}, "login_name"),
            ({"password": ""}, "password"),
            ({"password": "a" * 1025}, "password"),
            ({"password": 123456}, "password"),
            ({"identities": {"google": ""}}, "identities.google"),
            ({"identities": {"google": "a\nb"}}, "identities.google"),
            ({"identities": {"myspace": "x"}}, "identities.myspace"),
            ({"identities": None}, "identities"),
            ({"session_metadata": []}, "session_metadata"),
            ({"segments": "vip"}, "segments"),
            ({"segments": [7]}, "segments.0"),
            ({"balances": [{"publisherProductId": "gems"}]}, "balances.0.quantity"),
            ({"balances": [{"publisherProductId": "gems", "quantity": 1.0}]}, "balances.0.quantity"),
            ({"balances": [{"publisherProductId": "gems", "quantity": "1"}]}, "balances.0.quantity"),
            ({"balances": [{"publisherProductId": "gems", "quantity": True}]}, "balances.0.quantity"),
            ({"balances": [{"publisherProductId": "gems", "quantity": -1}]}, "balances.0.quantity"),
            ({"balances": [{"publisherProductId": "gems", "quantity": 10**24}]}, "balances.0.quantity"),
            ({"balances": [{"publisherProductId": "gems", "balance": 1, "quantity": 1}]}, "balances.0.balance"),
            ({"attributes": {"x": None}}, "attributes.x"),
            ({"attributes": {"x": []}}, "attributes.x"),
            ({"offers_order": "cheapest"}, "offers_order"),
        ],
    )
    def test_what_is_not_as_described_is_refused_by_place_and_stores_nothing(self, api, body, place):
        answer = api("PUT", "players/carol", body)

        assert_problem(answer, 422, place)
        assert any(error["path"].startswith(place) for error in answer.json["errors"])
        assert_problem(api("GET", "players/carol"), 404)

    def test_every_wrong_place_is_told_up_to_twenty(self, api):
        answer = api("PUT", "players/carol", {"name": 7, "country": "x", "identities": {"google": 1}})
        assert {error["path"] for error in answer.json["errors"]} == {"name", "country", "identities.google"}
        answer = api("PUT", "players/carol", {f"x{number}": 1 for number in range(500)})
        assert len(answer.json["errors"]) == 20

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (b"", 400),
            (b"{", 400),
            (b"\xff", 400),
            (b"\xef\xbb\xbf{}", 400),
            (b'{"name":NaN}', 400),
            (b'{"attributes":{"x":1e999}}', 400),
            (b'{"attributes":{"x":' + b"9" * 5000 + b"}}", 400),
            (b'{"name":"\\ud800"}', 400),
            (b'{"session_metadata":' * 40_000, 400),
            (b'{"session_metadata":' + b'{"a":' * 70 + b"1" + b"}" * 71, 422),
            (b"[]", 422),
            (b"null", 422),
            (b"7", 422),
            (b'"x"', 422),
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("PUT", "players/alice"), ("PATCH", "players/alice"), ("POST", "players")]
    )
    def test_a_body_that_is_no_json_object_is_refused(self, api, method, path, raw, status):
        assert_problem(api(method, path, raw), status, "body")

    @pytest.mark.parametrize("levels", [100, 500, *range(880, 1000, 3)])
    def test_no_depth_is_a_failure_of_ours(self, api, levels):
        raw = b'{"session_metadata":' + b'{"a":' * levels + b"1" + b"}" * (levels + 1)
        assert api("PATCH", "players/alice", raw).status_code in (400, 422)

    def test_sixty_levels_of_nesting_can_be_stored_and_read_back(self, api):
        raw = b'{"session_metadata":' + b'{"a":' * 60 + b"1" + b"}" * 61
        assert api("PUT", "players/alice", raw).status_code == 200
        assert api("PATCH", "players/alice", raw).status_code == 200
        assert api.player()["session_metadata"] == json.loads(raw)["session_metadata"]


class TestPatch:
    def test_what_is_named_changes_and_the_rest_stays(self, api):
        before = api("PUT", "players/carol", TestPut.FULL).json
        patch = {"country": "FR", "segments": ["new"]}
        answer = api("PATCH", "players/carol", patch, content_type="application/merge-patch+json")

        assert answer.status_code == 200
        assert answer.json == before | {
            "country": "FR",
            "segments": ["new"],
            "updated_at": answer.json["updated_at"],
        }
        assert api.player("carol") == answer.json

    def test_an_empty_patch_changes_nothing(self, api):
        before = api("PUT", "players/carol", TestPut.FULL | {"password": "correct horse"}).json
        after = api("PATCH", "players/carol", {}).json
        assert after == before | {"updated_at": after["updated_at"]}

    def test_null_removes_at_every_depth_and_lists_are_replaced_whole(self, api):
        # The shapes of RFC 7396, appendix A, inside of fields that may hold them.
        api("PUT", "players/carol", TestPut.FULL)
        patch = {
            "name": None,
            "identities": {"google": None, "apple": "a-2"},
            "session_metadata": {"shard": None, "deep": {"list": ["c"], "new": {"x": {"y": None, "z": 1}}}},
            "attributes": {"ab": None, "level": 8},
            "store_theme": None,
            "balances": [],
        }
        entry = api("PATCH", "players/carol", patch).json

        assert entry["name"] is None
        assert entry["identities"] == {"apple": "a-2", "facebook": "f-1"}
        assert entry["session_metadata"] == {"deep": {"list": ["c"], "new": {"x": {"z": 1}}}}
        assert entry["attributes"] == {"level": 8, "ratio": 0.5, "new": False}
        assert "store_theme" not in entry
        assert entry["balances"] == []

    def test_a_null_for_what_is_not_there_is_no_error(self, api):
        patch = {
            "logo": None,
            "identities": {"google": None},
            "attributes": {"x": None},
            "focus": {"publisherBundleId": None},
        }
        entry = api("PATCH", "players/alice", patch).json
        assert (entry["identities"], entry["attributes"], entry["focus"]) == ({}, {}, {})
        assert api("PATCH", "players/alice", {"identities": None, "focus": None}).status_code == 200
        assert "focus" not in api.player()

    @pytest.mark.parametrize(
        "patch",
        [
            {"nmae": "x"},
            {"player_id": "bob"},
            {"created_at": "x"},
            {"has_password": True},
            {"password_hash": "x"},
            {"name": {"first": "A"}},
            {"identities": {"myspace": "x"}},
            {"identities": []},
            {"balances": [None]},
            {"balances": [{"publisherProductId": "gems", "quantity": None}]},
            {"segments": [None]},
            {"attributes": {"x": {"y": 1}}},
            {"password": ""},
        ],
    )
    def test_what_would_not_be_an_entry_is_refused(self, api, patch):
        before = api.player()
        assert_problem(api("PATCH", "players/alice", {"country": "FR", **patch}), 422)
        assert api.player() == before

    def test_nobody_is_made_by_a_patch(self, api):
        assert_problem(api("PATCH", "players/mallory", {"name": "M"}), 404)
        assert_problem(api("GET", "players/mallory"), 404)


class TestPassword:
    def test_it_is_stored_as_a_scrypt_hash_and_shown_to_nobody(self, api, installation, db, caplog, capfd):
        caplog.set_level(logging.DEBUG)
        answers = [
            api("PUT", "players/alice", {"password": "correct horse"}),
            api("PATCH", "players/alice", {"password": "correct horse"}),
            api("POST", "players", {"players": [{"player_id": "alice", "password": "correct horse"}]}),
            api("PUT", "players/alice", {"password": "correct horse", "name": 7}),
            api("GET", "players/alice"),
        ]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 422, 200]
        assert answers[-1].json["has_password"] is True
        (row,) = db("SELECT * FROM players WHERE player_id = 'alice'")
        assert row["password_hash"].startswith("scrypt:")
        assert check_password_hash(row["password_hash"], "correct horse")
        assert "password" not in row["profile"]
        for answer in answers:
            assert "correct horse" not in answer.text
            assert "scrypt" not in answer.text
        for file in installation.database.home.iterdir():
            assert b"correct horse" not in file.read_bytes()
        assert "correct horse" not in caplog.text + capfd.readouterr().err

    def test_it_stays_until_it_is_named(self, api, db):
        def stored():
            return db("SELECT password_hash FROM players WHERE player_id = 'alice'")[0]["password_hash"]

        api("PUT", "players/alice", {"password": "first"})
        first = stored()
        api("PUT", "players/alice", {"name": "Alice"})
        api("PATCH", "players/alice", {"country": "DE"})
        api("POST", "players", {"players": [{"player_id": "alice"}]})
        assert stored() == first

        api("PATCH", "players/alice", {"password": "second"})
        assert check_password_hash(stored(), "second")

    @pytest.mark.parametrize("way", ["PUT", "PATCH", "POST"])
    def test_null_removes_it(self, api, way):
        api("PUT", "players/alice", {"password": "first"})
        gone = {"password": None}
        if way == "POST":
            api("POST", "players", {"players": [gone | {"player_id": "alice"}]})
        else:
            api(way, "players/alice", gone)
        assert api.player()["has_password"] is False


class TestUniqueness:
    @pytest.mark.parametrize("body", [{"login_name": "al"}, {"identities": {"google": "g-1"}}])
    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_what_belongs_to_another_is_a_conflict_and_changes_nothing(self, api, method, body):
        api("PUT", "players/alice", {"login_name": "al", "identities": {"google": "g-1"}})
        before = api("PUT", "players/bob", {"name": "Bob", "login_name": "bo", "identities": {"google": "g-2"}}).json

        assert_problem(api(method, "players/bob", {"name": "changed", **body}), 409, "another player")
        assert api.player("bob") == before
        assert api.player("alice")["login_name"] == "al"

    def test_a_new_player_with_a_taken_name_is_not_stored(self, api):
        api("PUT", "players/alice", {"login_name": "al"})
        assert_problem(api("PUT", "players/carol", {"login_name": "al"}), 409)
        assert_problem(api("GET", "players/carol"), 404)

    def test_what_was_given_up_is_free_again(self, api):
        body = {"login_name": "al", "identities": {"google": "g-1"}}
        api("PUT", "players/alice", body)
        assert api("PUT", "players/alice", body).status_code == 200  # one's own is no conflict
        api("PATCH", "players/alice", {"login_name": None, "identities": {"google": None}})
        assert api("PUT", "players/bob", body).status_code == 200
        api("DELETE", "players/bob")
        assert api("PUT", "players/carol", body).status_code == 201

    def test_one_subject_of_two_providers_is_two_identities(self, api):
        api("PUT", "players/alice", {"identities": {"google": "same"}})
        assert api("PUT", "players/bob", {"identities": {"apple": "same"}}).status_code == 200


class TestBulk:
    def test_new_ones_and_known_ones_are_counted(self, api):
        wanted = [{"player_id": "alice", "name": "A"}, {"player_id": "carol"}, {"player_id": "d/e", "country": "DE"}]
        answer = api("POST", "players", {"players": wanted})

        assert (answer.status_code, answer.json) == (200, {"created": 2, "replaced": 1})
        assert api.player()["name"] == "A"
        assert api.player("d/e")["country"] == "DE"

    def test_a_thousand_and_not_one_more(self, api, db):
        wanted = [{"player_id": f"p-{number}", "segments": ["x"]} for number in range(1001)]
        assert_problem(api("POST", "players", {"players": wanted}), 422, "players")
        assert len(db("SELECT * FROM players")) == 2
        assert api("POST", "players", {"players": wanted[:1000]}).json == {"created": 1000, "replaced": 0}
        assert api("POST", "players", {"players": wanted[:1000]}).json == {"created": 0, "replaced": 1000}

    @pytest.mark.parametrize(
        ("last", "status", "word"),
        [
            ({"player_id": "x", "country": "xx"}, 422, "players.1.country"),
            ({"player_id": "", "name": "x"}, 422, "players.1.player_id"),
            ({"player_id": "a\nb"}, 422, "players.1.player_id"),
            ({"name": "x"}, 422, "players.1.player_id"),
            ({"player_id": "carol"}, 422, "twice"),
            ({"player_id": "x", "login_name": "bo"}, 409, "login_name"),
            ({"player_id": "x", "login_name": "ca"}, 409, "login_name"),
            ({"player_id": "x", "identities": {"apple": "a-1"}}, 409, "apple"),
            ("x", 422, "players.1"),
            (None, 422, "players.1"),
        ],
    )
    def test_one_bad_entry_and_none_is_stored(self, api, db, last, status, word):
        api("PUT", "players/bob", {"login_name": "bo", "identities": {"apple": "a-1"}})
        before = db("SELECT * FROM players")

        answer = api("POST", "players", {"players": [{"player_id": "carol", "login_name": "ca"}, last]})

        assert_problem(answer, status, word)
        assert db("SELECT * FROM players") == before

    @pytest.mark.parametrize("body", [{}, {"players": []}, {"players": {}}, {"players": None}, {"people": []}])
    def test_no_list_of_players(self, api, body):
        assert_problem(api("POST", "players", body), 422)

    def test_at_most_twenty_passwords(self, api, db):
        # Each takes the better part of a tenth of a second to hash, and a web worker is held that long.
        wanted = [{"player_id": f"p-{number}", "password": "x"} for number in range(21)]
        assert_problem(api("POST", "players", {"players": wanted}), 422, "password")
        assert len(db("SELECT * FROM players")) == 2

    def test_a_failure_halfway_leaves_nothing(self, api, installation, db):
        wanted = [{"player_id": "carol"}, {"player_id": "dave", "identities": {"google": "g"}}]
        with databases.Fault(installation, "INSERT ON identities"):
            assert_problem(api("POST", "players", {"players": wanted}), 503)
        assert len(db("SELECT * FROM players")) == 2


class TestSizes:
    def test_a_bulk_body_may_have_sixteen_mebibytes(self, api):
        entry = {"player_id": "carol", "session_metadata": {"x": ""}}
        frame = len(json.dumps({"players": [entry]}))
        entry["session_metadata"]["x"] = "a" * (16 * MIB - frame)
        assert api("POST", "players", {"players": [entry]}).json == {"created": 1, "replaced": 0}
        entry["session_metadata"]["x"] += "a"
        assert_problem(api("POST", "players", {"players": [entry]}), 413)

    @pytest.mark.parametrize(
        ("method", "path"),
        [("PUT", "players/alice"), ("PATCH", "players/alice"), ("PUT", "items/coins"), ("POST", "grants/ack")],
    )
    def test_every_other_body_one(self, api, method, path):
        inside = b'{"x":"' + b"a" * (MIB - 8) + b'"}'
        assert_problem(api(method, path, inside), 422)
        assert_problem(api(method, path, inside + b" "), 413)

    @pytest.mark.parametrize(("method", "path"), [("PUT", "players/alice"), ("POST", "players")])
    def test_a_body_sent_in_chunks_may_have_one_and_is_not_cut_off_but_refused(self, api, method, path):
        # Blanks after the JSON: cut off at the limit, it would still be read, and what was read not what was sent.
        body = json.dumps({"players": [{"player_id": "carol"}]} if method == "POST" else {}).encode()

        def send(size):
            stream = io.BytesIO(body.ljust(size))
            return api(method, path, input_stream=stream, environ_overrides={"HTTP_TRANSFER_ENCODING": "chunked"})

        assert send(MIB).status_code == 200
        for size in (MIB + 1, MIB + 2, 4 * MIB, 18 * MIB):
            assert_problem(send(size), 413)

    def test_who_has_no_token_learns_nothing_of_sizes(self, client, studio):
        assert_problem(client.post("/game/v1/players", data=b"a" * (17 * MIB)), 401)


class TestIds:
    @pytest.mark.parametrize(
        "player_id",
        [
            *("a/b", "a//b", "/a", "a/", "//", "a b", "granted", "a/granted/b", "a/granted", "/granted"),
            *("a/sponsors", "a%2Fgranted", "a%252Fgranted", "../a", "a/..", "..", ".", "%2F", "100%"),
            *("a?b=c#d", "a+b&c", "a;b,c", "Ünïcödé", "🦊", "\ufffd", "e\u0301", "<b>&amp;"),
            *("'; DROP TABLE players; --", "..\\..", "0", "null", "a" * 255, "é" * 255),
        ],
    )
    def test_an_id_comes_back_as_it_was_sent_whatever_it_is_made_of(self, api, player_id, db):
        path = f"players/{quote(player_id, safe='')}"

        assert api("PUT", path, {"name": "N"}).status_code == 201
        assert api("GET", path).json["player_id"] == player_id
        assert api("PATCH", path, {"country": "DE"}).json["name"] == "N"
        assert api("GET", f"{path}/granted").json == {"player_id": player_id, "granted": {}}
        assert db("SELECT name FROM players WHERE player_id = :id", id=player_id) == [{"name": "N"}]
        assert api("PUT", f"items/{quote(player_id, safe='')}", {}).json == {"sku": player_id, "name": None}
        assert api("DELETE", path).status_code == 204
        assert_problem(api("GET", path), 404)

    @pytest.mark.parametrize(
        "path", ["%20", "a%20", "%20a", "a%0A", "a%0Ab", "%00", "a%00", "a%7F", "a%C2%85b", "%C2%A0a", "a" * 256]
    )
    @pytest.mark.parametrize(
        ("method", "kind", "after"),
        [
            ("PUT", "players", ""),
            ("PATCH", "players", ""),
            ("GET", "players", ""),
            ("DELETE", "players", ""),
            ("GET", "players", "/granted"),
            ("PUT", "items", ""),
            ("DELETE", "items", ""),
        ],
    )
    def test_blanks_at_the_ends_control_characters_and_length_are_refused(self, api, method, kind, after, path):
        assert_problem(api(method, f"{kind}/{path}{after}", b"{}"), 422, "use")

    def test_bytes_that_are_no_text_are_refused(self, api):
        # Otherwise two different ids would be the same player. Werkzeug's client cannot send them, others can.
        for raw in ("\xff", "\xfe", "a\xed\xa0\x80"):
            answer = api("PUT", "players/x", {}, environ_overrides={"PATH_INFO": f"/game/v1/players/{raw}"})
            assert_problem(answer, 422, "UTF-8")

    def test_ids_differ_by_case_and_by_spelling(self, api):
        for player_id in ("Carol", "carol", "caf\u00e9", "cafe\u0301"):
            assert api("PUT", f"players/{quote(player_id)}", {}).status_code == 201

    def test_a_slash_that_is_not_encoded_divides_the_id_from_its_sums(self, api):
        assert api("PUT", "players/a%2Fgranted", {}).json["player_id"] == "a/granted"
        assert api("GET", "players/a/granted").json == {"player_id": "a", "granted": {}}
        assert api("GET", "players/a/b/granted").json == {"player_id": "a/b", "granted": {}}
        assert api("GET", "players/a%2Fgranted/sponsors").json["player_id"] == "a/granted"

    def test_where_the_path_as_sent_is_unknown_every_slash_divides(self, api):
        for unknown in ({"RAW_URI": ""}, {"RAW_URI": "/elsewhere"}, {"RAW_URI": "/\u4e00"}):
            answer = api("PUT", "players/a%2Fb%25", {}, environ_overrides=unknown)
            assert answer.json["player_id"] == "a/b%"
            answer = api("GET", "players/a%2Fgranted", environ_overrides=unknown)
            assert answer.json == {"player_id": "a", "granted": {}}

    def test_a_server_under_a_prefix_knows_encoded_slashes(self, api):
        prefixed = {"SCRIPT_NAME": "/pay", "RAW_URI": "/pay/game/v1/players/a%2fgranted"}
        answer = api("PUT", "players/a%2Fgranted", {}, environ_overrides=prefixed)
        assert answer.json["player_id"] == "a/granted"
        assert api("GET", "players/a%2Fgranted", environ_overrides=prefixed).json["player_id"] == "a/granted"


class TestItems:
    def test_put_list_and_delete(self, api):
        assert api("PUT", "items/a%2Fb", {"name": "Ä"}).status_code == 201
        assert api("PUT", "items/a%2Fb", {}).json == {"sku": "a/b", "name": None}
        answer = api("PUT", "items/coins", {"name": "Coins"})
        assert (answer.status_code, answer.json) == (200, {"sku": "coins", "name": "Coins"})
        assert api("GET", "items").json == {
            "items": [{"sku": "a/b", "name": None}, {"sku": "coins", "name": "Coins"}, {"sku": "gems", "name": None}]
        }
        answer = api("DELETE", "items/coins")
        assert (answer.status_code, answer.data, "Content-Type" in answer.headers) == (204, b"", False)
        assert_problem(api("DELETE", "items/coins"), 404, "item")

    @pytest.mark.parametrize("body", [{"nmae": "x"}, {"name": 7}, {"name": "a" * 256}, {"name": "a\tb"}, []])
    def test_what_is_not_as_described(self, api, body):
        assert_problem(api("PUT", "items/swords", body), 422)
        assert len(api("GET", "items").json["items"]) == 2

    def test_what_was_granted_outlives_the_item(self, api, post_order, feed):
        post_order()
        api("DELETE", "items/coins")
        assert api.granted() == {"coins": 1000, "gems": 5}
        assert post_order(orderId="o-2").status_code == 400
        api("PUT", "items/coins", {})
        assert post_order(orderId="o-2").status_code == 200
        assert len(feed()) == 2


class TestFeed:
    def test_it_is_in_order_and_can_be_read_page_by_page(self, api, post_order):
        for number in range(7):
            post_order(orderId=f"o-{number}", playerId=("alice", "bob")[number % 2])

        read, after, pages = [], 0, []
        while True:
            page = api("GET", f"grants?after={after}&limit=3").json
            assert page["next_after"] == page["grants"][-1]["id"]
            read += [grant["external_id"] for grant in page["grants"]]
            pages.append((len(page["grants"]), page["has_more"]))
            after = page["next_after"]
            if not page["has_more"]:
                break
        assert read == [f"o-{number}" for number in range(7)]
        assert pages == [(3, True), (3, True), (1, False)]
        assert api("GET", "grants?after=5&limit=2").json["has_more"] is False  # a full last page
        assert api("GET", "grants?after=4&limit=2").json["has_more"] is True

    @pytest.mark.parametrize("after", [0, 1, 7, 10**18 - 1])
    def test_an_empty_page_echoes_the_cursor(self, api, after):
        answer = api("GET", f"grants?after={after}")
        assert answer.json == {"grants": [], "next_after": after, "has_more": False}

    def test_a_hundred_unless_it_says_otherwise_and_a_thousand_at_most(self, api, post_order):
        for number in range(101):
            post_order(orderId=f"o-{number}")
        page = api("GET", "grants").json
        assert (len(page["grants"]), page["has_more"]) == (100, True)
        assert len(api("GET", "grants?limit=1000").json["grants"]) == 101

    @pytest.mark.parametrize(
        "query",
        [
            *("after=-1", "after=1.0", "after=1e3", "after=", "after=x", "after=%2B1", "after=%201"),
            *("after=1_0", "after=%D9%A1", "after=%C2%B2", "after=%FF", "after=" + "9" * 19),
            *("after=" + "9" * 5000, "after=null", "limit=0", "limit=-1", "limit=1001", "limit=x", "limit="),
            *("limit=5.5", "limit=" + "9" * 30),
        ],
    )
    def test_arguments_that_are_no_whole_number_in_range(self, api, query):
        for feed in ("grants", "events"):
            assert_problem(api("GET", f"{feed}?{query}"), 400, query.split("=")[0])

    def test_quantities_are_exact_integers_in_the_very_bytes(self, api, post_order):
        most = 10**40 - 1
        post_order(products=[{"amount": str(most), "sku": "coins"}, {"amount": 2**53 + 1, "sku": "gems"}])
        answer = api("GET", "grants")
        assert f'"quantity":{most}' in answer.text
        assert f'"quantity":{2**53 + 1}' in answer.text

    def test_a_grant_has_these_fields_and_no_others(self, api, post_order):
        post_order()
        (grant,) = api("GET", "grants").json["grants"]
        assert list(grant) == [
            *("id", "transaction_id", "partner", "external_id", "kind", "player_id", "items", "reverses"),
            *("policy", "is_test", "created_at"),
        ]

    def test_the_other_game_s_grants_are_skipped_and_not_counted(self, api, other, post_order):
        post_order(orderId="o-1", game="demo")
        post_order(orderId="o-2", game="other")
        post_order(orderId="o-3", game="demo")

        assert [grant["external_id"] for grant in api("GET", "grants").json["grants"]] == ["o-1", "o-3"]
        assert api("GET", "grants?limit=2").json["has_more"] is False
        assert [grant["external_id"] for grant in other("GET", "grants").json["grants"]] == ["o-2"]
        assert other("GET", "grants?after=2").json == {"grants": [], "next_after": 2, "has_more": False}

    def test_test_traffic_is_marked(self, api, post_order):
        post_order(orderId="o-1", playerId="coinslot-test")
        post_order(orderId="o-2", products=[{"amount": 1, "sku": "coinslot-test"}])
        post_order(orderId="o-3")
        assert [grant["is_test"] for grant in api("GET", "grants").json["grants"]] == [True, True, False]

    def test_a_reversal_is_a_grant_of_its_own_and_takes_away(self, api, post_order, installation):
        post_order(products=[{"amount": 7, "sku": "coins"}])
        databases.change(
            installation,
            """INSERT INTO grants (id, game_id, transaction_id, kind, player_id, reverses, policy, is_test, created_at)
               SELECT 2, game_id, transaction_id, 'reversal', player_id, id, 'revoke', 0, created_at FROM grants""",
        )
        databases.change(installation, "INSERT INTO entries (grant_id, sku, quantity) SELECT 2, sku, '-7' FROM entries")
        first, second = api("GET", "grants").json["grants"]

        assert second == first | {
            "id": 2,
            "kind": "reversal",
            "reverses": 1,
            "policy": "revoke",
            "items": [{"sku": "coins", "quantity": -7}],
        }
        assert api.granted() == {"coins": 0}


class TestAck:
    def test_it_only_ever_rises(self, api, other, post_order, db):
        for number in range(3):
            post_order(orderId=f"o-{number}")

        said = [api("POST", "grants/ack", {"through": through}).json for through in (0, 2, 1, 2, 3)]

        assert [answer["acked_through"] for answer in said] == [0, 2, 2, 2, 3]
        assert db("SELECT slug, acked_through FROM games ORDER BY slug") == [
            {"slug": "demo", "acked_through": 3},
            {"slug": "other", "acked_through": 0},
        ]

    def test_what_no_feed_has_handed_out_cannot_be_applied(self, api, post_order, db):
        post_order()
        for through in (2, 10**18 - 1):
            assert_problem(api("POST", "grants/ack", {"through": through}), 422, "through")
        assert db("SELECT acked_through FROM games") == [{"acked_through": 0}]

    @pytest.mark.parametrize("through", [True, False, 1.0, 0.5, "1", None, -1, [], {}, 10**18, 10**40])
    def test_only_a_json_integer_will_do(self, api, post_order, db, through):
        post_order()
        assert_problem(api("POST", "grants/ack", {"through": through}), 422, "through")
        assert db("SELECT acked_through FROM games") == [{"acked_through": 0}]

    @pytest.mark.parametrize("body", [{}, {"through": 0, "more": 1}, [0]])
    def test_what_is_not_as_described(self, api, body):
        assert_problem(api("POST", "grants/ack", body), 422)


class TestGranted:
    def test_it_is_the_sum_over_all_orders_of_this_player(self, api, post_order):
        post_order(orderId="o-1")
        post_order(orderId="o-2", products=[{"amount": 5, "sku": "coins"}])
        post_order(orderId="o-3", playerId="bob")
        post_order(orderId="o-2", products=[{"amount": 5, "sku": "coins"}])  # a repeat adds nothing

        answer = api("GET", "players/alice/granted")
        assert answer.json == {"player_id": "alice", "granted": {"coins": 1005, "gems": 5}}

    def test_big_sums_are_exact_even_beyond_what_one_grant_may_hold(self, api, post_order):
        most = 10**40 - 1
        for number in range(3):
            post_order(orderId=f"o-{number}", products=[{"amount": str(most), "sku": "coins"}])
        assert f'"coins":{3 * most}' in api("GET", "players/alice/granted").text

    def test_test_traffic_does_not_count(self, api, post_order, studio):
        post_order(orderId="o-1", products=[{"amount": 1, "sku": "coins"}, {"amount": 1, "sku": "coinslot-test"}])
        studio.config("appcharge.environment", "sandbox")
        post_order(orderId="o-2")
        assert api.granted() == {}
        post_order(orderId="o-3", playerId="coinslot-test")
        assert api.granted("coinslot-test") == {}

    def test_a_player_nobody_knows_was_granted_nothing(self, api):
        answer = api("GET", "players/mallory/granted")
        assert (answer.status_code, answer.json) == (200, {"player_id": "mallory", "granted": {}})


class TestForgetting:
    def test_the_person_goes_and_the_sums_stay(self, api, post_order, db, feed):
        api("PUT", "players/alice", TestPut.FULL | {"password": "correct horse"})
        first = post_order(playerEmail="alice@example.com")
        assert post_order(priceInCents=1, playerEmail="alice@example.com").status_code == 400  # kept as a conflict
        post_order(orderId="o-failed", actionStatus="failed", playerEmail="alice@example.com")
        post_order(orderId="o-bob", playerId="bob")
        before = feed()

        answer = api("DELETE", "players/alice")

        assert (answer.status_code, answer.data, "Content-Type" in answer.headers) == (204, b"", False)
        assert_problem(api("GET", "players/alice"), 404)
        assert db("SELECT * FROM identities") == []
        alice, bob = db("SELECT raw_body, signature, body_sha256 FROM transactions ORDER BY id")
        assert (alice["raw_body"], alice["signature"]) == (None, None)
        assert alice["body_sha256"]
        assert bob["raw_body"]
        assert bob["signature"]
        assert [row["raw_body"] for row in db("SELECT raw_body FROM conflicts")] == [None]
        assert [row["raw_body"] for row in db("SELECT raw_body FROM events")] == [None]
        assert feed() == before
        assert api.granted() == {"coins": 1000, "gems": 5}
        assert [row["action"] for row in db("SELECT action FROM audit WHERE actor = 'game'")] == ["player.forget"]
        assert first.status_code == 200

    def test_a_repeat_of_an_old_order_is_answered_as_the_first_time(self, api, post_order, feed):
        first = post_order()
        api("DELETE", "players/alice")

        again = post_order()

        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert len(feed()) == 1
        assert_problem(api("GET", "players/alice"), 404)
        assert post_order(orderId="o-new").status_code == 400  # nobody to credit any more

    def test_who_is_forgotten_or_unknown_cannot_be_forgotten(self, api):
        api("DELETE", "players/alice")
        for player_id in ("alice", "mallory"):
            assert_problem(api("DELETE", f"players/{player_id}"), 404, "player")

    def test_a_player_who_comes_back_starts_empty_but_with_the_sums(self, api, post_order):
        api("PUT", "players/alice", TestPut.FULL | {"password": "correct horse"})
        post_order()
        api("DELETE", "players/alice")
        entry = api("PUT", "players/alice", {}).json
        assert (entry["has_password"], entry["identities"], entry["name"]) == (False, {}, None)
        assert api.granted() == {"coins": 1000, "gems": 5}

    def test_a_failure_halfway_forgets_nothing(self, api, post_order, installation, db):
        post_order()
        with databases.Fault(installation, "INSERT ON audit"):
            assert_problem(api("DELETE", "players/alice"), 503)
        assert api.player()["player_id"] == "alice"
        assert db("SELECT raw_body IS NULL AS gone FROM transactions") == [{"gone": 0}]


class TestErrors:
    @pytest.mark.parametrize(
        "path",
        ["", "/", "/x", "/players/", "/items/", "/grants/", "/grants/ack/", "/openapi.json/", "//grants", "/x//y"],
    )
    def test_an_unknown_address_is_a_problem_and_no_redirect(self, client, api, path):
        assert_problem(client.get(f"/game/v1{path}"), 404)
        assert_problem(client.get(f"/game/v1{path}", headers=api.headers), 404)

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "grants", {"GET", "HEAD"}),
            ("GET", "grants/ack", {"POST"}),
            ("GET", "players", {"POST"}),
            ("DELETE", "items", {"GET", "HEAD"}),
            ("GET", "items/coins", {"PUT", "DELETE"}),
            ("POST", "players/alice", {"PUT", "PATCH", "GET", "HEAD", "DELETE"}),
            ("PUT", "openapi.json", {"GET", "HEAD"}),
            ("OPTIONS", "players/alice", {"PUT", "PATCH", "GET", "HEAD", "DELETE"}),
            ("TRACE", "grants", {"GET", "HEAD"}),
            ("NONSENSE", "grants", {"GET", "HEAD"}),
        ],
    )
    def test_another_method_is_a_problem_that_names_the_right_ones(self, api, method, path, allowed):
        answer = api(method, path)
        assert_problem(answer, 405)
        assert set(answer.headers["Allow"].split(", ")) == allowed

    @pytest.mark.parametrize(
        ("statement", "method", "path", "body"),
        [
            ("INSERT ON players", "PUT", "players/carol", {}),
            ("UPDATE ON players", "PATCH", "players/alice", {}),
            ("INSERT ON players", "POST", "players", {"players": [{"player_id": "carol"}]}),
            ("DELETE ON players", "DELETE", "players/alice", ...),
            ("INSERT ON items", "PUT", "items/swords", {}),
            ("DELETE ON items", "DELETE", "items/coins", ...),
            ("UPDATE ON games", "POST", "grants/ack", {"through": 0}),
        ],
    )
    def test_our_own_trouble_is_a_503_that_tells_nothing(self, api, installation, statement, method, path, body):
        with databases.Fault(installation, statement):
            answer = api(method, path, body)

        assert_problem(answer, 503)
        for inside in ("disk on fire", "sqlite", "Traceback", "trigger", "coinslot", ".py"):
            assert inside not in answer.text
        assert api(method, path, body).status_code in (200, 201, 204)

    @pytest.mark.parametrize(
        ("table", "path"), [("players", "players/alice"), ("entries", "players/alice/granted"), ("grants", "grants")]
    )
    def test_a_read_that_fails_is_a_503_too_and_the_next_one_works(self, api, installation, table, path):
        databases.change(installation, f"ALTER TABLE {table} RENAME TO gone")
        answer = api("GET", path)
        assert_problem(answer, 503)
        assert "no such table" not in answer.text
        databases.change(installation, f"ALTER TABLE gone RENAME TO {table}")
        assert api("GET", path).status_code == 200

    def test_nothing_is_ever_html(self, api, client):
        for method in ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE"):
            for _, path in [*EVERY_CALL, ("GET", "openapi.json"), ("GET", "x"), ("GET", "/x")]:
                for headers in ({}, api.headers):
                    answer = client.open(
                        f"/game/v1/{path}", method=method, headers={**headers, "Accept": "text/html"}, data=b"{}"
                    )
                    assert "html" not in answer.headers.get("Content-Type", "")
                    assert "<" not in answer.text or answer.status_code == 401

    def test_a_head_is_a_get_without_its_body(self, api, post_order):
        post_order()
        for path in ("grants", "items", "players/alice", "players/alice/granted"):
            answer = api("HEAD", path)
            assert (answer.status_code, answer.data) == (200, b"")


class TestEvents:
    def test_a_failed_order_is_a_fact_the_game_can_read(self, api, post_order):
        post_order(orderId="o-1", actionStatus="failed")
        post_order(orderId="o-2", actionStatus="failed")

        page = api("GET", "events?limit=1").json
        assert page["has_more"] is True
        (event,) = page["events"]
        assert (event["type"], event["partner"], event["external_id"]) == ("appcharge.order.failed", "appcharge", "o-1")
        assert event["data"] == {"order_id": "o-1", "status": "failed", "player_id": "alice"}
        rest = api("GET", f"events?after={page['next_after']}").json
        assert [event["external_id"] for event in rest["events"]] == ["o-2"]
        assert api("GET", f"events?after={rest['next_after']}").json == {
            "events": [],
            "next_after": rest["next_after"],
            "has_more": False,
        }
