"""Fixtures of months: the books of a game, its reconciliations, and the partners they ask."""

import pytest

from tests.books import Books
from tests.fakes.appcharge import FakeAppcharge
from tests.fakes.playcamp import PlayCamp
from tests.reconciler import Reconciler


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


@pytest.fixture
def reconciler(app, books):
    return Reconciler(app, books)


@pytest.fixture
def appcharge(studio):
    with FakeAppcharge() as fake:
        studio.config("appcharge.base_url", fake.url)
        yield fake


@pytest.fixture
def playcamp(studio):
    with PlayCamp() as fake:
        fake.set_up(studio)
        yield fake
