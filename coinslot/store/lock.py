"""The lock around every commit, between threads and between processes."""

import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

COUNT_BYTES = 8
COMMITS_PER_TURN = 2**48  # never reached by counting


class WriteLock:
    """A flock on a file, with a thread lock before it.

    All threads that share a descriptor hold its flock, and so does a forked child: hence the thread lock, and a
    descriptor that each process opens itself.

    The holder may mark the lock. A mark is a lock on the file's first byte, which other processes see and which ends
    with the process: it needs no space on a full disk and does not outlive a restart.

    The file holds one number, which every process sees in its memory: how many commits may have changed a game's
    configuration, times two. It is odd while such a commit is under way, and after one that a process died in. The
    upper bits count how often the database was exchanged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._descriptor = -1
        self._pid = 0
        self._is_marked_here = False
        self._count: memoryview | None = None

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            self._open()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if self._count is None:
                self._map(may_write=True)
            elif self._count[0] % 2:
                self._count[0] += 1  # the process that began this change has died: it is committed or not
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._threads.release()

    def changes(self) -> int | None:
        """A number that is another one after each commit of a :meth:`changing`, by any process.

        None while it is not known whether such a commit is done.
        """
        if self._pid != os.getpid():
            with self._threads, suppress(OSError):  # such as a folder that is gone, which a read will say
                self._open()
        count = None if self._count is None else self._count[0]
        return None if count is None or count % 2 else count

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Call it as the holder, around a commit that may change a game's configuration."""
        count = self._count
        if count is not None:
            count[0] += 1
        try:
            yield
        finally:
            if count is not None:
                count[0] += 1

    def turn(self) -> int:
        """Another number than before once the database itself was exchanged or must not be served any more."""
        return 0 if self._count is None else self._count[0] // COMMITS_PER_TURN

    def begin_turn(self) -> None:
        """Call it as the holder, so that every process opens the database anew before it reads."""
        if self._count is not None:
            self._count[0] += COMMITS_PER_TURN

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

    def _open(self) -> None:
        if self._pid == os.getpid():
            return
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        hand_over(self._path, self._descriptor)
        self._is_marked_here = False
        self._map()
        self._pid = os.getpid()

    def _map(self, may_write: bool = False) -> None:
        self._count = None
        with suppress(OSError):  # such as a full disk: the number stays unknown
            size = os.fstat(self._descriptor).st_size
            if size < COUNT_BYTES and may_write:  # only the holder, or another process would count from 0 again
                size = os.pwrite(self._descriptor, bytes(COUNT_BYTES), 0)
            if size >= COUNT_BYTES:
                self._count = memoryview(mmap.mmap(self._descriptor, COUNT_BYTES)).cast("Q")


def make_empty(path: Path, flags: int = 0) -> None:
    """Make an empty file that only its owner may read: who runs this, or, for root, the owner of the folder."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    hand_over(path, descriptor)
    os.close(descriptor)


def hand_over(path: Path, descriptor: int | None = None) -> None:
    """Give a file or folder that root has made to the owner of its folder, the user the server runs as.

    Of a file it takes the open ``descriptor``: that user may put a link to another file in its place meanwhile.
    """
    if os.geteuid() == 0:
        owner = path.parent.stat()
        if descriptor is not None:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        else:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
