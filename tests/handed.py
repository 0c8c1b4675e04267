"""Sockets that outlive a server, as systemd keeps those of ``deploy/coinslot.socket``.

:class:`Kept` holds them. Run as a module it becomes gunicorn, with the descriptors where systemd puts them:
``python -m tests.handed DESCRIPTOR,DESCRIPTOR wsgi:app``.
"""

import fcntl
import os
import socket
import sys
from pathlib import Path

from tests.servers import Server

FIRST = 3  # systemd's number of the first one


class Kept:
    """A port of the loopback and a Unix socket. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sockets = (socket.socket(), socket.socket(socket.AF_UNIX))
        self._sockets[0].bind(("127.0.0.1", 0))
        self._sockets[1].bind(str(path))
        for each in self._sockets:
            each.listen(4096)
        self.port = int(self._sockets[0].getsockname()[1])

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()
        self.path.unlink()

    def server(self, home: Path, **environment: str) -> Server:
        numbers = ",".join(str(each.fileno()) for each in self._sockets)
        program = (sys.executable, "-m", "tests.handed", numbers)
        return Server(home, listen=(), program=program, handed=self._sockets, **environment)


def _main(numbers: str, *arguments: str) -> None:
    # Copied out of the way first: their numbers may be those that they are to get.
    copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers.split(",")]
    for number, copy in enumerate(copies, FIRST):
        os.dup2(copy, number, inheritable=True)
        os.close(copy)
    os.environ |= {"LISTEN_FDS": str(len(copies)), "LISTEN_PID": str(os.getpid())}
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])


if __name__ == "__main__":
    _main(*sys.argv[1:])
