"""The lock around every commit, between threads and between processes."""

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path


class WriteLock:
    """A flock on a file, with a thread lock before it.

    All threads that share a descriptor hold its flock, and so does a forked child: hence the thread lock, and a
    descriptor that each process opens itself.

    The holder may mark the lock. A mark is a lock on the file's first byte, which other processes see and which ends
    with the process: it needs no space on a full disk and does not outlive a restart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._descriptor = -1
        self._pid = 0
        self._is_marked_here = False

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._pid != os.getpid():
                self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                hand_over(self._path)
                self._pid = os.getpid()
                self._is_marked_here = False
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._threads.release()

    def mark(self, is_marked: bool) -> None:
        """Call it as the holder, like :meth:`is_marked`."""
        self._is_marked_here = is_marked
        with suppress(OSError):  # without a lock only this process knows, and no commit fails for that
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH if is_marked else fcntl.LOCK_UN, 1)

    def is_marked(self) -> bool:
        """Whether this or another process has marked it."""
        if self._is_marked_here:
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except OSError:
            return True
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)
        return False


def hand_over(path: Path) -> None:
    """Give a file that root has made to the owner of its folder, the user the server runs as."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
