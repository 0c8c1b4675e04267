"""Who may call Appcharge's five addresses, and what the others are answered; encrypted payloads.

The order among the encrypted payloads was made by Node, in the file of the signed ones.
"""

import base64
import json
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.access import keyring
from coinslot.access.keyring import SecretValue
from coinslot.access.vault import Sealed
from coinslot.base import clock as coinslot_clock
from coinslot.ledger import packing
from handlers.appcharge import encryption
from handlers.appcharge.signature import SignatureError
from tests.appcharge_calls import ENDPOINTS, body, is_accepted, path
from tests.conftest import MAIN_KEY, TOKEN, appcharge_headers

PAYLOADS = Path(__file__).parents[1] / "payloads/appcharge"
SMALL = json.loads((PAYLOADS / "encrypted_by_openssl.json").read_text())
ORDER = json.loads((PAYLOADS / "signed_by_node.json").read_text())["legacy_aes"]

KEY = "0123456789abcdef0123456789abcdef"
VECTOR = "fedcba9876543210"
OTHER_KEY = "another-key-of-thirty-two-bytes!"
OTHER_VECTOR = "another-iv-of-16"


def keys(*values):
    return [SecretValue("appcharge.main_key", "current", value.encode()) for value in values]


def encrypted(plaintext, key=KEY, vector=VECTOR):
    return encryption.encrypt(plaintext, key.encode(), vector.encode())


def unpadded(plaintext):
    """Encrypted with its last byte as what must be the padding."""
    ciphertext = bytes.fromhex(encrypted(plaintext).decode())
    return ciphertext[:-16].hex().encode()


@pytest.fixture
def store(studio):
    """A game that all five addresses answer for."""
    studio.config("appcharge.deep_link", "demo://login?token={token}")
    return studio


@pytest.fixture
def aes(store):
    """The same in the mode of 2023."""
    store.secret("appcharge.main_key", KEY)
    store.secret("appcharge.secondary_key", VECTOR)
    store.config("appcharge.payload", "aes")
    return store


@pytest.fixture
def send(client):
    """A call to an address; ``token`` None leaves its header out."""

    def sent(endpoint, content, token=None, **headers):
        if token is not None:
            headers["x-publisher-token"] = token
        return client.post(path(endpoint), data=content, headers={"Content-Type": "text/plain"} | headers)

    return sent


@pytest.fixture
def post(client):
    """A signed call."""

    def posted(endpoint, number=1, key=MAIN_KEY, token=TOKEN, at=None, **headers):
        content = body(endpoint, number)
        return client.post(path(endpoint), data=content, headers=appcharge_headers(content, key, token, at) | headers)

    return posted


@pytest.fixture
def refusals(installation, db):
    """The calls refused so far: reason, status, and the request as it was kept."""

    def kept():
        installation.observations.flush()
        found = []
        for row in db("SELECT * FROM refusals ORDER BY id"):
            sealed = Sealed(row["ciphertext"], row["nonce"], row["key_id"])
            opened = installation.vault.unseal(installation.database.read(), keyring.REFUSAL_PURPOSE, sealed)
            found.append((row["reason"], row["status"], json.loads(opened)))
        return found

    return kept


class TestDecrypting:
    @pytest.mark.parametrize("made", [SMALL, ORDER], ids=["openssl", "node"])
    def test_bodies_of_other_peoples_code_are_read_and_made_alike(self, made):
        plaintext = base64.b64decode(made["plaintext_base64"])

        opened, document, key = encryption.decrypt(made["body_hex"].encode(), keys(made["key"]), keys(made["iv"]))

        assert (opened, document, key.value.decode()) == (plaintext, json.loads(plaintext), made["key"])
        assert encryption.encrypt(plaintext, made["key"].encode(), made["iv"].encode()).decode() == made["body_hex"]

    @pytest.mark.parametrize("change", [str.upper, lambda text: f"{text}\r\n", lambda text: f"  {text} "])
    def test_the_hexadecimal_may_be_written_either_way(self, change):
        content = change(SMALL["body_hex"]).encode()

        assert encryption.decrypt(content, keys(KEY), keys(VECTOR))[1] == {"playerId": "p-1"}

    @given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda some: some.hex().encode()))
    def test_whatever_comes_is_an_object_or_one_error(self, content):
        with pytest.raises(SignatureError) as caught:
            encryption.decrypt(content, keys(KEY), keys(VECTOR))

        assert caught.value.reason == "encryption"
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(("key", "vector"), [("short", VECTOR), (KEY, "short"), (KEY + "x", VECTOR), ("", "")])
    def test_keys_of_another_length_open_nothing(self, key, vector):
        with pytest.raises(SignatureError):
            encryption.decrypt(SMALL["body_hex"].encode(), keys(key), keys(vector))
        with pytest.raises(ValueError, match="32 characters"):
            encryption.encrypt(b"{}", key.encode(), vector.encode())

    def test_a_body_of_64_kb_is_the_largest(self):
        largest = padded_to(64 * 1024)

        assert len(largest) == 64 * 1024
        encryption.decrypt(largest, keys(KEY), keys(VECTOR))
        with pytest.raises(SignatureError):
            encryption.decrypt(padded_to(64 * 1024 + 32), keys(KEY), keys(VECTOR))

    def test_half_of_a_surrogate_pair_is_read_as_in_signed_calls(self):
        content = encrypted(b'{"playerName": "\\ud83d"}')

        assert encryption.decrypt(content, keys(KEY), keys(VECTOR))[1] == {"playerName": "\ud83d"}

    def test_a_key_that_does_not_fit_does_not_hide_one_that_does(self):
        opened = encryption.decrypt(SMALL["body_hex"].encode(), keys("short", OTHER_KEY, KEY), keys("short", VECTOR))

        assert opened[2].value == KEY.encode()


def padded_to(size):
    """A call of so many bytes, encrypted, with all that it needs."""
    content = body("players", publisherToken=TOKEN, padding="")
    return encrypted(content[:-2] + b"x" * (size // 2 - len(content) - 1) + b'"}')


# What cannot be decrypted to an object, whatever the token.
UNREADABLE = {
    "too large": padded_to(encryption.LARGEST_BODY + 32),
    "empty": b"",
    "blank": b" \n",
    "no hexadecimal": b"zz" * 16,
    "odd length": encrypted(b'{"playerId":"alice"}')[:-1],
    "no whole block": encrypted(b'{"playerId":"alice"}')[:-2],
    "bytes": b"\xff\x00" * 16,
    "JSON": b'{"playerId":"alice"}',
    "another key": encrypted(b'{"playerId":"alice"}', key=OTHER_KEY),
    "another vector": encrypted(b'{"playerId":"alice"}', vector=OTHER_VECTOR),
    "bad padding": unpadded(b'{"playerId":"alice" ' + b" " * 11 + b"}"),
    "no JSON": encrypted(b"playerId=alice"),
    "nothing inside": encrypted(b""),
    "an array": encrypted(b"[]"),
    "a text": encrypted(b'"alice"'),
    "a number": encrypted(b"1"),
    "null": encrypted(b"null"),
    "no UTF-8": encrypted(b'{"playerId":"\xff"}'),
    "too deep": encrypted(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "NaN": encrypted(b'{"a":NaN}'),
    "a huge number": encrypted(b'{"a":' + b"9" * 5000 + b"}"),
}
# What decrypts, but proves nothing.
UNPROVED = {
    "no token": {},
    "another token": {"publisherToken": "wrong"},
    "an empty token": {"publisherToken": ""},
    "null": {"publisherToken": None},
    "a number": {"publisherToken": 1},
    "a list": {"publisherToken": [TOKEN]},
    "half a pair": {"publisherToken": "\ud800"},
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
class TestEncryptedCalls:
    def test_are_taken_with_the_token_in_the_header_or_inside(self, aes, send, endpoint):
        in_header = send(endpoint, encrypted(body(endpoint)), TOKEN)
        inside = send(endpoint, encrypted(body(endpoint, 2, publisherToken=TOKEN)))

        assert is_accepted(in_header.status_code, in_header.json), in_header.text
        assert is_accepted(inside.status_code, inside.json), inside.text
        assert in_header.mimetype == "application/json"

    def test_every_error_of_decryption_is_the_same_answer(self, aes, send, endpoint, refusals, db):
        contents = [*UNREADABLE.values(), *(encrypted(body(endpoint, **more)) for more in UNPROVED.values())]

        answers = [send(endpoint, content) for content in contents]
        answers += [send(endpoint, content, TOKEN) for content in UNREADABLE.values()]

        assert len({answer.headers.pop("X-Request-ID") for answer in answers}) == len(answers)
        assert {(answer.status_code, answer.data, str(answer.headers)) for answer in answers} == {
            (400, answers[0].data, str(answers[0].headers))
        }
        assert answers[0].json["error"] == "The payload cannot be read"
        kept = refusals()
        assert {(reason, status) for reason, status, _ in kept} == {("encryption", 400)}
        assert len(kept) == len(answers)
        for table in ("transactions", "events", "logins"):
            assert db(f"SELECT * FROM {table}") == []

    def test_no_changed_bit_tells_anything(self, aes, send, endpoint):
        ciphertext = bytes.fromhex(encrypted(body(endpoint, publisherToken=TOKEN)).decode())

        def answer_to(place):
            changed = bytearray(ciphertext)
            changed[place] ^= 1
            return send(endpoint, changed.hex().encode())

        # The last block decides about the padding, the one before it is what an oracle is asked with.
        answers = {(each.status_code, each.data) for each in map(answer_to, range(-32, 0))}
        assert len(answers) == 1
        assert answers.pop()[0] == 400

    def test_a_wrong_token_in_the_header_is_refused_before_anything_is_decrypted(self, aes, send, endpoint, refusals):
        good = send(endpoint, encrypted(body(endpoint, publisherToken=TOKEN)), "wrong")
        unreadable = send(endpoint, b"zz", "wrong")

        assert (good.status_code, good.data) == (unreadable.status_code, unreadable.data)
        assert (good.status_code, good.json["error"]) == (401, "Unauthorized")
        assert [reason for reason, _, _ in refusals()] == ["token", "token"]

    def test_a_signed_call_is_no_way_around(self, aes, client, endpoint):
        content = body(endpoint)

        answer = client.post(path(endpoint), data=content, headers=appcharge_headers(content, KEY))

        assert (answer.status_code, answer.json["error"]) == (400, "The payload cannot be read")

    def test_are_refused_where_calls_are_signed(self, store, send, endpoint):
        store.secret("appcharge.main_key", KEY)
        store.secret("appcharge.secondary_key", VECTOR)

        answer = send(endpoint, encrypted(body(endpoint, publisherToken=TOKEN)), TOKEN)

        expected = (400, "Invalid signature") if endpoint == "otp" else (401, "Unauthorized")
        assert (answer.status_code, answer.json["error"]) == expected

    def test_both_keys_are_rotated_without_a_refused_call(self, aes, send, endpoint):
        def is_taken(key, vector, number):
            answer = send(endpoint, encrypted(body(endpoint, number, publisherToken=TOKEN), key, vector))
            return is_accepted(answer.status_code, answer.json)

        aes.rotate("appcharge.main_key", OTHER_KEY)
        assert is_taken(KEY, VECTOR, 1)
        assert is_taken(OTHER_KEY, VECTOR, 2)
        aes.rotate("appcharge.secondary_key", OTHER_VECTOR)
        for number, (key, vector) in enumerate([(k, v) for k in (KEY, OTHER_KEY) for v in (VECTOR, OTHER_VECTOR)], 3):
            assert is_taken(key, vector, number)

        aes.retire("appcharge.main_key")
        aes.retire("appcharge.secondary_key")
        assert is_taken(OTHER_KEY, OTHER_VECTOR, 7)
        assert not is_taken(KEY, OTHER_VECTOR, 8)
        assert not is_taken(OTHER_KEY, VECTOR, 9)

    def test_without_a_secondary_key_the_game_is_not_there(self, store, send, endpoint):
        store.secret("appcharge.main_key", KEY)
        store.config("appcharge.payload", "aes")

        answer = send(endpoint, encrypted(body(endpoint, publisherToken=TOKEN)), TOKEN)

        assert answer.status_code == 404


def test_a_chunked_body_is_read_whole_and_one_that_breaks_off_is_refused(store, client):
    class BreaksOff(BytesIO):
        def read(self, *_):
            raise OSError("the caller is gone")

    def sent(number, stream):
        content = body("orders", number)
        headers = appcharge_headers(content) | {"Transfer-Encoding": "chunked"}
        return client.post(path("orders"), input_stream=stream(content), headers=headers).status_code

    assert [sent(1, BytesIO), sent(2, BreaksOff)] == [200, 400]


def test_what_was_encrypted_is_credited_as_it_was_written(aes, send, feed, db):
    assert send("orders", encrypted(body("orders", publisherToken=TOKEN))).status_code == 200
    again = send("orders", encrypted(body("orders")), TOKEN)

    assert again.status_code == 200
    assert len(feed()) == 1
    (row,) = db("SELECT raw_body, signature, signed_with FROM transactions")
    assert packing.body(row["raw_body"]) == body("orders", publisherToken=TOKEN)
    assert (row["signature"], row["signed_with"]) == ("", "appcharge.main_key/current")


def test_nothing_of_an_encrypted_call_reaches_the_log(aes, send, installation, caplog, capfd):
    send("auth", encrypted(body("auth", publisherToken=TOKEN, password="hunter2")))
    send("auth", encrypted(body("auth", publisherToken="wrong-token", password="hunter2")))
    send("auth", b"zz", "wrong-token")
    installation.observations.flush()

    logged = caplog.text + capfd.readouterr().err
    assert "encryption" in logged
    for hidden in (KEY, VECTOR, TOKEN, "wrong-token", "hunter2"):
        assert hidden not in logged


@pytest.mark.parametrize("endpoint", ENDPOINTS)
class TestSignedCalls:
    """Beside what holds at every partner's addresses (``tests/kit/test_partner_addresses.py``)."""

    @pytest.fixture
    def refused(self, endpoint):
        more = {"orders": {"publisherErrorMessage": "Unauthorized"}, "auth": {"status": "invalid"}}
        return 401, {"error": "Unauthorized"} | more.get(endpoint, {})

    def test_a_token_that_is_not_ours_is_refused(self, store, post, endpoint, refused, refusals):
        answers = [post(endpoint, token=token) for token in ("", "wrong", f"{TOKEN} x", "t\xf6ken")]

        assert [(answer.status_code, answer.json) for answer in answers] == [refused] * 4
        assert [reason for reason, _, _ in refusals()] == ["token"]  # the signature is right: one call, four times

    def test_a_rotated_token_is_good_until_it_is_retired(self, store, post, endpoint, db, installation):
        store.rotate("appcharge.publisher_token", "the-next-token")
        assert [post(endpoint, 1, token=token).status_code for token in (TOKEN, "the-next-token")] == [200, 200]
        installation.observations.flush()
        used = db("SELECT DISTINCT name FROM secrets WHERE last_used_at IS NOT NULL ORDER BY name")
        assert [row["name"] for row in used] == ["appcharge.main_key", "appcharge.publisher_token"]

        store.retire("appcharge.publisher_token")

        assert [post(endpoint, 2, token=token).status_code for token in (TOKEN, "the-next-token")] == [401, 200]

    def test_another_project_is_refused_where_ours_is_known(self, store, post, endpoint, refused):
        assert post(endpoint, 1, **{"x-project-id": "7"}).status_code == 200
        store.config("appcharge.project_id", "1234")

        assert post(endpoint, 2).status_code == 200
        assert post(endpoint, 3, **{"x-project-id": "1234"}).status_code == 200
        answer = post(endpoint, 4, **{"x-project-id": "7"})
        assert (answer.status_code, answer.json) == refused

    def test_a_secondary_key_signs_only_in_its_role_as_a_backup(self, store, post, endpoint, installation, db):
        store.secret("appcharge.secondary_key", "the-secondary-key")
        assert post(endpoint, 1, key="the-secondary-key").status_code == 200
        installation.observations.flush()
        used = db("SELECT name FROM secrets WHERE last_used_at IS NOT NULL")
        assert {"name": "appcharge.secondary_key"} in used

        store.config("appcharge.secondary_role", "iv")

        assert post(endpoint, 2, key="the-secondary-key").status_code in (400, 401)
        assert post(endpoint, 3).status_code == 200

    def test_a_game_with_one_of_the_two_proofs_is_not_there(self, store, installation, client, endpoint):
        half = type(store)(installation, "half")
        half.secret("appcharge.main_key", MAIN_KEY)
        content = body(endpoint)

        answer = client.post(path(endpoint, "half"), data=content, headers=appcharge_headers(content, token=""))

        assert answer.status_code == 404


@pytest.mark.parametrize(("endpoint", "is_kept"), [("orders", True), ("auth", False)])
def test_of_a_refused_login_no_body_is_kept(store, post, refusals, endpoint, is_kept):
    post(endpoint, key="another")

    ((_, _, request),) = refusals()
    assert (base64.b64decode(request["body"]) == body(endpoint)) is is_kept
    assert bool(request["body"]) is is_kept
    assert request["signature"].startswith("t=")


class TestEvents:
    def test_have_a_tolerance_of_their_own(self, store, post, clock):
        def status(number, age, endpoint="events"):
            return post(endpoint, number, at=coinslot_clock.now() - age).status_code

        assert [status(1, 1799), status(2, 1801), status(3, -1801), status(4, 400, "orders")] == [200, 401, 401, 401]
        store.config("appcharge.events_tolerance_seconds", "60")
        store.config("appcharge.tolerance_seconds", "1")
        assert [status(5, 61), status(6, 59)] == [401, 200]

    def test_may_be_signed_with_a_secret_of_their_own_or_the_main_key(self, store, post):
        store.secret("appcharge.events_secret", "the-secret-of-events")

        assert post("events", 1, key="the-secret-of-events").status_code == 200
        assert post("events", 2).status_code == 200
        assert post("orders", 3, key="the-secret-of-events").status_code == 401

        store.rotate("appcharge.events_secret", "the-next-secret")
        assert post("events", 4, key="the-secret-of-events").status_code == 200
        store.retire("appcharge.events_secret")
        assert post("events", 5, key="the-secret-of-events").status_code == 401
        assert post("events", 6, key="the-next-secret").status_code == 200

    def test_may_lack_the_token_where_the_owner_allows_it_but_never_bring_a_wrong_one(self, store, client):
        def send(number, **headers):
            content = body("events", number)
            signed = appcharge_headers(content)
            del signed["x-publisher-token"]
            return client.post(path("events"), data=content, headers=signed | headers).status_code

        assert send(1) == 401
        store.config("appcharge.events_without_token", "on")
        assert send(2) == 200
        assert send(3, **{"x-publisher-token": "wrong"}) == 401
        assert send(4, **{"x-publisher-token": ""}) == 401
