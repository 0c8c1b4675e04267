"""Files the owner has handed in and not used yet: kept beside the database for some hours, then gone.

Whoever has the id and names what it was handed in for finds it again, in any process of this installation.
"""

import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import IO

KEPT_SECONDS = 6 * 3600.0
MOST_KEPT = 20  # of the whole installation; the oldest make room

_ID = re.compile(r"[0-9a-f]{32}")


def keep(home: Path, purpose: str, file: IO[bytes]) -> str:
    """Keep a copy and return its id. ``purpose`` is of our making, and may stand in the name of a file."""
    folder = _folder(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    _make_room(folder)
    found = secrets.token_hex(16)
    with os.fdopen(os.open(folder / f"{purpose}.{found}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as kept:
        shutil.copyfileobj(file, kept)
    return found


def find(home: Path, purpose: str, upload_id: str) -> Path | None:
    path = _folder(home) / f"{purpose}.{upload_id}"
    return path if _ID.fullmatch(upload_id) and path.is_file() else None


def forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def clear(home: Path) -> None:
    """Delete every file that is kept."""
    folder = _folder(home)
    for path in folder.iterdir() if folder.is_dir() else ():
        forget(path)


def _folder(home: Path) -> Path:
    return home / "uploads"


def _make_room(folder: Path) -> None:
    found = []
    for path in folder.iterdir():
        try:
            found.append((path.stat().st_mtime, path))
        except FileNotFoundError:
            continue  # another process makes room too
    newest_first = sorted(found, reverse=True)
    for number, (at, path) in enumerate(newest_first, start=1):
        if number >= MOST_KEPT or at < time.time() - KEPT_SECONDS:
            forget(path)
