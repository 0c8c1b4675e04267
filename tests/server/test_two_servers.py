"""Several servers on one PostgreSQL database: each credits what the other may be crediting, and one may die."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from coinslot.relay.loop import IN_HAND_PER_DESTINATION
from tests import postgres
from tests.server.two_servers import Pair, Poller, report, two_servers
from tests.servers import Server, together, until

pytestmark = pytest.mark.long

ORDERS = 300
CALLERS = 6  # of each server


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    postgres.needs_postgres()
    with postgres.fresh_database() as url, two_servers(tmp_path, url) as found:
        yield found


def is_all_leased(pair: Pair) -> float:
    """How many deliveries are in hand, once none waits for anything else; that none is there counts as half of one."""
    owed = pair.rows("SELECT leased_until FROM deliveries WHERE state <> 'delivered'")
    return (len(owed) or 0.5) if all(row["leased_until"] is not None for row in owed) else 0


def report_all(server: Server, order_ids: list[str], answers: dict[str, bytes]) -> None:
    """Report each order once; what was answered. Commits wait for one another, so that none is refused."""
    for order_id in order_ids:
        status, answers[order_id] = report(server, order_id)
        assert status == 200, answers[order_id]


def test_orders_sent_to_both_at_once_are_credited_and_delivered_once_and_read_in_order(pair: Pair) -> None:
    order_ids = [f"order-{number:03}" for number in range(ORDERS)]
    answers: list[dict[str, bytes]] = [{}, {}]
    with Poller(pair.servers[0], pair.studio.token) as first, Poller(pair.servers[1], pair.studio.token) as second:
        together(
            *(
                partial(report_all, server, order_ids[part::CALLERS], answers[place])
                for place, server in enumerate(pair.servers)
                for part in range(CALLERS)
            )
        )

    assert pair.credited() == dict.fromkeys(order_ids, 1)
    assert answers[0] == answers[1]  # whoever came second was told the same
    assert first.ids == second.ids == pair.feed_ids() == list(range(1, ORDERS + 1))
    assert first.wrong == second.wrong == []
    until(lambda: not pair.owed(), "everything is delivered", 60)
    assert len(pair.receiver.webhook_ids) == len(set(pair.receiver.webhook_ids)) == ORDERS
    assert pair.receiver.overlaps == 0
    pair.assert_sound()


def test_the_death_of_one_server_loses_and_doubles_nothing(pair: Pair) -> None:
    dying, staying = pair.servers
    acknowledged: set[str] = set()
    sent: set[str] = set()
    is_over = threading.Event()

    def call(caller: int) -> None:
        """Report orders to the server that dies, and to the other where there is no answer, as behind a proxy."""
        number = 0
        while not is_over.is_set():
            number += 1
            order_id = f"order-{caller}-{number}"
            sent.add(order_id)
            status, _ = report(dying, order_id)
            while status != 200:
                assert status in (0, 503), status
                status, _ = report(staying, order_id)
            acknowledged.add(order_id)
            report(staying, order_id)  # and a repeat to the other one

    with Poller(staying, pair.studio.token) as poller:
        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(acknowledged) > 60, "there is load", 60)
            dying.kill()
            before = len(acknowledged)
            until(lambda: len(acknowledged) > before + 60, "the other one goes on", 60)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()

    assert pair.credited() == dict.fromkeys(acknowledged, 1)
    assert acknowledged == sent
    assert poller.ids == pair.feed_ids()
    assert poller.wrong == []
    # What the dead one had in hand is sent when its lease ends; if again, under the same id, by which a game knows it.
    leased = until(lambda: is_all_leased(pair), "the other one delivers all but those", 60)
    arrived = pair.receiver.webhook_ids
    assert len(set(arrived)) >= len(sent) - leased
    assert len(arrived) - len(set(arrived)) <= IN_HAND_PER_DESTINATION
    pair.assert_sound()
