"""What holds at every address of every partner: who is let in, what the others are told, and what is stored of either.

The addresses are the rows of ``tests/partner_cases.py``.
"""

import json

import pytest

from coinslot.access import keyring
from coinslot.access.vault import Sealed
from coinslot.store import counters
from tests import databases
from tests.partner_cases import ADDRESSES, Sent

NEXT_KEY = "the-next-key-000000"
STORED = ("transactions", "transaction_keys", "grants", "entries", "events", "logins", "boosts")
CREDITING = [address for address in ADDRESSES if address.not_credited]


@pytest.fixture(params=ADDRESSES, ids=lambda address: address.name)
def address(request, studio):
    request.param.set_up(studio)
    return request.param


@pytest.fixture
def call(client, address):
    return lambda *args, **how: address.call(client, *args, **how)


@pytest.fixture
def stored(db):
    """How many rows each table holds that calls are stored in."""
    return lambda: {table: len(db(f"SELECT 1 FROM {table}")) for table in STORED}


@pytest.fixture
def refusals(installation, db):
    """The calls refused so far: reason, status, and the request as it was kept."""

    def read():
        installation.observations.flush()
        found = []
        for row in db("SELECT * FROM refusals ORDER BY id"):
            assert b"coins" not in row["ciphertext"]
            sealed = Sealed(row["ciphertext"], row["nonce"], row["key_id"])
            opened = installation.vault.unseal(installation.database.read(), keyring.REFUSAL_PURPOSE, sealed)
            found.append((row["reason"], row["status"], json.loads(opened)))
        return found

    return read


def test_a_call_that_proves_nothing_is_refused_without_a_hint_and_stores_nothing(
    address, call, stored, refusals, clock
):
    ways = [{"key": "another-key"}, {"key": ""}, {"unsigned": True}, {"spoil": True}]
    ways += [{"headers": {address.proof: word}} for word in ("", "t=1,v1=xyz", "t=1,v1=\xff") if address.proof]
    ways += [{"age": age} for age in address.stale]
    for how in ways:
        assert address.is_forbidden(call(**how)), how

    assert set(stored().values()) == {0}
    kept = refusals()
    reasons = [reason for reason, _, _ in kept]
    assert set(reasons) <= {"signature", "timestamp", "malformed"}
    assert {status for _, status, _ in kept} == {address.refused[0]}
    proved = reasons.count("timestamp")  # a right signature with a wrong time: the same call is one row
    assert bool(proved) == bool(address.stale)
    assert len(kept) == len(ways) - len(address.stale) + proved
    assert address.is_accepted(call())


def test_a_repeated_call_gets_the_same_answer_and_is_stored_once(address, call, stored):
    first = call()
    before = stored()
    again = call()

    assert address.is_accepted(first)
    assert address.is_accepted(again)
    if address.keeps:
        assert again.data == first.data
        assert stored() == before


def test_the_previous_key_is_good_until_it_is_retired(address, call, studio):
    def is_accepted(number, key):
        return address.is_accepted(call(number=number, key=key))

    studio.rotate(address.secret, NEXT_KEY)
    assert is_accepted(1, address.key)
    assert is_accepted(2, NEXT_KEY)
    studio.retire(address.secret)
    assert not is_accepted(3, address.key)
    assert is_accepted(4, NEXT_KEY)


def test_an_unknown_game_and_one_without_keys_look_alike(address, call, studio, installation):
    if "{game}" not in address.path:
        return
    type(studio)(installation, "bare")
    answers = [call(game) for game in ("nowhere", "bare", "%00", "demo%20")]

    assert {(answer.status_code, answer.data) for answer in answers} == {(404, answers[0].data)}


def test_a_caller_outside_the_allowlist_is_kept_out(address, call, studio, stored):
    studio.config(f"allowlist.{address.partner}", "192.0.2.0/24, 2001:db8::/32")
    for outside in ({}, {"headers": {"X-Forwarded-For": "192.0.2.7"}}):
        assert call(**outside).status_code == 403
    assert set(stored().values()) == {0}

    for inside in ("192.0.2.7", "::ffff:192.0.2.8", "2001:db8::1"):
        assert address.is_accepted(call(remote=inside))


def test_other_methods_are_refused(address, client, stored):
    path = address.path.format(game="demo")
    made = address.make(address.path, Sent(address.key))
    harmless = {"HEAD"} if address.endpoint == "payments" else set()  # it reads
    for method in {"HEAD", "PUT", "GET"} - {made["method"]} - harmless:
        assert client.open(path, **(made | {"method": method})).status_code == 405
    assert set(stored().values()) == {0}


def test_proved_calls_are_counted_and_their_key_is_known_as_used_and_no_others(
    address, call, studio, installation, simulated, db
):
    def called():
        installation.observations.flush()
        return counters.called(installation.database.read(), studio.row["id"], address.partner)

    call(key="another-key")
    call(headers=simulated)
    assert called() == set()
    assert db("SELECT name FROM secrets WHERE last_used_at IS NOT NULL") == []

    call(number=2)

    assert called() == {address.endpoint}
    assert address.secret in {row["name"] for row in db("SELECT name FROM secrets WHERE last_used_at IS NOT NULL")}


def test_no_secret_and_no_signature_reaches_the_log(address, call, studio, installation, capfd, caplog):
    signature = call().request.headers.get(address.proof or "none", "no signature")
    call(key="another-key", number=2)
    installation.observations.flush()

    logged = capfd.readouterr().err + caplog.text
    assert address.partner in logged
    for hidden in (address.key, "another-key", studio.token, "alice@example.com", signature.rpartition("v1=")[2]):
        assert hidden not in logged


@pytest.mark.parametrize("address", CREDITING, ids=lambda address: address.name, indirect=True)
class TestCredits:
    """What holds at every address where goods are credited: each call credits 1 coin to alice, or says why not."""

    @pytest.fixture
    def is_refused(self, address, call):
        return lambda **how: (
            (answer := call(**how)).status_code == address.not_credited and not address.is_forbidden(answer)
        )

    def test_a_good_report_credits_once(self, address, call, feed):
        for _ in range(2):
            assert address.is_accepted(call())
        assert [grant["items"] for grant in feed()] == [[{"sku": "coins", "quantity": 1}]]

    @pytest.mark.parametrize("changed", [{"items": ("coins", "coins")}, {"items": ("gems",)}, {"player": "bob"}])
    def test_the_same_id_with_other_content_credits_nobody_and_is_kept(
        self, address, call, is_refused, feed, db, changed
    ):
        call()

        assert is_refused(**changed)
        assert is_refused(**changed)
        assert len(feed()) == 1
        assert [row["seen"] for row in db("SELECT seen FROM conflicts")] == [2]
        assert address.is_accepted(call())  # the genuine report is still answered as before

    def test_a_failure_halfway_leaves_nothing_and_the_retry_credits(
        self, address, call, feed, db, installation, stored
    ):
        with databases.Fault(installation, "INSERT ON entries"):
            answer = call()
        assert answer.status_code >= 500
        assert "disk on fire" not in answer.text
        assert set(stored().values()) == {0}
        assert db("SELECT * FROM counters WHERE name <> 'called'") == []

        assert address.is_accepted(call())
        assert len(feed()) == 1

    def test_a_refused_credit_can_succeed_once_the_studio_has_mended_it(self, address, call, is_refused, studio, feed):
        unknown = {"player": "mallory", "items": ("swords",)}
        assert is_refused(player="mallory")
        assert is_refused(**unknown)
        studio.player("mallory")
        assert is_refused(**unknown)
        studio.item("swords")

        assert address.is_accepted(call(**unknown))
        assert len(feed()) == 1

    @pytest.mark.parametrize(
        ("setting", "changed"),
        [(("players.unknown", "create"), {"player": "mallory"}), (("items.unknown", "accept"), {"items": ("swords",)})],
    )
    def test_unknown_ones_are_let_in_where_the_game_says_so(self, address, call, studio, feed, setting, changed):
        studio.config(*setting)

        assert address.is_accepted(call(**changed))
        assert len(feed()) == 1

    def test_test_traffic_is_fed_marked_and_never_counts(self, address, call, client, studio, feed):
        assert address.is_accepted(call(number=1, player="coinslot-test"))
        assert address.is_accepted(call(number=2, items=("coinslot-test",)))

        assert [grant["is_test"] for grant in feed()] == [True, True]
        answer = client.get("/game/v1/players/alice/granted", headers={"Authorization": f"Bearer {studio.token}"})
        assert answer.json == {"player_id": "alice", "granted": {}}
