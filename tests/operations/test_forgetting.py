"""Forgetting a player: nothing of the person is left in the database or beside it, and no restore brings it back."""

import base64
import hashlib
import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app import create_app
from coinslot.installation import Installation
from coinslot.ledger import packing
from coinslot.operations import forgetting, refusals, troubles, uploads
from coinslot.operations.backup import backup
from coinslot.operations.restore import restore
from coinslot.outbox.attempts import Claim
from coinslot.payments import parsing, store
from tests import databases
from tests.conftest import Studio, appcharge_headers, order
from tests.owed import Owed
from tests.pages import text_of

EMAIL = "alice.liddell@wonderland.example"  # of the player, in whatever is kept of her
BOBS = "bob@builder.example"
INCOMPRESSIBLE = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(250))
UNNAMED = {"eventName": "order.shipped", "requestId": "r-1", "customer": {"email": EMAIL}}


class Desk:
    """One installation, as its game, its partner and its owner use it."""

    def __init__(
        self, client: Any, installation: Installation, studio: Studio, db: Callable[..., list[dict[str, Any]]]
    ) -> None:
        self.client, self.installation, self.studio, self.db = client, installation, studio, db

    def order(self, **changed: Any) -> int:
        body = json.dumps(order(**{"playerEmail": EMAIL, **changed})).encode()
        return self.send("orders", body)

    def event(self, **changed: Any) -> int:
        return self.send("events", json.dumps({**UNNAMED, **changed}).encode())

    def send(self, endpoint: str, body: bytes, **headers: str) -> int:
        signed = appcharge_headers(body) | headers
        return int(self.client.post(f"/appcharge/demo/{endpoint}", data=body, headers=signed).status_code)

    def forget(self, player_id: str = "alice") -> int:
        headers = {"Authorization": f"Bearer {self.studio.token}"}
        answer = self.client.delete(f"/game/v1/players/{quote(player_id, safe='')}", headers=headers)
        return int(answer.status_code)

    def refused_calls(self) -> list[str]:
        """Whose address each refused call that is kept says."""
        self.installation.observations.flush()
        connection = self.installation.database.read()
        key = self.installation.vault.current(connection)
        found = []
        for row in connection.execute("SELECT * FROM refusals ORDER BY id"):
            call = refusals.opened(key, row)
            text = call.body.decode(errors="replace") + json.dumps(dict(call.request))
            found.append("alice" if EMAIL in text else "bob" if BOBS in text else "nobody")
        return found

    def orders_with(self, text: str) -> int:
        """How many kept bodies of transactions, which are packed, hold this text."""
        rows = self.db("SELECT raw_body FROM transactions WHERE raw_body IS NOT NULL")
        return sum(text.encode() in packing.unpack(row["raw_body"]) for row in rows)

    def write(self, function: Callable[[sqlite3.Connection], Any]) -> Any:
        return self.installation.database.write_here(function)


@pytest.fixture
def desk(client, installation, studio, db) -> Desk:
    return Desk(client, installation, studio, db)


def found_in(installation: Installation, *texts: str | bytes) -> list[str]:
    """The files of the home folder that hold one of the texts, as it is or in Base64, and the database; no backups."""
    wanted = [text.encode() if isinstance(text, str) else text for text in texts]
    wanted += [base64.b64encode(text[offset:])[4:-4] for text in list(wanted) for offset in range(3)]
    kept = {
        path.name: path.read_bytes()
        for path in installation.settings.home.rglob("*")
        if path.is_file() and "before-restore" not in path.name
    }
    kept["the database"] = databases.raw(installation)
    return [name for name, content in kept.items() if any(text in content for text in wanted)]


def test_no_file_and_no_table_holds_the_person_and_the_sums_stay(desk, installation, client):
    entry = {"name": "Alice Liddell", "login_name": EMAIL, "identities": {"google": "11016948447"}}
    headers = {"Authorization": f"Bearer {desk.studio.token}"}
    assert client.put("/game/v1/players/alice", json=entry, headers=headers).status_code == 200
    assert desk.order(sessionMetadata=f'{{"mail": "{EMAIL}"}}', padding=INCOMPRESSIBLE) == 200  # on overflow pages
    assert desk.order(priceInCents=998) == 400  # a conflict
    assert desk.order(playerId="bob", playerEmail=EMAIL) == 400  # a conflict that names another player
    assert desk.event(playerId="alice", note="who") == 200
    assert desk.event(appChargeOrderId=order()["orderId"]) == 200
    assert desk.event(appChargePaymentId=order()["appChargePaymentId"]) == 200
    assert desk.event(customer={"id": "c-55", "email": EMAIL}, orderId=order()["orderId"]) == 200
    assert desk.event(transactions=[{"purchaseId": order()["purchaseId"]}]) == 200
    assert desk.send("events", b'{"orderId": "%s", "mail": "%s"' % (order()["orderId"].encode(), EMAIL.encode())) == 400
    uploads.keep(installation.database, "report", io.BytesIO(f"{order()['orderId']},{EMAIL}".encode()))
    assert len(desk.db("SELECT id FROM events WHERE raw_body IS NOT NULL")) == 5
    assert found_in(installation, EMAIL, "Alice Liddell", "11016948447") != []
    (body,) = [row["raw_body"] for row in desk.db("SELECT raw_body FROM transactions")]  # packed, and at last random
    assert EMAIL.encode() in packing.unpack(body)
    assert found_in(installation, body[-60:]) != []

    assert desk.forget() == 204

    assert found_in(installation, EMAIL, "Alice Liddell", "11016948447", body[-60:]) == []
    assert desk.refused_calls() == []
    answer = client.get("/game/v1/players/alice/granted", headers=headers)
    assert answer.json["granted"] == {"coins": 1000, "gems": 5}
    assert desk.order() == 200  # a retry is still known
    assert len(desk.db("SELECT id FROM grants")) == 1


def test_what_names_others_stays(desk):
    assert desk.order() == 200
    assert (
        desk.order(orderId="of-bob", playerId="bob", playerEmail=BOBS, appChargePaymentId="p-2", purchaseId="q-2")
        == 200
    )
    assert desk.event(appChargePaymentId="p-2", customer={"email": BOBS}) == 200
    assert desk.event(requestId="r-2", customer={"email": BOBS}) == 200
    odd = {"playerId": "bob", "playerEmail": BOBS, "purchaseId": "q-3", "appChargePaymentId": "p-3"}
    assert desk.order(orderId="odd", products=[{"sku": "nothing", "amount": 1}], **odd) == 400
    assert desk.order(orderId="odd-2", products=[{"sku": "nothing", "amount": 1}]) == 400
    assert desk.refused_calls() == ["bob", "alice"]

    assert desk.forget() == 204

    assert desk.refused_calls() == ["bob"]
    assert len(desk.db("SELECT id FROM events WHERE raw_body IS NOT NULL")) == 2
    assert [row["player_id"] for row in desk.db("SELECT player_id FROM transactions WHERE raw_body IS NOT NULL")] == [
        "bob"
    ]


def test_a_refused_call_is_found_in_whatever_form_it_names_the_player(desk, client):
    assert desk.order() == 200
    paid = order()["appChargePaymentId"]
    told = json.dumps({"AppId": 3, "UserId": "alice", "Items": ["x"], "TransactionId": "t", "mail": EMAIL}).encode()
    for payload in (base64.b64encode(told), base64.urlsafe_b64encode(told).rstrip(b"=")):
        client.get(f"/playtem/demo/credit?payload={quote(payload.decode(), safe='')}")
    desk.send("orders", json.dumps({"playerId": "alice", "mail": EMAIL}).encode(), signature="t=1,v1=00")
    desk.send("orders", json.dumps({"a": [{"b": {"paymentId": paid}}], "mail": EMAIL}).encode(), signature="t=1,v1=00")
    desk.send("orders", f"playerId=alice&mail={EMAIL}".encode(), signature="t=1,v1=00")
    desk.send("orders", f'{{"orderId": "{order()["orderId"]}", "mail": "{EMAIL}'.encode(), signature="t=1,v1=00")
    desk.send("orders", EMAIL.encode().hex().encode(), signature="t=1,v1=00")  # of a payload that is encrypted
    desk.send(
        "orders", json.dumps({"playerId": "alice2", "of": "alicex", "mail": BOBS}).encode(), signature="t=1,v1=00"
    )
    assert len(desk.refused_calls()) == 8

    assert desk.forget() == 204

    assert desk.refused_calls() == ["bob"]


def test_a_short_number_is_a_player_only_where_a_field_says_so(desk):
    desk.studio.player("7")
    for document in ({"playerId": "bob", "amount": 7, "mail": BOBS}, {"playerId": 7, "mail": EMAIL}):
        desk.send("orders", json.dumps(document).encode(), signature="t=1,v1=00")

    assert desk.forget("7") == 204

    assert desk.refused_calls() == ["bob"]


def test_whoever_is_known_from_refused_calls_alone_can_be_forgotten(desk):
    assert desk.order(playerId="mallory") == 400
    assert desk.refused_calls() == ["alice"]

    assert desk.forget("mallory") == 204

    assert desk.refused_calls() == []
    assert desk.forget("mallory") == 404


def test_what_the_game_answered_goes_with_the_player(desk, installation, studio):
    Owed(installation, studio).destination()
    for player_id, mail in (("alice", EMAIL), ("bob", BOBS)):
        assert desk.order(orderId=f"of-{player_id}", purchaseId=player_id, playerId=player_id) == 200
        desk.write(
            lambda tx, mail=mail: tx.execute(
                """INSERT INTO attempts (delivery_id, started_at, status, failure, detail, answer)
                   SELECT max(id), '', 500, 'status', :detail, :answer FROM deliveries""",
                {"detail": f"refused {mail}", "answer": mail.encode()},
            )
        )

    assert desk.forget() == 204

    rows = desk.db("SELECT status, detail, answer FROM attempts ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [(500, None, None), (500, f"refused {BOBS}", BOBS.encode())]


def test_a_payment_that_could_not_be_read_loses_what_the_game_wrote(desk, studio):
    def row(number: int, user: str, mail: str) -> dict[str, Any]:
        return {"no": f"n-{number}", "user": user, "mail": mail}

    def park(tx: sqlite3.Connection) -> None:
        for number, (user, mail) in enumerate([("alice", EMAIL), ("bob", BOBS)]):
            parked = parsing.unmapped(row(number, user, mail), "odd", "poll")
            store.store(tx, studio.row["id"], parked, is_registering=True)

    desk.write(park)
    assert desk.forget() == 204

    kept = [json.loads(each["reported"]) for each in desk.db("SELECT reported FROM payments ORDER BY id")]
    assert kept == [{"unmapped": None}, {"unmapped": row(1, "bob", BOBS)}]


def test_deleted_content_leaves_the_pages_of_every_connection(installation):
    for connection in (installation.database.read(), installation.database._open()):
        assert connection.execute("PRAGMA secure_delete").fetchone()[0] == 1


def test_the_wal_is_cut_once_its_readers_let_go(installation, studio):
    wal = Path(f"{installation.database.path}-wal")
    reader = sqlite3.connect(installation.database.path, isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM players").fetchone()
        studio.player("carol")
        assert not installation.database.truncate_wal()
        assert wal.stat().st_size > 0
        reader.execute("COMMIT")
        assert installation.database.truncate_wal()
        assert wal.stat().st_size == 0
    finally:
        reader.close()


class TestRestore:
    @pytest.fixture
    def copy(self, desk, installation, tmp_path) -> Path:
        """A backup of before anybody was forgotten."""
        assert desk.order() == 200
        assert desk.event(appChargePaymentId=order()["appChargePaymentId"]) == 200
        assert (
            desk.order(orderId="of-bob", playerId="bob", playerEmail=BOBS, purchaseId="q", appChargePaymentId="p")
            == 200
        )
        assert desk.order(orderId="odd", products=[{"sku": "nothing", "amount": 1}]) == 400
        installation.observations.flush()
        file = tmp_path / "copy.db"
        backup(installation.database, file)
        return file

    def test_whoever_was_forgotten_since_is_forgotten_again(self, desk, installation, copy):
        assert EMAIL.encode() in copy.read_bytes()  # in the event: bodies of transactions are packed
        assert desk.forget() == 204

        done = restore(installation.database, installation.vault, copy)

        assert done.forgotten == 1
        assert found_in(installation, EMAIL) == []
        assert desk.refused_calls() == []
        assert desk.orders_with(BOBS) == 1
        assert desk.db("SELECT player_id FROM players ORDER BY 1") == [{"player_id": "bob"}]
        assert len(desk.db("SELECT id FROM grants")) == 2
        assert restore(installation.database, installation.vault, copy).forgotten == 1  # as often as it is done
        assert found_in(installation, EMAIL) == []

    def test_a_copy_that_knows_it_forgets_nobody_who_came_back(self, desk, installation, copy, tmp_path):
        assert desk.forget() == 204
        desk.studio.player("alice")
        assert desk.order(orderId="after", purchaseId="x", appChargePaymentId="y") == 200
        later = tmp_path / "later.db"
        backup(installation.database, later)

        assert restore(installation.database, installation.vault, later).forgotten == 0

        assert {"player_id": "alice"} in desk.db("SELECT player_id FROM players")
        assert desk.orders_with(EMAIL) == 1
        assert desk.forget() == 204
        assert restore(installation.database, installation.vault, later).forgotten == 1
        assert found_in(installation, EMAIL) == []

    @pytest.mark.parametrize("content", [None, b"not a database"])
    def test_a_database_that_is_lost_or_damaged_takes_nobody_out_of_the_list(self, desk, installation, copy, content):
        assert desk.forget() == 204
        home = installation.settings.home
        installation.database.close()
        for path in home.glob("coinslot.db*"):
            path.unlink()
        if content is not None:
            (home / "coinslot.db").write_bytes(content)

        fresh = create_app(databases.environment(home)).extensions["coinslot"]
        assert restore(fresh.database, fresh.vault, copy).forgotten == 1

        assert found_in(fresh, EMAIL) == []

    def test_a_new_machine_with_the_list_forgets_again(self, desk, installation, copy, tmp_path):
        assert desk.forget() == 204
        key = installation.vault.candidates()[0].text()
        home = tmp_path / "new"
        home.mkdir()
        shutil.copy(installation.settings.home / forgetting.FILE, home)

        fresh = create_app({**databases.environment(home), "COINSLOT_MASTER_KEY": key}).extensions["coinslot"]
        assert restore(fresh.database, fresh.vault, copy).forgotten == 1

        assert found_in(fresh, EMAIL) == []
        fresh.database.close()

    def test_the_list_names_nobody(self, desk, installation, copy):
        desk.studio.player("a-telling-id")
        assert desk.forget("a-telling-id") == 204
        assert desk.forget() == 204

        listed = (installation.settings.home / forgetting.FILE).read_text()

        assert len(listed.splitlines()) == 2
        assert not [name for name in ("telling", "alice") if name in listed]
        assert (installation.settings.home / forgetting.FILE).stat().st_mode & 0o777 == 0o600

    def test_a_line_that_broke_off_hinders_nothing(self, desk, installation, copy):
        assert desk.forget() == 204
        with (installation.settings.home / forgetting.FILE).open("ab") as file:
            file.write(b"\xff0123")

        assert restore(installation.database, installation.vault, copy).forgotten == 1

    def test_the_same_id_in_another_game_is_somebody_else(self, desk, installation, client, tmp_path):
        other = Studio(installation, "other")
        other.player("alice")
        file = tmp_path / "copy.db"
        backup(installation.database, file)
        assert desk.forget() == 204

        assert restore(installation.database, installation.vault, file).forgotten == 1

        rows = desk.db("SELECT g.slug FROM players p JOIN games g ON g.id = p.game_id WHERE p.player_id = 'alice'")
        assert rows == [{"slug": "other"}]


class TestWhatWasConverted:
    """A game's own format holds whatever its expression puts there."""

    @pytest.fixture
    def owed(self, installation, studio) -> Owed:
        owed = Owed(installation, studio)
        owed.destination("theirs", format="playcamp")
        return owed

    def bodies(self, owed: Owed) -> list[bool]:
        return [row["body"] is not None for row in owed.rows("SELECT body FROM conversions ORDER BY id")]

    def die(self, owed: Owed) -> Claim:
        owed.write(lambda tx: tx.execute("UPDATE deliveries SET attempts_made = 99 WHERE state = 'waiting'"))
        (claim,) = owed.claim(name="theirs")
        assert owed.fail(claim) == "dead"
        return claim

    @pytest.mark.parametrize("count", [1, forgetting.EMPTIED_WITH_THE_PLAYER + 1])
    def test_goes_once_it_is_delivered_or_dead(self, desk, owed, app, browser, count):
        owed.happen(count)
        (delivered,) = owed.claim(name="theirs")
        owed.record(delivered)
        if count > 1:
            self.die(owed)
        owed.happen(player="bob")

        assert desk.forget() == 204

        done = min(count, 2)
        assert self.bodies(owed) == [False] * done + [True] * (count + 1 - done)

    def test_a_dead_letter_of_it_says_so_when_it_is_put_back(self, desk, owed, app, browser):
        owed.happen()
        claim = self.die(owed)
        assert "dead" in {each.kind for each in troubles.find(owed.installation.database.read()).found}
        assert desk.forget() == 204

        assert self.bodies(owed) == [False]
        run = app.test_cli_runner().invoke
        told = run(args=["delivery", "redrive", "demo", str(claim.id)])
        assert told.exit_code == 1
        assert f"delivery {claim.id} stays dead: its player was forgotten" in told.output
        assert "0 redriven" in run(args=["delivery", "redrive", "demo", "--all"]).output
        assert [row["state"] for row in owed.deliveries()] == ["dead"]
        page = text_of(browser.get(f"/games/demo/deliveries/{claim.id}"))
        assert "its player was forgotten" in page
        assert "There is no body any more" in page
        assert "dead" not in {each.kind for each in troubles.find(owed.installation.database.read()).found}
        assert "dead letter" not in run(args=["doctor"]).output

    def test_stays_while_it_waits(self, desk, owed):
        owed.happen()
        assert desk.forget() == 204
        assert self.bodies(owed) == [True]
