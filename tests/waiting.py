"""Waiting for what becomes true: looked at again and again until a deadline, never for a fixed time."""

import time
from collections.abc import Callable
from typing import Any


def until(is_true: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """The first true value of a function; fails when there is none before the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := is_true()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.01)
    return found
