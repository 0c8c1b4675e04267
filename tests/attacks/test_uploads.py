"""Files that no honest owner sends, to every page and command that reads one: a sentence, and little memory.

The server is a real one, with one worker; the peak is what the kernel says of its process.
"""

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from coinslot.access import owner, sessions
from tests import databases
from tests.servers import ROOT, Server

pytestmark = pytest.mark.long

MIB = 1024 * 1024
MOST_MORE = 48 * MIB  # above what the worker had before: the upload itself may be 16 MiB, and is on the disk
MOST_OF_A_COMMAND = 160 * MIB  # all of it, with the interpreter
# A small process between: a child's peak is never below what its parent had when it was made.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
BOUNDARY = "----of-the-tests"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"<row/>" * 100_000)
    return file.getvalue()


# Name -> file, and what the answer must say of it.
FILES = {
    "a million lines, the last one wrong": (b"".join(b"%x\n" % n for n in range(10**6)) + b"a,b,c\n", "line 1000001"),
    "many wrong lines": (b"a,b,c\n" * 10**5, "and 99980 more"),
    "a quote that is never closed": (b'sku,name\na,"' + b"x\n" * 3 * MIB, "a quotation mark may not be closed"),
    "a quote that is not closed in a small file": (b'sku,name\na,"b\nc,d\n', "a quotation mark is not closed"),
    "one row of a million cells": (b'"a\n",' * 10**6, "a row is longer than"),
    "one line": (b"x" * 7 * MIB, "longer than"),
    "lines of nothing but commas": ((b"," * 60_000 + b"\n") * 100 + b"a,b,c\n", "line 101"),
    "NUL": (b"\0" * 5 * MIB, "line 1"),
    "a spreadsheet's own file": (zipped(), "not UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000, "not UTF-8"),
    "UTF-16 without a mark": ("sku,name\na,b\n".encode("utf-16-le"), "holds a NUL character"),
    "UTF-16 that is cut": ("sku,name\na,b\n".encode("utf-16") + b"\x0a", "not UTF-16"),
    "UTF-32": ("sku,name\na,b\n".encode("utf-32"), "line 1"),
    "Windows-1252": ("sku,name\na,Müller\n".encode("cp1252"), "line 2: not UTF-8"),
    "half a character at the end": ("sku,name\na,é".encode()[:-1], "line 2: not UTF-8"),
    "half of a surrogate pair": (b"sku,name\na,\xed\xa0\x80\n", "line 2: not UTF-8"),
}


class Owner:
    """A signed-in owner at a real server."""

    def __init__(self, server: Server, installation: Any) -> None:
        self._server = server
        token = installation.database.write_here(lambda tx: sessions.begin(tx, owner.first(tx).id, "127.0.0.1", "test"))
        self._cookie = {"Cookie": f"coinslot_session={token}"}
        page = server.get("/account", self._cookie).body.decode()
        self._form_token = re.search(r'name="form_token" value="([^"]+)"', page)[1]

    def upload(self, path: str, content: bytes, **fields: str) -> Any:
        parts = [("form_token", "", self._form_token.encode())]
        parts += [(name, "", value.encode()) for name, value in fields.items()]
        parts += [("file", '; filename="file.csv"\r\nContent-Type: text/csv', content)]
        body = b"".join(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
            for name, more, value in parts
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **self._cookie}
        return self._server.post(path, body + f"--{BOUNDARY}--\r\n".encode(), headers, timeout=120)


def memory(pid: int, what: str) -> int:
    """Bytes: ``VmRSS`` for now, ``VmHWM`` for the peak."""
    return int(re.search(rf"{what}:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def test_the_owners_pages_say_what_is_wrong_and_stay_small(installation, studio):
    with Server(installation.settings.home, "-w", "1") as server:
        someone = Owner(server, installation)
        someone.upload("/games/demo/items/import", b"sku,name\n" + b"".join(b"i%d,x\n" % n for n in range(5000)))
        (worker,) = server.booted_workers()
        for name, (content, said) in FILES.items():
            Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak begins anew
            before = memory(worker, "VmRSS")
            answer = someone.upload("/games/demo/items/import", content)

            assert answer.status == 400, name
            assert said in answer.body.decode(), (name, answer.body[-4000:])
            assert memory(worker, "VmHWM") - before < MOST_MORE, name
        assert server.booted_workers() == [worker]
        assert someone.upload("/games/demo/items/import", b"sku,name\nlast,x\n").status == 200
        assert "Traceback" not in server.log


@pytest.mark.parametrize("name", ["a quote that is never closed", "one row of a million cells", "one line"])
def test_a_command_reads_a_file_of_any_size_in_little_memory(installation, studio, tmp_path, name):
    content, said = FILES[name]
    path = tmp_path / "file.csv"
    with path.open("wb") as file:
        for _ in range(10):
            file.write(content)

    process = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", "flask", "item", "import", "demo", str(path)],
        cwd=ROOT,
        env={**os.environ, **databases.environment(installation.settings.home)},
        capture_output=True,
        text=True,
    )

    assert process.returncode == 1
    assert said in process.stderr
    assert "Traceback" not in process.stderr
    assert int(process.stdout.split()[-1]) * 1024 < MOST_OF_A_COMMAND
