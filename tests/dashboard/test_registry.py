"""The owner's players and items: added, changed, imported; an item is removed where none was ever granted."""

import io
import json
import re
from urllib.parse import quote

import pytest

from coinslot.games import registry
from coinslot.ledger import items as catalogue
from tests.conftest import Studio
from tests.pages import HOSTILE, assert_has, every_page, follow, text_of

GAME = "/games/demo"
ITEMS = f"{GAME}/items"
EDIT = f"{GAME}/edit-player"


@pytest.fixture(autouse=True)
def game(studio):
    return studio


def audit_of(db, action):
    return [(row["actor"], row["subject"]) for row in db("SELECT * FROM audit WHERE action = :action", action=action)]


def upload(browser, kind, content, name="file.csv"):
    form = {"form_token": browser.form_token(), "file": (io.BytesIO(content), name)}
    return browser.client.post(f"{GAME}/{kind}/import", data=form, content_type="multipart/form-data")


def listed(answer):
    return re.findall(r'<input type="hidden" name="sku" value="([^"]*)">', answer.text)


class TestItems:
    def test_an_item_is_added_and_one_that_is_there_takes_the_name(self, browser, db):
        for sku, name in (("rubies", ""), ("coins", "Gold 😀"), ("coins", "")):
            browser.post(ITEMS, sku=sku, name=name)
        names = {row["sku"]: row["name"] for row in db("SELECT * FROM items")}
        assert (names["coins"], names["rubies"]) == ("Gold 😀", None)
        assert audit_of(db, "item.add")[0] == ("owner", "rubies")

    @pytest.mark.parametrize(
        ("sku", "name"), [("", "x"), ("x" * 300, "x"), ("a\x00b", "x"), ("ok", "\x00"), ("ok", "x" * 300)]
    )
    def test_what_is_no_item_is_said_beside_the_field(self, browser, sku, name, db):
        before = db("SELECT * FROM items")
        answer = browser.post(ITEMS, sku=sku, name=name)
        assert (answer.status_code, 'aria-invalid="true"' in answer.text) == (400, True)
        assert db("SELECT * FROM items") == before

    def test_found_by_the_beginning_of_a_sku_and_by_any_part_of_a_name(self, browser):
        for sku, name in (("gold-1", "A bag of COINS"), ("gold-2", ""), ("zinc", "old")):
            browser.post(ITEMS, sku=sku, name=name)
        assert listed(browser.get(ITEMS)) == ["coins", "gems", "gold-1", "gold-2", "zinc"]
        assert listed(browser.get(f"{ITEMS}?q=gold-")) == ["gold-1", "gold-2"]
        assert listed(browser.get(f"{ITEMS}?q=coins")) == ["coins", "gold-1"]
        assert listed(browser.get(f"{ITEMS}?q=OLD")) == ["gold-1", "gold-2", "zinc"]
        assert "No item&#39;s SKU begins so" in browser.get(f"{ITEMS}?q=nothing").text.replace("'", "&#39;")

    def test_a_name_is_changed_and_removed(self, browser, db):
        form = browser.get(f"{ITEMS}?rename=coins").text
        assert 'aria-label="Name of coins"' in form
        for name, stored in (("Münzen", "Münzen"), ("", None)):
            answer = follow(browser, browser.post(f"{ITEMS}/name", sku="coins", name=name))
            assert "Saved." in answer.text
            assert db("SELECT name FROM items WHERE sku = 'coins'") == [{"name": stored}]
        assert browser.post(f"{ITEMS}/name", sku="coins", name="\x00").status_code == 400
        for nothing in ("nothing", "", registry.RESERVED_ID):
            assert browser.post(f"{ITEMS}/name", sku=nothing, name="x").status_code == 404
        assert audit_of(db, "item.rename") == [("owner", "coins")] * 2

    def test_one_that_was_granted_stays(self, browser, post_order, db, installation):
        post_order(products=[{"amount": 1, "sku": "coins"}])
        other = Studio(installation, "other")
        page = browser.get(ITEMS)
        assert listed(page) == ["gems"]  # only what can be removed has the form
        refused = browser.post(f"{ITEMS}/remove", sku="coins")
        assert (refused.status_code, "It was granted to players, so it stays." in refused.text) == (409, True)
        assert "Removed." in follow(browser, browser.post(f"{ITEMS}/remove", sku="gems")).text
        assert "nothing to do" in follow(browser, browser.post(f"{ITEMS}/remove", sku="gems")).text
        assert db("SELECT sku FROM items WHERE game_id = :game_id", game_id=1) == [{"sku": "coins"}]
        assert audit_of(db, "item.remove") == [("owner", "gems")]
        # What another game granted under this sku keeps nothing here.
        other.item("coins")
        assert browser.post("/games/other/items/remove", sku="coins").status_code == 303

    def test_one_that_is_granted_while_the_owner_removes_it_stays(self, installation, post_order, studio):
        through = catalogue.last_grant(installation.database.read())
        post_order(products=[{"amount": 1, "sku": "gems"}])
        with pytest.raises(registry.RegistryError, match="granted"):
            installation.database.write(lambda tx: catalogue.remove(tx, studio.row["id"], "gems", through))

    def test_pages_and_what_they_cost(self, browser, installation, studio):
        def add(tx):
            for number in range(120):
                registry.register_item(tx, studio.row["id"], f"i-{number:03}")

        installation.database.write_here(add)
        seen = [sku for answer in every_page(browser, ITEMS) for sku in listed(answer)]
        assert seen == ["coins", "gems", *(f"i-{number:03}" for number in range(120))]
        assert len(browser.queries(f"{ITEMS}?q=i-")[1]) <= 12

    def test_an_exported_list_is_imported_again(self, browser, db):
        for sku, name in (("007", "James"), ("1e5", "1-2"), ("=x", "@y"), ("plain", "")):
            browser.post(ITEMS, sku=sku, name=name)
        every = "SELECT sku, name FROM items ORDER BY sku"
        before, exported = db(every), browser.get(f"{ITEMS}.csv").data
        for row in before:
            browser.post(f"{ITEMS}/remove", sku=row["sku"])
        assert "6 items imported, 6 of them new" in upload(browser, "items", exported).text
        assert db(every) == before


class TestPlayers:
    def test_one_is_added_and_takes_a_name(self, browser, db):
        for name in ("", "Zoe", ""):
            answer = follow(browser, browser.post(f"{GAME}/players", player_id="a/b", name=name))
            assert_has(text_of(answer), "Player a/b", "Added.")
        assert db("SELECT name FROM players WHERE player_id = 'a/b'") == [{"name": "Zoe"}]
        assert audit_of(db, "player.add") == [("owner", "a/b")] * 3

    @pytest.mark.parametrize(("player_id", "name"), [("", "x"), (" \x00", "x"), ("x" * 256, ""), ("ok", "x" * 256)])
    def test_what_is_no_player_is_said_beside_the_field(self, browser, player_id, name, db):
        answer = browser.post(f"{GAME}/players", player_id=player_id, name=name)
        assert (answer.status_code, 'aria-invalid="true"' in answer.text) == (400, True)
        assert not audit_of(db, "player.add")


FULL = {
    "name": "Alice A",
    "profile_image": "https://example.com/a.png",
    "country": "DE",
    "login_name": "alice@example.com",
    "identities": {"google": "117", "facebook": "9"},
    "segments": ["vip"],
    "balances": [{"publisherProductId": "coins", "quantity": 10**20}],
    "password": "first",
}


class TestEditing:
    @pytest.fixture
    def api(self, client, studio):
        def call(method, path="/players/alice", **more):
            token = {"Authorization": f"Bearer {studio.token}"}
            return client.open(f"/game/v1{path}", method=method, headers=token, **more)

        return call

    @pytest.fixture
    def form(self, browser):
        def fields():
            """What a browser would send back."""
            text = browser.get(f"{EDIT}?id=alice").text
            found = re.findall(r'<input [^>]*name="([^"]+)" value="([^"]*)"', text)
            area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", text, re.DOTALL)[1]
            sent = {name: value for name, value in found if name not in ("form_token", "q", "has_no_password")}
            return sent | {"profile": area.replace("&#34;", '"')}

        return fields

    def test_saving_what_is_there_changes_nothing_and_everything_may_be_changed(self, browser, api, form, db):
        api("PUT", json=FULL)
        before = api("GET").json
        assert follow(browser, browser.post(EDIT, **form())).status_code == 200
        after = api("GET").json
        assert {**after, "updated_at": ""} == {**before, "updated_at": ""}
        assert after["has_password"]
        profile = json.dumps({"segments": ["gone"], "balances": []})
        changed = {"name": "", "country": "us", "google": "", "apple": "a-1", "profile": profile}
        assert "Saved." in follow(browser, browser.post(EDIT, **form() | changed)).text
        stored = api("GET").json
        assert (stored["name"], stored["country"], stored["segments"]) == (None, "US", ["gone"])
        assert stored["identities"] == {"apple": "a-1", "facebook": "9"}
        assert audit_of(db, "player.edit") == [("owner", "alice")] * 2

    def test_a_password_is_set_kept_and_removed(self, browser, api, form, db):
        api("PUT", json=FULL)
        stored = "SELECT password_hash FROM players WHERE player_id = 'alice'"
        first = db(stored)
        browser.post(EDIT, **form() | {"password": "2nd-secret"})
        second = db(stored)
        assert second != first
        assert "2nd-secret" not in browser.get(f"{EDIT}?id=alice").text
        browser.post(EDIT, **form())
        assert db(stored) == second
        browser.post(EDIT, **form() | {"has_no_password": "yes"})
        assert db(stored) == [{"password_hash": None}]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("country", "Germany"), ("profile_image", "ftp://x"), ("name", "x" * 300), ("login_name", "x" * 300)),
            *(("profile", "{"), ("profile", "[]"), ("profile", '{"nothing": 1}'), ("profile", '{"segments": "vip"}')),
            ("google", "x" * 300),
        ],
    )
    def test_what_the_game_could_not_push_is_refused_and_what_was_typed_stays(self, browser, api, form, field, value):
        api("PUT", json=FULL)
        before = api("GET").json
        answer = browser.post(EDIT, **form() | {field: value})
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)
        assert value.replace('"', "&#34;") in answer.text
        assert api("GET").json == before

    def test_what_the_game_pushed_in_between_is_not_overwritten(self, browser, api, form):
        api("PUT", json=FULL)
        opened = form()
        api("PATCH", json={"name": "From the game"})
        answer = browser.post(EDIT, **opened | {"name": "From the page"})
        assert answer.status_code == 409
        assert_has(answer.text, "has changed this player", "From the game", without=("From the page",))
        assert api("GET").json["name"] == "From the game"

    def test_a_login_name_and_an_identity_belong_to_one_player(self, browser, api, form, studio):
        studio.player("carol")
        api("PUT", "/players/carol", json={"login_name": "carol", "identities": {"google": "5"}})
        for changed in ({"login_name": "carol"}, {"google": "5"}):
            answer = browser.post(EDIT, **form() | changed)
            assert (answer.status_code, "belongs to another player" in answer.text) == (409, True)

    def test_only_a_registered_player_can_be_edited(self, browser):
        assert browser.get(f"{EDIT}?id=nobody").status_code == 404
        assert browser.post(EDIT, player_id="nobody").status_code == 404

    def test_the_page_of_a_player_leads_there(self, browser, installation, studio):
        installation.database.write_here(lambda tx: registry.register_player(tx, studio.row["id"], "a/b?"))
        page = browser.get(f"{GAME}/players?id={quote('a/b?', safe='')}").text
        (address,) = re.findall(rf'href="({EDIT}[^"]+)"', page)
        assert "Edit player a/b?" in text_of(browser.get(address))


class TestFiles:
    def test_players_and_items_come_out_of_a_file(self, browser, db):
        done = upload(browser, "players", "player_id,name,country\nalice,Alice,de\ncarol,Carol 😀,us\n".encode())
        assert "2 players imported, 1 of them new" in done.text
        done = upload(browser, "items", b"\xef\xbb\xbfsku,name\ncoins,Gold\nstars,\n")
        assert "2 items imported, 1 of them new" in done.text
        assert db("SELECT name FROM players WHERE player_id = 'alice'") == [{"name": "Alice"}]
        assert audit_of(db, "player.import") == [("owner", "2 players (1 new)")]

    @pytest.mark.parametrize(
        "content",
        [
            *(b"player_id,name\nx\n", b"x;y\n", b"Identifier,Nick\nx,y\n", b"# exported\nx,y\n", b"\xff\xfe"),
            *(b"a\x00b,c\n", b"player_id,<script>alert(1)</script>\n", b"new,ok\n new,blank\n" * 100),
        ],
    )
    def test_a_file_with_a_mistake_is_refused_as_a_whole_and_the_line_named(self, browser, content, db):
        before = db("SELECT player_id FROM players")
        answer = upload(browser, "players", content, name=HOSTILE)
        assert answer.status_code == 400
        assert re.search(r"line \d", answer.text)
        assert "<script>alert" not in answer.text
        assert db("SELECT player_id FROM players") == before

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_a_file_as_excel_writes_it_is_read(self, browser, db, encoding):
        content = "sep=;\r\nPlayer ID;Name\r\ncarol;Carol\r\n".encode(encoding)
        assert "1 players imported, 1 of them new" in upload(browser, "players", content).text
        assert db("SELECT name FROM players WHERE player_id = 'carol'") == [{"name": "Carol"}]

    def test_an_exported_list_is_imported_again(self, browser, installation, studio, db):
        names = {
            "#7": "x",
            "007": "1-2",
            "9" * 30: "TRUE",
            "a;b": "=1",
            "auth0|7": "'=x",
            "-5": "-1",
            'a"b,c': "Zo\u00eb",
            "@x": "# y",
        }

        def put(tx):
            for player_id, name in names.items():
                registry.put_player(tx, studio.row["id"], player_id, {"name": name, "country": "DE"})

        installation.database.write_here(put)
        listed = "SELECT player_id, name, country FROM players ORDER BY player_id"
        before, exported = db(listed), browser.get("/games/demo/players.csv").data
        installation.database.write_here(lambda tx: tx.execute("DELETE FROM players"))

        done = upload(browser, "players", exported)

        assert f"{len(before)} players imported, {len(before)} of them new" in done.text
        assert db(listed) == before

    def test_a_large_file_is_taken_and_a_larger_one_is_not(self, browser, client, db):
        lines = b"".join(b"player-%07d,Somebody\n" % number for number in range(50_000))
        assert "50,000 players imported" in upload(browser, "players", lines).text
        assert upload(browser, "players", lines * 9).status_code == 413
        assert browser.post(f"{GAME}/players/import").status_code == 400
        assert browser.post(f"{GAME}/items/import").status_code == 400
