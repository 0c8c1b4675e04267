"""What the database tells about the commits of all servers."""

import logging
import os
import threading
import time

from coinslot.store.postgres.connection import LISTENER, open_connection
from coinslot.store.postgres.writer import CHANNEL

LOOK_SECONDS = 0.5  # how long :meth:`Listener.stop` may have to wait
READ_ONLY = "-c default_transaction_read_only=on"

log = logging.getLogger("coinslot")


class Listener:
    """A thread that counts commits. While nobody can tell, it counts all the same: whoever waits looks for himself."""

    def __init__(self, url: str) -> None:
        self.pid = os.getpid()
        self.count = 0
        self._url = url
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="coinslot-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_stopping = True
        self._thread.join(4 * LOOK_SECONDS)

    def _run(self) -> None:
        is_told = True
        while not self._is_stopping:
            try:
                raw = open_connection(self._url, READ_ONLY, "primary", LISTENER)
                try:
                    raw.execute(f"LISTEN {CHANNEL}")
                    self.count += 1  # there may have been commits before
                    is_told = True
                    while not self._is_stopping:
                        for _ in raw.notifies(timeout=LOOK_SECONDS, stop_after=1):
                            self.count += 1
                finally:
                    raw.close()
            except Exception as error:  # the thread must survive: relays wait for it
                if is_told and not self._is_stopping:
                    log.warning("the database tells no commits, and is asked again and again: %s", type(error).__name__)
                is_told = False
                self.count += 1
                time.sleep(LOOK_SECONDS)
