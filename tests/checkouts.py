"""A copy of this checkout whose schema is one step newer, for what happens when a version is installed."""

import shutil
from pathlib import Path

from coinslot.store.db import SCHEMA_VERSION
from tests.servers import ROOT

PARTS = ("app.py", "wsgi.py", "gunicorn.conf.py", "schema.sql", "coinslot", "handlers", "docs")


def newer(where: Path, step: str) -> Path:
    """Make the copy in a folder that is not there yet; ``step`` is the body of the function of its one step."""
    where.mkdir()
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, where / name)
    database = where / "coinslot/store/db.py"
    code, line = database.read_text(), f"\nSCHEMA_VERSION = {SCHEMA_VERSION}\n"
    assert line in code
    database.write_text(code.replace(line, f"\nSCHEMA_VERSION = {SCHEMA_VERSION + 1}\n"))
    body = "".join(f"    {each}\n" for each in step.splitlines())
    with (where / "coinslot/store/migrations.py").open("a") as file:
        file.write(f"\n\ndef _made_up(tx):\n{body}\n\nMIGRATIONS[{SCHEMA_VERSION + 1}] = _made_up\n")
    return where
