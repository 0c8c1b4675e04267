"""The public URL's certificate: looked at over real TLS, and told before it ends."""

import pytest

from coinslot.base import clock as clocks
from coinslot.operations import certificate
from coinslot.operations.certificate import Certificate
from coinslot.store.queries import fact
from tests.fakes.http import FakeServer, closed_port
from tests.fakes.http import certificate as new_certificate

DAY = 86_400
URL = "https://shop.example"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """An address on this machine whose certificate ends in so many days; trusted or not."""
    servers = []

    def serve(days: int, is_trusted: bool = True, name: str = "localhost") -> str:
        file = new_certificate(tmp_path, name, days=days)
        monkeypatch.setenv("SSL_CERT_FILE", str(file if is_trusted else new_certificate(tmp_path, "other")))
        servers.append(FakeServer(lambda request: (200, {}), certificate=file))
        return servers[-1].__enter__().url.replace("127.0.0.1", "localhost")

    yield serve
    for server in servers:
        server.__exit__(None, None, None)


def test_the_end_of_a_certificate_that_is_trusted(served):
    url = served(20)
    found = certificate.look(url)

    assert found.problem == ""
    assert abs(clocks.seconds(found.ends_at) - clocks.now() - 20 * DAY) < DAY
    assert not found.is_ending


@pytest.mark.parametrize(
    ("days", "is_trusted", "name", "problem"),
    [
        (-1, True, "localhost", "certificate has expired"),
        (20, False, "localhost", "self-signed certificate"),
        (20, True, "shop.example", "Hostname mismatch"),
    ],
)
def test_what_cannot_be_verified_is_urgent_and_says_why(served, days, is_trusted, name, problem):
    found = certificate.look(served(days, is_trusted, name))

    assert found.ends_at is None
    assert problem in found.problem
    assert found.is_urgent


def test_nothing_is_known_where_nothing_answers():
    assert certificate.look(f"https://localhost:{closed_port()}") is None


def test_no_tls_is_no_certificate():
    with FakeServer(lambda request: (200, {})) as server:
        assert certificate.look(server.url.replace("http://", "https://")) is None


@pytest.mark.parametrize(
    ("days", "is_ending", "is_urgent"), [(15, False, False), (13, True, False), (2, True, True), (-1, True, True)]
)
def test_a_fortnight_before_the_end_somebody_should_look(clock, days, is_ending, is_urgent):
    found = Certificate(URL, clocks.stamp(clocks.now() + days * DAY), "")

    assert (found.is_ending, found.is_urgent) == (is_ending, is_urgent)


@pytest.mark.parametrize("url", ["http://shop.example", "https://localhost:8000", "https://127.0.0.1", "https://[::1]"])
def test_a_url_without_a_certificate_for_partners_is_not_watched(installation, url):
    assert certificate.watch(installation.database, url) is None
    assert fact(installation.database.read(), certificate.FACT) is None


def test_what_was_seen_is_known_for_that_url_alone(installation, served, monkeypatch):
    url = served(10)
    monkeypatch.setattr(certificate, "is_watched", lambda url: True)

    assert certificate.watch(installation.database, url) == certificate.SOON_SECONDS

    stored = fact(installation.database.read(), certificate.FACT)
    assert certificate.known(stored, url).is_ending
    assert certificate.known(stored, URL) is None


def test_a_look_that_reached_nothing_keeps_what_is_known(installation, served, monkeypatch):
    monkeypatch.setattr(certificate, "is_watched", lambda url: True)
    url = f"https://localhost:{closed_port()}"

    assert certificate.watch(installation.database, url) == certificate.EVERY_SECONDS
    assert fact(installation.database.read(), certificate.FACT) is None
