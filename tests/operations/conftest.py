"""Installations for tests of backups and proofs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.operations.places import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "home")
    place.set_up()
    yield place
    place.close()


@pytest.fixture
def url() -> Iterator[str]:
    """A PostgreSQL database without Coinslot."""
    postgres.needs_postgres()
    with postgres.fresh_database() as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Place]:
    """A fresh machine: nothing in its home folder, not even the folder."""
    place = Place(tmp_path / "other")
    yield place
    place.close()


@pytest.fixture
def copy(place: Place, tmp_path: Path) -> Path:
    """A copy of the place as it is set up."""
    place.backup(tmp_path / "copy.db")
    return tmp_path / "copy.db"


@pytest.fixture
def copy_of_first(place: Place, tmp_path: Path) -> Path:
    """A copy of the place with one order, ``first``."""
    place.order("first")
    place.backup(tmp_path / "copy.db")
    return tmp_path / "copy.db"
