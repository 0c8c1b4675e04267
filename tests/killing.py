"""Processes that tests kill with SIGKILL at a step of their work, and then look at what is left.

:class:`Process` runs Python on a home folder. What a killed process held is given back when its lease ends, so that
who goes on after it runs some time ``later``. Run as a module it is a relay that waits at a step:
``python -m tests.killing claimed|sent SECONDS``.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import databases
from tests.servers import ROOT, until


class Process:
    """``python ARGUMENTS`` on a home folder. Use as a context manager: at the end it is killed, if it still runs."""

    def __init__(self, home: Path, *arguments: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
        self._popen = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=environment | databases.environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._popen.communicate()

    def line(self, said: str = "") -> str:
        """Send it a line if there is one; returns the next line it prints."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        if said:
            self._popen.stdin.write(f"{said}\n")
            self._popen.stdin.flush()
        return self._popen.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._popen.kill()
        self._popen.wait()

    def kill_when(self, is_reached: Callable[[], Any], step: str) -> None:
        """SIGKILL once a function is true."""
        until(is_reached, step, 60)
        self.kill()

    def kill_after(self, most_seconds: float, chance: random.Random) -> None:
        """SIGKILL at a moment that chance chooses."""
        time.sleep(chance.uniform(0, most_seconds))
        self.kill()

    def terminate(self) -> tuple[int, str]:
        """SIGTERM; returns as :meth:`end`."""
        self._popen.send_signal(signal.SIGTERM)
        return self.end()

    def end(self, seconds: float = 120.0) -> tuple[int, str]:
        """Wait for its end: exit status, and what it printed since the last :meth:`line`."""
        output, _ = self._popen.communicate(timeout=seconds)
        return self._popen.returncode, output


def flask(home: Path, *arguments: object, later_seconds: float = 0.0) -> Process:
    """``flask ARGUMENTS`` as a process, with the clock so many seconds ahead."""
    how = ["tests.flask_later", later_seconds] if later_seconds else ["flask"]
    return Process(home, "-m", *how, *arguments)


def relay(home: Path, step: str = "", seconds: float = 0.0) -> Process:
    """A relay that runs. It waits so long before it sends what it has ``claimed``, or records what it has ``sent``."""
    process = Process(home, "-m", "tests.killing", step, seconds)
    assert process.line() == "ready"
    return process


def _main(step: str, seconds: str) -> None:
    from app import create_app
    from coinslot.base.outbound import Answer, Outbound
    from coinslot.relay.loop import Relay

    class Pausing(Outbound):
        def post(self, *arguments: Any) -> Answer:
            if step == "claimed":
                time.sleep(float(seconds))
            answer = super().post(*arguments)
            if step == "sent":
                time.sleep(float(seconds))
            return answer

    installation = create_app().extensions["coinslot"]
    running = Relay(installation.database, installation.vault, Pausing())
    signal.signal(signal.SIGTERM, lambda *_: running.stop())
    print("ready", flush=True)
    running.run()
    installation.database.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
