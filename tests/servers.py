"""Real servers for tests: ``gunicorn wsgi:app`` in a process group of its own, and HTTP over sockets of our own.

Nothing here waits a fixed time: what is waited for is looked at again and again until a deadline.
"""

import atexit
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import databases
from tests.waiting import until as until

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 20.0
STOP_SECONDS = 30.0
CALL_SECONDS = 30.0

_LISTENING = re.compile(r"Listening at: \S*http://127\.0\.0\.1:([0-9]+)[ ,]")
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def mimetype(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


def needs(program: str) -> str:
    """The program's path. Whoever has not got it skips the test; the checks must have it."""
    import pytest  # who only wants a server, such as a benchmark, may not have it

    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return path


class Underway:
    """Functions running in a thread each."""

    def __init__(self, *calls: Callable[[], Any]) -> None:
        self._results: list[Any] = [None] * len(calls)
        self._threads = [threading.Thread(target=self._run, args=pair) for pair in enumerate(calls)]
        for thread in self._threads:
            thread.start()

    def are_all(self) -> bool:
        """Whether none of them has ended yet."""
        return all(thread.is_alive() for thread in self._threads)

    def results(self) -> list[Any]:
        """What they returned, in their order, once the last has ended; the first error is raised."""
        for thread in self._threads:
            thread.join()
        for result in self._results:
            if isinstance(result, BaseException):
                raise result
        return self._results

    def _run(self, index: int, call: Callable[[], Any]) -> None:
        try:
            self._results[index] = call()
        except BaseException as error:
            self._results[index] = error


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run functions at the same time and return what they return, in their order."""
    return Underway(*calls).results()


class Server:
    """One gunicorn master and its workers. May be started again on the same home, on another port.

    Use as a context manager: whatever happens, no process of it is left.
    """

    def __init__(
        self,
        home: Path,
        *options: str,
        listen: tuple[str, ...] = ("-b", "127.0.0.1:0"),
        checkout: Path = ROOT,
        program: tuple[str, ...] = (sys.executable, "-m", "gunicorn"),
        handed: tuple[socket.socket, ...] = (),
        **environment: str,
    ) -> None:
        self.home = home
        self._program = program
        self._checkout = checkout
        self._handed = handed
        self._options = (*listen, *options)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
        for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "FORWARDED_ALLOW_IPS"):
            self._environment.pop(name, None)
        self._environment |= databases.environment(home) | environment
        self._log = home.parent / f"{home.name}-gunicorn-{id(self):x}.log"
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lost: list[int] = []  # process groups whose master was killed
        self._successor = 0  # pid of the master that took over from the one that was started
        self.port = 0  # of a stopped server: nobody listens there

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the master without waiting for it."""
        assert self._process is None, "already started"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, "wsgi:app", *self._options],
                cwd=self._checkout,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
                pass_fds=[each.fileno() for each in self._handed],
            )
        atexit.register(self.kill)
        return self._process

    def start(self) -> None:
        """Start, and wait until the server answers."""
        process = self.launch()
        try:
            found = until(
                lambda: process.poll() is not None or _LISTENING.search(self.log), "gunicorn listens", START_SECONDS
            )
            assert isinstance(found, re.Match), f"gunicorn ended with {process.returncode}:\n{self.log}"
            self.port = int(found[1])
            until(self.is_up, "the server answers /healthz", START_SECONDS)
        except BaseException:
            self.kill()
            raise

    def is_up(self) -> bool:
        try:
            return self.get("/healthz", timeout=2.0).status == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._successor or self._process.pid

    @property
    def log(self) -> str:
        """What this start has written to standard output and standard error."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    @property
    def workers(self) -> list[int]:
        """Pids of the master's children, in no order."""
        return [pid for pid, parent, _ in _processes() if self._process is not None and parent == self.pid]

    def booted_workers(self) -> list[int]:
        booted = set(map(int, re.findall(r"Booting worker with pid: ([0-9]+)", self.log)))
        return [pid for pid in self.workers if pid in booted]

    def terminate(self) -> None:
        """SIGTERM to the master, as systemd sends it; returns at once."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The master's exit status, once it and its workers are gone."""
        assert self._process is not None, "not started"
        if self._successor:
            until(lambda: not _is_running(self._successor), "the master has ended", seconds)
        status = self._process.wait(seconds)
        self.kill()
        return status

    def stop(self) -> int:
        """End in good order; returns the exit status."""
        self.terminate()
        return self.wait()

    def kill_worker(self, pid: int) -> None:
        assert pid in self.workers
        os.kill(pid, signal.SIGKILL)

    def replace_master(self, pid_file: Path) -> None:
        """Have a new master take over (USR2) and end the old one in good order. ``pid_file``: gunicorn's ``--pid``.

        ``program`` must be gunicorn's script: started by ``-m``, the new master would take ``gunicorn/app`` for ours.
        """
        old, announced = self.pid, Path(f"{pid_file}.2")
        os.kill(old, signal.SIGUSR2)
        until(lambda: announced.exists() and announced.read_text().strip(), "the new master begins", START_SECONDS)
        new = int(announced.read_text())
        until(lambda: any(parent == new for _, parent, _ in _processes()), "the new master has workers", START_SECONDS)
        self._successor = new
        os.kill(old, signal.SIGTERM)
        until(lambda: not _is_running(old), "the old master has ended", STOP_SECONDS)
        until(lambda: not announced.exists(), "the new master has taken over", STOP_SECONDS)

    def kill_master(self) -> None:
        """``kill -9`` of the master alone. Its workers notice, and end; meanwhile the server may be started again."""
        process, self._process = self._process, None
        assert process is not None, "not started"
        process.kill()
        process.wait()
        self._lost.append(process.pid)

    def kill(self) -> None:
        """``kill -9`` of the master and all its workers at once. Harmless when nothing runs."""
        process, self._process, self._successor, self.port = self._process, None, 0, 0
        groups, self._lost = [*self._lost, *([] if process is None else [process.pid])], []
        for each in groups:
            with suppress(ProcessLookupError):
                os.killpg(each, signal.SIGKILL)
        if process is not None:
            process.wait()
        if groups:
            until(lambda: not any(group in groups for _, _, group in _processes()), "the process groups have ended")
        atexit.unregister(self.kill)

    def connections_in_hand(self) -> int:
        """Connections that a worker has accepted and nobody has closed.

        Out of ``/proc/net/tcp``: state 01 is established, an inode of 0 is still in the kernel's backlog.
        """
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        local = f"0100007F:{self.port:04X}"
        return sum(row[1] == local and row[3] == "01" and row[9] != "0" for row in rows)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = CALL_SECONDS,
        before_sending: Callable[[], Any] | None = None,
    ) -> Answer:
        """One call over a connection of its own. ``before_sending`` runs once connected, such as a barrier's wait."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port or 1, timeout=timeout)
        try:
            connection.connect()
            if before_sending is not None:
                before_sending()
            begun = time.monotonic()
            is_chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, path, body, dict(headers or {}), encode_chunked=is_chunked)
            response = connection.getresponse()
            content = response.read()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                content,
                time.monotonic() - begun,
            )
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None, **how: Any) -> Answer:
        return self.call("GET", path, None, headers, **how)

    def post(self, path: str, body: bytes | Iterable[bytes], headers: Mapping[str, str], **how: Any) -> Answer:
        return self.call("POST", path, body, headers, **how)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A bare connection, for what no HTTP library would send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=CALL_SECONDS) as connection:
            yield connection


def path_and_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _processes() -> Iterator[tuple[int, int, int]]:
    """Pid, parent and group of every process that has not ended."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                state, parent, group = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z":
                    yield int(entry), int(parent), int(group)


def _is_running(pid: int) -> bool:
    return any(each == pid for each, _, _ in _processes())


def end_with_parent() -> None:
    """In the child: SIGTERM when whoever runs the tests is killed, so that not even that leaves a server behind."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
