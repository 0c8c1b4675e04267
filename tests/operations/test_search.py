"""The search over all games: every id leads to what it is of, an e-mail address while it is known, all by indexes."""

import itertools
import json
import re
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinslot.access import keyring
from coinslot.access.vault import MasterKey
from coinslot.games import erasure, registry, search_keys
from coinslot.ledger import credit as ledger
from coinslot.ledger import events, reports
from coinslot.operations import backup, restore, search_all, search_job
from coinslot.relay import jobs
from tests import databases
from tests.books import Books
from tests.conftest import Studio, appcharge_headers
from tests.owed import Owed, a_credit

ADDRESS = "Alice.Smith@Example.com"


@pytest.fixture
def fill(installation):
    """What the relay does once it sees a commit."""
    return lambda: search_job.fill(installation.database, installation.vault)


@pytest.fixture
def find(installation):
    """Pairs of what was found and how it is called, in the order of the page."""

    def search(text):
        found = search_all.find(installation.database.read(), installation.vault, text)
        return [(hit.what, hit.row["reference" if hit.what == "transaction" else "player_id"]) for hit in found.hits]

    return search


@pytest.fixture
def exactly(installation):
    """The kinds of what a text leads to exactly."""

    def search(text):
        found = search_all.find(installation.database.read(), installation.vault, text)
        return {hit.what for hit in found.hits if hit.is_exact}

    return search


@pytest.fixture
def credit(installation, studio):
    def make(external_id, **changed):
        wanted = a_credit(studio.row["id"], external_id, **changed)
        rules = reports.Rules("accept", "accept")
        installation.database.write_here(lambda tx: ledger.credit(tx, wanted, rules))
        return wanted

    return make


LETTERS = string.ascii_letters + string.digits + "-_.:/%' "
IDS = st.text(LETTERS, min_size=1, max_size=40).filter(lambda text: text == text.strip())
CASES = (str.upper, str.lower, str.swapcase, lambda text: text[:-1].title())
NUMBERS = itertools.count()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(IDS, min_size=4, max_size=4, unique_by=str.lower),
    partner=st.sampled_from(["appcharge", "somebody"]),
    change=st.sampled_from(CASES),
)
def test_every_id_of_a_credited_order_leads_to_it_in_any_case_and_by_its_beginning(
    installation, studio, credit, ids, partner, change
):
    number = next(NUMBERS)  # the database stays the same
    own, purchase, payment, later = (f"{each}{number:05}{place}" for place, each in zip("aBcD", ids, strict=True))
    keys = (("purchase", purchase), ("payment", payment))
    made = credit(own, partner=partner, keys=keys, known_by=keys[1:], fingerprint=str(ids))
    credit(own, partner=partner, keys=(*keys, ("external", later)), fingerprint=str(ids))  # the same again

    for text in (own, purchase, payment, later, made.public_id):
        found = search_all.find(installation.database.read(), installation.vault, change(text))
        hits = [hit for hit in found.hits if hit.what == "transaction"]
        assert found.is_cut or made.public_id in {hit.row["public_id"] for hit in hits}, text
        if change(text).lower() == text.lower():
            assert made.public_id in {hit.row["public_id"] for hit in hits if hit.is_exact}


def test_grants_deliveries_events_and_payments_are_found_by_their_ids(installation, studio, exactly, find):
    owed, books = Owed(installation, studio), Books(installation, studio)
    owed.destination()
    owed.credit(12)
    books.pay("GPA.12-34")
    installation.database.write_here(
        lambda tx: events.record(
            tx, game_id=studio.row["id"], partner="somebody", type="refund", dedupe_key="Refund:E-3", data={},
            raw_body=None, environment="live", is_test=False, external_id="e-3",
        )
    )  # fmt: skip
    ((webhook_id, delivery_id),) = owed.rows("SELECT webhook_id, id FROM deliveries ORDER BY id LIMIT 1")

    assert exactly(webhook_id) == exactly(webhook_id.upper()) == {"delivery"}
    assert exactly(str(delivery_id)) == {"delivery", "grant", "event"}
    assert exactly("gpa.12-34") == {"payment"}
    assert ("payment", "alice") in find("gpa.1")
    assert exactly("refund:e-3") == {"event"}
    assert exactly("E-3") == {"transaction", "event"}
    assert {what for what, _ in find("1")} == {"delivery", "grant", "event"}
    assert {what for what, _ in find("12")} == {"delivery", "grant"}
    assert find("9" * 18) == find("9" * 40) == []


def test_exact_hits_come_first_and_then_the_newest(credit, installation, clock):
    for name in ("o-10", "o-1", "o-12"):
        credit(name)
        clock.shift(60)
    found = search_all.find(installation.database.read(), installation.vault, "O-1")
    assert [hit.matched for hit in found.hits] == ["o-1", "o-12", "o-10"]
    assert [hit.is_exact for hit in found.hits] == [True, False, False]


def test_all_games_are_searched_and_those_without_any_order_too(installation, studio, credit, find):
    other = Studio(installation, "other")
    other.player("bob")
    books = Books(installation, other)
    books.pay("P-7", player="zoe")
    credit("shared")
    installation.database.write_here(
        lambda tx: ledger.credit(
            tx, a_credit(other.row["id"], "shared", game_slug="other"), reports.Rules("accept", "accept")
        )
    )
    assert find("shared") == [("transaction", "shared")] * 2
    assert find("bob") == [("player", "bob")] * 2
    assert find("p-7") == [("payment", "zoe")]
    assert find("zoe") == [("player", "zoe")]


class TestPlayers:
    @pytest.fixture
    def put(self, installation, studio, fill):
        def store(player_id, **entry):
            installation.database.write_here(lambda tx: registry.put_player(tx, studio.row["id"], player_id, entry))

        return store

    @pytest.mark.parametrize(
        "text", ["Zoë", "ZOE", "zoe", "zoë ma", "Zoé Márquez", "zoemarquez", "marq", "MÁRQUEZ", "P-Zoe", "p-z"]
    )
    def test_by_id_or_name_in_any_case_without_accents_and_by_a_beginning(self, put, fill, find, text):
        put("P-zoe", name="Zoë Márquez")
        fill()
        assert find(text) == [("player", "P-zoe")]

    def test_a_new_name_takes_the_place_of_the_old(self, put, fill, find, db):
        put("p", name="Anna Smith")
        fill()
        put("p", name="Bea")
        assert find("bea") == []
        fill()
        assert (find("bea"), find("anna"), find("smith")) == ([("player", "p")], [], [])
        assert db("SELECT key FROM search_keys WHERE kind = 'name'") == [{"key": "bea"}]

    def test_one_who_is_pushed_again_unchanged_is_not_read_again(self, put, fill, db):
        put("p", name="Anna", profile={"a": 1})
        fill()
        put("p", name="Anna", profile={"a": 1})
        assert db("SELECT 1 FROM players WHERE is_in_search = 0") == []
        put("p", name="Anna", profile={"a": 2})
        assert len(db("SELECT 1 FROM players WHERE is_in_search = 0")) == 1

    def test_one_who_is_only_in_the_ledger_is_found_at_once_by_the_whole_id(self, credit, fill, find):
        credit("o-1", player_id="Ghost")
        assert (find("Ghost"), find("ghost")) == ([("player", "Ghost")], [])
        fill()
        assert find("gho") == [("player", "Ghost")]

    def test_imported_players_are_found(self, installation, studio, fill, find, app, tmp_path):
        (tmp_path / "players.csv").write_text("player_id,name\nimported,Ida\n", encoding="utf-8")
        result = app.test_cli_runner().invoke(args=["player", "import", "demo", str(tmp_path / "players.csv")])
        assert result.exit_code == 0, result.output
        fill()
        assert find("ida") == [("player", "imported")]


class TestAddresses:
    @pytest.fixture
    def pay(self, post_order):
        def make(number=1, player="alice", **changed):
            changed = {"playerEmail": ADDRESS} | changed
            answer = post_order(
                orderId=f"o-{number}", purchaseId=f"u-{number}", appChargePaymentId=f"y-{number}", playerId=player,
                **changed,
            )  # fmt: skip
            assert answer.status_code == 200, answer.text

        return make

    @pytest.mark.parametrize("text", [ADDRESS, ADDRESS.upper(), f"  {ADDRESS.lower()} "])
    def test_a_whole_address_leads_to_the_player_in_any_case(self, pay, fill, find, studio, text):
        pay()
        fill()
        assert find(text) == [("player", "alice")]
        assert find(text.strip()[:-1]) == find("alice.smith@") == []

    def test_addresses_of_events_and_of_pushed_profiles_are_known_too(self, client, installation, studio, fill, find):
        body = json.dumps({
            "eventName": "customer.created", "eventId": "e", "timestamp": 1767225600000,
            "customer": {"id": "bob", "email": "bob@example.org"},
        }).encode()  # fmt: skip
        assert client.post("/appcharge/demo/events", data=body, headers=appcharge_headers(body)).status_code == 200
        profile = {"attributes": {"e-mail": "carol@example.org", "motto": "not@an.address"}}
        installation.database.write_here(
            lambda tx: registry.put_player(tx, studio.row["id"], "carol", {"profile": profile})
        )
        fill()
        assert find("BOB@example.org") == [("player", "bob")]
        assert find("carol@example.org") == [("player", "carol")]
        assert find("not@an.address") == []

    def test_it_is_stored_only_as_a_hash_that_another_installation_does_not_make(
        self, pay, fill, db, installation, studio
    ):
        pay()
        fill()
        (row,) = db("SELECT key FROM search_keys WHERE kind = 'address'")
        assert re.fullmatch("[0-9a-f]{32}", row["key"])
        assert search_keys.of_address(b"another", search_keys.address(ADDRESS)) != row["key"]
        (secret,) = db("SELECT * FROM installation_secrets WHERE name = 'search.addresses'")
        assert search_keys.secret(installation.database.read(), installation.vault) not in secret["ciphertext"]

    def test_it_is_found_after_the_master_key_was_rotated(self, pay, fill, find, installation, db, studio):
        pay()
        fill()
        before = db("SELECT * FROM search_keys")
        keyring.rotate_master_key(installation.database, installation.vault, MasterKey.generate(), "owner")
        assert find(ADDRESS) == [("player", "alice")]
        pay(2, "bob", playerEmail="bob@example.org")
        fill()
        assert find("bob@example.org") == [("player", "bob")]
        assert [row for row in db("SELECT * FROM search_keys") if row in before] == before

    def test_without_the_master_key_ids_are_still_found(self, pay, fill, find, installation, studio):
        pay()
        fill()
        installation.database.write_here(
            lambda tx: tx.execute("UPDATE installation SET value = 'other' WHERE name = 'vault.key_id'")
        )
        assert find(ADDRESS) == []
        assert find("o-1") == [("transaction", "o-1")]

    @pytest.mark.parametrize("was_read", [True, False])
    def test_a_forgotten_player_has_no_key_left(self, pay, fill, find, installation, db, studio, was_read):
        registry_entry = {"name": "Alice Smith", "profile": {"attributes": {"email": ADDRESS}}}
        installation.database.write_here(lambda tx: registry.put_player(tx, studio.row["id"], "alice", registry_entry))
        pay()
        if was_read:
            fill()
            assert db("SELECT DISTINCT kind FROM search_keys WHERE player_id = 'alice' ORDER BY kind") == [
                {"kind": "address"}, {"kind": "id"}, {"kind": "name"},
            ]  # fmt: skip
        assert installation.forget_player(installation.games.by_slug("demo"), "alice", "test")
        if was_read:
            assert db("SELECT * FROM search_keys WHERE player_id = 'alice'") == []
        fill()
        assert db("SELECT * FROM search_keys WHERE player_id = 'alice' AND kind <> 'id'") == []
        assert (find(ADDRESS), find("smith")) == ([], [])
        assert find("alice") == [("player", "alice")]  # the books keep the id

    def test_one_who_is_forgotten_while_the_job_reads_does_not_come_back(self, pay, installation, db, studio):
        pay()
        connection = installation.database.read()
        portion = search_job._read(connection, installation.vault, {})
        installation.database.write_here(lambda tx: erasure.forget_player(tx, studio.row["id"], "alice"))
        installation.database.write_here(lambda tx: search_job._store(tx, portion, b"secret"))
        assert db("SELECT * FROM search_keys WHERE player_id = 'alice' AND kind <> 'id'") == []

    def test_a_restored_backup_is_searched_as_it_was_and_read_on(self, pay, fill, find, installation, tmp_path, studio):
        pay()
        fill()
        pay(2, "bob", playerEmail="bob@example.org")  # committed, and not read when the copy is taken
        backup.backup(installation.database, tmp_path / "copy.db")
        fill()
        installation.forget_player(installation.games.by_slug("demo"), "alice", "test")
        installation.database.close()
        restore.restore(installation.database, installation.vault, tmp_path / "copy.db")

        assert (find(ADDRESS), find("bob@example.org")) == ([], [])
        fill()
        assert (find(ADDRESS), find("bob@example.org")) == ([], [("player", "bob")])


class TestTheJob:
    def test_it_has_no_work_until_something_is_committed_and_none_once_it_ran(self, installation, studio, credit, fill):
        def has_work():
            return search_job.has_work(installation.database.read())

        assert has_work()  # the cast
        assert fill() == search_job.AGAIN_SECONDS
        assert not has_work()
        credit("o-1")
        assert has_work()
        fill()
        assert not has_work()
        Books(installation, studio).pay("P-1")
        assert has_work()

    def test_it_goes_on_where_it_stopped_in_portions(self, installation, studio, credit, fill, find, monkeypatch):
        monkeypatch.setattr(search_job, "ROWS_AT_ONCE", 2)
        monkeypatch.setattr(search_job, "RUN_SECONDS", 0.0)
        for number in range(5):
            credit(f"o-{number}", player_id=f"player-{number}")
        runs = 0
        while fill() == 0.0:
            runs += 1
        assert runs == 3
        assert len(find("PLAYER-")) == 5

    def test_the_relay_runs_it(self, installation, studio, credit, find):
        credit("o-1", player_id="Ghost")
        installation.new_relay().drain()
        assert find("ghost") == [("player", "Ghost")]

    def test_what_schema_sql_says_fills_it_anew(self, installation, studio, credit, fill, db):
        installation.database.write_here(
            lambda tx: registry.put_player(tx, studio.row["id"], "carol", {"name": "Carol"})
        )
        credit("o-1", raw_body=json.dumps({"email": ADDRESS}).encode())
        fill()
        before = db("SELECT * FROM search_keys")

        def drop(tx):
            tx.execute("DELETE FROM search_keys")
            tx.execute("UPDATE players SET is_in_search = 0")
            jobs.put_cursor(tx, jobs.INSTALLATION, search_job.NAME, None)

        installation.database.write_here(drop)
        fill()
        assert db("SELECT * FROM search_keys") == before != []


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "a\0b", "\ud83d", "%", "_", "'", "ß", "İ", "\u202e", "x" * 257, "😀" * 256]
)
def test_odd_texts_find_nothing_and_break_nothing(studio, find, fill, text):
    fill()
    assert find(text) == []


def test_every_question_is_answered_by_an_index(installation, studio):
    connection = installation.database.read()
    values = search_all._ways("x", [(1, "somebody")], True)
    values |= dict.fromkeys("grant event delivery payment players calls".split(), "[]")
    values |= dict.fromkeys("text low high hash".split(), "x")
    for name in ("_IDS", "_PAIRS", "_KEYS", "_DETAILS", "_OF_PLAYERS", "_OF_CALLS"):
        for row in connection.execute(f"EXPLAIN QUERY PLAN {getattr(search_all, name)}", values):
            scanned = re.match(r"SCAN (\w+)\b(?! VIRTUAL)", row["detail"])
            small = {"b", "k", "h", "ids", "names", "w", "games", "known", "heard", "CONSTANT", "json_each", "found"}
            assert scanned is None or scanned[1] in small, (name, row["detail"])


def test_an_order_in_small_letters_costs_no_row_of_the_folding_indexes(credit, db, installation):
    credit("o-1", keys=(("purchase", "pr_1"),))
    folding = ("transactions_folded", "transaction_keys_folded", "events_folded", "payments_folded")
    for name in folding:
        table, made_by = databases.index(installation, name)
        condition = made_by.partition("WHERE")[2]
        assert condition
        assert db(f"SELECT 1 FROM {table} WHERE {condition}") == []
