"""The clock of the server jumps, forward and back."""

import shutil
import time
from pathlib import Path

from chaos.scenes import Scene
from chaos.stage import Stage

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
SMALL_SECONDS = (-240, 240)  # within what a signature may be old
LARGE_SECONDS = (-7 * 86400, -3600, 3600, 86400, 7 * 86400)  # Appcharge's signatures are refused meanwhile, with 401
# libfaketime 0.9.10 fails the call that time.sleep makes, clock_nanosleep up to a moment of the monotonic clock.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"


def jump(stage: Stage) -> None:
    file = stage.folder / "clock"
    _set(file, 0)
    (stage.folder / "sitecustomize.py").write_text(SLEEP)
    stage.begin(
        permitted={401},
        PYTHONPATH=str(stage.folder),
        LD_PRELOAD=str(LIBRARIES[0]),
        FAKETIME_TIMESTAMP_FILE=str(file),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    for number in stage.moments(0.5, 1.5, at_least=6):
        _set(file, stage.chance.choice(LARGE_SECONDS if number % 3 else SMALL_SECONDS))
        time.sleep(stage.chance.uniform(0.5, 1.5))
        if number % 2:
            _set(file, 0)
            stage.go_on(10)
    _set(file, 0)
    stage.go_on(20)


def _set(file: Path, seconds: int) -> None:
    """Replaced, not rewritten: the server reads it at any time."""
    new = file.with_suffix(".new")
    new.write_text(f"{seconds:+d}s\n")
    new.replace(file)


def _lacks_faketime() -> str | None:
    return None if LIBRARIES and shutil.which("faketime") else "libfaketime is not installed (Debian: faketime)"


SCENES = [
    Scene("clock", "the server's clock jumps by minutes, hours and days, forward and back", jump, _lacks_faketime)
]
