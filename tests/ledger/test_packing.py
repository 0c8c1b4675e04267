"""Bodies as they are stored: smaller, and to the byte what came."""

import hashlib
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.ledger import packing
from tests.conftest import order

BODY = json.dumps(order()).encode()


@given(st.binary(max_size=3000))
def test_any_bytes_come_back(raw):
    stored = packing.pack(raw)
    assert packing.unpack(stored) == raw == packing.body(stored)
    assert len(stored) <= len(raw) + 1


def test_an_order_takes_less_than_half_of_its_bytes():
    assert len(packing.pack(BODY)) < 0.5 * len(BODY)


def test_the_words_are_never_changed_since_what_is_stored_needs_them():
    assert (
        hashlib.sha256(packing.WORDS).hexdigest() == "f88f86a5f60db065b2f2e08193505e60418b9cb58cae3f41a3c5d8eada1a1031"
    )


def test_a_forgotten_body_stays_none():
    assert packing.body(None) is None


def ended_too_early():
    return packing.pack(BODY)[:-1]


def followed_by_more():
    return packing.pack(BODY) + b"more"


def larger_than_any_body():
    deflating = zlib.compressobj(9, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, packing.WORDS)
    return packing.WITH_WORDS + deflating.compress(bytes(packing.LARGEST + 1)) + deflating.flush()


@pytest.mark.parametrize(
    "stored", [b"", b"\1", b"\2x", BODY, ended_too_early(), followed_by_more(), larger_than_any_body()], ids=range(7)
)
def test_what_was_not_packed_here_is_refused(stored):
    with pytest.raises(ValueError, match="was changed and cannot be read"):
        packing.unpack(stored)
    assert packing.body(stored) == b""
