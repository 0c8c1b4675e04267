"""Digests and ages, against requests signed by other people's code."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.base import addresses, signing

# Made by PlayCamp's own SDK; here for the primitives, in test_playcamp_webhooks.py for the address.
SDK = json.loads((Path(__file__).parents[1] / "payloads/playcamp/signed_by_sdk.json").read_text())


@pytest.mark.parametrize("vector", SDK["vectors"], ids=lambda vector: vector["name"])
def test_what_the_playcamp_sdk_signed(vector):
    body, secret = base64.b64decode(vector["body_base64"]), SDK["secret"].encode()
    assert signing.is_equal(signing.hmac_hex("sha256", secret, body), vector["simple"])
    timestamp, v1 = (part.split("=", 1)[1] for part in vector["timestamped"].split(","))
    assert signing.is_equal(signing.hmac_hex("sha256", secret, timestamp.encode() + b"." + body), v1)
    assert not signing.is_equal(signing.hmac_hex("sha256", secret, body + b" "), vector["simple"])


@given(st.text(), st.text())
def test_equality_is_equality_for_any_text(left, right):
    assert signing.is_equal(left, right) == (left == right)
    assert signing.is_equal(left, left)


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [("0", 0), ("1767225600", 1767225600), ("1767225600123", 1767225600.123), ("99999999999", 99999999999)],
)
def test_seconds_and_milliseconds(timestamp, seconds):
    assert signing.unix_seconds(timestamp) == seconds


@pytest.mark.parametrize("timestamp", ["", "-1", "1.5", "1e3", " 1", "1" * 21, "١", "x"])
def test_no_timestamp(timestamp):
    with pytest.raises(ValueError):
        signing.unix_seconds(timestamp)


@pytest.mark.parametrize(
    ("networks", "address", "is_allowed"),
    [
        ("", "anything", True),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("192.0.2.0/24,2001:db8::/32", "2001:db8::5", True),
        ("192.0.2.1/32", "", False),
        ("192.0.2.1/32", "not an address", False),
        ("0.0.0.0/0", "2001:db8::5", False),
    ],
)
def test_allowlists(networks, address, is_allowed):
    assert addresses.is_allowed(networks, address) is is_allowed
