"""``flask appcharge``: what it prints, what it changes, what it asks first, and what never shows."""

import csv
import io
import json

import pytest

from tests.conftest import MAIN_KEY, TOKEN
from tests.fakes.appcharge import FakeAppcharge, report_order, transaction
from tests.fakes.http import reset, status

OFFER = {
    "publisherOfferId": "bundle-1",
    "name": "Gold bundle",
    "type": "Bundle",
    "active": True,
    "segments": [],
    "productsSequence": [
        {"index": 1, "priceInUsdCents": 499, "products": [{"publisherProductId": "coins", "quantity": 1200}]}
    ],
}
JANUARY = ("--from", "2026-01-01", "--to", "2026-02-01")


@pytest.fixture
def fake():
    with FakeAppcharge() as fake:
        yield fake


@pytest.fixture
def flask(app, studio, fake, caplog):
    """Run ``flask appcharge ...``; no output of it ever holds a secret or an address of a player."""
    studio.config("appcharge.base_url", fake.url)

    def run(*words, exit_code=0, stdin=None):
        result = app.test_cli_runner().invoke(args=["appcharge", *words], input=stdin)
        assert result.exit_code == exit_code, result.output
        if exit_code == 1:
            assert isinstance(result.exception, SystemExit), "a traceback instead of words"
        for secret in (TOKEN, MAIN_KEY, "alice@example.com", "192.0.2.7", "10115"):
            assert secret not in result.output + caplog.text
        return result

    return run


@pytest.fixture
def audited(db):
    """What was noted for the owner since the game was set up."""

    def rows():
        found = db(
            """SELECT actor, action, subject FROM audit
               WHERE action LIKE 'appcharge.%' OR action LIKE 'item.%' OR action LIKE 'order.%'"""
        )
        return [tuple(row.values()) for row in found]

    return rows


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "offer.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return write


# Offers


def test_offers_are_listed_for_people_and_for_programs(flask, fake):
    assert "There are none." in flask("offers", "demo").output
    fake.offer("bundle-1", active=True)
    rolling = [
        {"index": 1, "priceInUsdCents": 0, "products": [{"product": {"publisherProductId": "gems"}}]},
        {"index": 2, "products": []},
    ]
    fake.offer("pop\x1b[31m-2", type="PopUp", subtype="StoreRefresh", productsSequence=rolling, name=None)

    lines = [line.split() for line in flask("offers", "demo").output.splitlines()]

    assert lines[1] == ["bundle-1", "Bundle", "active", "4.99", "1200", "coins", "Offer", "bundle-1"]
    assert lines[2] == ["pop·[31m-2", "PopUp/StoreRefresh", "off", "free,", "?", "?", "gems", "-"]
    told = [json.loads(line) for line in flask("offers", "demo", "--json").output.splitlines()]
    assert told == list(fake.offers.values())
    assert flask("offers", "demo", "--id", "bundle-1", "--id", "x").output.count("\n") == 2
    fake.has_total = False
    assert "there may be more" in flask("offers", "demo").stderr


def test_an_offer_is_created_switched_off_then_on_and_off_again(flask, fake, file, audited):
    fake.product("coins")
    fake.price_points = [{"priceInUsdCents": 999}]

    created = flask("offers", "demo", "--create", file(OFFER))
    assert fake.offers["bundle-1"]["active"] is False
    assert "created and switched off" in created.stdout
    assert created.stderr == "warning: 4.99 USD is no price point of this account\n"

    assert "changed, and active" in flask("offers", "demo", "--activate", "bundle-1").stdout
    assert fake.offers["bundle-1"]["active"] is True
    assert "changed, and switched off" in flask("offers", "demo", "--deactivate", "bundle-1").stdout
    assert fake.offers["bundle-1"]["active"] is False
    assert audited() == [
        ("command", "appcharge.offer.create", "bundle-1"),
        ("command", "appcharge.offer.update", "bundle-1"),
        ("command", "appcharge.offer.update", "bundle-1"),
    ]


def test_the_way_back_that_is_shown_works_after_a_change_and_after_a_deletion(flask, fake, file):
    fake.product("coins")
    fake.price_points = [{"priceInUsdCents": 499}]
    fake.offer("o1", displayName="Before")
    fake.offer("o2", displayName="Before", active=True, type="PopUp", subtype="PostPurchase", priority="1")

    changed = flask("offers", "demo", "--update", "o1", file({"displayName": "After"}))
    assert fake.offers["o1"]["displayName"] == "After"
    flask("offers", "demo", "--update", "o1", file(changed.stderr.splitlines()[1].encode()))
    assert fake.offers["o1"]["displayName"] == "Before"

    deleted = flask("offers", "demo", "--delete", "o2", "--yes")
    assert "for `--create` to go back to" in deleted.stderr
    flask("offers", "demo", "--create", file(deleted.stderr.splitlines()[1].encode()))
    assert (fake.offers["o2"]["displayName"], fake.offers["o2"]["active"]) == ("Before", False)
    assert fake.offers["o2"]["productsSequence"][0]["priceInUsdCents"] == 499


def test_a_change_that_changed_more_is_reported_loudly_with_the_way_back(flask, fake):
    fake.offer("o1", segments=["whales"])
    fake.put_replaces = True

    failed = flask("offers", "demo", "--activate", "o1", exit_code=1)

    assert "Error: it was done, and the offer is not as it should be now:" in failed.stderr
    assert "segments has changed too" in failed.stderr
    assert json.loads(failed.stderr.splitlines()[1])["segments"] == ["whales"]


def test_a_change_without_an_answer_is_left_to_the_owner_with_the_way_back(flask, fake, audited):
    fake.offer("o1")
    fake.script = [
        status(200, json.dumps({"offers": [fake.offers["o1"]]}).encode()),
        *[status(500, b"{}", Retry_After="0")] * 4,
    ]

    failed = flask("offers", "demo", "--activate", "o1", exit_code=1)

    assert "The offer may have changed" in failed.stderr
    assert json.loads(failed.stderr.splitlines()[1])["publisherOfferId"] == "o1"
    assert [action for _, action, _ in audited()] == ["appcharge.offer.update", "appcharge.offer.update.failed"]


def test_a_deletion_asks_first_and_shows_what_was_there(flask, fake, audited):
    fake.offer("o1")

    flask("offers", "demo", "--delete", "o1", stdin="n\n", exit_code=1)
    flask("offers", "demo", "--delete", "o1", stdin="", exit_code=1)
    assert list(fake.offers) == ["o1"]
    assert audited() == []

    deleted = flask("offers", "demo", "--delete", "o1", "--yes")
    assert fake.offers == {}
    assert json.loads(deleted.stderr.splitlines()[1])["publisherOfferId"] == "o1"
    assert audited() == [("command", "appcharge.offer.delete", "o1")]
    assert "there is no offer o1" in flask("offers", "demo", "--delete", "o1", "--yes", exit_code=1).stderr


def test_a_deletion_that_did_not_happen_or_cannot_be_looked_up_is_told_loudly(flask, fake):
    told = status(200, json.dumps({"offers": [fake.offer("o1")]}).encode())
    still_there = "Error: Appcharge said that offer o1 is deleted, but it is still there"
    unknown = "answered 403: no more\nAppcharge said that offer o1 is deleted, but whether it is could not be read"
    for answer, words in ((told, still_there), (status(403, b'{"message": "no more"}'), unknown)):
        fake.script = [told, status(200, b"{}"), answer]
        failed = flask("offers", "demo", "--delete", "o1", "--yes", exit_code=1)
        assert words in failed.stderr
        assert "is deleted." not in failed.stdout


def test_a_file_that_is_no_offer_is_refused_in_words(flask, fake, file):
    for content, words in (
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "no JSON object"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "no JSON object"),
        (b'{"name": "\\ud800"}', "half of a surrogate pair"),
        (b"{" + b" " * 1024 * 1024 + b"}", "larger than"),
        (b"{}", "publisherOfferId: use 1 to 255"),
    ):
        assert words in flask("offers", "demo", "--create", file(content), exit_code=1).stderr
    assert [each for each in fake.routes if not each.startswith("GET ")] == []


def test_wrong_words_are_a_matter_of_usage(flask):
    flask("offers", "demo", "--activate", "a", "--deactivate", "b", exit_code=2)
    flask("transactions", "demo", "--from", "2026-01-02", "--to", "2026-01-02", exit_code=2)
    flask("transactions", "demo", "--from", "yesterday", "--to", "2026-01-02", exit_code=2)
    flask("transactions", "demo", *JANUARY, "--csv", "--json", exit_code=2)
    flask("price-points", "demo", "499", "--country", "Germany", exit_code=2)
    flask("price-points", "demo", "--country", "DE", exit_code=2)
    flask("price-points", "demo", "0", exit_code=2)
    flask("refund", "demo", "o1", exit_code=2)


def test_trouble_is_told_in_words(flask, fake, studio):
    assert "there is no game nobody" in flask("offers", "nobody", exit_code=1).stderr
    assert "an id: use" in flask("offers", "demo", "--activate", " x", exit_code=1).stderr
    fake.script = [status(401, f'{{"message": "no {TOKEN}"}}'.encode())]
    assert flask("offers", "demo", exit_code=1).stderr == "Error: Appcharge answered 401: no [hidden]\n"
    studio.config("appcharge.base_url", "http://appcharge.example.com")
    assert "Error: appcharge.base_url: use https" in flask("price-points", "demo", exit_code=1).stderr


# Items


def test_items_are_filled_from_the_catalogue(flask, fake, db, audited):
    fake.product("coins", displayName="Coins")
    fake.product("keys", displayName="Keys")
    fake.offer("o1", productsSequence=[{"index": 1, "products": [{"publisherProductId": "gone", "quantity": 1}]}])

    said = flask("items", "demo", "--dry-run")
    assert "would be registered: keys  Keys" in said.stdout
    assert len(db("SELECT * FROM items")) == 2
    assert audited() == []

    said = flask("items", "demo")
    assert "registered: keys  Keys" in said.stdout
    assert "not in the catalogue, and kept: gems" in said.stdout
    assert "2 products in 1 offers; 1 new items." in said.stdout
    assert said.stderr == "warning: offer o1 has gone, which is no product\n"
    assert [row["sku"] for row in db("SELECT sku FROM items ORDER BY sku")] == ["coins", "gems", "keys"]
    assert audited() == [("command", "item.import", "Appcharge's catalogue (1 new)")]

    assert "0 new items" in flask("items", "demo").stdout


def test_nothing_is_filled_unless_both_lists_could_be_read(flask, fake, db):
    fake.product("keys")
    fake.wants_offer_ids = True

    assert "publisherOfferIds is required" in flask("items", "demo", exit_code=1).stderr
    assert [row["sku"] for row in db("SELECT sku FROM items ORDER BY sku")] == ["coins", "gems"]

    fake.offer("o1")
    assert "there may be more" in flask("items", "demo", "--offer", "o1").stderr
    assert "keys" in {row["sku"] for row in db("SELECT sku FROM items")}


def test_price_points_are_shown(flask, fake):
    brazil = {"countryCode2": "BR", "price": 29.99, "currencyCode": "BRL", "taxModel": "Included", "taxRate": 17.5}
    fake.price_points = [{"priceInUsdCents": 499, "lastUpdate": "2026-01-01T00:00:00Z", "priceByCountry": [brazil]}]

    assert flask("price-points", "demo").stdout.splitlines()[1].split() == ["499", "2026-01-01T00:00:00Z"]
    shown = flask("price-points", "demo", "499").stdout.splitlines()[1].split()
    assert shown == ["499", "BR", "29.99", "BRL", "Included", "17.5", "-"]
    local = flask("price-points", "demo", "499", "999", "--country", "de").stdout.splitlines()
    assert local[1].split() == ["499", "449", "4.49", "€", "EUR"]
    assert "no price point here" in local[2]
    assert fake.requests[-1].json == {"pricesInUsdCents": [499, 999], "countryCode2": "DE"}


# Reports


def test_transactions_are_written_page_by_page(flask, fake):
    fake.transactions = [transaction(f"t{number}") for number in range(3)]
    fake.page_size = 2
    fake.transactions[2]["transactionDetails"] |= {"type": "refund", "amount": -999}

    lines = flask("transactions", "demo", *JANUARY).stdout.splitlines()
    heading = ["timestamp", "type", "amount_minor", "tax_minor", "currency", "order_id", "player_id"]
    assert lines[0].split() == heading
    assert lines[1].split() == ["2026-01-05T10:00:00.000Z", "paid", "999", "149", "USD", "order-t0", "alice"]
    assert [lines[0].index(word) for word in heading[1:]] == [
        lines[1].index(word) for word in ("paid", "999", "149", "USD", "order-t0", "alice")
    ]
    assert lines[3].split()[1:3] == ["refund", "-999"]
    assert lines[4] == "3 in all."

    rows = list(csv.DictReader(io.StringIO(flask("transactions", "demo", *JANUARY, "--csv").stdout)))
    assert [row["transaction_id"] for row in rows] == ["t0", "t1", "t2"]
    assert [row["amount_minor"] for row in rows] == ["999", "999", "-999"]
    assert rows[0]["exchange_cost_usd_cents"] == ""

    documents = [json.loads(line) for line in flask("transactions", "demo", *JANUARY, "--json").stdout.splitlines()]
    assert [each["amount_minor"] for each in documents] == [999, 999, -999]
    assert documents[0]["country"] == "DE"
    assert set(documents[0]) == set(rows[0])


def test_no_cell_is_a_formula(flask, fake):
    fake.transactions = [transaction("=1+1", type="+SUM(A1)", paymentMethod="-x", currencyCode="@x")]
    fake.transactions[0]["offerDetails"] = {"offerName": 'Pack "A", big\r\n=cmd', "offerId": ["odd"]}

    (row,) = csv.DictReader(io.StringIO(flask("transactions", "demo", *JANUARY, "--csv").stdout))

    assert (row["transaction_id"], row["type"], row["currency"]) == ("'=1+1", "'+SUM(A1)", "'@x")
    assert row["payment_method"] == "'-x"
    assert (row["offer_name"], row["offer_id"]) == ('Pack "A", big··=cmd', "")


def test_amounts_in_an_unknown_unit_are_noticed(flask, fake):
    fake.transactions = [transaction("t1", amount=9.99), transaction("t2", amount="odd"), transaction("t3", amount=1e3)]

    said = flask("transactions", "demo", *JANUARY)

    assert said.stderr.startswith("2 of them have an amount that is no whole number")
    assert said.stdout.splitlines()[1].split()[2] == "9.99"


def test_a_report_that_breaks_off_says_that_it_is_not_all(flask, fake):
    fake.transactions = [transaction(f"t{number}") for number in range(3)]
    fake.page_size = 2
    first = {"totalCount": 3, "results": fake.transactions[:2], "nextCursor": "x"}
    fake.script = [status(200, json.dumps(first).encode()), status(403, b'{"message": "no more"}')]

    failed = flask("transactions", "demo", *JANUARY, "--json", exit_code=1)

    assert failed.stdout.count("\n") == 2
    assert failed.stderr == "Error: Appcharge answered 403: no more\nWhat was printed is not all of the report.\n"


def test_orders_are_written_by_state(flask, fake):
    fake.orders = [report_order("o1"), report_order("o2", "payment_refunded"), report_order("o3", "new_state")]

    lines = flask("orders", "demo", *JANUARY).stdout.splitlines()
    assert lines[0].split()[:3] == ["created_at", "state", "price_minor"]
    assert lines[0].index("state") == lines[2].index("payment_refunded")
    assert lines[-1] == "3 in all."
    only = flask("orders", "demo", *JANUARY, "--status", "payment_refunded", "--json").stdout
    assert json.loads(only)["order_id"] == "o2"
    assert flask("orders", "demo", *JANUARY, "--csv", "--free").stdout.count("\n") == 4
    assert fake.requests[-1].json["isFree"] is True


# Refunds and refreshes


def test_a_refund_is_asked_for_twice_and_done_once(flask, fake, audited):
    fake.orders = [report_order("o1")]

    asked = flask("refund", "demo", "o1", "--user", "anna", stdin="n\n", exit_code=1)
    assert "in full? This cannot be undone" in asked.output
    assert (fake.refunded, audited()) == ([], [])

    assert "has begun the refund" in flask("refund", "demo", "o1", "--user", "anna", stdin="y\n").stdout
    assert fake.refunded == [("o1", "anna")]
    assert audited() == [("command", "order.refund", "appcharge o1"), ("command", "order.refund.sent", "appcharge o1")]

    again = flask("refund", "demo", "o1", "--user", "anna", "--yes", exit_code=1)
    assert again.stderr == "Error: A refund of this order was asked for already, and is sent.\n"
    assert (len(fake.requests), len(audited())) == (1, 2)


def test_a_refused_refund_says_why_and_may_be_asked_for_again(flask, fake, audited):
    for _ in range(2):
        refused = flask("refund", "demo", "o1", "--user", "anna", "--reason", "by mail", "--yes", exit_code=1)
        assert refused.stderr == "Error: Appcharge answered 404: Order not found\n"
    assert audited()[:2] == [
        ("command", "order.refund", "appcharge o1: by mail"),
        ("command", "order.refund.refused", "appcharge o1"),
    ]
    assert len(fake.requests) == 2
    flask("refund", "demo", "o1", "--user", "two words", "--yes", exit_code=2)


def test_a_refund_without_an_answer_is_not_tried_again(flask, fake):
    fake.orders = [report_order("o1")]
    fake.script = [reset]

    failed = flask("refund", "demo", "o1", "--user", "anna", "--yes", exit_code=1)

    assert "The refund may have begun" in failed.stderr
    again = flask("refund", "demo", "o1", "--user", "anna", "--yes", exit_code=1)
    assert "asked for already, and is unknown" in again.stderr
    assert len(fake.requests) == 1


def test_open_stores_are_told_to_load_anew(flask, fake, audited):
    assert "2 players" in flask("refresh", "demo", "alice", "bob").stdout
    assert "everyone" in flask("refresh", "demo").stdout

    assert fake.refreshed == [["alice", "bob"], None]
    assert audited() == [("command", "appcharge.refresh", "2 players"), ("command", "appcharge.refresh", "everyone")]
