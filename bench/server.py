"""gunicorn as it is run in production, for as long as one measurement takes."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 20
STOP_SECONDS = 30
LISTENING = re.compile(rb"Listening at: http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Server:
    """A server that answers. ``start_seconds``: from the command to the first answer."""

    port: int
    pid: int
    start_seconds: float

    def memory(self) -> tuple[float, float]:
        """RSS and PSS of master and workers together, in MiB. RSS counts a shared page once per process."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        kibibytes = {"Rss": 0, "Pss": 0}
        for pid in (str(self.pid), *children):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in kibibytes:
                    kibibytes[name] += int(rest.split()[0])
        return kibibytes["Rss"] / 1024, kibibytes["Pss"] / 1024

    def processor_seconds(self) -> float:
        """Processor time that master and workers have used until now, in user and kernel."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        ticks = 0
        for pid in (str(self.pid), *children):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def serve(
    home: Path,
    app: str = "wsgi:app",
    options: tuple[str, ...] = (),
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run gunicorn on a free port of the loopback; afterwards it is gone, whatever happened.

    ``more`` are variables for it, beside the home folder.
    """
    log = home.parent / f"{home.name}.log"
    # Only what a shell gives and what is set here: a setting left over in the developer's shell must not be measured.
    # Compiled code is kept, as in production.
    ours = ("COINSLOT_", "WEB_CONCURRENCY", "GUNICORN_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *options, app],
            cwd=ROOT,
            env=environment | {"COINSLOT_HOME": str(home), **more},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,  # the log line of every credit is written, as in production; a pipe would have to be read
            start_new_session=True,
        )
    try:
        port = _port(process, log, began + START_SECONDS)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=START_SECONDS) as answer:
            answer.read()
        yield Server(port, process.pid, time.perf_counter() - began)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path, deadline: float) -> int:
    while time.perf_counter() < deadline and process.poll() is None:
        found = LISTENING.search(log.read_bytes())
        if found:
            return int(found[1])
        time.sleep(0.005)
    raise RuntimeError(f"gunicorn does not start: {log.read_text()}")
