"""Uploads: files that the owner has uploaded and not used yet, kept beside the database for some hours.

Any process of this installation finds one by its id and its purpose.
"""

import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from coinslot.operations.backup import create
from coinslot.store.lock import hand_over

KEPT_SECONDS = 6 * 3600.0
MOST_KEPT = 20  # of the whole installation; the oldest make room

_ID = re.compile(r"[0-9a-f]{32}")


def keep(home: Path, purpose: str, file: IO[bytes]) -> str:
    """Keep a copy and return its id. ``purpose`` is a word of ours that may be part of a file's name."""
    folder = _folder(home)
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        hand_over(folder)
    _make_room(folder)
    found = secrets.token_hex(16)
    path = folder / f"{purpose}.{found}"
    create(path)
    with path.open("wb") as kept:
        shutil.copyfileobj(file, kept)
    return found


def find(home: Path, purpose: str, upload_id: str) -> Path | None:
    """The file of an id and its purpose; None where it does not exist, or not any more."""
    path = _folder(home) / f"{purpose}.{upload_id}"
    return path if _ID.fullmatch(upload_id) and path.is_file() else None


def forget(path: Path) -> None:
    """Delete an upload."""
    path.unlink(missing_ok=True)


def clear(home: Path) -> None:
    """Delete every upload."""
    for path in _folder(home).glob("*"):
        forget(path)


def _folder(home: Path) -> Path:
    return home / "uploads"


def _make_room(folder: Path) -> None:
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process deletes too
            found.append((path.stat().st_mtime, path))
    for number, (at, path) in enumerate(sorted(found, reverse=True), start=1):
        if number >= MOST_KEPT or at < time.time() - KEPT_SECONDS:
            forget(path)
