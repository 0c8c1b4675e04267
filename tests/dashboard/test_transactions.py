"""The owner's transactions: found by whatever is known of them, explained, reversed, delivered again, proved."""

import csv
import hashlib
import io
import json
import re
import zipfile
from decimal import Decimal
from urllib.parse import quote, unquote

import pytest

from coinslot.games import erasure, games, registry
from coinslot.ledger import credit as ledger
from coinslot.ledger import reports, search
from coinslot.ledger.paths import Filters
from coinslot.outbox import attempts, destinations
from handlers.appcharge.signature import sign
from handlers.dashboard.records.form import parse_amount, read_form
from tests.conftest import MAIN_KEY, appcharge_headers
from tests.pages import HOSTILE, STORABLE, assert_has, next_of
from tests.playtem.test_credit import encode, payload

LIST = "/games/demo/transactions"


@pytest.fixture(autouse=True)
def game(studio):
    return studio


@pytest.fixture
def credit(installation, studio):
    """Credit what no partner would send."""

    def make(external_id, **changed):
        values = {"game_id": studio.row["id"], "game_slug": "demo", "partner": "appcharge", "kind": "purchase"}
        values |= dict.fromkeys(("external_id", "reference", "fingerprint"), external_id)
        values |= {"player_id": "alice", "lines": (("coins", 1),), "raw_body": b"{}", "signature": "t=1,v1=0"}
        values |= {"signed_with": "appcharge.main_key/current", "answer_status": 200, "answer_body": "{}"} | changed
        credit = reports.Credit(**values)
        installation.database.write_here(lambda tx: ledger.credit(tx, credit, reports.Rules("accept", "accept")))
        return credit.public_id

    return make


@pytest.fixture
def post_event(client, studio):
    def post(**named):
        document = {"eventName": "order.refunded", "eventId": str(named), "timestamp": 1767225600000, **named}
        body = json.dumps(document).encode()
        assert client.post("/appcharge/demo/events", data=body, headers=appcharge_headers(body)).status_code == 200

    return post


def references(answer):
    """The orders in a list, in its order."""
    return re.findall(r'data-label="Order"><span class="id"><a href="[^"]+"[^>]*>([^<]*)</a>', answer.text)


def money(currency, minor):
    return reports.Money(currency=currency, gross_minor=minor)


class TestList:
    @pytest.fixture(autouse=True)
    def some(self, credit, studio):
        credit("o-1", money=money("USD", 999), lines=(("coins", 5),))
        credit("o-2", money=money("USD", 499), player_id="bob", lines=(("gems", 5),))
        credit("o-3", money=money("JPY", 999), partner="playtem", kind="reward")
        credit("o-4", player_id=registry.RESERVED_ID)
        credit("o-5", money=money("USD", 1500))

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["o-5", "o-4", "o-3", "o-2", "o-1"]),
            ("partner=playtem", ["o-3"]),
            ("partner=nobody", []),
            ("state=credited", ["o-5", "o-3", "o-2", "o-1"]),
            ("state=test", ["o-4"]),
            ("state=reversed", []),
            ("state=conflict", []),
            ("state=nonsense", ["o-5", "o-4", "o-3", "o-2", "o-1"]),
            ("player=bob", ["o-2"]),
            ("item=gems", ["o-2"]),
            ("item=coins&partner=appcharge", ["o-5", "o-4", "o-1"]),
            ("amount=9.99+USD", ["o-1"]),
            ("amount=999+JPY", ["o-3"]),
            ("amount=%244.99", ["o-2"]),
            ("amount=4+USD&amount_to=10", ["o-2", "o-1"]),
            ("amount_to=10+USD", ["o-2", "o-1"]),
            ("amount=4+USD&amount_to=20+USD&player=alice", ["o-5", "o-1"]),
            ("from=2020-01-01&to=2020-01-02", []),
            ("from=2020-01-01&to=2999-01-02", ["o-5", "o-4", "o-3", "o-2", "o-1"]),
            ("from=2020-01-01&item=gems", ["o-2"]),
            ("to=2020-01-01&item=gems", []),
            ("from=2999-01-01", []),
            ("from=2999-01-01&partner=playtem&item=coins&state=credited", []),
        ],
    )
    def test_filters(self, browser, query, found):
        answer = browser.get(f"{LIST}?{query}")
        assert answer.status_code == 200
        assert references(answer) == found

    @pytest.mark.parametrize(
        "query",
        "amount=9.99 amount=x+USD amount=1+XXQ amount=1.001+USD amount=1+USD&amount_to=2+EUR from=31.1.".split(),
    )
    def test_what_cannot_be_understood_is_said(self, browser, query):
        answer = browser.get(f"{LIST}?{query}")
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text
        assert browser.get(f"/games/demo/transactions.csv?{query}").status_code == 400

    def test_every_filter_on_every_path_agrees_with_going_through_all(self, browser, installation, studio, post_event):
        connection, game_id = installation.database.read(), studio.row["id"]
        names = {"partner": "playtem", "state": "credited", "player_id": "alice", "sku": "coins"}
        everything = [row["reference"] for row in search.every_transaction(connection, game_id, Filters())]
        kept = {
            "partner": ["o-3"],
            "state": ["o-5", "o-3", "o-2", "o-1"],
            "player_id": ["o-5", "o-3", "o-1"],
            "sku": ["o-5", "o-4", "o-3", "o-1"],
        }
        for bits in range(16):
            chosen = [name for at, name in enumerate(names) if bits >> at & 1]
            filters = Filters(**{name: names[name] for name in chosen}, since="2020-01-01")
            expected = [each for each in everything if all(each in kept[name] for name in chosen)]
            for at_once in (1, 2, 500):
                rows = search.every_transaction(connection, game_id, filters, at_once)
                assert [row["reference"] for row in rows] == expected, (chosen, at_once)

    def test_pages_follow_one_another_whatever_comes_in_between(self, browser, credit, installation, studio):
        connection, game_id = installation.database.read(), studio.row["id"]
        for filters in (Filters(), Filters(sku="coins"), Filters(player_id="alice")):
            whole = [row["id"] for row in search.every_transaction(connection, game_id, filters)]
            page = search.transactions(connection, game_id, filters, limit=2)
            seen = list(page.rows)
            while page.after:
                credit(f"later-{len(seen)}-{filters.sku}-{filters.player_id}")
                page = search.transactions(connection, game_id, filters, page.after, limit=2)
                seen += page.rows
            assert [row["id"] for row in seen] == whole

    def test_a_search_that_looks_at_too_much_says_how_far_it_came_and_goes_on(self, installation, studio):
        connection, game_id = installation.database.read(), studio.row["id"]
        filters = Filters(partner="appcharge", state="test")
        found, steps, after = [], 0, None
        while True:
            page = search.transactions(connection, game_id, filters, after, looked_at=1)
            found += [row["reference"] for row in page.rows]
            steps, after = steps + 1, page.after
            if after is None:
                break
            assert page.searched_to
        assert found == ["o-4"]
        currency = Filters(partner="appcharge", currency="USD")
        page = search.transactions(connection, game_id, currency, looked_at=2)
        assert [row["reference"] for row in page.rows] == ["o-5"]
        assert page.searched_to

    @pytest.mark.parametrize("after", ["x", "-", "time-", "time-999999", "item-1", "partner-1", "time-1'--", "9" * 40])
    def test_an_address_nobody_gave_is_404(self, browser, after):
        assert browser.get(f"{LIST}?after={after}").status_code == 404

    def test_reversed_and_conflicting_ones_are_found(self, browser, post_order, installation, db):
        post_order(orderId="r-1")
        post_order(orderId="c-1")
        post_order(orderId="c-1", playerId="bob")
        post_order(orderId="c-1", playerId="bob", priceInCents=1)
        (public_id,) = [row["public_id"] for row in db("SELECT public_id FROM transactions WHERE reference = 'r-1'")]
        browser.post(f"{LIST}/{public_id}/reversal", policy="flag", reason="asked")
        assert references(browser.get(f"{LIST}?state=reversed")) == ["r-1"]
        assert references(browser.get(f"{LIST}?state=conflict")) == ["c-1"]
        assert references(browser.get(f"{LIST}?state=conflict&player=alice&amount=9.99+USD")) == ["c-1"]
        assert "r-1" not in references(browser.get(f"{LIST}?state=credited&item=coins"))

    def test_csv_has_what_the_filters_list(self, browser):
        answer = browser.get("/games/demo/transactions.csv?partner=appcharge&state=credited")
        assert answer.mimetype == "text/csv"
        rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
        assert [(row["reference"], row["gross"], row["items"]) for row in rows] == [
            ("o-5", "15.00", "1 coins"),
            ("o-2", "4.99", "5 gems"),
            ("o-1", "9.99", "5 coins"),
        ]

    def test_an_export_holds_no_old_state_of_the_database_while_it_is_read(self, credit, installation, studio, db):
        rows = search.every_transaction(installation.database.read(), studio.row["id"], Filters(), at_once=2)
        first = next(rows)
        credit("meanwhile")
        ((busy, *_),) = [tuple(row.values()) for row in db("PRAGMA wal_checkpoint(TRUNCATE)")]
        assert busy == 0
        assert [first["reference"], *(row["reference"] for row in rows)] == ["o-5", "o-4", "o-3", "o-2", "o-1"]


class TestALinkWithAnId:
    """As other pages have: to one transaction of this game, or to the search."""

    def jump(self, browser, wanted, game="demo"):
        return browser.get(f"/games/{game}/transactions?q={quote(wanted, safe='')}").location

    def test_any_id_leads_to_the_transaction(self, browser, post_order, db):
        post_order(externalTransactionId="ext-7")
        post_order(orderId="another", purchaseId="pr_2", appChargePaymentId="pay_2")
        (row,) = db("SELECT * FROM transactions WHERE reference = '68e25eebdcb1278'")
        ids = [row["public_id"], "68e25eebdcb1278", "pr_750b85591e16", "68e25eebd76543210", "EXT-7", "1", "  1 "]
        assert {self.jump(browser, wanted) for wanted in ids} == {f"{LIST}/{row['public_id']}"}

    def test_an_order_that_came_without_its_id_is_found_by_both_spellings(self, browser, post_order, db):
        post_order(orderId=..., appChargePaymentId="pay-9")
        (row,) = db("SELECT * FROM transactions")
        assert {self.jump(browser, each) for each in ("pay-9", "payment:pay-9")} == {f"{LIST}/{row['public_id']}"}

    def test_what_is_not_exactly_one_transaction_of_the_game_is_for_the_search(
        self, browser, post_order, installation, studio
    ):
        post_order(orderId="a", purchaseId="shared")
        post_order(orderId="b", purchaseId="shared", appChargePaymentId="x")
        installation.database.write_here(lambda tx: games.add(tx, "other", "Other", "test"))
        for wanted in ("shared", "bob", "nothing", "A?&", "\x00", "x" * 300):
            assert unquote(self.jump(browser, wanted)) == f"/search?q={wanted}"
        assert self.jump(browser, "a", "other") == "/search?q=a"


def test_another_games_transaction_is_not_there(browser, post_order, installation, db):
    post_order()
    installation.database.write_here(lambda tx: games.add(tx, "other", "Other", "test"))
    (row,) = db("SELECT public_id FROM transactions")
    for path in ("", "/dispute.zip"):
        assert browser.get(f"/games/other/transactions/{row['public_id']}{path}").status_code == 404
    for path in ("reveal", "reversal", "redelivery"):
        answer = browser.post(f"/games/other/transactions/{row['public_id']}/{path}", reason="x", policy="flag")
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("texts", "amount", "currency"),
    [
        (("9.99 USD", "usd 9.99", "$9.99"), "9.99", "USD"),
        (("9,99 EUR",), "9.99", "EUR"),
        (("€5",), "5", "EUR"),
        (("1,200 JPY",), "1200", "JPY"),
        (("1,234,567.5 USD",), "1234567.5", "USD"),
        (("1.500 KWD",), "1.500", "KWD"),
        (("12",), "12", None),
    ],
)
def test_amounts_as_people_write_them(texts, amount, currency):
    assert {parse_amount(text) for text in texts} == {(Decimal(amount), currency)}


@pytest.mark.parametrize(
    "text", ["", "USD", "nine", "1e5 USD", "-1 USD", "NaN", "9.99 USDX", "1.2.3 USD", "٣ USD", "9" * 30]
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError):
        parse_amount(text)


def test_a_form_of_nothing_filters_nothing():
    assert read_form({"partner": " ", "amount": "", "from": ""}).filters.is_empty


class TestOne:
    @pytest.fixture
    def address(self, post_order, db, studio):
        post_order(customerEmail="alice@example.com", customer={"firstName": "Alice", "ip": "203.0.113.9"})
        (row,) = db("SELECT public_id FROM transactions")
        return f"{LIST}/{row['public_id']}"

    def test_it_says_what_whom_and_how_much(self, browser, address):
        browser.get(LIST)  # opens the game, which is kept
        answer, queries = browser.queries(address)
        assert answer.status_code == 200
        text = re.sub(r"<[^>]+>|\s+", " ", answer.text)
        assert re.search(r"Player\s+alice\s+bought\s+1,000 coins and 5 gems\s+for\s+9.99 USD", text)
        for figure in ("priceInCents", "999", "subTotal", "850", "tax", "149", "appcharge.main_key/current"):
            assert figure in answer.text
        assert len(queries) <= 12, queries

    def test_personal_data_is_hidden_until_asked_and_asking_is_noted(self, browser, address, db):
        hidden = browser.get(address).text
        for secret in ("alice@example.com", "Alice", "203.0.113.9"):
            assert secret not in hidden
        assert "starterpack" in hidden
        assert db("SELECT 1 FROM audit WHERE action = 'transaction.reveal'") == []
        assert browser.get(f"{address}/reveal").status_code == 405

        shown = browser.post(f"{address}/reveal").text

        for secret in ("alice@example.com", "Alice", "203.0.113.9"):
            assert secret in shown
        (row,) = db("SELECT * FROM audit WHERE action = 'transaction.reveal'")
        assert (row["actor"], row["subject"]) == ("owner", address.rpartition("/")[2])
        assert "alice@example.com" not in browser.get(address).text

    def test_reversing_needs_a_reason_happens_once_and_is_noted(self, browser, address, feed, db):
        for given in (
            {"policy": "flag"},
            {"policy": "flag", "reason": " "},
            {"reason": "x"},
            {"policy": "x", "reason": "y"},
        ):
            assert browser.post(f"{address}/reversal", **given).status_code == 400
        assert browser.post(f"{address}/reversal", policy="flag", reason="a\x07b").status_code == 400
        assert len(feed()) == 1

        answer = browser.post(f"{address}/reversal", policy="revoke_negative", reason="<b>asked</b> by phone")

        assert answer.status_code == 303
        page = browser.get(answer.location).text
        assert_has(page, "Reversed.", "&lt;b&gt;asked&lt;/b&gt; by phone")
        assert [(grant["kind"], grant["policy"]) for grant in feed()][1:] == [("reversal", "revoke_negative")]
        (row,) = db("SELECT subject FROM audit WHERE action = 'transaction.reverse'")
        assert row["subject"].endswith("(revoke_negative): <b>asked</b> by phone")
        assert browser.post(f"{address}/reversal", policy="flag", reason="again").status_code == 400
        assert len(feed()) == 2

    def test_delivering_again_owes_it_to_who_wants_it_with_the_same_grant(
        self, browser, address, installation, studio, db
    ):
        assert browser.post(f"{address}/redelivery", reason="lost").status_code == 400  # nobody wants it
        for name, events in (("all", "*"), ("logins", "player.login")):
            installation.database.write_here(
                lambda tx, name=name, events=events: destinations.add(
                    tx, installation.vault, "demo", name, "http://127.0.0.1:9/", actor="test", events=events
                )
            )
        assert browser.post(f"{address}/redelivery", reason="").status_code == 400

        assert browser.post(f"{address}/redelivery", reason="lost").status_code == 303
        assert [(row["grant_id"], row["state"]) for row in db("SELECT * FROM deliveries")] == [(1, "waiting")]
        assert browser.post(f"{address}/redelivery", reason="again").status_code == 400  # waits already

        installation.database.write_here(
            lambda tx: tx.execute(
                """UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, finished_at = created_at,
                   dead_reason = 'x'"""
            )
        )
        assert browser.post(f"{address}/redelivery", reason="mended").status_code == 303
        assert [row["state"] for row in db("SELECT * FROM deliveries")] == ["waiting"]
        installation.database.write_here(
            lambda tx: tx.execute(
                "UPDATE deliveries SET state = 'delivered', next_attempt_at = NULL, finished_at = created_at"
            )
        )
        assert browser.post(f"{address}/redelivery", reason="the game lost it").status_code == 303
        rows = db("SELECT * FROM deliveries ORDER BY id")
        assert [(row["grant_id"], row["state"]) for row in rows] == [(1, "delivered"), (1, "waiting")]
        assert len({row["webhook_id"] for row in rows}) == 2
        assert len(db("SELECT 1 FROM audit WHERE action = 'transaction.redeliver'")) == 3

    def test_a_reversal_that_is_delivered_again_waits_for_its_original(self, browser, address, installation, db):
        installation.database.write_here(
            lambda tx: destinations.add(tx, installation.vault, "demo", "all", "http://127.0.0.1:9/", actor="test")
        )
        browser.post(f"{address}/reversal", policy="flag", reason="x")
        installation.database.write_here(lambda tx: tx.execute("DELETE FROM deliveries"))
        browser.post(f"{address}/redelivery", reason="lost")
        first, second = db("SELECT * FROM deliveries ORDER BY id")
        assert (first["event_type"], second["event_type"]) == ("grant.created", "grant.reversed")
        assert second["waits_for"] == first["id"]

    def test_the_timeline_goes_from_the_call_to_the_acknowledgement(
        self, browser, address, client, studio, post_event, post_order, clock
    ):
        studio.config("refunds.revoke", "on")
        clock.shift(60)
        post_order(playerId="bob")
        clock.shift(60)
        bearer = {"Authorization": f"Bearer {studio.token}"}
        assert client.post("/game/v1/grants/ack", json={"through": 1}, headers=bearer).status_code in (200, 204)
        clock.shift(60)
        post_event(orderId="68e25eebdcb1278")

        text = browser.get(address).text
        told = [re.sub(r"<[^>]+>|\s+", " ", each) for each in re.findall(r"<li>(.*?)</li>", text, re.DOTALL)]

        wanted = [
            "By Appcharge&#39;s clock",
            "Its signature was checked and is right",
            "1,000 coins and 5 gems credited to player alice (grant 1)",
            "reported again with other content",
            "The game had acknowledged grant 1",
            "1,000 coins and 5 gems reversed: the game was asked to take back what is still there",
            "The partner said that the order was refunded. The items were taken back because of it.",
        ]
        places = [next(at for at, each in enumerate(told) if words in each) for words in wanted]
        assert places[:5] == sorted(places[:5])
        assert min(places[5:]) > places[4]

    def test_deliveries_are_told_with_their_attempts(self, browser, address, installation, db):
        installation.database.write_here(
            lambda tx: destinations.add(tx, installation.vault, "demo", "main", "http://127.0.0.1:9/", actor="test")
        )
        browser.post(f"{address}/redelivery", reason="lost")

        def attempt(tx, result):
            tx.execute("UPDATE deliveries SET next_attempt_at = '2000' WHERE state = 'waiting'")
            (claim,) = attempts.claim_due(tx, "test", {1: 1})
            attempts.record(tx, claim, result)

        hostile = attempts.Result("status", 500, STORABLE, HOSTILE.encode(), 12)
        for result in (*[hostile] * 7, attempts.Result(None, 204)):
            installation.database.write_here(lambda tx, result=result: attempt(tx, result))

        text = browser.get(address).text
        assert text.count("Grant 1 could not be delivered to main: it answered with an error (500).") == 5
        assert_has(text, "2 more attempts at main failed.", "Grant 1 was delivered to main", without=("<script>alert",))

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ("circuit_open_since = created_at, next_probe_at = created_at", "it waits until main works again."),
            ("state = 'paused'", "it waits until main is resumed."),
            ("state = 'active'", "the next attempt is due now."),
        ],
    )
    def test_a_waiting_delivery_says_what_it_waits_for(self, browser, address, installation, changed, words):
        installation.database.write_here(
            lambda tx: destinations.add(tx, installation.vault, "demo", "main", "http://127.0.0.1:9/", actor="test")
        )
        browser.post(f"{address}/redelivery", reason="lost")
        installation.database.write_here(lambda tx: tx.execute(f"UPDATE destinations SET {changed}"))
        assert f"Grant 1 is to be delivered to main; {words}" in browser.get(address).text

    def test_a_dispute_won_gives_back_and_may_be_reversed_again(self, browser, address, post_event, studio):
        studio.config("refunds.revoke", "on")
        order = {"orderId": "68e25eebdcb1278"}
        post_event(eventName="order.dispute.lost", **order, n=1)
        assert "reversed</span>" in browser.get(LIST).text
        post_event(eventName="order.dispute.won", **order, n=2, timestamp=1767225700000)
        assert "restored</span>" in browser.get(LIST).text
        page = browser.get(address).text
        assert_has(page, "It was reversed, and given back after that.", "its own transaction")
        adjustment = re.search(r'<a href="([^"]+)">its own transaction', page)[1]
        text = browser.get(adjustment).text
        assert_has(text, "was given back", "not a signed call")
        assert browser.get(f"{adjustment}/dispute.zip").status_code == 200
        assert browser.post(f"{adjustment}/reversal", policy="flag", reason="x").status_code == 400
        assert browser.post(f"{address}/reversal", policy="flag", reason="x").status_code == 303
        assert (
            "restored</span>" not in browser.get(f"{LIST}?player=alice").text.partition(">68e25eebdcb1278</a></th>")[0]
        )

    def test_a_body_that_is_not_text_and_one_that_is_enormous(self, browser, credit):
        for number, body in enumerate((b"\x00\xff\xfe<script>", b"[" * 100_000, b'{"a":' * 2000, b"x=1&" * 5000, b"")):
            public_id = credit(f"odd-{number}", raw_body=body)
            assert browser.get(f"{LIST}/{public_id}").status_code == 200
            assert browser.post(f"{LIST}/{public_id}/reveal").status_code == 200

    def test_a_playtem_payload_is_decoded(self, browser, client, studio, db):
        document = payload(Email="alice@example.com")
        client.get(f"/playtem/demo/credit?payload={quote(encode(document), safe='')}")
        (row,) = db("SELECT public_id FROM transactions")
        text = browser.get(f"{LIST}/{row['public_id']}").text
        assert_has(text, "TransactionId", "tx-1", without=("alice@example.com", document["Signature"]))
        assert "alice@example.com" in browser.post(f"{LIST}/{row['public_id']}/reveal").text

    def test_there_is_none_of_that_name(self, browser, studio):
        for wanted in ("nothing", "1", "%00", quote(HOSTILE)):
            assert browser.get(f"{LIST}/{wanted}").status_code == 404


class TestDisputePack:
    @pytest.fixture
    def pack(self, browser, db):
        def get():
            (row,) = db("SELECT public_id FROM transactions")
            answer = browser.get(f"{LIST}/{row['public_id']}/dispute.zip")
            assert answer.status_code == 200
            assert answer.mimetype == "application/zip"
            with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
                assert archive.testzip() is None
                return {name: archive.read(name) for name in archive.namelist()}

        return get

    def test_whoever_has_the_key_can_check_it(self, pack, post_order, db):
        post_order()
        parts = pack()

        body = parts["request/body.bin"]
        header = parts["request/signature.txt"].decode().strip()
        timestamp = re.fullmatch(r"t=(\d+),v1=[0-9a-f]{64}", header)[1]
        assert sign(body, MAIN_KEY.encode(), timestamp) == header
        verification = json.loads(parts["verification.json"])
        assert hashlib.sha256(body).hexdigest() == verification["body_sha256"]
        assert verification["signed_with"] == "appcharge.main_key/current"
        assert verification["chain"]["follows_the_row_before"]
        record = json.loads(parts["ledger.json"])
        assert record["transaction"]["reference"] == "68e25eebdcb1278"
        assert record["grants"][0]["items"][0] == {"sku": "coins", "quantity": "1000", "policy": None}
        assert b"HMAC-SHA256" in parts["request/HOW-TO-VERIFY.txt"]
        assert b"credited to player alice" in parts["timeline.txt"]
        assert b"asked to be forgotten" not in parts["README.txt"]
        assert MAIN_KEY.encode() not in b"".join(parts.values())
        assert len(db("SELECT 1 FROM audit WHERE action = 'transaction.dispute_pack'")) == 1

    def test_it_says_what_is_missing_when_the_player_was_forgotten(self, pack, post_order, installation, studio):
        post_order()
        installation.database.write_here(lambda tx: erasure.forget_player(tx, studio.row["id"], "alice"))
        parts = pack()
        assert "request/body.bin" not in parts
        assert b"the player asked to be forgotten" in parts["README.txt"]
        assert not json.loads(parts["verification.json"])["body_is_in_this_pack"]

    def test_refused_reports_are_in_it(self, pack, post_order):
        post_order()
        post_order(playerId="bob")
        parts = pack()
        (name,) = [name for name in parts if name.startswith("conflicts/")]
        assert b'"playerId":"bob"' in parts[name]


class TestConflictsAndRefunds:
    def test_conflicts_are_listed_with_what_to_do(self, browser, post_order):
        assert "No conflicts." in browser.get("/games/demo/conflicts").text
        post_order()
        post_order(playerId="bob")
        post_order(priceInCents=1)
        answer, queries = browser.queries("/games/demo/conflicts")
        assert_has(answer.text, "ask the partner whose order it is", "Items or price differ")
        assert len(queries) <= 12
        rows = list(csv.DictReader(io.StringIO(browser.get("/games/demo/conflicts.csv").text.removeprefix("\ufeff"))))
        assert [(row["player_id"], row["credited_player"]) for row in rows] == [("alice", "alice"), ("bob", "alice")]

    def test_refunds_are_listed_open_ones_apart(self, browser, post_order, post_event, studio):
        assert "No refunds" in browser.get("/games/demo/refunds").text
        post_order()
        post_event(orderId="68e25eebdcb1278")
        post_event(orderId="never-came", customer={"id": HOSTILE})
        answer, queries = browser.queries("/games/demo/refunds")
        assert_has(answer.text, "never-came", "The refund policy leaves the items")
        assert len(queries) <= 12
        open_ones = browser.get("/games/demo/refunds?show=open").text
        assert_has(open_ones, "never-came", without=("The refund policy leaves the items",))
        rows = list(csv.DictReader(io.StringIO(browser.get("/games/demo/refunds.csv").text.removeprefix("\ufeff"))))
        assert [(row["outcome"], row["amount"]) for row in rows] == [("waiting", ""), ("ignored", "9.99")]

    def test_they_are_paged(self, browser, post_order):
        for number in range(52):
            post_order(orderId=f"o-{number}")
            post_order(orderId=f"o-{number}", playerId="bob")
        first = browser.get("/games/demo/conflicts")
        assert len(references(first)) == 50
        assert references(browser.get(next_of(first))) == ["o-1", "o-0"]


def test_every_question_of_these_pages_is_answered_by_an_index(browser, post_order, installation, db, post_event):
    post_order()
    post_order(playerId="bob")
    post_event(orderId="68e25eebdcb1278")
    (row,) = db("SELECT public_id FROM transactions")
    filters = (
        "partner=appcharge player=alice item=coins state=credited state=reversed state=conflict state=test "
        "from=2020-01-01 to=2999-01-01 amount=9.99+USD amount=1+USD&amount_to=20"
    ).split()
    addresses = [f"{LIST}?{one}&{other}" for one in filters for other in filters]
    addresses += [LIST, "/search?q=nothing", "/search?q=pr_750b85591e16", "/search?q=1", f"{LIST}/{row['public_id']}"]
    addresses += ["/search?q=a", "/search?q=a@example.com"]
    addresses += [
        f"/games/demo/{each}" for each in ("conflicts", "refunds", "refunds?show=open", "players", "players?q=a")
    ]
    addresses += ["/games/demo/players/alice", "/games/demo/players?id=alice&show=timeline"]
    large = (
        "transactions|transaction_keys|grants|entries|events|refunds|conflicts|deliveries|attempts|players|[tgexlcrdn]"
    )
    asked = {}
    for address in addresses:
        answer, queries = browser.queries(address)
        assert answer.status_code in (200, 303), address
        asked.update(dict.fromkeys(queries, address))
    connection = installation.database.read()
    for query, address in asked.items():
        for step in connection.execute(f"EXPLAIN QUERY PLAN {query}"):
            walks = re.match(rf"SCAN ({large})(?! (VIRTUAL|.*VIRTUAL))\b", step["detail"])
            assert walks is None, (address, step["detail"], query)
