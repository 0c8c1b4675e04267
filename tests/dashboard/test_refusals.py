"""Why a call was refused: a genuine call, spoiled in one way, gets exactly its sentence; its caller learns nothing."""

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
from handlers.dashboard.integration import refusals as refused_calls
from tests.conftest import MAIN_KEY, PLAYTEM_SECRET, TOKEN, Studio, appcharge_headers, order
from tests.pages import assert_has, next_of

LIST = "/games/demo/refusals"
OTHERS = "/games/space-miner/refusals"
OTHER_GAME = "It is signed with a key of this game, and came to the address of the game demo."
OTHER_KEY, OTHER_TOKEN, NEW_KEY = "another-games-main-key-01", "another-games-token", "the-new-key-0123456789"
KEY_32, VECTOR_16 = "0123456789abcdef0123456789abcdef", "fedcba9876543210"
HOOK_SECRET = "whsec_" + base64.b64encode(b"a webhook's secret, 32 bytes long").decode()
SHARED_KEY, PAYMENTS_KEY = "the-shared-key-of-demo", "the-payments-key-of-demo"
SIGNED = "It is signed with "
UNKNOWN_KEY = "It was signed with a key that is not stored here, or the {} was changed on the way."
PROXY = "A proxy or middleware {} the body after it was signed."
LINE_BREAK = "added a line break at the end of"
UNREADABLE = "The call proved itself, but its body cannot be read: "


def vectors(name):
    """Calls that programs of others have signed."""
    return json.loads((Path(__file__).parents[1] / "payloads" / name).read_text())["vectors"][:3]


BODY = json.dumps(
    order(bundleName="Pièces d’or / 5%", fx=0.000001, net=850.50), separators=(",", ":"), ensure_ascii=False
)
RAW = BODY.encode()
EVENTS = b'{"events":[{"event":"sponsor.ended","timestamp":"2026-01-01T00:00:00Z","data":{"userId":"alice"}}]}'


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine is no reason to leave sentences out of a list."""
    monkeypatch.setattr(refused_calls, "LIST_SECONDS", 60)


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
    """The sentence of the newest refused call in the list of a game; its own page has the same."""

    def read(address=LIST):
        installation.observations.flush()
        listed = browser.get(address)
        assert listed.status_code == 200
        found = re.findall(rf'href="({address}/\d+)".*?<td class="prose">(.*?)</td>', listed.text, re.DOTALL)
        newest, said = max(found, key=lambda each: int(each[0].rpartition("/")[2]))
        detail = browser.get(newest)
        assert detail.status_code == 200
        found = re.search(r'<p class="verdict">(.*?)</p>', detail.text, re.DOTALL)[1]
        assert said.startswith(found[:380])
        return html.unescape(found)

    return read


def v1(message, key=MAIN_KEY):
    return hmac.new(key.encode() if isinstance(key, str) else key, message, "sha256").hexdigest()


def in_base64(digest):
    return base64.b64encode(bytes.fromhex(digest)).decode()


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def now_ms():
    return str(int(time.time() * 1000))


class TestAppcharge:
    def post(
        self, client, body=RAW, sent=None, signature=None, token=TOKEN, key=MAIN_KEY, endpoint="orders", **headers
    ):
        """``body`` is what is signed and ``sent`` what comes, where something on the way changed it."""
        given = {} if signature is ... else {"signature": signature or sign(body, key.encode(), now_ms())}
        given |= {} if token is ... else {"x-publisher-token": token}
        path = f"/appcharge/demo/{endpoint}"
        answer = client.post(path, data=body if sent is None else sent, headers=given | headers)
        assert answer.status_code >= 400, "the call was accepted"

    KEYS = (
        (OTHER_TOKEN, f"{SIGNED}the publisher token of the game space-miner (sandbox)."),
        (TOKEN, f"{SIGNED}the publisher token of this game in place of the main key."),
        ("events-secret-000001", f"{SIGNED}the events secret of this game in place of the main key."),
        (PLAYTEM_SECRET, f"{SIGNED}the Playtem secret of this game in place of the main key."),
        (f"{MAIN_KEY}\n", f"{SIGNED}the main key of this game, with a line break at its end."),
        ("the-secondary-key-01", f"{SIGNED}the secondary key of this game, while appcharge.secondary_role is iv."),
        ("nobody-knows-this-key", UNKNOWN_KEY.format("body")),
    )
    SIGNATURES = (
        (..., "The call carries no signature."),
        ("t=1767225600000", "The header signature has a time and no v1."),
        ("t=yesterday,v1=" + "0" * 64, "The time in the header signature (t=) is no number."),
        ("t=1,v1=abc", "The v1 in the header signature has 3 characters, and not 64 hexadecimal digits."),
        ("v1=" + "0" * 64, "The header signature lacks its time (t=)."),
        (v1(RAW), f"{SIGNED}the main key of this game over the body alone: the header lacks its time (t=)."),
        ("t=1,t=2,v1=" + "0" * 64, "The header signature names its time or its v1 more than once."),
    )
    BODIES = (
        (RAW, RAW + b"\n", LINE_BREAK),
        (RAW, RAW + b"\r\n", LINE_BREAK),
        (RAW, b" " + RAW + b"  ", "added spaces or line breaks around"),
        (RAW, b"\xef\xbb\xbf" + RAW, "put a byte order mark in front of"),
        (RAW + b"\n", RAW, "removed the line break at the end of"),
        (b'{\n"a": 1}', b'{\r\n"a": 1}', "changed the line breaks in"),
        (RAW, json.dumps(json.loads(BODY)).encode(), "re-formatted"),
        (RAW, json.dumps(json.loads(BODY), separators=(",", ":")).encode(), "re-formatted"),
        (RAW, json.dumps(json.loads(BODY), ensure_ascii=False, indent=2).encode(), "re-formatted"),
        (RAW, RAW.replace(b"/", b"\\/"), "re-formatted"),
        (json.dumps(json.loads(BODY), sort_keys=True, indent=4).encode(), RAW, "changed the order of the keys in"),
        (RAW, json.dumps(dict(reversed(json.loads(BODY).items()))).encode(), "changed the order of the keys in"),
    )
    RIGHT = "The signature is right, but "
    TOKENS = (
        (..., f"{RIGHT}the header x-publisher-token is missing."),
        (
            OTHER_TOKEN,
            f"{RIGHT}it carries the publisher token of the game space-miner (sandbox) as its publisher token.",
        ),
        (MAIN_KEY, f"{RIGHT}it carries the main key of this game as its publisher token."),
        (
            TOKEN.upper(),
            f"{RIGHT}its publisher token differs from the one that is set here in blanks or capitals alone.",
        ),
        (TOKEN[:12], f"{RIGHT}its publisher token and the one that is set here begin alike: one of them was cut."),
        ("who-knows", f"{RIGHT}its publisher token is not one that is stored here."),
    )
    SPOILED = (
        *(({"key": key}, said) for key, said in KEYS),
        *(({"signature": signature}, said) for signature, said in SIGNATURES),
        *(({"body": body, "sent": sent}, PROXY.format(said)) for body, sent, said in BODIES),
        *(({"token": token}, said) for token, said in TOKENS),
        ({"sent": RAW.replace(b"alice", b"bobby")}, UNKNOWN_KEY.format("body")),
        (
            {"sent": json.dumps(json.loads(BODY)).encode(), "key": OTHER_KEY},
            f"{PROXY.format('re-formatted')} {SIGNED}the main key of the game space-miner (sandbox).",
        ),
        (
            {"x-project-id": "4321"},
            "It comes from the Appcharge project 4321, which is that of the game space-miner; appcharge.project_id is "
            "1234.",
        ),
        ({"x-project-id": "99"}, "It comes from the Appcharge project 99; appcharge.project_id is 1234."),
    )

    @pytest.mark.parametrize(("spoiled", "said"), SPOILED)
    def test_a_spoiled_call_gets_its_sentence(self, client, studio, other, sentence, spoiled, said):
        studio.secret("appcharge.secondary_key", "the-secondary-key-01")
        studio.config("appcharge.secondary_role", "iv")
        studio.secret("appcharge.events_secret", "events-secret-000001")
        studio.config("appcharge.project_id", "1234")
        other.config("appcharge.project_id", "4321")

        self.post(client, **spoiled)

        assert sentence() == said

    def test_what_else_may_have_been_signed(self, client, studio, sentence):
        t = int(time.time())
        for sent, message, said in (
            (t, RAW, ", but over the body alone, without the time."),
            (t, b"%d" % t + RAW, ", but without the full stop between time and body."),
            (t, RAW + b".%d" % t, ", but over body and time in the wrong order."),
            (t, b"%d000." % t + RAW, ", but with its time in milliseconds and sent with seconds."),
            (f"{t}000", b"%d." % t + RAW, ", but with its time in seconds and sent with milliseconds."),
        ):
            self.post(client, signature=f"t={sent},v1={v1(message)}")
            assert sentence() == f"{SIGNED}the main key of this game{said}"
        self.post(client, signature=f"t={t},v1={in_base64(v1(b'%d.' % t + RAW))}")
        assert "the v1 is written in Base64" in sentence()
        self.post(client, signature=..., **{"X-Appcharge-Signature": sign(RAW, MAIN_KEY.encode(), str(t))})
        assert sentence().startswith("The signature came in the header x-appcharge-signature;")

    @pytest.mark.parametrize("vector", vectors("appcharge/signed_by_node.json")[:2])
    def test_signatures_that_others_made(self, client, studio, sentence, clock, vector):
        studio.secret("appcharge.events_secret", "vector-main-key-7f3a")
        body = base64.b64decode(vector["body_base64"])
        self.post(client, body=body, signature=vector["signature"])
        assert sentence() == f"{SIGNED}the events secret of this game in place of the main key."
        self.post(client, body=body, sent=json.dumps(json.loads(body)).encode(), signature=vector["signature"])
        assert sentence().startswith(PROXY.format("re-formatted"))

    def test_a_key_that_was_set_since_or_retired(self, client, studio, sentence, browser):
        self.post(client, key=NEW_KEY)
        studio.rotate("appcharge.main_key", NEW_KEY)
        assert sentence() == f"{SIGNED}the main key of this game, which was set, or let in, after this call came."
        self.post(client, sent=RAW + b"\n")
        assert sentence() == PROXY.format(LINE_BREAK)
        studio.retire("appcharge.main_key")
        self.post(client)
        assert sentence() == UNKNOWN_KEY.format("body")
        address = re.search(rf'href="({LIST}/\d+)"', browser.get(LIST).text)[1]
        assert "An older value of the main key was replaced on" in browser.get(address).text

    def test_bodies_that_are_not_kept_are_said_to_be_so(self, client, studio, sentence):
        self.post(client, key="x", endpoint="auth")
        assert sentence().startswith("Bodies of logins may hold passwords and are not kept")
        self.post(client, body=b"[" + b"1," * 40_000 + b"1]", key="x")
        assert "is too large to be kept whole" in sentence()

    def test_the_encrypted_payloads(self, client, studio, other, sentence):
        def keys(main, secondary, of=studio):
            of.secret("appcharge.main_key", main)
            of.secret("appcharge.secondary_key", secondary)

        def encrypt(main, vector):
            return encrypted.encrypt(RAW, main.encode(), vector.encode())

        keys(KEY_32, VECTOR_16)
        studio.config("appcharge.secondary_role", "iv")
        ciphertext, strange = encrypt(KEY_32, VECTOR_16), encrypt("k" * 32, "v" * 16)
        self.post(client, body=ciphertext, signature=...)
        assert sentence() == (
            "The body is encrypted as in 2023, and opens with the main key of this game and the secondary key of this "
            "game; appcharge.payload is json."
        )
        studio.config("appcharge.payload", "aes")
        for call, said in (
            (
                {"key": KEY_32},
                "It is not encrypted but signed, with the main key of this game, while appcharge.payload is aes.",
            ),
            ({"signature": ...}, "The body is plain JSON, while appcharge.payload is aes."),
            (
                {"body": strange, "signature": ...},
                "It was encrypted with keys that are not stored here, or changed on the way.",
            ),
            (
                {"body": ciphertext, "signature": ..., "token": "wrong-token-here"},
                "The call is encrypted, but its publisher token is not one that is stored here.",
            ),
            (
                {"body": ciphertext, "signature": ..., "token": ...},
                "It opens with this game's keys, and carries no publisherToken.",
            ),
        ):
            self.post(client, **call)
            assert sentence() == said
        keys("o" * 32, "p" * 16, other)
        self.post(client, body=encrypt("o" * 32, "p" * 16), signature=...)
        assert sentence().startswith("It opens with the main key of the game space-miner (sandbox)")
        keys(VECTOR_16, KEY_32)
        self.post(client, body=ciphertext, signature=...)
        assert sentence().startswith("Main key and secondary key are swapped")
        keys("too short", VECTOR_16)
        self.post(client, body=strange, signature=...)
        assert sentence() == "It cannot be opened: the main key has 9 characters and needs 32."

    def test_what_is_no_matter_of_proofs(self, client, studio, sentence):
        client.post("/appcharge/demo/orders", data=RAW, headers=appcharge_headers(RAW))
        for changed, said in (
            ({"orderId": "o-2", "playerId": "mallory"}, "The player mallory was not registered when this call came."),
            (
                {"orderId": "o-3", "products": [{"amount": 1, "sku": "swords"}]},
                "The item swords was not registered when this call came.",
            ),
            ({"playerId": ...}, f"{UNREADABLE}playerId"),
            ({"priceInCents": 1}, "The same transaction was credited before with other content"),
        ):
            self.post(client, body=json.dumps(order(**changed)).encode())
            assert sentence().startswith(said)
        self.post(client, body=b"{")
        assert sentence() == f"{UNREADABLE}it is not JSON."
        self.post(client, endpoint="otp", body=b'{"device":"MOBILE"}')
        assert sentence() == "The store wants to open the game for a login, and appcharge.deep_link is not set."
        studio.config("allowlist.appcharge", "192.0.2.0/24")
        self.post(client)
        assert sentence() == "It came from 127.0.0.1, which is not on allowlist.appcharge (192.0.2.0/24)."
        self.post(client, **{"X-Forwarded-For": "192.0.2.7"})
        assert sentence().endswith("says that a proxy passed it on for 192.0.2.7.")


class TestTime:
    """Whose clock is wrong: judged by the other calls of the day."""

    AHEAD = "This machine's clock is 10 minutes ahead: 3 calls of that day were as late (5 minutes are allowed)."

    @pytest.mark.parametrize(
        ("lags", "said"),
        [
            (
                [-420],
                "This machine's clock is 7 minutes behind: the call was signed that much later than it came here "
                "(5 minutes are allowed).",
            ),
            ([600], "an old call was sent again, or this machine's clock is ahead."),
            ([600, 602, 601], AHEAD),
            ([0, 3 * 3600 + 700], "An old call was sent again: it was signed 3 hours before it came"),
            ([0, -420], "The sender's clock is 7 minutes ahead"),
            ([-9 * 3600], "Its time is off by exactly 9 hours: the sender used local time in place of UTC."),
        ],
    )
    def test_the_sentence_tells_by_the_other_calls(self, client, studio, sentence, clock, lags, said):
        for number, lag in enumerate(lags):
            body = json.dumps(order(orderId=f"o-{number}"), separators=(",", ":")).encode()
            headers = appcharge_headers(body, at=time.time() - lag)
            answer = client.post("/appcharge/demo/orders", data=body, headers=headers)
            assert answer.status_code == (401 if lag else 200)
        assert said in sentence()

    def test_the_very_same_call_came_twice(self, client, studio, sentence, clock):
        headers = appcharge_headers(RAW, at=time.time() - 500)
        client.post("/appcharge/demo/orders", data=RAW, headers=headers)
        clock.shift(60)
        client.post("/appcharge/demo/orders", data=RAW, headers=headers)
        assert sentence().startswith(
            "An old call was sent again: it was signed 9 minutes before it came, and came more"
        )

    def test_microseconds(self, client, studio, sentence):
        signature = {"signature": sign(RAW, MAIN_KEY.encode(), str(int(time.time() * 1e6)))}
        client.post("/appcharge/demo/orders", data=RAW, headers=appcharge_headers(RAW) | signature)
        assert sentence() == "Its time counts microseconds, in place of milliseconds or seconds."


def playtem_payload(message=None, key=PLAYTEM_SECRET, digest=None, **changed):
    """Playtem's JSON; ``message`` makes of its fields what is signed."""
    fields = {"AppId": 3, "AppName": "Game", "UserId": "alice", "Items": ["coins", "gems"], "TransactionId": "tx-1"}
    fields = {name: value for name, value in (fields | changed).items() if value is not ...}
    texts = {name: str(value) for name, value in fields.items()} | {"Items": "".join(map(str, fields.get("Items", [])))}
    if message is None:
        text = "".join(texts.get(name, "") for name in ("AppId", "UserId", "Items", "TransactionId"))
    else:
        text = message(*(texts[name] for name in ("AppId", "UserId", "Items", "TransactionId")))
    signed = hmac.new(key.encode(), text.encode(), "sha1").hexdigest().upper()
    return {"Signature": signed if digest is None else digest(text)} | fields


def encode(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


class TestPlaytem:
    def get(self, client, document, parameter="payload", path="/playtem/demo/credit"):
        text = document if isinstance(document, str) else encode(json.dumps(document))
        answer = client.get(f"{path}?{parameter}={quote(text, safe='')}")
        assert answer.status_code >= 400, "the call was accepted"

    RIGHT = "The secret is right, but "
    GUIDE = "; the guide says AppId + UserId + Items + TransactionId."
    SPOILED = (
        (playtem_payload(key=TOKEN), f"{SIGNED}the publisher token of this game in place of the Playtem secret."),
        (
            playtem_payload(key=f"{PLAYTEM_SECRET}\n"),
            f"{SIGNED}the Playtem secret of this game, with a line break at its end.",
        ),
        (playtem_payload(key="nobody-knows"), UNKNOWN_KEY.format("call")),
        (
            playtem_payload(lambda app, user, items, transaction: f"{app}{user}coins,gems{transaction}"),
            f"{RIGHT}Items are signed in the format comma, which playtem.formats leaves out.",
        ),
        (
            playtem_payload(lambda app, user, items, transaction: f"{app}|{user}|coins|gems|{transaction}"),
            f"{RIGHT}what is signed has other separators: '|' between its parts, 'coins|gems' for its items.",
        ),
        (
            playtem_payload(lambda app, user, items, transaction: user + app + items + transaction),
            f"{RIGHT}it signs UserId + AppId + Items + TransactionId{GUIDE}",
        ),
        (
            playtem_payload(lambda app, user, items, transaction: app + user + transaction),
            f"{RIGHT}it signs AppId + UserId + TransactionId{GUIDE}",
        ),
        (
            playtem_payload(digest=lambda text: hashlib.sha1((text + PLAYTEM_SECRET).encode()).hexdigest()),
            f"{RIGHT}it is signed by SHA-1 over the secret and the text, and not by HMAC-SHA1.",
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
        (playtem_payload(Items=[]), "The signature is right, but the call has no items to credit."),
        ("", "The payload is empty."),
        ("???", "The payload is not Base64, or was cut on the way."),
        (json.dumps(playtem_payload()), "The payload is JSON as it is, and not Base64 of it."),
        (encode(bytes(range(128, 192))), "The payload is Base64 of something that is no text: it may be encrypted."),
        (encode("hello there"), "The payload is Base64 of something that is no JSON, character 1."),
        (encode("[1]"), "The payload's JSON is no object."),
        (encode(encode(json.dumps(playtem_payload()))), "The payload was put into Base64 twice."),
        (
            encode(str(playtem_payload())),
            "The payload is in the guide's notation with single quotes, which playtem.accept_single_quotes leaves out.",
        ),
    )

    @pytest.mark.parametrize(("document", "said"), SPOILED)
    def test_a_spoiled_call_gets_its_sentence(self, client, studio, other, sentence, document, said):
        studio.config("playtem.app_id", "3")
        other.config("playtem.app_id", "7")
        studio.config("playtem.formats", "concat")
        studio.config("playtem.accept_single_quotes", "off")

        self.get(client, document)

        assert sentence() == said

    def test_the_parameter(self, client, studio, sentence):
        for text, parameter, said in (
            (playtem_payload(), "data", "The payload came in the parameter data; payload is expected."),
            ("x", "y", "The parameter payload is missing; there are: y."),
            ("x%26PAYLOAD=y", "payload=1&payload", "The parameter payload is there 2 times."),
        ):
            self.get(client, text, parameter)
            assert sentence() == said

    @pytest.mark.parametrize("vector", vectors("playtem/signed_by_php.json"), ids=lambda vector: vector["name"])
    def test_signatures_that_others_made(self, client, studio, other, sentence, vector):
        other.secret("playtem.secret", "vector-playtem-secret")
        client.get(f"/playtem/demo/credit?{vector['query']}")
        assert sentence(OTHERS) == OTHER_GAME

    def test_a_call_that_names_no_game(self, client, studio, other, browser, installation, db):
        other.config("playtem.app_id", "7")
        self.get(client, playtem_payload(AppId=9), path="/playtem/credit")
        self.get(client, playtem_payload(TransactionId="tx-2"), path="/playtem/demmo/credit")
        installation.observations.flush()
        listed = html.unescape(browser.get(LIST).text)  # the secret of demo proves them
        assert_has(
            listed,
            "It names the AppId 9, which no game here has as its playtem.app_id.",
            "There is no game 'demmo' here; there is demo.",
        )
        self.get(client, "nothing", path="/playtem/demmo/credit")  # and nothing proves this one
        installation.observations.flush()
        address = re.search(r'href="(/refusals/\d+)"', browser.get("/refusals").text)[1]
        shown = browser.post(address)
        assert (shown.status_code, browser.get(address).status_code) == (200, 200)
        assert db("SELECT game_id, subject FROM audit WHERE action = 'refusal.body'") == [
            {"game_id": None, "subject": address.rpartition("/")[2]}
        ]


class TestPlayCampWebhooks:
    @pytest.fixture(autouse=True)
    def hooked(self, studio):
        studio.secret("playcamp.webhook_secret", HOOK_SECRET)
        studio.secret("playcamp.webhook_secret.payments", "the-payments-hooks-secret")

    def post(self, client, signature=None, body=EVENTS, path="/playcamp/demo/webhook", **headers):
        given = {} if signature is None else {"X-Webhook-Signature": signature}
        answer = client.post(path, data=body, headers=given | headers)
        assert answer.status_code >= 400, "the call was accepted"

    OURS = f"{SIGNED}the PlayCamp webhook secret of this game, "
    FORM = "but the header is written in another form"

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            (HOOK_SECRET.removeprefix("whsec_"), f"{OURS}without its whsec_."),
            (
                base64.b64decode(HOOK_SECRET.removeprefix("whsec_")),
                f"{OURS}as the bytes of its Base64 behind whsec_.",
            ),
            (MAIN_KEY, f"{SIGNED}the main key of this game in place of a webhook's secret."),
            ("nobody-knows", UNKNOWN_KEY.format("body")),
        ],
    )
    def test_another_key(self, client, other, sentence, key, said):
        t = int(time.time())
        for signature in (f"t={t},v1={v1(b'%d.' % t + EVENTS, key)}", v1(EVENTS, key)):
            self.post(client, signature)
            assert sentence() == said

    @pytest.mark.parametrize(
        ("header", "signed_at", "said"),
        [
            (None, None, "The call carries no signature."),
            ("abc", None, "The signature in the header is not 64 hexadecimal digits."),
            ("sha256={v1}", None, f"{OURS}{FORM} than PlayCamp's: it begins with 'sha256="),
            ("{base64}", None, f"{OURS}{FORM}"),
            ("v1={v1}", None, f"{OURS}{FORM}"),
            ("t={t},v1={v1}", None, f"{OURS}but over the body alone: the time in the header is not signed."),
            ("t={t},v1={v1}", "{t}000", f"{OURS}but with its time in milliseconds and sent with seconds."),
            (
                "t={t}000,v1={v1}",
                "{t}000",
                "Its time counts milliseconds (or less); PlayCamp's webhooks count seconds.",
            ),
            (
                "t={old},v1={v1}",
                "{old}",
                "It was signed 7 minutes before it came (5 minutes are allowed): an old call was sent again, or this "
                "machine's clock is ahead.",
            ),
            (
                "t={early},v1={v1}",
                "{early}",
                "This machine's clock is 1 minute behind: the call was signed that much later than it came here (5 "
                "seconds are allowed).",
            ),
        ],
    )
    def test_another_header(self, client, sentence, header, signed_at, said, clock):
        t = int(time.time())
        clock.move_to(t)
        times = {"t": t, "old": t - 420, "early": t + 60}
        signed = EVENTS if signed_at is None else f"{signed_at.format(**times)}.".encode() + EVENTS
        digest = v1(signed, HOOK_SECRET)
        self.post(client, header and header.format(v1=digest, base64=in_base64(digest), **times))
        assert sentence().startswith(said)

    def test_another_body(self, client, sentence):
        for signed, body, said in (
            (EVENTS, EVENTS + b"\n", PROXY.format(LINE_BREAK)),
            (EVENTS, json.dumps(json.loads(EVENTS), indent=2).encode(), PROXY.format("re-formatted")),
            (b"", b"", "The body is empty."),
            (b"{}", b"{}", f"{UNREADABLE}it holds no list of events."),
        ):
            self.post(client, v1(signed, HOOK_SECRET), body)
            assert sentence() == said

    def test_the_secret_of_another_webhook(self, client, sentence, studio):
        self.post(client, v1(EVENTS, HOOK_SECRET), path="/playcamp/demo/webhook/payments")
        assert sentence() == (
            "It came to the address of the webhook payments and is signed with the secret of the address without a "
            "webhook's name."
        )
        self.post(client, v1(EVENTS, HOOK_SECRET), path="/playcamp/demo/webhook/sponsors")
        assert sentence() == "The webhook sponsors of the game demo has no secret here. Those with one: payments."
        studio.secret("playcamp.webhook_secret.sponsors", "x" * 20)
        assert sentence() == "The webhook sponsors had no secret when this call came; now it has one."

    def test_another_gateways_call(self, client, sentence):
        for signed, at, said in (
            (EVENTS, {}, "It has X-Gateway-Signature and lacks X-Gateway-Timestamp."),
            (EVENTS, {"X-Gateway-Timestamp": "1767225600"}, "over the body alone"),
            (b"1767225600." + EVENTS, {"X-Gateway-Timestamp": "1767225600"}, "before it came"),
        ):
            self.post(client, **{"X-Gateway-Signature": v1(signed, HOOK_SECRET)}, **at)
            assert said in sentence()

    @pytest.mark.parametrize("vector", vectors("playcamp/signed_by_sdk.json"), ids=lambda vector: vector["name"])
    def test_signatures_that_others_made(self, client, other, sentence, vector):
        other.secret("playcamp.webhook_secret", "whsec_vector_91c2")
        self.post(client, vector["simple"], base64.b64decode(vector["body_base64"]))
        assert sentence(OTHERS) == OTHER_GAME


class TestEntries:
    @pytest.fixture(autouse=True)
    def shared(self, studio):
        studio.secret("playcamp.shared_key", SHARED_KEY)

    def enter(self, client, **given):
        answer = client.get(f"/api/demo/sponsor?{urlencode(given)}")
        assert answer.status_code in (400, 401, 404)

    RECIPE = "The game signs its entries by another recipe: "

    @pytest.mark.parametrize(
        ("proof", "digest", "message", "said"),
        [
            ("7|{t}|{}", "hmac", "7|{t}", f"{RECIPE}pipe-hmac-sha256."),
            (
                "7|c1|{t}|{}",
                "sha256",
                "7|c1|{t}|{key}",
                "The game signs something after its player: 7|c1, where the entry names 7.",
            ),
            (
                "7|{t}|{}",
                "sha256",
                "7|{t}|c1|{key}",
                RECIPE + "{user}|{time}|{signature} = sha256({user}|{time}|{campaign}|{key}).",
            ),
            ("7.{t}.{}", "hmac", "7.{t}", RECIPE + "{user}.{time}.{signature} = hmac-sha256({user}.{time})."),
            (
                "7|{t}000|{}",
                "hmac",
                "7|{t}000",
                RECIPE + "{user}|{time_ms}|{signature} = hmac-sha256({user}|{time_ms}).",
            ),
            ("{t}|{}", "base64", "7|{t}", RECIPE + "{time}|{signature} = hmac-sha256-base64({user}|{time})."),
            (
                "7|{t}|{}",
                "sha256",
                f"7|{{t}}|{MAIN_KEY}",
                f"{SIGNED}the main key of this game in place of this game's PlayCamp shared key.",
            ),
            (
                "7|{t}|{}\n",
                "sha256",
                "7|{t}|{key}",
                "The parameter custom_data has another form than playcamp.signature says",
            ),
            ("7|{t}|{}", "sha256", "7|{t}|nobody", UNKNOWN_KEY.format("link")),
            (
                "8|{t}|{}",
                "sha256",
                "8|{t}|{key}",
                "The signature is that of another player than the entry names: 8, and not 7.",
            ),
            (
                "7|{old}|{}",
                "sha256",
                "7|{old}|{key}",
                "It was signed 15 minutes before it came (5 minutes are allowed): an old call was sent again, or",
            ),
        ],
    )
    def test_a_spoiled_entry_gets_its_sentence(self, client, sentence, proof, digest, message, said):
        t = int(time.time())
        values = {"t": t, "old": t - 900, "key": SHARED_KEY}
        text = message.format(**values)
        signature = sha256(text) if digest == "sha256" else v1(text.encode(), SHARED_KEY)
        signature = in_base64(signature) if digest == "base64" else signature
        self.enter(client, usn="7", camp_code="c1", custom_data=proof.format(signature, **values))
        assert sentence().startswith(said)

    def test_other_names_and_a_campaign_that_is_not_listed(self, client, sentence, studio):
        t = int(time.time())
        proof = f"7|{t}|{sha256(f'7|{t}|{SHARED_KEY}')}"
        studio.config("playcamp.campaigns", "c2")
        missing = "The parameter usn and custom_data is missing"
        renamed = "The entry is signed rightly, but its parameters have other names: "
        for given, said in (
            ({"user_id": "7", "sig": proof}, f"{renamed}user_id is the player, sig is the signature."),
            ({"custom_data": "7", "usn": proof}, f"{renamed}custom_data is the player, usn is the signature."),
            ({"a": "b"}, f"{missing}; there are a."),
            ({}, f"{missing} and so is everything else."),
            (
                {"usn": "7", "camp_code": "c1", "custom_data": proof},
                "The entry names a campaign that playcamp.campaigns does not list (c2).",
            ),
        ):
            self.enter(client, **given)
            assert sentence() == said


class TestPaymentQueries:
    PATH = "/playcamp/demo/payments"
    MADE = "The fingerprint is made with the PlayCamp payments key of this game, but "

    def test_each_gets_its_sentence(self, client, studio, sentence, clock):
        studio.secret("playcamp.payments_key", PAYMENTS_KEY)
        t = int(time.time())
        start = f"GET\n{self.PATH}\n"
        right = f"{start}from=10&to=20\n{t}"
        for fingerprint, at, said in (
            (None, t, "The query lacks the header X-Fingerprint."),
            (
                sha256(f"{right}\n{MAIN_KEY}"),
                t,
                "The fingerprint is made with the main key of this game in place of this game's PlayCamp payments key.",
            ),
            (
                sha256(f"{start}to=20&from=10\n{t}\n{PAYMENTS_KEY}"),
                t,
                f"{self.MADE}over the query as it is sent, its parameters not in order.",
            ),
            (sha256(f"{start}\n{t}\n{PAYMENTS_KEY}"), t, f"{self.MADE}without the query."),
            (v1(right.encode(), PAYMENTS_KEY), t, f"{self.MADE}as an HMAC in place of a digest."),
            (sha256(f"{right}\nnobody"), t, UNKNOWN_KEY.format("address")),
            (sha256(f"{start}from=10&to=20\n{t - 3600}\n{PAYMENTS_KEY}"), t - 3600, "1 hour"),
        ):
            headers = {"X-Timestamp": str(at)} | ({"X-Fingerprint": fingerprint} if fingerprint else {})
            assert client.get(f"{self.PATH}?to=20&from=10", headers=headers).status_code == 401
            assert said in sentence()


def test_the_answer_is_the_same_whatever_is_wrong_with_a_proof(client, studio, other):
    """Whoever forges a call learns nothing of what the owner is told."""
    studio.secret("playcamp.webhook_secret", HOOK_SECRET)
    t = now_ms()
    signatures = [sign(RAW, key.encode(), t) for key in (OTHER_KEY, TOKEN, "nobody")]
    signatures += [sign(RAW, MAIN_KEY.encode(), str(int(t) - 900_000)), f"t={t},v1={v1(RAW)}", v1(RAW), "t=x", ""]
    calls = [
        (body, {"signature": signature, "x-publisher-token": TOKEN})
        for body in (RAW, RAW + b"\n", json.dumps(json.loads(BODY)).encode())
        for signature in signatures
    ]
    calls += [(RAW, appcharge_headers(RAW) | {"x-publisher-token": token}) for token in (OTHER_TOKEN, "", MAIN_KEY)]
    answers = [client.post("/appcharge/demo/orders", data=body, headers=headers) for body, headers in calls]
    seen = {
        (
            each.status_code,
            each.data,
            tuple(sorted(pair for pair in each.headers if pair[0] not in ("Date", "X-Request-ID"))),
        )
        for each in answers
    }
    hooks = (v1(EVENTS, "x"), v1(EVENTS, HOOK_SECRET[6:]), "", "t=1,v1=" + v1(b"1." + EVENTS, HOOK_SECRET))
    payloads = [encode(json.dumps(playtem_payload(key=key))) for key in ("x", "the-other-playtem-secret")]
    assert len(seen) == 1
    path = "/playcamp/demo/webhook"
    assert len({client.post(path, data=EVENTS, headers={"X-Webhook-Signature": each}).data for each in hooks}) == 1
    assert len({client.get(f"/playtem/demo/credit?payload={quote(each)}").data for each in payloads}) == 1


class TestPages:
    def refuse(self, client, installation, count=1, **headers):
        for number in range(count):
            body = json.dumps(order(orderId=f"o-{number}")).encode()
            client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, key="x") | headers)
        installation.observations.flush()

    def listed(self, answer):
        return re.findall(rf'href="({LIST}/\d+)"', answer.text)

    def test_the_list_is_paged_and_filtered(self, browser, client, studio, installation):
        client.get("/playtem/demo/credit")
        self.refuse(client, installation, 23)
        first = browser.get(LIST)
        ids = [int(each.rpartition("/")[2]) for each in self.listed(first)]
        assert (len(ids), ids) == (20, sorted(ids, reverse=True))
        assert len(self.listed(browser.get(next_of(first)))) == 4
        assert len(self.listed(browser.get(f"{LIST}?partner=playtem"))) == 1
        assert "that fits what you chose" in browser.get(f"{LIST}?reason=token").text
        assert browser.get(f"{LIST}?partner=x&reason=y&after=-1").status_code == 200
        assert browser.get(f"{LIST}/{10**30}").status_code == 404

    def test_the_body_is_shown_when_it_is_asked_for_and_no_secret_or_whole_proof_is(
        self, browser, client, studio, installation, db
    ):
        self.refuse(client, installation, **{"x-publisher-token": "a-token-nobody-should-see"})
        (address,) = self.listed(browser.get(LIST))
        text = browser.get(address).text
        assert "starterpack" not in text
        for secret in (MAIN_KEY, TOKEN, PLAYTEM_SECRET, "a-token-nobody"):
            assert secret not in text
        assert not re.search("v1=[0-9a-f]{64}", text)
        shown = browser.post(address)
        assert (shown.status_code, "starterpack" in shown.text) == (200, True)
        noted = db("SELECT subject FROM audit WHERE action = 'refusal.body'")
        assert noted == [{"subject": address.rpartition("/")[2]}]

    def test_what_is_tried_of_one_call_is_bounded_and_said_to_be_so(self, browser, client, studio, installation):
        for number in range(12):
            game = Studio(installation, f"game-{number}")
            for name in ("appcharge.main_key", "appcharge.secondary_key", "playtem.secret"):
                game.secret(name, f"{name}-{number}-0123456789")
        body = json.dumps({"a": [1.5, "x/é"] * 2400}).encode()
        client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, key="x"))
        installation.observations.flush()
        (address,) = self.listed(browser.get(LIST))
        text = browser.get(address).text
        assert_has(
            text, "It was signed with a key that is not stored here", "The call is large, so not everything was tried."
        )

    def test_a_list_tries_for_a_moment_only_and_leads_to_the_rest(
        self, browser, client, studio, installation, monkeypatch
    ):
        monkeypatch.setattr(refused_calls, "LIST_SECONDS", 0)
        self.refuse(client, installation, 3)
        answer = browser.get(LIST)
        assert answer.text.count("Find out why") == 3
        browser.get(self.listed(answer)[0])
        assert browser.get(LIST).text.count("Find out why") == 2

    def test_a_call_that_cannot_be_opened_says_so(self, browser, client, studio, installation):
        self.refuse(client, installation)
        installation.database.write_here(lambda tx: tx.execute("UPDATE refusals SET ciphertext = x'00'"))
        assert "was stored with another master key" in browser.get(LIST).text

    @pytest.mark.parametrize(
        "body", [b'{"a":"\\u000099\\u0000"}', b'{"a":"\\u0000' + b"9" * 5000 + b'\\u0000", "b": 1.50}']
    )
    def test_what_a_stranger_sends_keeps_the_owner_from_nothing(self, client, browser, installation, studio, body):
        client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, "other"))
        installation.observations.flush()
        (address,) = self.listed(browser.get(LIST))
        assert browser.get(address).status_code == 200
