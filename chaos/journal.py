"""What a caller and a game know by themselves: one JSON document per line, on the disk before they go on."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """A file that is appended to. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._mutex = threading.Lock()

    def note(self, **fact: Any) -> None:
        """Returns once the fact, and the time, are on the disk. Raises OSError after :meth:`close`."""
        line = json.dumps({**fact, "at": time.time()}, separators=(",", ":")).encode() + b"\n"
        with self._mutex:
            descriptor = self._descriptor
            os.write(descriptor, line)
        os.fdatasync(descriptor)

    def close(self) -> None:
        with self._mutex:
            descriptor, self._descriptor = self._descriptor, -1  # the number may soon be another file's
        os.close(descriptor)


def facts(path: Path) -> Iterator[dict[str, Any]]:
    """What a journal holds, in its order; nothing where there is none."""
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
