"""Playtem's credits: payloads by other people's code, every Base64 and quoting variant, codes and their precedence."""

import base64
import json
import warnings
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import create_app
from coinslot.access.keyring import SecretValue
from coinslot.games import erasure, registry
from handlers.dashboard.frame import masking
from handlers.playtem.payload import FORMATS, PayloadError, decode, decode_base64, signature_of, verify
from tests.conftest import PLAYTEM_SECRET

PHP = json.loads((Path(__file__).parents[1] / "payloads/playtem/signed_by_php.json").read_text())
DEMO_SECRET = "playtem_demo_secret"
SETTINGS = {
    "playtem.app_id": "",
    "playtem.formats": ",".join(FORMATS),
    "playtem.items_separator": "",
    "playtem.field_separator": "",
}


# The contract's second example; its Base64 has both + and /.
STANDARD = (
    "eyJBcHBJZCI6MywiQXBwTmFtZSI6IkpldSDDqXTDqSA+ID8/PiIsIlVzZXJJZCI6ImFiXzU5YyIsIkl0ZW1zIjpbImdoNTg0eHl6Il0sIl"
    "RyYW5zYWN0aW9uSWQiOiJ0eC0yIiwiU2lnbmF0dXJlIjoiN0Y1ODhERjJGRkYxN0Q3RkUzODMxRUU1RjRGODY5Qzg1NzNBRjk5MSJ9"
)


def payload(sign_as="concat", key=PLAYTEM_SECRET, signature=None, **changed):
    """A payload's JSON object, signed. Ids may be numbers or text."""
    fields = {"AppId": 3, "AppName": "L'été", "UserId": "alice", "Items": ["coins"], "TransactionId": "tx-1"} | changed
    fields = {name: value for name, value in fields.items() if value is not ...}
    items = fields.get("Items", [])
    written = {
        "concat": lambda: "".join(map(str, items)),
        "comma": lambda: ",".join(map(str, items)),
        "json_compact": lambda: json.dumps(items, separators=(",", ":")),
        "json_spaced": lambda: json.dumps(items),
    }[sign_as]()
    message = "".join((str(fields.get("AppId")), str(fields.get("UserId")), written, str(fields.get("TransactionId"))))
    return fields | {"Signature": signature or signature_of(key.encode(), message)}


def encode(document) -> str:
    """Base64 of bytes or text as they are, or of a document as JSON."""
    content = document if isinstance(document, bytes | str) else json.dumps(document)
    return base64.b64encode(content if isinstance(content, bytes) else content.encode()).decode()


@pytest.fixture
def get(client, studio):
    """Send a payload: a document to encode, or the parameter's text as it is."""

    def send(document, path="/playtem/demo/credit", method="get", parameter="payload"):
        text = document if isinstance(document, str) else encode(document)
        return getattr(client, method)(f"{path}?{parameter}={quote(text, safe='')}")

    return send


def code(answer) -> int:
    """The ErrorCode of a well-formed refusal."""
    assert answer.status_code == 500
    assert answer.mimetype == "application/json"
    assert set(answer.json) == {"ErrorCode", "ErrorMessage"}
    return answer.json["ErrorCode"]


def is_blank(answer) -> bool:
    return (answer.status_code, answer.data, answer.mimetype) == (200, b"", "application/json")


class TestVectors:
    @pytest.mark.parametrize("vector", PHP["vectors"], ids=lambda vector: vector["name"])
    def test_what_php_sent_is_credited_from_the_literal_query(self, client, studio, feed, vector):
        studio.secret("playtem.secret", PHP["secret"])
        studio.player("859895322", "ab_59c", "100000000000000000001")
        studio.item("584", "388", "412", "gh584xyz", "a/b", "k-9")

        answer = client.get(f"/playtem/demo/credit?{vector['query']}")

        assert is_blank(answer), answer.data
        sent = json.loads(vector["json"])
        (grant,) = feed()
        assert grant["player_id"] == str(sent["UserId"])
        assert grant["external_id"] == str(sent["TransactionId"])
        expected = {str(sku): [str(item) for item in sent["Items"]].count(str(sku)) for sku in sent["Items"]}
        assert {line["sku"]: line["quantity"] for line in grant["items"]} == expected
        assert grant["kind"] == "reward"

    @pytest.mark.parametrize(
        ("name", "separator", "signature"),
        [
            ("concat", "", "D914DB4A8D0078F7EFF97E207CD399A1A21BFA33"),
            ("comma", "", "61D6B5ED6859F80CB097CEDD820AA3A42831B3CF"),
            ("concat", ", ", "09047E1CA43230E95F4493D328FA2F79C3BCFC35"),
            ("json_compact", "", "092635D56FAA31EE629F7E8E7FA5A173223DDBBF"),
            ("json_spaced", "", "5FF6A567EDDB84D1C087A5A6FDBCA672072E6846"),
            ("concat", "|", "F31E4B7E4B818A93382F31FF48E20A5DC1FA2D7E"),
            ("concat", ";", "CC3B63D0BFE8956475022F02B282C5F4C47D3EDE"),
        ],
    )
    def test_each_signature_format_on_and_off(self, name, separator, signature):
        fields = {"AppId": 3, "AppName": "GameName", "UserId": 859895322, "Items": [584, 388, 412]}
        order = decode(encode(fields | {"TransactionId": "42b64fa56-a50d2c12f", "Signature": signature}))
        keys = [SecretValue("playtem.secret", "current", DEMO_SECRET.encode())]
        on = SETTINGS | {"playtem.formats": name, "playtem.items_separator": separator}
        assert verify(order, keys, on)[1] == name
        off = SETTINGS | {"playtem.formats": "json_spaced" if name == "json_compact" else "json_compact"}
        with pytest.raises(PayloadError):
            verify(order, keys, off)

    def test_raw_takes_the_list_as_it_stood(self):
        signature = signature_of(b"k", "3u[ 584 ,388 ]t")
        text = f'{{"AppId":3,"UserId":"u","Items":[ 584 ,388 ],"TransactionId":"t","Signature":"{signature}"}}'
        order = decode(encode(text))
        assert verify(order, [SecretValue("s", "current", b"k")], SETTINGS)[1] == "raw"

    @pytest.mark.parametrize(
        "text",
        [
            STANDARD,
            STANDARD.replace("+", " "),
            STANDARD.replace("+", "-").replace("/", "_"),
            quote(STANDARD, safe=""),
            "\r\n".join(STANDARD[start : start + 76] for start in range(0, len(STANDARD), 76)),
            STANDARD + "==",
        ],
    )
    def test_every_base64_variant_is_the_same_order(self, text):
        order = decode(text)
        assert (order.user_id, order.items, order.transaction_id) == ("ab_59c", ("gh584xyz",), "tx-2")
        verify(order, [SecretValue("s", "current", DEMO_SECRET.encode())], SETTINGS)

    @given(raw=st.binary(max_size=300), variant=st.integers(0, 31), position=st.integers(0, 400))
    def test_base64_survives_whatever_a_query_does_to_it(self, raw, variant, position):
        text = base64.b64encode(raw).decode()
        if variant & 1:
            text = text.rstrip("=")
        if variant & 2:
            text = text.replace("+", "-").replace("/", "_")
        elif variant & 4:
            text = text.replace("+", " ")
        if variant & 8:
            text = text[:position] + "\r\n" + text[position:]
        if variant & 16 and " " not in text:
            text = quote(text, safe="")
        if text:
            assert decode_base64(text) == raw

    @given(st.text(max_size=100))
    def test_any_text_is_decoded_or_refused(self, text):
        with suppress(PayloadError):
            decode(text)

    @pytest.mark.parametrize("text", ["", "a", "abcde", "ab%zz", "ab*d", "a=bc", "é===", "A" * 8193, "%FF%FE"])
    def test_what_is_no_base64_is_407(self, get, text):
        assert code(get(text)) == 407


class TestPayload:
    def test_numbers_and_text_are_the_same_ids_and_keep_their_digits(self, get, studio, feed):
        large = 100000000000000000001
        studio.player("859895322", str(large))
        studio.item("584")
        for number, user in enumerate((859895322, "859895322", large)):
            item = "584" if number else 584
            assert is_blank(get(payload(UserId=user, Items=[item], TransactionId=f"tx-{number}")))
        assert [grant["player_id"] for grant in feed()] == ["859895322", "859895322", str(large)]

    def test_one_item_twice_is_two_of_it_and_a_single_one_need_not_be_a_list(self, get, feed):
        assert is_blank(get(payload(Items=["coins", "gems", "coins"])))
        assert feed()[0]["items"] == [{"sku": "coins", "quantity": 2}, {"sku": "gems", "quantity": 1}]
        assert is_blank(get({**payload(Items=["coins"], TransactionId="b"), "Items": "coins"}))

    @pytest.mark.parametrize("sign_as", ["concat", "comma", "json_compact", "json_spaced"])
    def test_the_log_names_the_format_that_matched(self, get, studio, sign_as, caplog, db):
        assert is_blank(get(payload(sign_as, Items=["coins", "gems"])))
        assert f"signature format {sign_as}" in caplog.text
        assert db("SELECT signed_with FROM transactions") == [{"signed_with": f"playtem.secret/current {sign_as}"}]

    def test_the_signature_and_the_parameter_in_any_case(self, get):
        document = payload()
        for parameter in ("payload", "Payload", "PAYLOAD"):
            assert is_blank(get(document, parameter=parameter))
        assert is_blank(get({**document, "Signature": document["Signature"].lower()}))

    def test_the_parameter_by_another_name(self, get, studio):
        studio.config("playtem.parameter", "data")
        assert code(get(payload())) == 407
        assert is_blank(get(payload(), parameter="Data"))

    def test_twice_or_never_is_407(self, client, studio):
        text = quote(encode(payload()), safe="")
        assert code(client.get(f"/playtem/demo/credit?payload={text}&payload={text}")) == 407
        assert code(client.get(f"/playtem/demo/credit?payload={text}&Payload={text}")) == 407
        assert code(client.get("/playtem/demo/credit")) == 407

    def test_the_guides_single_quotes(self, get, studio, feed):
        document = payload(AppName="it's")
        text = base64.b64encode(repr(document).encode()).decode()
        assert is_blank(get(text))
        studio.config("playtem.accept_single_quotes", "off")
        assert code(get(base64.b64encode(repr(payload(TransactionId="b")).encode()).decode())) == 407
        assert len(feed()) == 1

    PRINTED = """
        'AppId' : 3,
        'AppName' : 'GameName',
        'UserId' : 859895322,
        'Items' : [ 584, 388, 412 ],
        'TransactionId' : '42b64fa56-a50d2c12f',
        'Signature' : 'D914DB4A8D0078F7EFF97E207CD399A1A21BFA33'
    """

    @pytest.mark.parametrize(
        "text", [PRINTED, PRINTED.strip(), f"{{{PRINTED}}}", f"{PRINTED.rstrip()},", f"{PRINTED}\0\0"]
    )
    def test_the_guides_sample_as_it_is_printed(self, get, studio, feed, text):
        studio.secret("playtem.secret", DEMO_SECRET)
        studio.player("859895322")
        studio.item("584", "388", "412")

        assert is_blank(get(encode(text)))
        assert feed()[0]["items"] == [{"sku": sku, "quantity": 1} for sku in ("388", "412", "584")]

    @pytest.mark.filterwarnings("ignore:invalid decimal literal")  # pytest undoes what create_app has said of it
    @pytest.mark.parametrize(
        "changed",
        [
            ("584, 388", "584, 584"),
            ("'UserId' : 859895322", "'UserId' : 859895323"),
            ("'AppId'", "'Items' : [], 'AppId'"),
            ("3,", "1if 1 else 3,"),
            ("'AppId' : 3", "} and {'AppId' : 3"),
        ],
    )
    def test_a_changed_sample_credits_nothing(self, get, studio, feed, changed):
        studio.secret("playtem.secret", DEMO_SECRET)
        studio.player("859895322", "859895323")
        studio.item("584", "388", "412")

        assert code(get(encode(self.PRINTED.replace(*changed)))) == 407
        assert feed() == []

    def test_the_sample_is_left_out_with_the_setting_of_its_quotes(self, get, studio):
        studio.secret("playtem.secret", DEMO_SECRET)
        studio.config("playtem.accept_single_quotes", "off")

        assert code(get(encode(self.PRINTED))) == 407

    @pytest.mark.parametrize("signed_in", ["utf-8", "latin-1"])
    @pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 15])
    def test_latin_1_and_padding_with_nul(self, get, studio, feed, signed_in, padding):
        studio.player("zoé")
        signature = signature_of(PLAYTEM_SECRET.encode(), "3zoécoinstx-1", signed_in)
        document = payload(AppName="Jeu été", UserId="zoé", signature=signature)
        raw = json.dumps(document, ensure_ascii=False).encode("latin-1") + padding

        assert is_blank(get(encode(raw)))
        assert feed()[0]["player_id"] == "zoé"

    def test_latin_1_in_what_is_not_signed(self, get, feed):
        raw = json.dumps(payload(AppName="Jeu été"), ensure_ascii=False).encode("latin-1")

        assert is_blank(get(encode(raw)))
        wrong = json.dumps(payload(AppName="été", key="wrong"), ensure_ascii=False).encode("latin-1")
        assert code(get(encode(wrong))) == 407
        assert len(feed()) == 1

    def test_nul_elsewhere_is_407(self, get):
        raw = json.dumps(payload()).encode()
        assert code(get(base64.b64encode(b"\0" + raw).decode())) == 407
        assert code(get(base64.b64encode(raw[:20] + b"\0" + raw[20:]).decode())) == 407

    def test_the_owner_sees_what_came_as_latin_1_and_as_printed_with_persons_hidden(self):
        for raw in (b'{"UserName":"zo\xe9","AppId":3}\0\0', b" 'UserName' : 'zo\xe9', 'AppId' : 3 "):
            shown = masking.masked(b"payload=" + quote(base64.b64encode(raw), safe="").encode()).pretty
            assert '"AppId": 3' in shown
            assert "zo" not in shown

    @pytest.mark.parametrize("text", ["{'a': 1if 1 else 2}", "{'a': 0x1for x in y}", r"{'a': '\d'}", "'a': 1or 2"])
    def test_python_says_nothing_of_a_payload(self, get, text):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            create_app({"COINSLOT_HOME": "/nonexistent"})
            assert code(get(encode(text))) == 407
            masking.masked(b"payload=" + base64.b64encode(text.encode()))

        assert said == []

    NO_ORDERS = (
        *(
            "__import__('os').getpid()",
            "{'AppId': print(1)}",
            "{'AppId': 3.5}",
            "[" * 5000,
            "{" * 5000,
            '{"AppId":' * 900,
        ),
        *("{}", "[]", "null", '{"a":1} x', '{"a":1,}', '{"a" 1}', '{"a":NaN}', "\x00"),
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
        json.dumps(payload())[:-1] + ',"Items":["gems"]}',  # a name twice
    )

    def test_no_order_is_407(self, get, feed):
        for text in self.NO_ORDERS:
            assert code(get(encode(text))) == 407, text
        for name in ("AppId", "UserId", "Items", "TransactionId", "Signature"):
            for value in (..., None, True, {}, "", " "):
                document = payload() | {name: value}
                assert code(get({key: kept for key, kept in document.items() if kept is not ...})) == 407, document
        assert feed() == []

    def test_a_bom_is_let_be(self, get):
        assert is_blank(get(encode(b"\xef\xbb\xbf" + json.dumps(payload()).encode())))

    def test_names_in_another_case_and_unknown_ones(self, get):
        document = {name.lower(): value for name, value in payload().items()} | {"extra": [1]}
        assert is_blank(get(document))


class TestPrecedence:
    def test_unknown_user_before_unknown_item_before_nothing_at_all(self, get, studio, feed):
        assert code(get(payload(UserId="mallory", Items=["swords"]))) == 408
        assert code(get(payload(UserId="mallory", Items=[]))) == 408
        assert code(get(payload(Items=["coins", "swords", "axes"]))) == 402
        assert code(get(payload(Items=[]))) == 400
        assert code(get(payload(UserId="mallory", Items=["swords"], key="wrong"))) == 407
        assert feed() == []

    def test_the_messages_name_who_and_what(self, get):
        assert get(payload(UserId="mallory")).json["ErrorMessage"] == "User #mallory doesn't exist"
        answer = get(payload(Items=["coins", "4242", "axes"]))
        assert answer.json == {"ErrorCode": 402, "ErrorMessage": "Item #4242 doesn't exist"}

    def test_a_credited_purchase_is_answered_again_whatever_became_of_the_player(self, get, studio, feed, installation):
        get(payload())
        installation.database.write_here(lambda tx: erasure.forget_player(tx, studio.row["id"], "alice"))
        installation.database.write_here(lambda tx: registry.delete_item(tx, studio.row["id"], "coins"))
        assert is_blank(get(payload()))
        assert len(feed()) == 1

    def test_all_or_nothing(self, get, feed, db):
        assert code(get(payload(Items=["coins", "gems", "swords"]))) == 402
        assert feed() == db("SELECT * FROM entries") == db("SELECT * FROM transaction_keys") == []


class TestReplay:
    @pytest.mark.parametrize(
        "shifted",
        [
            {"Items": ["coin"], "TransactionId": "stx-1"},
            {"Items": ["coinst"], "TransactionId": "x-1"},
            {"UserId": "alic", "Items": ["ecoins"]},
            {"AppId": "3a", "UserId": "lice"},
        ],
    )
    def test_a_signature_credits_once_wherever_the_text_is_cut(self, get, studio, feed, shifted):
        genuine = payload()
        assert is_blank(get(genuine))
        studio.player("alic", "lice")
        studio.item("coin", "coinst", "ecoins")

        assert code(get(payload(signature=genuine["Signature"], **shifted))) in (400, 407)
        assert len(feed()) == 1
        assert is_blank(get(genuine))

    def test_answers_are_never_cached(self, get):
        assert get(payload()).headers["Cache-Control"] == "no-store"
        assert get("x").headers["Cache-Control"] == "no-store"


class TestWhoseCall:
    def test_the_app_id_routes_a_call_without_a_game(self, get, studio, feed):
        studio.config("playtem.app_id", "3")
        assert is_blank(get(payload(), path="/playtem/credit"))
        assert code(get(payload(AppId=4, TransactionId="b"), path="/playtem/credit")) == 407
        assert code(get(payload(key="wrong", TransactionId="c"), path="/playtem/credit")) == 407
        assert get(payload(), path="/playtem/credit", method="head").status_code == 405
        assert len(feed()) == 1

    def test_the_settings_of_the_game_hold_for_a_call_without_one(self, get, studio, feed):
        studio.config("playtem.app_id", "3")
        studio.config("playtem.accept_single_quotes", "off")
        text = base64.b64encode(repr(payload()).encode()).decode()

        assert code(get(text, path="/playtem/credit")) == 407
        assert is_blank(get(payload(), path="/playtem/credit"))
        assert len(feed()) == 1

    def test_another_app_id_is_407(self, get, studio, feed):
        studio.config("playtem.app_id", "3")
        assert code(get(payload(AppId=4))) == 407
        assert feed() == []

    def test_an_app_id_nobody_set_is_learned_from_the_first_real_call(self, get, studio, db):
        assert is_blank(get(payload(UserId="coinslot-test", AppId=9, TransactionId="test")))
        assert code(get(payload(UserId="mallory", AppId=8))) == 408
        assert db("SELECT * FROM settings") == []

        assert is_blank(get(payload()))
        assert db("SELECT key, value FROM settings") == [{"key": "playtem.app_id", "value": "3"}]
        assert code(get(payload(AppId=4, TransactionId="b"))) == 407

    def test_facebook_ids(self, get, studio, installation, feed):
        installation.database.write_here(
            lambda tx: registry.put_player(tx, studio.row["id"], "bob", {"identities": {"facebook": "859"}})
        )
        studio.config("playtem.user_id", "facebook")
        assert is_blank(get(payload(UserId=859, TransactionId="a")))
        assert code(get(payload(UserId="alice", TransactionId="b"))) == 408
        studio.config("playtem.user_id", "facebook_or_player")
        assert is_blank(get(payload(UserId="alice", TransactionId="c")))
        assert [grant["player_id"] for grant in feed()] == ["bob", "alice"]


def test_the_vectors_query_is_what_a_browser_would_decode():
    # Guards the vectors themselves: the raw + of one of them reaches us as a blank.
    vector = next(each for each in PHP["vectors"] if each["name"] == "raw_plus_in_query")
    assert " " in dict(parse_qsl(vector["query"]))["payload"]
