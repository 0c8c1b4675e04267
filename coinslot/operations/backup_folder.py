"""The folder of scheduled backups: what is in it, which are kept, and how much room they may take.

``coinslot-<UTC time>.db`` is a backup that was restored aside and checked. ``unproved-<UTC time>.db`` is one whose
check has not ended, or has found something wrong; there is at most one. The folder is of one installation alone.
"""

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from coinslot.base import clock
from coinslot.operations.backup import BackupError, create, held, remove, sync
from coinslot.operations.findings import LEAST_FREE_BYTES, LITTLE_FREE_BYTES
from coinslot.store.lock import hand_over

OWNER_FILE = "installation"  # names the home folder whose backups these are
COPY_BYTES = 8 * 1024 * 1024  # written to the disk at a time
LONGEST_PAUSE_SECONDS = 0.2
_PROVED = re.compile(r"coinslot-(\d{8})T(\d{6})Z\.db")


class UnderWayError(BackupError):
    """Another proof is under way."""


@dataclass(frozen=True)
class Keep:
    """How many backups are kept, and what stays free on the disk; fewer are kept where that is not possible.

    ``least_bytes`` stay free whatever happens: rather no backup is made. ``free_bytes`` stay free beside what a restore
    needs.
    """

    days: int = 7
    weeks: int = 4
    free_bytes: int = LITTLE_FREE_BYTES
    least_bytes: int = LEAST_FREE_BYTES


@contextmanager
def in_use(folder: Path, home: Path) -> Iterator[None]:
    """One proof at a time. The folder is made (0700) where it is missing, and what a killed proof has left is removed.

    So is what this one has left, wherever it was interrupted.

    Raises :class:`UnderWayError`, or BackupError when the folder cannot be made or another installation uses it.
    """
    # Not its parents: where a disk is not mounted, the backups must not fill another one.
    if not folder.is_dir():
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise BackupError(f"the folder {folder} cannot be made: {error.strerror}") from None
        hand_over(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder))
        except BlockingIOError:
            raise UnderWayError(f"another proof is under way in {folder}") from None
        if not folder.is_relative_to(home):
            _claim(folder / OWNER_FILE, home)
        _remove_leftovers(folder)
        try:
            yield
        finally:
            _remove_leftovers(folder)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".drill-*"):
        shutil.rmtree(leftover)
    for leftover in folder.glob(".*.partial*"):
        leftover.unlink(missing_ok=True)


def _claim(file: Path, home: Path) -> None:
    """Two installations with one folder would remove each other's backups."""
    ours = str(home.resolve())
    if not file.exists():
        create(file)
    owner = file.read_text().strip()
    if not owner:  # new, or its maker was killed
        file.write_text(f"{ours}\n")
        sync(file)
    elif owner != ours:
        raise BackupError(
            f"{file.parent} holds the backups of the installation in {owner}; give each a folder of its own "
            f"(COINSLOT_BACKUPS). If that one was moved here, delete {file}"
        )


def is_under_way(folder: Path) -> bool:
    """Whether a proof runs now."""
    try:
        with held(folder):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def proved(folder: Path) -> list[Path]:
    """The backups that were proved, the oldest first."""
    return sorted(path for path in folder.glob("coinslot-*.db") if _PROVED.fullmatch(path.name))


def new_name(folder: Path) -> Path:
    """Where the next backup is written before it is proved."""
    at = clock.now()
    while True:
        stamp = clock.stamp(at)[:19].replace("-", "").replace(":", "")
        if not (folder / f"coinslot-{stamp}Z.db").exists():
            return folder / f"unproved-{stamp}Z.db"
        at += 1


def approve(unproved: Path) -> Path:
    """Give a backup that was proved its name."""
    file = unproved.with_name(unproved.name.replace("unproved-", "coinslot-"))
    unproved.rename(file)
    sync(file.parent)
    return file


def remove_unproved(folder: Path, but: Path | None = None) -> None:
    """Delete the backups that were not proved, but one."""
    for path in folder.glob("unproved-*"):
        if but is None or not path.name.startswith(but.name):
            path.unlink(missing_ok=True)


def make_room(folder: Path, size_bytes: int, keep: Keep) -> None:
    """Before a backup: where there is no room for it and its check, delete the oldest ones, and never the newest.

    Raises BackupError when that is not enough.
    """
    needed = 2 * size_bytes + keep.least_bytes
    if free_bytes(folder) < needed:
        remove_unproved(folder)
    for path in proved(folder)[:-1]:
        if free_bytes(folder) >= needed:
            return
        remove(path)
    free = free_bytes(folder)
    if free < needed:
        raise BackupError(
            f"the disk of {folder} is short: {in_bytes(free)} are free, and a backup with its check needs "
            f"{in_bytes(needed)}"
        )


def prune(folder: Path, home: Path, size_bytes: int, keep: Keep) -> bool:
    """After a backup was proved: delete those not to be kept; returns whether the disk was too short for all others."""
    kept = choose((path.name for path in proved(folder)), keep)
    for path in proved(folder):
        if path.name not in kept:
            remove(path)
    # The next backup and its check, or a restore, which needs the prepared file, the former content and a WAL.
    needed = (3 if is_same_disk(folder, home) else 2) * size_bytes + keep.free_bytes
    is_short = False
    for path in proved(folder)[:-1]:
        if free_bytes(folder) >= needed:
            break
        is_short = True
        remove(path)
    return is_short


def choose(names: Iterable[str], keep: Keep) -> set[str]:
    """The names to keep: the newest, and the first of each of the newest days and of each of the weeks before."""
    days: dict[str, list[str]] = {}
    for name in sorted(names):
        if found := _PROVED.fullmatch(name):
            days.setdefault(found[1], []).append(name)
    kept = {days[max(days)][-1]} if days else set()
    newest_days = sorted(days)[-keep.days :]
    kept |= {days[day][0] for day in newest_days}
    weeks: dict[tuple[int, int], str] = {}
    for day in sorted(days):
        if day not in newest_days:
            year, week, _ = date.fromisoformat(day).isocalendar()
            weeks.setdefault((year, week), days[day][0])
    return kept | {weeks[week] for week in sorted(weeks)[-keep.weeks :]}


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def is_same_disk(folder: Path, home: Path) -> bool:
    """Whether a disk that breaks takes the database and its backups."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.stat().st_dev == home.stat().st_dev


class Pace:
    """Leaves the disk to credits: what is written is brought to the disk a little at a time, with a pause after it.

    Without it the kernel collects gigabytes, and the commit that comes next waits for all of them.
    """

    def __init__(self, folder: Path, least_bytes: int) -> None:
        self._folder = folder
        self._least_bytes = least_bytes
        self._began = time.monotonic()

    def step(self, file: Path) -> None:
        """After each portion. Raises BackupError when the disk has become short meanwhile."""
        sync(file)
        if free_bytes(self._folder) < self._least_bytes:
            raise BackupError(f"the disk of {self._folder} has become short")
        time.sleep(min(time.monotonic() - self._began, LONGEST_PAUSE_SECONDS))
        self._began = time.monotonic()

    def copy_file(self, source: Path, target: Path) -> None:
        with source.open("rb") as read, target.open("r+b", buffering=0) as written:
            while portion := read.read(COPY_BYTES):
                written.write(portion)
                self.step(target)


def in_bytes(count: int) -> str:
    """A size as people say it: 812 bytes, 2.1 GB."""
    if count < 1000:
        return f"{count} bytes"
    amount = float(count)
    for unit in ("kB", "MB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} GB"
