"""Someone between Coinslot and PostgreSQL who passes everything on, until told to cut."""

import re
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit


class Between:
    """Passes connections on from a Unix socket of its own, :attr:`url`, to that of a database's URL.

    ``cut``: ``before COMMIT`` ends the connection instead of passing the next COMMIT on, ``after COMMIT`` instead of
    passing its answer back. Each happens once.
    """

    def __init__(self, url: str) -> None:
        query = parse_qs(urlsplit(url).query)
        self._name = f".s.PGSQL.{query.get('port', ['5432'])[0]}"
        self._target = f"{query['host'][0]}/{self._name}"
        self._folder = Path(tempfile.mkdtemp(prefix="coinslot-", dir="/tmp"))
        self.url = url.replace(quote(query["host"][0], safe=""), quote(str(self._folder), safe=""))
        self.cut = ""
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def __enter__(self) -> "Between":
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        shutil.rmtree(self._folder)

    def begin(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / self._name))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def end(self) -> None:
        """Close everything; whoever comes is refused until :meth:`begin`."""
        (self._folder / self._name).unlink(missing_ok=True)
        listener, self._listener = self._listener, None
        for each in [*self._open, *([] if listener is None else [listener])]:
            _close(each)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(self._target)
            self._open |= {ours, theirs}
            for source, target in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pass_on, args=(source, target, source is ours), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_asking: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                is_end = re.search(rb"\bCOMMIT\b", piece) and self.cut == (
                    "before COMMIT" if is_asking else "after COMMIT"
                )
                if is_end:
                    self.cut = ""
                    break
                target.sendall(piece)
        for each in (source, target):
            _close(each)
            self._open.discard(each)


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
