"""The signature doctor: a genuine call spoiled in one way gets exactly its sentence, and its caller hears nothing."""

import base64
import hashlib
import hmac
import html
import json
import re
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from handlers.appcharge import encryption as encrypted
from handlers.appcharge.signature import sign
from handlers.dashboard.integration import refusals as room
from tests.conftest import MAIN_KEY, PLAYTEM_SECRET, TOKEN, Studio, appcharge_headers, order
from tests.pages import next_of

OTHER_KEY = "another-games-main-key-01"
OTHER_TOKEN = "another-games-token"
KEY_32, VECTOR_16 = "0123456789abcdef0123456789abcdef", "fedcba9876543210"
HOOK_SECRET = "whsec_" + base64.b64encode(b"a webhook's secret, 32 bytes long").decode()
SHARED_KEY = "the-shared-key-of-demo"
PAYMENTS_KEY = "the-payments-key-of-demo"


def vectors(name):
    """Calls that programs of others have signed."""
    return json.loads((Path(__file__).parents[1] / "payloads" / name).read_text())["vectors"]


BODY = json.dumps(
    order(bundleName="Pièces d’or / 5%", fx=0.000001, net=850.50), separators=(",", ":"), ensure_ascii=False
)
RAW = BODY.encode()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine is no reason to leave sentences out of a list."""
    monkeypatch.setattr(room, "LIST_SECONDS", 60)


@pytest.fixture
def other(installation, studio):
    other = Studio(installation, "space-miner")
    other.secret("appcharge.main_key", OTHER_KEY)
    other.secret("appcharge.publisher_token", OTHER_TOKEN)
    other.secret("playtem.secret", "the-other-playtem-secret")
    other.secret("playcamp.webhook_secret", "the-other-hooks-secret")
    other.config("appcharge.environment", "sandbox")
    return other


@pytest.fixture
def sentence(browser, installation):
    """What the list says of the newest call of a game, and that its own page says the same."""

    def read(slug="demo"):
        installation.observations.flush()
        listed = browser.get(f"/games/{slug}/refusals")
        assert listed.status_code == 200
        first = re.search(rf'href="(/games/{slug}/refusals/\d+)".*?<td class="wide">(.*?)</td>', listed.text, re.DOTALL)
        detail = browser.get(first[1])
        assert detail.status_code == 200
        told = re.search(r'<p class="verdict">(.*?)</p>', detail.text, re.DOTALL)[1]
        assert first[2].startswith(told[:380])
        return html.unescape(told)

    return read


def v1(message, key=MAIN_KEY):
    return hmac.new(key.encode() if isinstance(key, str) else key, message, "sha256").hexdigest()


def now_ms():
    return str(int(time.time() * 1000))


class TestAppcharge:
    def post(
        self, client, body=RAW, sent=None, signature=None, token=TOKEN, key=MAIN_KEY, endpoint="orders", **headers
    ):
        """``body`` is what is signed and ``sent`` what comes, where something on the way changed it."""
        given = {} if signature is ... else {"signature": signature or sign(body, key.encode(), now_ms())}
        given |= {} if token is ... else {"x-publisher-token": token}
        answer = client.post(
            f"/appcharge/demo/{endpoint}", data=body if sent is None else sent, headers=given | headers
        )
        assert answer.status_code >= 400, "the call was accepted"
        return answer

    @pytest.mark.parametrize(
        ("spoiled", "said"),
        [
            (
                {"key": OTHER_KEY},
                "It is signed with the main key of the game space-miner (sandbox).",
            ),
            ({"key": TOKEN}, "It is signed with the publisher token of this game in place of the main key."),
            (
                {"key": "the-secondary-key-01"},
                "It is signed with the secondary key of this game, while appcharge.secondary_role is iv.",
            ),
            ({"key": f"{MAIN_KEY}\n"}, "It is signed with the main key of this game, with a line break at its end."),
            (
                {"key": "events-secret-000001"},
                "It is signed with the events secret of this game in place of the main key.",
            ),
            ({"key": PLAYTEM_SECRET}, "It is signed with the Playtem secret of this game in place of the main key."),
            ({"key": OTHER_TOKEN}, "It is signed with the publisher token of the game space-miner (sandbox)."),
            (
                {"key": "nobody-knows-this-key"},
                "It was signed with a key that is not stored here, or the body was changed on the way.",
            ),
            (
                {"sent": RAW.replace(b"alice", b"bobby")},
                "It was signed with a key that is not stored here, or the body was changed on the way.",
            ),
            ({"signature": ...}, "The call carries no signature."),
            ({"signature": "t=1767225600000"}, "The header signature has a time and no v1."),
            ({"signature": "t=yesterday,v1=" + "0" * 64}, "The time in the header signature (t=) is no number."),
            (
                {"signature": "t=1767225600000,v1=abc"},
                "The v1 in the header signature has 3 characters, and not 64 hexadecimal digits.",
            ),
            ({"signature": "v1=" + "0" * 64}, "The header signature lacks its time (t=)."),
            (
                {"signature": v1(RAW)},
                "It is signed with the main key of this game over the body alone: the header lacks its time (t=).",
            ),
            ({"signature": "t=1,t=2,v1=" + "0" * 64}, "The header signature names its time or its v1 more than once."),
            (
                {"sent": RAW + b"\n"},
                "A proxy or middleware added a line break at the end of the body after it was signed.",
            ),
            (
                {"sent": RAW + b"\r\n"},
                "A proxy or middleware added a line break at the end of the body after it was signed.",
            ),
            (
                {"sent": b" " + RAW + b"  "},
                "A proxy or middleware added blanks or line breaks around the body after it was signed.",
            ),
            (
                {"sent": b"\xef\xbb\xbf" + RAW},
                "A proxy or middleware put a byte order mark in front of the body after it was signed.",
            ),
            (
                {"body": RAW + b"\n", "sent": RAW},
                "A proxy or middleware cut the line break off the end of the body after it was signed.",
            ),
            (
                {"body": b'{\n"a": 1}', "sent": b'{\r\n"a": 1}'},
                "A proxy or middleware changed the line breaks in the body after it was signed.",
            ),
            (
                {"sent": json.dumps(json.loads(BODY)).encode()},
                "A proxy or middleware re-formatted the body after it was signed.",
            ),
            (
                {"sent": json.dumps(json.loads(BODY), separators=(",", ":")).encode()},
                "A proxy or middleware re-formatted the body after it was signed.",
            ),
            (
                {"sent": json.dumps(json.loads(BODY), ensure_ascii=False, indent=2).encode()},
                "A proxy or middleware re-formatted the body after it was signed.",
            ),
            ({"sent": RAW.replace(b"/", b"\\/")}, "A proxy or middleware re-formatted the body after it was signed."),
            (
                {"body": json.dumps(json.loads(BODY), sort_keys=True, indent=4).encode(), "sent": RAW},
                "A proxy or middleware re-formatted the body after it was signed.",
            ),
            (
                {"sent": json.dumps(json.loads(BODY)).encode(), "key": OTHER_KEY},
                "A proxy or middleware re-formatted the body after it was signed. It is signed with the main key of "
                "the game space-miner (sandbox).",
            ),
            ({"token": ...}, "The signature is right, but the header x-publisher-token is missing."),
            (
                {"token": OTHER_TOKEN},
                "The signature is right, but it carries the publisher token of the game space-miner (sandbox) as its "
                "publisher token.",
            ),
            (
                {"token": MAIN_KEY},
                "The signature is right, but it carries the main key of this game as its publisher token.",
            ),
            (
                {"token": TOKEN.upper()},
                "The signature is right, but its publisher token differs from the one that is set here in blanks or "
                "capitals alone.",
            ),
            (
                {"token": TOKEN[:12]},
                "The signature is right, but its publisher token and the one that is set here begin alike: one of "
                "them was cut.",
            ),
            ({"token": "who-knows"}, "The signature is right, but its publisher token is not one that is stored here."),
            (
                {"x-project-id": "4321"},
                "It comes from the Appcharge project 4321, which is that of the game space-miner; "
                "appcharge.project_id is 1234.",
            ),
            ({"x-project-id": "99"}, "It comes from the Appcharge project 99; appcharge.project_id is 1234."),
        ],
    )
    def test_a_spoiled_call_gets_its_sentence(self, client, studio, other, sentence, spoiled, said):
        studio.secret("appcharge.secondary_key", "the-secondary-key-01")
        studio.config("appcharge.secondary_role", "iv")
        studio.secret("appcharge.events_secret", "events-secret-000001")
        studio.config("appcharge.project_id", "1234")
        other.config("appcharge.project_id", "4321")

        self.post(client, **spoiled)

        assert sentence() == said

    @pytest.mark.parametrize(
        ("message", "said"),
        [
            (lambda t: RAW, "over the body alone, without the time"),
            (lambda t: t.encode() + RAW, "without the full stop between time and body"),
            (lambda t: RAW + b"." + t.encode(), "over body and time in the wrong order"),
            (lambda t: f"{t}000.".encode() + RAW, "with its time in milliseconds and sent with seconds"),
        ],
    )
    def test_what_else_may_have_been_signed(self, client, studio, sentence, message, said):
        t = str(int(time.time()))
        self.post(client, signature=f"t={t},v1={v1(message(t))}")
        assert sentence() == f"It is signed with the main key of this game, but {said}."

    def test_seconds_that_were_sent_as_milliseconds(self, client, studio, sentence):
        t = int(time.time())
        self.post(client, signature=f"t={t}000,v1={v1(f'{t}.'.encode() + RAW)}")
        assert "with its time in seconds and sent with milliseconds" in sentence()

    def test_a_signature_in_base64_or_under_another_name(self, client, studio, sentence):
        t = now_ms()
        digest = base64.b64encode(bytes.fromhex(v1(f"{t}.".encode() + RAW))).decode()
        self.post(client, signature=f"t={t},v1={digest}")
        assert "the v1 is written in Base64" in sentence()
        self.post(client, signature=..., **{"X-Appcharge-Signature": sign(RAW, MAIN_KEY.encode(), t)})
        assert sentence().startswith("The signature came in the header x-appcharge-signature;")

    @pytest.mark.parametrize("vector", vectors("appcharge/signed_by_node.json")[:2])
    def test_signatures_that_others_made(self, client, studio, sentence, clock, vector):
        studio.secret("appcharge.events_secret", "vector-main-key-7f3a")
        body = base64.b64decode(vector["body_base64"])
        self.post(client, body=body, signature=vector["signature"])
        assert sentence() == "It is signed with the events secret of this game in place of the main key."
        self.post(client, body=body, sent=json.dumps(json.loads(body)).encode(), signature=vector["signature"])
        assert sentence().startswith("A proxy or middleware re-formatted the body after it was signed.")

    def test_a_key_that_was_set_since(self, client, studio, sentence):
        self.post(client, key="the-new-key-0123456789")
        studio.rotate("appcharge.main_key", "the-new-key-0123456789")
        assert sentence() == (
            "It is signed with the main key of this game, which was set, or let in, after this call came."
        )
        self.post(client, sent=RAW + b"\n")
        assert sentence().startswith("A proxy or middleware added a line break at the end of the body")

    def test_a_retired_key_is_named_in_the_hint(self, client, studio, sentence, browser):
        studio.rotate("appcharge.main_key", "the-new-key-0123456789")
        studio.retire("appcharge.main_key")
        self.post(client)
        assert sentence() == "It was signed with a key that is not stored here, or the body was changed on the way."
        (address,) = re.findall(r'href="(/games/demo/refusals/\d+)"', browser.get("/games/demo/refusals").text)
        assert "An older value of the main key was given up on" in browser.get(address).text

    def test_bodies_that_are_not_kept_are_said_to_be_so(self, client, studio, sentence):
        self.post(client, key="x", endpoint="auth")
        assert sentence().startswith("Bodies of logins may hold passwords and are not kept")
        self.post(client, body=b"[" + b"1," * 40_000 + b"1]", key="x")
        assert "is larger than what is kept of one" in sentence()

    def test_the_encrypted_payloads(self, client, studio, other, sentence):
        studio.secret("appcharge.main_key", KEY_32)
        studio.secret("appcharge.secondary_key", VECTOR_16)
        studio.config("appcharge.secondary_role", "iv")
        ciphertext = encrypted.encrypt(RAW, KEY_32.encode(), VECTOR_16.encode())
        self.post(client, body=ciphertext, signature=...)
        assert sentence() == (
            "The body is encrypted as in 2023, and opens with the main key of this game and the secondary key of this "
            "game; appcharge.payload is json."
        )
        studio.config("appcharge.payload", "aes")
        self.post(client, key=KEY_32)
        assert sentence() == (
            "It is not encrypted but signed, with the main key of this game, while appcharge.payload is aes."
        )
        self.post(client, signature=...)
        assert sentence() == "The body is plain JSON, while appcharge.payload is aes."
        self.post(client, body=encrypted.encrypt(RAW, b"k" * 32, b"v" * 16), signature=...)
        assert sentence() == "It was encrypted with keys that are not stored here, or changed on the way."
        self.post(client, body=ciphertext, signature=..., token="wrong-token-here")
        assert sentence() == "The call is encrypted, but its publisher token is not one that is stored here."
        self.post(client, body=ciphertext, signature=..., token=...)
        assert sentence() == "It opens with this game's keys, and carries no publisherToken."
        other.secret("appcharge.main_key", "o" * 32)
        other.secret("appcharge.secondary_key", "p" * 16)
        self.post(client, body=encrypted.encrypt(RAW, b"o" * 32, b"p" * 16), signature=...)
        assert sentence().startswith("It opens with the main key of the game space-miner (sandbox)")
        studio.secret("appcharge.main_key", VECTOR_16)
        studio.secret("appcharge.secondary_key", KEY_32)
        self.post(client, body=ciphertext, signature=...)
        assert sentence().startswith("Main key and secondary key are swapped")
        studio.secret("appcharge.main_key", "too short")
        studio.secret("appcharge.secondary_key", VECTOR_16)
        self.post(client, body=encrypted.encrypt(RAW, b"k" * 32, b"v" * 16), signature=...)
        assert sentence() == "It cannot be opened: the main key has 9 characters and needs 32."

    def test_what_is_no_matter_of_proofs(self, client, studio, sentence, browser, installation):
        self.post(client, body=json.dumps(order(playerId="mallory")).encode())
        assert sentence() == "The player mallory was not registered when this call came."
        self.post(client, body=json.dumps(order(products=[{"amount": 1, "sku": "swords"}])).encode())
        assert sentence() == "The item swords was not registered when this call came."
        self.post(client, body=json.dumps(order(playerId=...)).encode())
        assert sentence().startswith("The call proved itself, but its body cannot be read: playerId")
        self.post(client, body=b"{")
        assert sentence() == "The call proved itself, but its body cannot be read: it is not JSON."
        client.post("/appcharge/demo/orders", data=RAW, headers=appcharge_headers(RAW))
        self.post(client, body=json.dumps(order(priceInCents=1)).encode())
        assert sentence().startswith("The same transaction was credited before with other content")
        self.post(client, endpoint="otp", body=b'{"device":"MOBILE"}')
        assert sentence() == "The store wants to open the game for a login, and appcharge.deep_link is not set."
        studio.config("allowlist.appcharge", "192.0.2.0/24")
        self.post(client)
        assert sentence() == "It came from 127.0.0.1, which is not on allowlist.appcharge (192.0.2.0/24)."
        self.post(client, **{"X-Forwarded-For": "192.0.2.7"})
        assert sentence().endswith("it says that a proxy brought it for 192.0.2.7.")


class TestTime:
    """Whose clock is wrong: judged by the other calls of the day."""

    def post(self, client, lag, number=0):
        body = json.dumps(order(orderId=f"o-{number}"), separators=(",", ":")).encode()
        answer = client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, at=time.time() - lag))
        return answer.status_code

    def test_the_clock_here_is_behind(self, client, studio, sentence, clock):
        assert self.post(client, -420) == 401
        assert sentence() == (
            "This machine's clock is 7 minutes behind: the call was signed that much later than it came here "
            "(5 minutes are allowed)."
        )

    def test_the_clock_here_is_ahead_where_several_calls_are_equally_late(self, client, studio, sentence, clock):
        self.post(client, 600, 1)
        assert sentence().endswith("an old call was sent again, or this machine's clock is ahead.")
        self.post(client, 602, 2)
        self.post(client, 601, 3)
        assert sentence() == (
            "This machine's clock is 10 minutes ahead: 3 calls of that day were that much too old (5 minutes are "
            "allowed)."
        )

    def test_an_old_call_came_again_while_others_came_on_time(self, client, studio, sentence, clock):
        assert self.post(client, 0) == 200
        self.post(client, 3 * 3600 + 700, 2)
        assert sentence().startswith("An old call was sent again: it was signed 3 hours before it came")

    def test_the_very_same_call_came_twice(self, client, studio, sentence, clock):
        body, headers = RAW, appcharge_headers(RAW, at=time.time() - 500)
        client.post("/appcharge/demo/orders", data=body, headers=headers)
        clock.shift(60)
        client.post("/appcharge/demo/orders", data=body, headers=headers)
        assert sentence().startswith(
            "An old call was sent again: it was signed 9 minutes before it came, and came more"
        )

    def test_the_sender_is_ahead_where_others_came_on_time(self, client, studio, sentence, clock):
        self.post(client, 0)
        self.post(client, -420, 2)
        assert sentence().startswith("The sender's clock is 7 minutes ahead")

    def test_local_time_taken_for_utc(self, client, studio, sentence, clock):
        self.post(client, -9 * 3600)
        assert sentence() == ("Its time is off by 9 hours, to the minute: whoever signed it took local time for UTC.")

    def test_microseconds(self, client, studio, sentence):
        t = str(int(time.time() * 1e6))
        client.post(
            "/appcharge/demo/orders",
            data=RAW,
            headers=appcharge_headers(RAW) | {"signature": sign(RAW, MAIN_KEY.encode(), t)},
        )
        assert sentence() == "Its time counts microseconds, in place of milliseconds or seconds."


def playtem_payload(message=None, key=PLAYTEM_SECRET, digest=None, **changed):
    """Playtem's JSON; ``message`` makes of its fields what is signed."""
    fields = {"AppId": 3, "AppName": "Game", "UserId": "alice", "Items": ["coins", "gems"], "TransactionId": "tx-1"}
    fields = {name: value for name, value in (fields | changed).items() if value is not ...}
    told = {name: str(value) for name, value in fields.items()} | {"Items": "".join(map(str, fields.get("Items", [])))}
    text = (message or (lambda t: "".join(t.get(name, "") for name in ("AppId", "UserId", "Items", "TransactionId"))))(
        told
    )
    signed = hmac.new(key.encode(), text.encode(), "sha1").hexdigest().upper()
    return {"Signature": signed if digest is None else digest(text)} | fields


class TestPlaytem:
    def get(self, client, document, parameter="payload", path="/playtem/demo/credit"):
        text = document if isinstance(document, str) else base64.b64encode(json.dumps(document).encode()).decode()
        answer = client.get(f"{path}?{parameter}={quote(text, safe='')}")
        assert answer.status_code >= 400, "the call was accepted"
        return answer

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            (
                playtem_payload(key="the-other-playtem-secret"),
                "It is signed with the Playtem secret of the game space-miner.",
            ),
            (
                playtem_payload(key=TOKEN),
                "It is signed with the publisher token of this game in place of the Playtem secret.",
            ),
            (
                playtem_payload(key=f"{PLAYTEM_SECRET}\n"),
                "It is signed with the Playtem secret of this game, with a line break at its end.",
            ),
            (
                playtem_payload(key="nobody-knows"),
                "It was signed with a key that is not stored here, or the call was changed on the way.",
            ),
            (
                playtem_payload(lambda t: f"{t['AppId']}{t['UserId']}coins,gems{t['TransactionId']}"),
                "The secret is right, but Items are signed in the format comma, which playtem.formats leaves out.",
            ),
            (
                playtem_payload(lambda t: "|".join((t["AppId"], t["UserId"], "coins|gems", t["TransactionId"]))),
                "The secret is right, but what is signed has other separators: '|' between its parts, 'coins|gems' "
                "for its items.",
            ),
            (
                playtem_payload(lambda t: "".join((t["UserId"], t["AppId"], t["Items"], t["TransactionId"]))),
                "The secret is right, but it signs UserId + AppId + Items + TransactionId; the guide says AppId + "
                "UserId + Items + TransactionId.",
            ),
            (
                playtem_payload(lambda t: "".join((t["AppId"], t["UserId"], t["TransactionId"]))),
                "The secret is right, but it signs AppId + UserId + TransactionId; the guide says AppId + UserId + "
                "Items + TransactionId.",
            ),
            (
                playtem_payload(digest=lambda text: hashlib.sha1((text + PLAYTEM_SECRET).encode()).hexdigest()),
                "The secret is right, but it is signed by SHA-1 over the secret and the text, and not by HMAC-SHA1.",
            ),
            (
                playtem_payload(digest=lambda text: "A" * 64),
                "The Signature has 64 digits, as of HMAC-SHA256; Playtem's guide says HMAC-SHA1, which has 40.",
            ),
            (playtem_payload(digest=lambda text: "AB"), "The Signature is not 40 hexadecimal digits."),
            (playtem_payload(UserId=...), "The payload lacks UserId."),
            (
                playtem_payload(AppId=7),
                "It names the AppId 7, which is the game space-miner; playtem.app_id of this game is 3.",
            ),
            (playtem_payload(AppId=8), "It names the AppId 8; playtem.app_id of this game is 3."),
            (playtem_payload(UserId="mallory"), "The player mallory was not registered when this call came."),
            (playtem_payload(Items=["swords"]), "The item swords was not registered when this call came."),
            (playtem_payload(Items=[]), "The call proved itself, and there are no items in it to credit."),
            ("", "The payload is empty."),
            ("???", "The payload is not Base64, or was cut on the way."),
            (json.dumps(playtem_payload()), "The payload is JSON as it is, and not Base64 of it."),
            (
                base64.b64encode(bytes(range(128, 192))).decode(),
                "The payload is Base64 of something that is no text: it may be encrypted.",
            ),
            (
                base64.b64encode(b"hello there").decode(),
                "The payload is Base64 of something that is no JSON, character 1.",
            ),
            (base64.b64encode(b"[1]").decode(), "The payload's JSON is no object."),
            (
                base64.b64encode(base64.b64encode(json.dumps(playtem_payload()).encode())).decode(),
                "The payload was put into Base64 twice.",
            ),
            (
                base64.b64encode(str(playtem_payload()).encode()).decode(),
                "The payload is in the guide's notation with single quotes, which playtem.accept_single_quotes leaves "
                "out.",
            ),
        ],
    )
    def test_a_spoiled_call_gets_its_sentence(self, client, studio, other, sentence, document, said):
        studio.config("playtem.app_id", "3")
        other.config("playtem.app_id", "7")
        studio.config("playtem.formats", "concat")
        studio.config("playtem.accept_single_quotes", "off")

        self.get(client, document)

        assert sentence() == said

    def test_the_parameter(self, client, studio, sentence):
        self.get(client, playtem_payload(), parameter="data")
        assert sentence() == "The payload came in the parameter data; payload is expected."
        self.get(client, "x", parameter="y")
        assert sentence() == "The parameter payload is missing; there are: y."
        self.get(client, "x&PAYLOAD=y".replace("&", "%26"), parameter="payload=1&payload")
        assert sentence() == "The parameter payload is there 2 times."

    @pytest.mark.parametrize("vector", vectors("playtem/signed_by_php.json")[:3], ids=lambda vector: vector["name"])
    def test_signatures_that_others_made(self, client, studio, other, sentence, vector):
        other.secret("playtem.secret", "vector-playtem-secret")
        client.get(f"/playtem/demo/credit?{vector['query']}")
        assert sentence() == "It is signed with the Playtem secret of the game space-miner."

    def test_a_call_that_names_no_game(self, client, studio, other, browser, installation):
        other.config("playtem.app_id", "7")
        self.get(client, playtem_payload(AppId=9), path="/playtem/credit")
        self.get(client, playtem_payload(), path="/playtem/demmo/credit")
        installation.observations.flush()
        listed = html.unescape(browser.get("/refusals").text)
        assert "It names the AppId 9, which no game here has as its playtem.app_id." in listed
        assert "There is no game 'demmo' here; there is demo." in listed


EVENTS = b'{"events":[{"event":"sponsor.ended","timestamp":"2026-01-01T00:00:00Z","data":{"userId":"alice"}}]}'


class TestPlayCampWebhooks:
    @pytest.fixture(autouse=True)
    def hooked(self, studio):
        studio.secret("playcamp.webhook_secret", HOOK_SECRET)
        studio.secret("playcamp.webhook_secret.payments", "the-payments-hooks-secret")

    def post(self, client, signature=None, body=EVENTS, path="/playcamp/demo/webhook", **headers):
        told = {} if signature is None else {"X-Webhook-Signature": signature}
        answer = client.post(path, data=body, headers=told | headers)
        assert answer.status_code >= 400, "the call was accepted"
        return answer

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            (
                HOOK_SECRET.removeprefix("whsec_"),
                "It is signed with the PlayCamp webhook secret of this game, without its whsec_.",
            ),
            (
                base64.b64decode(HOOK_SECRET.removeprefix("whsec_")),
                "It is signed with the PlayCamp webhook secret of this game, as the bytes that its Base64 behind "
                "whsec_ stands for.",
            ),
            ("the-other-hooks-secret", "It is signed with the PlayCamp webhook secret of the game space-miner."),
            (MAIN_KEY, "It is signed with the main key of this game in place of a webhook's secret."),
            ("nobody-knows", "It was signed with a key that is not stored here, or the body was changed on the way."),
        ],
    )
    @pytest.mark.parametrize("is_timestamped", [True, False])
    def test_another_key(self, client, other, sentence, key, said, is_timestamped):
        t = int(time.time())
        timestamped = f"t={t},v1={v1(f'{t}.'.encode() + EVENTS, key)}"
        self.post(client, timestamped if is_timestamped else v1(EVENTS, key))
        assert sentence() == said

    @pytest.mark.parametrize(
        ("write", "said"),
        [
            (lambda t: None, "The call carries no signature."),
            (lambda t: "abc", "The signature in the header is not 64 hexadecimal digits."),
            (
                lambda t: f"sha256={v1(EVENTS, HOOK_SECRET)}",
                "It is signed with the PlayCamp webhook secret of this game, but the header is written in another "
                "form than PlayCamp's: it begins with 'sha256=",
            ),
            (
                lambda t: base64.b64encode(bytes.fromhex(v1(EVENTS, HOOK_SECRET))).decode(),
                "It is signed with the PlayCamp webhook secret of this game, but the header is written in another form",
            ),
            (
                lambda t: f"v1={v1(EVENTS, HOOK_SECRET)}",
                "It is signed with the PlayCamp webhook secret of this game, but the header is written in another form",
            ),
            (
                lambda t: f"t={t},v1={v1(EVENTS, HOOK_SECRET)}",
                "It is signed with the PlayCamp webhook secret of this game, but over the body alone: the time in the "
                "header is not signed.",
            ),
            (
                lambda t: f"t={t},v1={v1(f'{t}000.'.encode() + EVENTS, HOOK_SECRET)}",
                "It is signed with the PlayCamp webhook secret of this game, but with its time in milliseconds and "
                "sent with seconds.",
            ),
            (
                lambda t: f"t={t * 1000},v1={v1(f'{t * 1000}.'.encode() + EVENTS, HOOK_SECRET)}",
                "Its time counts milliseconds (or less); PlayCamp's webhooks count seconds.",
            ),
            (
                lambda t: f"t={t - 420},v1={v1(f'{t - 420}.'.encode() + EVENTS, HOOK_SECRET)}",
                "It was signed 7 minutes before it came (5 minutes are allowed): an old call was sent again, or this "
                "machine's clock is ahead.",
            ),
            (
                lambda t: f"t={t + 60},v1={v1(f'{t + 60}.'.encode() + EVENTS, HOOK_SECRET)}",
                "This machine's clock is 1 minute behind: the call was signed that much later than it came here (5 "
                "seconds are allowed).",
            ),
        ],
    )
    def test_another_header(self, client, sentence, write, said, clock):
        clock.move_to(int(time.time()))
        self.post(client, write(int(time.time())))
        assert sentence().startswith(said)

    def test_another_body(self, client, sentence):
        self.post(client, v1(EVENTS, HOOK_SECRET), EVENTS + b"\n")
        assert sentence() == "A proxy or middleware added a line break at the end of the body after it was signed."
        self.post(client, v1(EVENTS, HOOK_SECRET), json.dumps(json.loads(EVENTS), indent=2).encode())
        assert sentence() == "A proxy or middleware re-formatted the body after it was signed."

    def test_the_secret_of_another_webhook(self, client, sentence, studio):
        self.post(client, v1(EVENTS, HOOK_SECRET), path="/playcamp/demo/webhook/payments")
        assert sentence() == (
            "It came to the address of the webhook payments and is signed with the secret of the address without a "
            "webhook's name."
        )
        self.post(client, v1(EVENTS, HOOK_SECRET), path="/playcamp/demo/webhook/sponsors")
        assert sentence() == ("The webhook sponsors of the game demo has no secret here. Those with one: payments.")
        studio.secret("playcamp.webhook_secret.sponsors", "x" * 20)
        assert sentence() == "The webhook sponsors had no secret when this call came; now it has one."

    def test_another_gateways_call(self, client, sentence):
        self.post(client, **{"X-Gateway-Signature": v1(EVENTS, HOOK_SECRET)})
        assert sentence() == "It has X-Gateway-Signature and lacks X-Gateway-Timestamp."
        self.post(client, **{"X-Gateway-Signature": v1(EVENTS, HOOK_SECRET), "X-Gateway-Timestamp": "1767225600"})
        assert "over the body alone" in sentence()
        signature = v1(b"1767225600." + EVENTS, HOOK_SECRET)
        self.post(client, **{"X-Gateway-Signature": signature, "X-Gateway-Timestamp": "1767225600"})
        assert "before it came" in sentence()

    def test_bodies_that_say_nothing(self, client, sentence):
        self.post(client, v1(b"", HOOK_SECRET), b"")
        assert sentence() == "The body is empty."
        self.post(client, v1(b"{}", HOOK_SECRET), b"{}")
        assert sentence() == "The call proved itself, but its body cannot be read: it holds no list of events."

    @pytest.mark.parametrize("vector", vectors("playcamp/signed_by_sdk.json")[:3], ids=lambda vector: vector["name"])
    def test_signatures_that_others_made(self, client, other, sentence, vector):
        other.secret("playcamp.webhook_secret", "whsec_vector_91c2")
        self.post(client, vector["simple"], base64.b64decode(vector["body_base64"]))
        assert sentence() == "It is signed with the PlayCamp webhook secret of the game space-miner."


class TestEntries:
    @pytest.fixture(autouse=True)
    def shared(self, studio):
        studio.secret("playcamp.shared_key", SHARED_KEY)

    def enter(self, client, **given):
        answer = client.get(f"/api/demo/sponsor?{urlencode(given)}")
        assert answer.status_code in (400, 401, 404)
        return answer

    def sha(self, text):
        return hashlib.sha256(text.encode()).hexdigest()

    @pytest.mark.parametrize(
        ("write", "said"),
        [
            (
                lambda t: f"7|{t}|{v1(f'7|{t}'.encode(), SHARED_KEY)}",
                "The game signs its entries by another recipe: pipe-hmac-sha256.",
            ),
            (
                lambda t: f"7|c1|{t}|{hashlib.sha256(f'7|c1|{t}|{SHARED_KEY}'.encode()).hexdigest()}",
                "The game signs something more behind its player: 7|c1, where the entry names 7.",
            ),
            (
                lambda t: f"7|{t}|{hashlib.sha256(f'7|{t}|c1|{SHARED_KEY}'.encode()).hexdigest()}",
                "The game signs its entries by another recipe: {user}|{time}|{signature} = "
                "sha256({user}|{time}|{campaign}|{key}).",
            ),
            (
                lambda t: f"7.{t}.{v1(f'7.{t}'.encode(), SHARED_KEY)}",
                "The game signs its entries by another recipe: {user}.{time}.{signature} = hmac-sha256({user}.{time}).",
            ),
            (
                lambda t: f"7|{t}000|{v1(f'7|{t}000'.encode(), SHARED_KEY)}",
                "The game signs its entries by another recipe: {user}|{time_ms}|{signature} = "
                "hmac-sha256({user}|{time_ms}).",
            ),
            (
                lambda t: f"{t}|{base64.b64encode(bytes.fromhex(v1(f'7|{t}'.encode(), SHARED_KEY))).decode()}",
                "The game signs its entries by another recipe: {time}|{signature} = hmac-sha256-base64({user}|{time}).",
            ),
            (
                lambda t: f"7|{t}|{hashlib.sha256(f'7|{t}|{MAIN_KEY}'.encode()).hexdigest()}",
                "It is signed with the main key of this game in place of this game's PlayCamp shared key.",
            ),
            (
                lambda t: f"7|{t}|{hashlib.sha256(f'7|{t}|{SHARED_KEY}'.encode()).hexdigest()}\n",
                "The parameter custom_data does not look as playcamp.signature says",
            ),
            (
                lambda t: f"7|{t}|{hashlib.sha256(f'7|{t}|nobody'.encode()).hexdigest()}",
                "It was signed with a key that is not stored here, or the link was changed on the way.",
            ),
            (
                lambda t: f"8|{t}|{hashlib.sha256(f'8|{t}|{SHARED_KEY}'.encode()).hexdigest()}",
                "The signature is that of another player than the entry names: 8, and not 7.",
            ),
            (
                lambda t: f"7|{t - 900}|{hashlib.sha256(f'7|{t - 900}|{SHARED_KEY}'.encode()).hexdigest()}",
                "It was signed 15 minutes before it came (5 minutes are allowed): an old call was sent again, or",
            ),
        ],
    )
    def test_a_spoiled_entry_gets_its_sentence(self, client, sentence, write, said):
        self.enter(client, usn="7", camp_code="c1", custom_data=write(int(time.time())))
        assert sentence().startswith(said)

    def test_other_names(self, client, sentence, studio):
        t = int(time.time())
        self.enter(client, user_id="7", sig=f"7|{t}|{self.sha(f'7|{t}|{SHARED_KEY}')}")
        assert sentence() == (
            "The entry is signed rightly, but its parameters have other names: user_id is the player, sig is the "
            "signature."
        )
        self.enter(client, custom_data="7", usn=f"7|{t}|{self.sha(f'7|{t}|{SHARED_KEY}')}")
        assert "custom_data is the player, usn is the signature" in sentence()
        self.enter(client, a="b")
        assert sentence() == "The parameter usn and custom_data is missing; there are a."
        self.enter(client)
        assert sentence() == "The parameter usn and custom_data is missing and so is everything else."

    def test_a_campaign_that_is_not_listed(self, client, sentence, studio):
        studio.config("playcamp.campaigns", "c2")
        t = int(time.time())
        self.enter(client, usn="7", camp_code="c1", custom_data=f"7|{t}|{self.sha(f'7|{t}|{SHARED_KEY}')}")
        assert sentence() == "The entry names a campaign that playcamp.campaigns does not list (c2)."


class TestPaymentQueries:
    @pytest.fixture(autouse=True)
    def keyed(self, studio):
        studio.secret("playcamp.payments_key", PAYMENTS_KEY)

    def ask(self, client, query="to=20&from=10", at=None, lines=None, key=PAYMENTS_KEY, digest=None, **left_out):
        t = str(int(time.time() if at is None else at))
        lines = lines or ["GET", "/playcamp/demo/payments", "&".join(sorted(query.split("&"))), t]
        fingerprint = digest or hashlib.sha256("\n".join([*lines, key]).encode()).hexdigest()
        headers = {"X-Timestamp": t, "X-Fingerprint": fingerprint}
        headers = {name: value for name, value in headers.items() if name.lower() not in left_out.values()}
        answer = client.get(f"/playcamp/demo/payments?{query}", headers=headers)
        assert answer.status_code == 401
        return answer

    def test_each_gets_its_sentence(self, client, sentence, clock):
        t = str(int(time.time()))
        path = "/playcamp/demo/payments"
        self.ask(client, without="x-fingerprint")
        assert sentence() == "The query lacks the header X-Fingerprint."
        self.ask(client, key=MAIN_KEY)
        assert (
            sentence()
            == "The fingerprint is made with the main key of this game in place of this game's PlayCamp payments key."
        )
        made = "The fingerprint is made with the PlayCamp payments key of this game, but "
        self.ask(client, lines=["GET", path, "to=20&from=10", t])
        assert sentence() == f"{made}over the query as it is sent, its parameters not in order."
        self.ask(client, lines=["GET", path, "", t])
        assert sentence() == f"{made}without the query."
        self.ask(client, digest=v1(f"GET\n{path}\nfrom=10&to=20\n{t}".encode(), PAYMENTS_KEY))
        assert sentence() == f"{made}as an HMAC in place of a digest."
        self.ask(client, key="nobody")
        assert sentence() == "It was signed with a key that is not stored here, or the address was changed on the way."
        self.ask(client, at=time.time() - 3600)
        assert "1 hour before it came" in sentence() or "took local time" in sentence()


class TestCallers:
    """Whoever forges a call learns nothing of what the owner is told."""

    def test_the_answer_is_the_same_whatever_is_wrong_with_a_signature(self, client, studio, other):
        t = now_ms()
        bodies = [RAW, RAW + b"\n", json.dumps(json.loads(BODY)).encode()]
        old = str(int(time.time() * 1000) - 900_000)
        signatures = [
            sign(RAW, OTHER_KEY.encode(), t),
            sign(RAW, TOKEN.encode(), t),
            sign(RAW, b"nobody", t),
            sign(RAW, MAIN_KEY.encode(), old),
            f"t={t},v1={v1(RAW)}",
            v1(RAW),
            "t=x",
            "",
        ]
        answers = {
            (answer.status_code, answer.data, tuple(sorted((n, v) for n, v in answer.headers if n != "Date")))
            for body in bodies
            for signature in signatures
            if (
                answer := client.post(
                    "/appcharge/demo/orders", data=body, headers={"signature": signature, "x-publisher-token": TOKEN}
                )
            )
        }
        answers |= {
            (answer.status_code, answer.data, tuple(sorted((n, v) for n, v in answer.headers if n != "Date")))
            for token in (OTHER_TOKEN, "", MAIN_KEY)
            if (
                answer := client.post(
                    "/appcharge/demo/orders", data=RAW, headers=appcharge_headers(RAW) | {"x-publisher-token": token}
                )
            )
        }
        assert len(answers) == 1

    def test_nor_does_it_depend_on_the_reason_elsewhere(self, client, studio, other):
        studio.secret("playcamp.webhook_secret", HOOK_SECRET)
        hooks = {
            client.post("/playcamp/demo/webhook", data=EVENTS, headers={"X-Webhook-Signature": signature}).data
            for signature in (
                v1(EVENTS, "x"),
                v1(EVENTS, HOOK_SECRET[6:]),
                "",
                "t=1,v1=" + v1(b"1." + EVENTS, HOOK_SECRET),
            )
        }
        credits = {
            client.get(f"/playtem/demo/credit?payload={quote(base64.b64encode(json.dumps(each).encode()))}").data
            for each in (playtem_payload(key="x"), playtem_payload(key="the-other-playtem-secret"))
        }
        assert (len(hooks), len(credits)) == (1, 1)


class TestPages:
    def refuse(self, client, installation, count=1, game="demo", **headers):
        for number in range(count):
            body = json.dumps(order(orderId=f"o-{number}")).encode()
            client.post(f"/appcharge/{game}/orders", data=body, headers=appcharge_headers(body, key="x") | headers)
        installation.observations.flush()

    def test_the_list_is_paged_and_filtered(self, browser, client, studio, installation):
        self.refuse(client, installation, 23)
        client.get("/playtem/demo/credit")
        installation.observations.flush()
        first = browser.get("/games/demo/refusals")
        ids = re.findall(r'href="/games/demo/refusals/(\d+)"', first.text)
        assert (len(ids), ids) == (20, sorted(ids, key=int, reverse=True))
        second = browser.get(next_of(first)).text
        assert len(re.findall(r'href="/games/demo/refusals/(\d+)"', second)) == 4
        assert (
            len(
                re.findall(r'href="/games/demo/refusals/\d+"', browser.get("/games/demo/refusals?partner=playtem").text)
            )
            == 1
        )
        assert "for this reason" in browser.get("/games/demo/refusals?reason=token").text
        assert browser.get("/games/demo/refusals?partner=x&reason=y&after=-1").status_code == 200

    def test_the_body_is_shown_when_it_is_asked_for_and_that_is_noted(self, browser, client, studio, installation, db):
        self.refuse(client, installation)
        (address,) = re.findall(r'href="(/games/demo/refusals/\d+)"', browser.get("/games/demo/refusals").text)
        assert "starterpack" not in browser.get(address).text
        shown = browser.post(address)
        assert (shown.status_code, "starterpack" in shown.text) == (200, True)
        assert [row["subject"] for row in db("SELECT * FROM audit WHERE action = 'refusal.body'")] == [
            address.rpartition("/")[2]
        ]

    def test_no_secret_and_no_whole_proof_is_shown(self, browser, client, studio, installation):
        headers = appcharge_headers(RAW, key="x")
        self.refuse(client, installation, **{"x-publisher-token": "a-token-nobody-should-see"})
        (address,) = re.findall(r'href="(/games/demo/refusals/\d+)"', browser.get("/games/demo/refusals").text)
        text = browser.get(address).text
        assert "a-token-nobody" not in text
        for secret in (MAIN_KEY, TOKEN, PLAYTEM_SECRET, headers["signature"].partition("v1=")[2]):
            assert secret not in text

    def test_what_is_tried_of_one_call_is_bounded_and_said_to_be_so(self, browser, client, studio, installation):
        for number in range(12):
            game = Studio(installation, f"game-{number}")
            for name in ("appcharge.main_key", "appcharge.secondary_key", "playtem.secret"):
                game.secret(name, f"{name}-{number}-0123456789")
        body = json.dumps({"a": [1.5, "x/é"] * 2400}).encode()
        client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, key="x"))
        installation.observations.flush()
        (address,) = re.findall(r'href="(/games/demo/refusals/\d+)"', browser.get("/games/demo/refusals").text)
        text = browser.get(address).text
        assert "It was signed with a key that is not stored here" in text
        assert "It is large, so that not everything was tried." in text

    def test_a_list_tries_for_a_moment_only_and_leads_to_the_rest(
        self, browser, client, studio, installation, monkeypatch
    ):
        monkeypatch.setattr(room, "LIST_SECONDS", 0)
        self.refuse(client, installation, 3)
        text = browser.get("/games/demo/refusals").text
        assert text.count("Find out why") == 3
        browser.get(re.search(r'href="(/games/demo/refusals/\d+)"', text)[1])
        assert browser.get("/games/demo/refusals").text.count("Find out why") == 2

    def test_a_call_that_cannot_be_opened_says_so(self, browser, client, studio, installation):
        self.refuse(client, installation)
        installation.database.write_here(lambda tx: tx.execute("UPDATE refusals SET ciphertext = x'00'"))
        assert "cannot be opened with the master key" in browser.get("/games/demo/refusals").text


@pytest.mark.parametrize(
    "body", [b'{"a":"\\u000099\\u0000"}', b'{"a":"\\u0000' + b"9" * 5000 + b'\\u0000", "b": 1.50}']
)
def test_what_a_stranger_sends_keeps_the_owner_from_nothing(client, browser, installation, studio, body):
    assert client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, "other")).status_code == 401
    installation.observations.flush()
    assert browser.get("/games/demo/refusals").status_code == 200
    for address in re.findall(r'href="(/games/demo/refusals/[0-9]+)"', browser.get("/games/demo/refusals").text):
        assert browser.get(address).status_code == 200
