"""The log of a real server: one format, UTC, and one id from a partner's call to the game's answer."""

import json
import re

import pytest

from coinslot.outbox import destinations
from tests.conftest import furnished
from tests.fakes.http import Receiver, status
from tests.server.test_server import bearer, post_order, signed_order
from tests.servers import Server, until

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] \[(?:INFO|WARNING|ERROR)\] (?:\[([0-9a-f]{16})\] )?(.+)"
)


@pytest.mark.long
def test_one_id_leads_through_the_log_from_the_partners_call_to_the_games_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Seoul")  # a machine's zone changes nothing
    installation, studio = furnished(tmp_path / "home")
    with Receiver(status(500), status(204)) as game:
        studio.installation.database.write_here(
            lambda tx: destinations.add(*(tx, installation.vault, "demo", "main", game.url), actor="test", retry="1")
        )
        with Server(tmp_path / "home", "--access-logfile", "-", COINSLOT_TRUSTED_PROXIES="1") as server:
            chosen = "0123456789abcdef"
            first = post_order(server, "o-1", extra={"X-Request-ID": chosen, "X-Forwarded-For": "203.0.113.9"})
            again = post_order(server, "o-1")
            body, headers = signed_order("o-2", playerId="nobody")
            unknown = server.post("/appcharge/demo/orders", body, headers)
            forged = server.post("/appcharge/demo/orders", body, headers | {"signature": "t=1,v1=00"})
            until(lambda: len(game.requests) == 2, "the delivery arrives at its second attempt", 30)
            (grant,) = server.get("/game/v1/grants?after=0", bearer(studio.token)).json["grants"]
            until(lambda: server.log.count("refused 1 call(s)") == 2, "the refused calls are logged")
            until(lambda: "answered 204" in server.log, "the delivery is logged")
            assert server.stop() == 0
            log = server.log

    ids = [answer.headers["x-request-id"] for answer in (first, again, unknown, forged)]
    assert len({*ids, chosen}) == 5
    assert [answer.status for answer in (first, again, unknown, forged)] == [200, 200, 400, 401]
    lines = [LINE.fullmatch(line) for line in log.splitlines()]
    assert None not in lines, log
    said = [(match[1], match[2]) for match in lines if match is not None]

    transaction = json.loads(first.body)["publisherPurchaseId"]
    assert transaction == grant["transaction_id"]
    of = f"; grant {grant['id']} of transaction {transaction}, request {ids[0]}"
    # All that one grep for the first call's id finds: the credit, the access log and both attempts of the delivery.
    kept = [text for request_id, text in said if ids[0] in (request_id, text[-16:])]
    assert sum(text == f"appcharge demo: credited order 'o-1', transaction {transaction}" for text in kept) == 1
    assert sum(text.startswith('203.0.113.9 "POST /appcharge/demo/orders HTTP/1.1" 200 ') for text in kept) == 1
    assert sum(text == f"delivery 1 to main failed: status{of}" for text in kept) == 1
    assert sum(re.fullmatch(rf"delivery 1 to main: answered 204 in \d+ ms{of}", text) is not None for text in kept) == 1
    assert len(kept) == 4
    assert (ids[1], f"appcharge demo: credited before: order 'o-1', transaction {transaction}") in said
    for reason, request_id in (("unknown_player", ids[2]), ("signature", ids[3])):
        assert (None, f"refused 1 call(s): appcharge demo orders, reason {reason}, request {request_id}") in said
    assert chosen not in log
