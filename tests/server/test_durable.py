"""What is answered is on the disk: seen by the calls that the server makes to the system."""

import re
import subprocess

import pytest

from tests.server.test_server import signed_order
from tests.servers import Server, needs, until


@pytest.mark.long
def test_an_order_is_answered_after_the_disk_has_it(installation, studio, tmp_path):
    strace, trace = needs("strace"), tmp_path / "trace"
    with Server(installation.settings.home, "--workers", "1", COINSLOT_RELAY="off") as server:
        assert server.post("/appcharge/demo/orders", *signed_order("first")).status == 200
        (worker,) = server.booted_workers()
        watching = [
            "-f",
            "-y",
            "-e",
            "trace=pwrite64,fdatasync,fsync,sendto,sendmsg,write",
            "-s",
            "64",
            "-o",
            str(trace),
        ]
        watcher = subprocess.Popen([strace, *watching, "-p", str(worker)], stderr=subprocess.PIPE, text=True)
        try:
            assert watcher.stderr is not None
            assert "attached" in watcher.stderr.readline()
            assert server.post("/appcharge/demo/orders", *signed_order("second")).status == 200
            until(lambda: "HTTP/1.1 200" in trace.read_text(), "the answer is in the trace")
        finally:
            watcher.terminate()
            watcher.wait()
    lines = trace.read_text().splitlines()
    answered = next(number for number, line in enumerate(lines) if "HTTP/1.1 200" in line)
    before = lines[:answered]
    written = max(number for number, line in enumerate(before) if re.search(r"pwrite64\(\d+<[^>]*-wal>", line))
    synced = [line for line in before[written:] if "fdatasync" in line]
    assert any(re.search(r"fdatasync\(\d+<[^>]*-wal>\) += 0|fdatasync resumed>.* = 0", line) for line in synced), before
