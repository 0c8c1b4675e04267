"""A relay as a process of its own: ``python -m tests.relay_process HOME``. SIGTERM ends it tidily.

``--pause-before send|record SECONDS`` makes the moment long in which a test wants to kill it.
"""

import signal
import sys
import time
from pathlib import Path

from app import create_app
from coinslot.base.outbound import Answer, Outbound
from coinslot.relay.loop import Relay


class Pausing(Outbound):
    """Waits before or after a call; the call itself is as ever."""

    def __init__(self, where: str, seconds: float) -> None:
        super().__init__()
        self._where = where
        self._seconds = seconds

    def post(self, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float) -> Answer:
        if self._where == "send":
            time.sleep(self._seconds)
        answer = super().post(url, headers, body, timeout_seconds)
        if self._where == "record":
            time.sleep(self._seconds)
        return answer


def main(home: str, where: str = "", seconds: str = "0") -> None:
    installation = create_app({"COINSLOT_HOME": str(Path(home))}).extensions["coinslot"]
    relay = Relay(installation.database, installation.vault, Pausing(where, float(seconds)))
    signal.signal(signal.SIGTERM, lambda *_: relay.stop())
    print("ready", flush=True)
    relay.run()
    installation.database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
