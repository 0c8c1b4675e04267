"""What tests with real servers share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """The path of a Unix socket has 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="coinslot-"))
    yield folder
    shutil.rmtree(folder)
