"""Whatever a stranger or a partner sends to the partners' addresses: ours is never the fault, and nothing is credited
without proof, twice, or otherwise than it was sent.
"""

import base64
import hashlib
import json
from collections import Counter
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.base import clock
from coinslot.ledger import packing
from handlers.playtem.payload import signature_of
from tests.attacks.examples import examples
from tests.attacks.spellings import changes
from tests.conftest import appcharge_headers
from tests.fakes.playcamp import signed
from tests.partner_cases import ADDRESSES, Sent

pytestmark = pytest.mark.long

WITH_BODY = [address for address in ADDRESSES if address.proof in ("signature", "X-Webhook-Signature", "Authorization")]
PLAYTEM = [address for address in ADDRESSES if address.partner == "playtem"]
QUERY = next(address for address in ADDRESSES if address.proof == "X-Fingerprint")


def posted(address: Any, body: bytes, key: str) -> dict[str, Any]:
    """A call with any body, signed by a key."""
    if address.partner == "appcharge":
        headers = appcharge_headers(body, key)
    elif address.partner == "xsolla":
        headers = {"Authorization": f"Signature {hashlib.sha1(body + key.encode()).hexdigest()}"}
    else:
        headers = {"X-Webhook-Signature": signed(body, key, "timestamped", clock.now())}
    return {"method": "POST", "data": body, "headers": headers}


def good_document(address: Any, number: int = 1) -> dict[str, Any]:
    return json.loads(address.make(address.path, Sent(address.key, number=number))["data"])


@pytest.mark.parametrize("address", WITH_BODY, ids=lambda address: address.name)
def test_any_body(watch, address, installation):
    watch.learn(address)
    answered, numbers = Counter(), count(1)

    @examples(70)
    @given(changes(good_document(address)), st.integers(0, 3))
    def attack(change, forged):
        before, body = watch.rows(), change(good_document(address, next(numbers)))
        if not forged:
            answer = watch.call(address, posted(address, body, "another-key"))
            assert answer.status_code in (400, 401)
            assert watch.rows() == before
            return

        made = posted(address, body, address.key)
        answer = watch.call(address, made)
        after = watch.rows()
        again = watch.call(address, made)
        answered[address.is_accepted(answer)] += 1

        if not address.is_accepted(answer):
            assert after == before or address.endpoint == "auth", answer.text  # a refused login is a fact
        if address.keeps:
            assert (again.status_code, again.data) == (answer.status_code, answer.data)
            assert watch.rows() == after
        if after["transactions"] > before["transactions"]:
            newest = "SELECT raw_body FROM transactions ORDER BY id DESC LIMIT 1"
            kept = installation.database.read().execute(newest).fetchone()[0]
            assert packing.unpack(kept) == body

    attack()
    assert min(answered[True], answered[False]) > 10, answered


def test_what_is_credited_is_what_was_sent(watch, installation):
    """Items of an order, in whatever numbers: credited exactly, or refused."""
    address = next(each for each in ADDRESSES if each.name == "appcharge orders")
    watch.learn(address)
    numbers = count()
    amounts = st.integers(-3, 10**42) | st.sampled_from(["1e3", '"12"', "7.0", "1.5", '"1e2"', "1E41", "-0", "1e999"])

    @examples(80)
    @given(st.lists(st.tuples(st.sampled_from(["coins", "gems"]), amounts.map(str)), max_size=5))
    def attack(products):
        order = f"exact-{next(numbers)}"
        listed = ",".join(f'{{"sku":"{sku}","amount":{amount}}}' for sku, amount in products)
        body = f'{{"orderId":"{order}","playerId":"alice","products":[{listed}]}}'.encode()
        answer = watch.call(address, posted(address, body, address.key))

        lines = installation.database.read().execute(
            """SELECT e.sku, e.quantity FROM entries e JOIN grants g ON g.id = e.grant_id
               JOIN transactions t ON t.id = g.transaction_id WHERE t.external_id = :order""",
            {"order": order},
        )
        credited: Counter[str] = Counter()
        for sku, quantity in lines:
            credited[sku] += int(quantity)
        sent: Counter[str] = Counter()
        for sku, amount in products if answer.status_code == 200 else ():
            sent[sku] += int(Decimal(amount.strip('"')))
        assert +credited == +sent

    attack()


@pytest.mark.parametrize("address", PLAYTEM, ids=lambda address: address.name)
def test_any_playtem_payload(watch, address):
    ids = st.sampled_from(["alice", "coins", "tx-1", "", " ", "a\x00b", "é", "\u202e", "9" * 300]) | st.text(max_size=9)
    spelling = st.integers(0, 63)
    watch.learn(address)

    @examples(100)
    @given(
        ids, st.lists(ids, max_size=3), ids, spelling, st.none() | changes({"AppId": 3, "Items": [1], "UserId": "u"})
    )
    def attack(user, items, transaction, how, change):
        before, other = watch.rows(), None if change is None else change({"AppId": 3, "Items": [1], "UserId": "u"})
        signature = signature_of(address.key.encode(), f"3{user}{''.join(items)}{transaction}")
        order = {"AppId": 3, "UserId": user, "Items": items, "TransactionId": transaction, "Signature": signature}
        is_forged = other is not None or not how % 4
        if not how % 4:
            order["Items"] = [*items, "coins"]
        raw = json.dumps(order, ensure_ascii=how % 2 == 0).encode("utf-8", "surrogatepass") if other is None else other
        text = base64.b64encode(raw).decode()
        text = text.rstrip("=") if how & 4 else text
        text = text.replace("+", "-").replace("/", "_") if how & 8 else text
        text = f"{text[: how % 40]}\r\n{text[how % 40 :]}" if how & 16 else text
        text = quote(quote(text, safe=""), safe="") if how & 32 else quote(text, safe="")
        call = {"method": "GET", "query_string": f"payload={text}"}
        answer = watch.call(address, call)
        after = watch.rows()

        if is_forged:
            assert answer.json["ErrorCode"] == 407
        if answer.status_code != 200:
            assert after == before
        assert watch.call(address, call).data == answer.data
        assert watch.rows() == after

    attack()


def test_any_query(watch):
    value = st.sampled_from(["", "0", "-1", "1e9", "9" * 30, "NaN", "٣", "%00", "%ff", "a&from=1", "2026-01-01"])
    watch.learn(QUERY)
    names = st.sampled_from(["from", "to", "cursor", "limit", "x"])

    @examples(80)
    @given(st.lists(st.tuples(names, value | st.text(max_size=5).map(quote)), max_size=5), st.booleans())
    def attack(arguments, is_forged):
        before = watch.rows()
        query, at = "&".join(f"{name}={value}" for name, value in arguments), str(int(clock.now()))
        key = "another-key" if is_forged else QUERY.key
        lines = ("GET", QUERY.path.format(game="demo"), "&".join(sorted(query.split("&"))), at, key)
        fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        headers = {"X-Timestamp": at, "X-Fingerprint": fingerprint}
        answer = watch.call(QUERY, {"method": "GET", "query_string": query, "headers": headers}, {200, 400, 401, 422})

        assert answer.status_code == 401 or not is_forged
        assert watch.rows() == before

    attack()


PIECES = (
    "t=",
    "v1=",
    "v1",
    ",",
    "=",
    " ",
    "\t",
    '"',
    "sha256=",
    "Signature ",
    "0" * 64,
    "f" * 40,
    "9" * 21,
    "\xff",
    "a",
)


@pytest.mark.parametrize("address", [each for each in ADDRESSES if each.proof], ids=lambda address: address.name)
def test_any_header(watch, address):
    header = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="latin-1"), max_size=5), max_size=8)
    header = header.map("".join).map(lambda text: "".join(each for each in text if each == "\t" or each >= " "))
    watch.learn(address)
    others = ("Content-Type", "Content-Encoding", "x-publisher-token", "X-Timestamp", "X-Forwarded-For", "Cookie")

    @examples(50)
    @given(header, st.dictionaries(st.sampled_from(others), header, max_size=3))
    def attack(proof, more):
        before = watch.rows()
        made = address.make(address.path, Sent(address.key))
        made["headers"] = {**made["headers"], **more, address.proof: proof}
        answer = watch.call(address, made)

        assert not address.is_accepted(answer)
        assert watch.rows() == before

    attack()


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: address.name)
def test_one_byte_changed_anywhere_credits_nothing(watch, address):
    """Each byte of the body, of the query and of the signature, of a call that was taken once.

    A signature may be written otherwise (``A`` for ``a``), and so may Base64; such a call is a repeat.
    """
    watch.learn(address)
    good = address.make(address.path, Sent(address.key, number=7))
    assert address.is_accepted(watch.call(address, good))
    before = watch.rows()

    body, query, header = good.get("data", b""), good.get("query_string", ""), good["headers"].get(address.proof, "")
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ (1 << at % 8)]) + body[at + 1 :]
        assert not address.is_accepted(watch.call(address, good | {"data": changed})), at
    for at in range(len(query)):
        changed = query[:at] + chr(ord(query[at]) ^ 1) + query[at + 1 :]
        watch.call(address, good | {"query_string": changed}, {200, 400, 401, 422, 500})
    if address.keeps:
        for at in range(len(header)):
            changed = header[:at] + chr(ord(header[at]) ^ (1 << at % 5)) + header[at + 1 :]
            if changed.isprintable():
                watch.call(address, good | {"headers": {**good["headers"], address.proof: changed}})
    assert watch.rows() == before
