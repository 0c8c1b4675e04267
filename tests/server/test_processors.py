"""Each worker computes on a processor of its own, as far as there are enough, and gets a fair share of the calls."""

import http.client
import os
import runpy
from collections import Counter
from types import SimpleNamespace

import pytest

from tests.servers import ROOT, Server, until

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processors are not assigned here")


def processors(server):
    return Counter(tuple(os.sched_getaffinity(pid)) for pid in server.booted_workers())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_workers_share_the_processors_evenly_and_a_new_one_takes_the_free_place(installation, studio, count):
    ours = os.sched_getaffinity(0)
    with Server(installation.settings.home, "--workers", str(count)) as server:
        until(lambda: len(server.booted_workers()) == count, "all workers serve")
        placed = processors(server)
        assert all(len(each) == 1 and set(each) <= ours for each in placed)
        assert max(placed.values()) - min([placed[(each,)] for each in ours]) <= 1
        assert os.sched_getaffinity(server.pid) == ours  # the master, which starts what comes later, has them all

        ended = server.booted_workers()[-1]
        server.kill_worker(ended)
        until(lambda: ended not in server.booted_workers() and processors(server) == placed, "its place is taken")


def test_a_worker_serves_where_it_may_not_choose_its_processor():
    ours = os.sched_getaffinity(0)
    gone = SimpleNamespace(processor=max(ours) + 1000)
    runpy.run_path(str(ROOT / "gunicorn.conf.py"))["post_fork"](None, gone)
    assert os.sched_getaffinity(0) == ours


def test_a_kept_connection_is_given_back_in_time_for_the_next_worker_to_take_it(installation, studio):
    with Server(installation.settings.home) as server:
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connections, closing = set(), []
        for number in range(1, 46):
            kept.request("GET", "/healthz")
            connections.add(kept.sock.getsockname())
            answer = kept.getresponse()
            assert (answer.status, bool(answer.read())) == (200, True)
            if answer.getheader("Connection") == "close":
                closing.append(number)
        kept.close()

    assert closing == [20, 40]
    assert len(connections) == 3
