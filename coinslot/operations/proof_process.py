"""A proof in a process of its own, with low priority, so that it slows no credit and can be stopped at any moment.

The process is ``python -m coinslot.operations.proof_process HOME BACKUPS``. It prints what it does, a JSON object per
line, and ends tidily when its standard input is closed: also when the process that started it was killed.
"""

import _thread
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from coinslot.access.vault import Vault
from coinslot.base.errors import CoinslotError
from coinslot.base.settings import Settings
from coinslot.operations import proofs
from coinslot.operations.backup_folder import UnderWayError
from coinslot.operations.drill import Checked
from coinslot.operations.proofs import Proof
from coinslot.store.db import SCHEMA_FILE, EngineError, open_database

KEY_VARIABLE, DATABASE_VARIABLE = "COINSLOT_MASTER_KEY", "COINSLOT_DATABASE"  # both secret: not among the arguments
TIDY_SECONDS = 10.0  # to end, after it was stopped
LOWEST_PRIORITY = 19


class Running:
    """A proof that runs. Iterate over it for what it says; then :attr:`proof` or :attr:`error` is set."""

    def __init__(self, settings: Settings) -> None:
        given = {KEY_VARIABLE: settings.master_key, DATABASE_VARIABLE: settings.database}
        environment = {name: value for name, value in os.environ.items() if name not in given}
        environment |= {name: value for name, value in given.items() if value is not None}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coinslot.operations.proof_process", str(settings.home), str(settings.backups)],
            cwd=SCHEMA_FILE.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.proof: Proof | None = None
        self.error = "it was stopped"
        self.is_under_way = False  # another one

    def __iter__(self) -> Iterator[float | Checked]:
        """How far it has come, as a share of 1, and each check once it was made."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "share" in said:
                yield float(said["share"])
            elif "checked" in said:
                yield Checked(said["checked"], tuple(said["faults"]), said["count"])
            elif "error" in said:
                self.error, self.is_under_way = said["error"], said["is_under_way"]
            else:
                self.proof = Proof(**said["proof"])
        self._process.wait()

    def stop(self) -> None:
        """End it, and wait for that. What it had written of a backup is removed."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(TIDY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _say(**said: object) -> None:
    print(json.dumps(said), flush=True)


def _stop_with_parent() -> None:
    """Interrupt the main thread when standard input ends; where it is deep in the engine, leave it as SIGKILL would."""
    while os.read(0, 1024):
        pass
    _thread.interrupt_main(signal.SIGTERM)  # not SIGINT: a server that a shell began in the background ignores that
    time.sleep(TIDY_SECONDS / 2)
    os._exit(1)


def _main(home: Path, backups: Path) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(OSError):  # where that is forbidden
        os.nice(LOWEST_PRIORITY)
    with suppress(OSError, AttributeError):  # a worker of gunicorn, and so its child, is kept on one processor
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    last_share = -1.0

    def progress(share: float) -> None:
        nonlocal last_share
        if share - last_share >= 0.01:
            last_share = share
            _say(share=share)

    def checked(check: Checked) -> None:
        _say(checked=check.what, faults=check.faults, count=check.count)

    database = open_database(home, os.environ.pop(DATABASE_VARIABLE, None) or None)
    vault = Vault(home, os.environ.pop(KEY_VARIABLE, None))
    try:
        proof = proofs.prove(database, vault, backups, progress=progress, checked=checked)
        _say(proof=vars(proof))
    except (CoinslotError, EngineError, OSError) as error:
        _say(error=str(error), is_under_way=isinstance(error, UnderWayError))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):
        _main(Path(sys.argv[1]), Path(sys.argv[2]))
