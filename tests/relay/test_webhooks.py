"""What a delivery looks like on the wire, checked by the public package and by hand."""

import base64
import hashlib
import hmac
import json
import secrets

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from coinslot.access.keyring import SecretValue
from coinslot.base import clock as coinslot_clock
from coinslot.ledger import events
from coinslot.outbox import deliveries, destinations, formats
from coinslot.outbox.formats import STANDARD
from coinslot.relay import webhooks
from handlers.playcamp.format import FORMAT


def values(*texts):
    return [SecretValue("destination.game", "current", text.encode()) for text in texts]


@pytest.mark.parametrize("changed", ["", "webhook-id", "webhook-timestamp", "webhook-signature", "body", "secret"])
def test_a_standard_delivery_is_believed_by_the_public_package_and_any_change_is_noticed(clock, changed):
    secret = destinations.new_secret()
    body = webhooks.envelope("grant.created", "2026-01-31T23:59:59.123456Z", {"id": 1})
    headers = webhooks.signed(STANDARD, "msg_1", 1, body, values(secret))
    assert headers["Content-Type"] == "application/json"

    if changed == "body":
        body += b" "
    elif changed == "secret":
        secret = destinations.new_secret()
    elif changed == "webhook-timestamp":
        headers[changed] = str(int(headers[changed]) + 1)
    elif changed:
        headers[changed] = headers[changed][:4] + ("A" if headers[changed][4] != "A" else "B") + headers[changed][5:]

    if changed:
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)
    else:
        payload = Webhook(secret).verify(body, headers)
        assert payload == {"type": "grant.created", "timestamp": "2026-01-31T23:59:59.123456Z", "data": {"id": 1}}


def test_a_secret_is_of_the_shape_and_strength_the_specification_asks_for():
    made = {destinations.new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        prefix, _, text = secret.partition("_")
        assert prefix == "whsec"
        assert 24 <= len(base64.b64decode(text, validate=True)) <= 64


@given(st.binary(max_size=200), st.binary(min_size=24, max_size=64), st.integers(1_000_000_000, 4_000_000_000))
def test_every_body_and_key_signs_as_the_public_package_does(body, key, at):
    secret = f"whsec_{base64.b64encode(key).decode()}"
    with time_machine.travel(at, tick=False):
        headers = webhooks.signed(STANDARD, "msg_1", 1, body, values(secret))
    # The package signs text; the specification signs bytes.
    message = b"msg_1." + str(at).encode() + b"." + body
    expected = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("secret", [b"whsec_not base64!", b"plain", b"whsec_"])
def test_a_secret_of_another_shape_is_its_own_key_and_never_an_empty_one(secret):
    assert formats.signing_key(secret) == secret


def test_playcamp_headers_by_hand(clock):
    body = b'{"a":1}'
    secret = secrets.token_hex(16)

    headers = webhooks.signed(FORMAT, "msg_1", 3, body, values(secret, "previous"))

    timestamp = str(int(coinslot_clock.now()))
    expected = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Gateway-Signature"] == expected
    assert headers["X-Gateway-Timestamp"] == timestamp
    assert (headers["X-Gateway-Delivery"], headers["X-Gateway-Attempt"]) == ("msg_1", "3")


def body_of(owed, claim):
    return webhooks.body(owed.installation.database.read(), claim)


def test_grants_and_events_are_delivered_as_the_feed_shows_them(owed, feed, clock):
    owed.destination()
    (grant_id,) = owed.credit()
    owed.reverse(grant_id)
    by_type = {}
    for _ in range(2):
        (claim,) = owed.claim()
        by_type[claim.event_type] = json.loads(body_of(owed, claim))
        assert "whsec" not in repr(claim)
        owed.record(claim)

    first, second = feed()
    assert by_type["grant.created"] == {"type": "grant.created", "timestamp": first["created_at"], "data": first}
    assert by_type["grant.reversed"]["data"] == second

    owed.change(
        """INSERT INTO events (id, game_id, partner, type, dedupe_key, player_id, data, environment, is_test,
                               received_at)
           VALUES (9, :game_id, 'appcharge', 'player.login', 'one', 'alice', '{"a": 1}', 'live', 0, '')""",
        game_id=owed.game_id,
    )
    owed.write(lambda tx: deliveries.enqueue(tx, owed.game_id, "player.login", event_id=9, player_id="alice"))
    (claim,) = owed.claim()
    document = json.loads(body_of(owed, claim))
    assert document["type"] == "player.login"
    assert document["data"] == events.event(owed.installation.database.read(), 9)


@pytest.mark.parametrize("format", ["standard", "playcamp"])
def test_the_body_is_the_same_bytes_every_time_and_a_conversion_as_it_was_stored(owed, clock, format):
    owed.destination(format=format)
    (event_id,) = owed.happen()
    bodies = set()
    for _ in range(3):
        (claim,) = owed.claim()
        bodies.add(body_of(owed, claim))
        owed.fail(claim)
        clock.shift(400)

    (row,) = owed.rows("SELECT body FROM conversions WHERE event_id = :id", id=event_id)
    assert len(bodies) == 1
    assert (bodies == {row["body"]}) == (format == "playcamp")


def test_the_playcamp_format_never_sends_what_was_not_converted(owed):
    owed.destination(format="playcamp")
    owed.happen()
    owed.change("UPDATE conversions SET body = NULL")
    (claim,) = owed.claim()

    with pytest.raises(LookupError, match="not converted"):
        body_of(owed, claim)
