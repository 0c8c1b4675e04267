"""The real Litestream, for tests and ``python -m chaos``: it copies a home folder's database by our configuration."""

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "deploy/litestream.yml"
BEGIN_SECONDS = 30.0
COPY_SECONDS = 60
# Checkpoints a hundred times as often as it would.
OFTEN = {
    "truncate-page-n: 0": "monitor-interval: 10ms\n    checkpoint-interval: 10ms\n    min-checkpoint-page-count: 1"
}


def find_program() -> str | None:
    """Litestream, beside this Python or on the path."""
    return shutil.which("litestream", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def program() -> str:
    found = find_program()
    assert found is not None, "litestream is not installed: pip install -r tests/requirements.txt"
    return found


class Litestream:
    """Copies a home folder's database into the folder ``copy``. As a context manager it is killed in the end."""

    def __init__(self, home: Path, copy: Path, is_often: bool = False) -> None:
        self._path, self._copy, self._socket = home / "coinslot.db", copy, home / "litestream.sock"
        environment = os.environ | {"COINSLOT_HOME": str(home), "LITESTREAM_URL": f"file://{copy}"}
        config, log = copy.with_name("litestream.yml"), copy.with_name("litestream.log")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._metrics = f"127.0.0.1:{listener.getsockname()[1]}"
        text = CONFIG.read_text()
        for former, wanted in (OFTEN if is_often else {}).items():
            assert former in text
            text = text.replace(former, wanted)
        config.write_text(f"{text}\naddr: {self._metrics}\n")
        with log.open("ab") as output:
            command = [program(), "replicate", "-config", config]
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            until(lambda: list(copy.glob("ltx/0/*")) or self._process.poll() is not None, "it copies", BEGIN_SECONDS)
            assert self._process.poll() is None, log.read_text()
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> "Litestream":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def sync(self) -> None:
        """Wait until all that is committed now is in the copy."""
        command = [program(), "sync", "-wait", "-timeout", str(COPY_SECONDS), "-socket", self._socket, self._path]
        subprocess.run(command, check=True, capture_output=True)

    def checkpoints(self) -> int:
        """How many checkpoints it has made."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=10) as answer:
            found = re.findall(rb"^litestream_checkpoint_count\{.*\} ([0-9]+)$", answer.read(), re.MULTILINE)
        return sum(map(int, found))

    def restore(self, file: Path) -> None:
        """The copy as a database, also of one that was killed."""
        subprocess.run([program(), "restore", "-o", file, f"file://{self._copy}"], check=True, capture_output=True)
