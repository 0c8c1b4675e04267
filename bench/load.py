"""wrk as the caller: orders in, figures out."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.orders import Orders

SCRIPT = Path(__file__).with_name("orders.lua")
THREADS = 2
GRACE_SECONDS = 30


class LoadError(Exception):
    """The run says nothing, and why."""


@dataclass(frozen=True)
class Load:
    """What the callers saw. ``credited`` are the answers 200; latencies are wrk's, in milliseconds.

    ``processor`` is what the server used for each of them, in microseconds, where that was measured.
    """

    credited: int
    errors: int
    per_second: float
    p50: float
    p99: float
    longest: float
    processor: float = 0.0


def drive(port: int, orders: Orders, seconds: int, callers: int, first: int = 0, count: int | None = None) -> Load:
    """Send orders for some seconds, each once. Raises :class:`LoadError` when they run out, or wrk fails.

    wrk counts statuses of 400 and more; Coinslot has no answer between 200 and 400 on this path, and what is stored
    is compared with what was answered afterwards.
    """
    count = orders.count - first if count is None else count
    command = ["wrk", "-t", str(THREADS), "-c", str(callers), "-d", f"{seconds}s", "--timeout", "10s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--"]
    command += [str(orders.path), str(orders.record_bytes), str(first), str(count), str(THREADS)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False)
    lines = ran.stdout.strip().splitlines()
    if ran.returncode != 0 or not lines or not lines[-1].startswith("{"):
        raise LoadError(f"wrk failed: {ran.stdout}{ran.stderr}")
    said = json.loads(lines[-1])
    if said["exhausted"]:
        raise LoadError("the orders ran out before the time did: raise MOST_PER_SECOND in bench/orders.py")
    return Load(
        credited=said["answers"] - said["refused"],
        errors=said["refused"] + said["broken"] + said["late"],
        per_second=(said["answers"] - said["refused"]) / (said["microseconds"] / 1e6),
        p50=said["p50"] / 1000,
        p99=said["p99"] / 1000,
        longest=said["most"] / 1000,
    )
