"""The disk is full, the file cannot be written, another process holds the lock."""

import errno
import fcntl
import os
import resource
import shutil
import subprocess
import time

from chaos.scenes import Scene
from chaos.stage import Stage

DISK_MIB = 160  # less than 64 MiB free are a trouble of their own
HELD_SECONDS = 6.5  # a caller waits five seconds


def full(stage: Stage) -> None:
    """A small file system of its own, filled to the last byte and freed again."""
    stage.home.mkdir()
    stage.undo("umount", "--lazy", str(stage.home))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(stage.home)], check=True)
    stage.furnish()
    filler = stage.home / "filler"
    stage.begin()
    for _ in stage.moments(0.5, 1.5, at_least=2):
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                _fill(file.fileno(), size)
        before = stage.load.counts["5xx"]
        stage.until_refused(before)
        time.sleep(1)
        filler.unlink()
        stage.go_on(20)


def _fill(descriptor: int, size: int) -> None:
    try:
        while True:
            os.write(descriptor, bytes(size))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def read_only(stage: Stage) -> None:
    """Database and WAL cannot be written, not even by root and not even where they are open already."""
    stage.begin()
    files = [str(stage.home / name) for name in ("coinslot.db", "coinslot.db-wal")]
    stage.undo("chattr", "-i", *files)
    for _ in stage.moments(0.5, 1.5, at_least=2):
        before = stage.load.counts["5xx"]
        subprocess.run(["chattr", "+i", *files], check=True)
        try:
            stage.until_refused(before)
            time.sleep(1)
        finally:
            subprocess.run(["chattr", "-i", *files], check=True)
        stage.go_on(20)


def size_limit(stage: Stage) -> None:
    """Each write past a file-size limit fails in every worker, and then no longer."""
    stage.begin()
    for _ in stage.moments(0.5, 1.5, at_least=2):
        before = stage.load.counts["5xx"]
        limited = stage.server.workers
        for pid in limited:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        stage.until_refused(before)
        time.sleep(1)
        for pid in limited:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        stage.go_on(20)


def locked(stage: Stage) -> None:
    """Another process holds the lock for longer than a caller waits."""
    stage.begin()
    descriptor = os.open(stage.home / "write.lock", os.O_RDWR)
    try:
        for _ in stage.moments(0.2, 1.0):
            before = stage.load.counts["5xx"]
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            time.sleep(HELD_SECONDS)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            stage.go_on(20)
            stage.expect(stage.load.counts["5xx"] > before, "nobody was answered 5xx while the lock was held")
    finally:
        os.close(descriptor)


def _lacks_mount() -> str | None:
    if os.geteuid():
        return "mounting needs root"
    found = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False, stderr=-3)
    return None if found.returncode == 0 else "no file system can be mounted here"


def _lacks_chattr() -> str | None:
    if os.geteuid():
        return "chattr +i needs root"
    if shutil.which("chattr") is None:
        return "chattr is not installed (Debian: e2fsprogs)"
    return None


SCENES = [
    Scene("disk-full", f"the disk, {DISK_MIB} MiB, is filled to the last byte and freed again", full, _lacks_mount),
    Scene("read-only", "database and WAL turn read-only (chattr +i) and writable again", read_only, _lacks_chattr),
    Scene("size-limit", "each write of the workers fails (RLIMIT_FSIZE), and then no longer", size_limit),
    Scene("locked", "another process holds the write lock for 6.5 s", locked),
]
