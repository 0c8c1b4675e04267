"""A full game for the tests of all pages, with the worst text wherever somebody else may write one."""

import io
import json
from urllib.parse import quote

import pytest

from coinslot.access import owner, sessions
from coinslot.games import registry
from coinslot.ledger import boosts, events, reports
from coinslot.ledger import credit as ledger
from coinslot.operations import uploads
from coinslot.payments import parsing
from coinslot.payments import store as payments
from coinslot.store import audit, counters
from tests.books import Books
from tests.conftest import appcharge_headers
from tests.owed import Owed
from tests.pages import SENDABLE, STORABLE

WORST = STORABLE + "x" * 10_000


def fill(installation, client, studio):
    """Something on every page, with the worst text wherever a stranger, a partner or the game may write one."""
    studio.config("items.unknown", "accept")
    studio.config("settlement.share", "10")
    game_id = studio.row["id"]
    values = {"game_id": game_id, "game_slug": "demo", "partner": "appcharge", "kind": "purchase"}
    values |= {"player_id": STORABLE}
    values |= {"external_id": STORABLE, "reference": STORABLE, "fingerprint": "f", "answer_status": 200}
    values |= {"lines": ((STORABLE, 10**39), ("\u202egem", 1)), "signature": "t=1,v1=0", "signed_with": "key"}
    values |= {"raw_body": json.dumps({"sku": WORST, "half": "\ud83d", "name\u202e": "<b>"}).encode()}
    values |= {"session_metadata": json.dumps({"item": WORST}), "answer_body": WORST}
    credit = reports.Credit(**values, money=reports.Money(figures={STORABLE: WORST}))

    books, owed = Books(installation, studio), Owed(installation, studio)
    owed.destination()
    for number in range(30):
        books.pay(f"GP-{number}", "9.99", "USD")
        books.order(f"o-{number}")
    studio.player("carol")
    books.pay("GP-carol", player="carol")

    def write(tx):
        ledger.credit(tx, credit, reports.Rules("accept", "accept"))
        registry.put_player(tx, game_id, STORABLE, {"name": WORST[:200], "profile": {"attributes": {"a": WORST}}})
        boosts.begin(tx, boosts.Boost(game_id, "carol", WORST[:200], SENDABLE, False, "2026-07-01T00:00:00.000000Z"))
        given = dict.fromkeys(("transaction_id", "player_id", "product_id", "product_name", "market"), WORST)
        given |= {"problem": WORST[:500], "row": json.dumps({"unmapped": WORST}), "transaction_id": SENDABLE}
        for amount in ("1", "2"):
            one = parsing.Payment(**given, source="push", amount=amount, currency="USD", purchased_at=None)
            payments.store(tx, game_id, one, is_registering=True)
        audit.record(tx, game_id, WORST[:100], WORST[:100], WORST)
        sessions.begin(tx, owner.first(tx).id, "192.0.2.7", WORST)
        counters.add_each(tx, game_id, "<i>", {("credited", ""): 1, ("gross", "USD"): 5})
        counters.add_each(tx, game_id, "appcharge", {("item", SENDABLE[:60]): 1})
        kept = {"type": "sponsor.created", "dedupe_key": "d", "data": {"creator_key": WORST}, "raw_body": None}
        events.record(
            tx, game_id=game_id, partner="playcamp", environment="live", is_test=False, player_id="alice", **kept
        )
        tx.execute("UPDATE deliveries SET event_type = :text WHERE id = 2", {"text": STORABLE})
        tx.execute("UPDATE schedules SET last_error = :text", {"text": WORST})
        for key in ("playcamp.campaigns", "appcharge.project_id", "playtem.field_separator"):
            tx.execute("INSERT INTO settings VALUES (1, :key, :text, '')", {"key": key, "text": WORST})
        tx.execute("UPDATE games SET name = :text, revision = 'x'", {"text": WORST})

    installation.database.write_here(write)
    owed.record(owed.claim()[0], "status", 500, detail=STORABLE, answer=WORST.encode() + b"\xff\xfe")
    reason = "UPDATE destinations SET state = 'paused', state_reason = :text"
    owed.write(lambda tx: tx.execute(reason, {"text": WORST}))
    body = json.dumps({"playerId": SENDABLE, "bundleName": WORST}).encode()
    token = SENDABLE.encode().decode("latin-1")
    client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, "x", token))
    client.get(f"/playtem/demo/credit?{quote(WORST)}={quote(WORST)}")
    client.get(f"/playtem/{quote(SENDABLE, safe='')}/credit")
    installation.observations.flush()
    books.boost("carol", SENDABLE, "2026-07-01")
    books.close("2026-07", note=SENDABLE)


@pytest.fixture
def world(installation, client, studio, clock, db):
    """A full game; returns what its addresses are filled in with. Owners sign in after the clock was moved."""
    clock.move_to(1785801600)  # 2026-08-04
    fill(installation, client, studio)
    file = io.BytesIO(f"{SENDABLE},amount,currency\nGP-1,9.99,USD\n".encode())
    upload = uploads.keep(installation.database, "report-1-2026-07-playcamp", file)

    def newest(sql):
        return next(iter(db(sql)[0].values()))

    return {
        "game": "/games/demo",
        "transaction": newest("SELECT public_id FROM transactions WHERE player_id LIKE '<script>%'"),
        "player": quote(STORABLE, safe=""),
        "delivery": newest("SELECT delivery_id FROM attempts"),
        "event": newest("SELECT max(id) FROM events"),
        "payment": quote(SENDABLE, safe=""),
        "refusal": newest("SELECT max(id) FROM refusals WHERE game_id = 1"),
        "stray": newest("SELECT max(id) FROM refusals WHERE game_id IS NULL"),
        "month": "/games/demo/settlements/2026-07",
        "creator": quote(SENDABLE, safe=""),
        "upload": upload,
    }
