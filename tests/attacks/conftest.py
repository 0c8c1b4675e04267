"""What the attacks on running code share: a watch over answers, the log, the processor, and what is stored."""

import logging
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.partner_cases import ADDRESSES, Sent

STORED = ("transactions", "transaction_keys", "grants", "entries", "events", "boosts", "deliveries", "payments")
# Times a good call's processor time: no call takes longer, and none of some KiB longer than that for each of them.
MOST_TIMES = 60
# What each address may answer. 500 is Playtem's only word for a refusal.
STATUSES = {
    "appcharge": {200, 400, 401},
    "playtem": {200, 500},
    "playcamp": {200, 400, 401},
    "xsolla": {204, 400},
}


class Watch:
    """Makes calls, and fails where one is answered as no contract says, logged as our fault, or slow."""

    def __init__(self, client: Any, installation: Any) -> None:
        self._client = client
        self._installation = installation
        self._good: dict[str, float] = {}
        self.faults: list[str] = []

    def rows(self) -> dict[str, int]:
        """How many rows each table holds in which calls are stored."""
        connection = self._installation.database.read()
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in STORED}

    def call(self, address: Any, made: dict[str, Any], statuses: set[int] | None = None) -> Any:
        """The answer to one call to a partner's address."""
        call = {**made, "path": address.path.format(game="demo")}
        kibibytes = (len(made.get("data", b"")) + len(made.get("query_string", ""))) // 1024
        most = MOST_TIMES * self._good[address.name] * max(1, kibibytes)
        answer, seconds = self._timed(call)
        if seconds > most:
            seconds = min(self._timed(call)[1] for _ in range(3))  # the machine may have been busy
        assert seconds <= most, (address.name, seconds, most)
        allowed = statuses or STATUSES[address.partner] | ({403} if address.endpoint == "otp" else set())
        assert answer.status_code in allowed, (address.name, answer.status_code, answer.text)
        if address.partner == "playtem" and answer.status_code == 500:
            assert answer.json["ErrorCode"] in (400, 402, 407, 408), answer.text
            assert "logged as" not in answer.json["ErrorMessage"]
        elif answer.data:
            assert isinstance(answer.json, dict)
        assert self.faults == []
        return answer

    def learn(self, address: Any) -> None:
        """Take the processor time of a good call to an address, of which all but the first are repeats."""
        made = address.make(address.path, Sent(address.key, number=424242))
        made["path"] = address.path.format(game="demo")
        self._good[address.name] = statistics.median(self._timed(made)[1] for _ in range(9))

    def _timed(self, call: dict[str, Any]) -> tuple[Any, float]:
        begun = time.process_time()
        answer = self._client.open(**call)
        return answer, time.process_time() - begun


class Faults(logging.Handler):
    """Notes what the log says is wrong with us: errors, and whatever comes with a traceback."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self._faults.append(self.format(record))


@pytest.fixture
def watch(app: Any, client: Any, installation: Any, studio: Any) -> Iterator[Watch]:
    for address in ADDRESSES:
        address.set_up(studio)
    found = Watch(client, installation)
    handler = Faults(found.faults)
    loggers = (app.logger, logging.getLogger("coinslot"))
    for logger in loggers:
        logger.addHandler(handler)
    yield found
    installation.observations.flush()
    for logger in loggers:
        logger.removeHandler(handler)
    assert found.faults == []
