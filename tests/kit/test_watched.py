"""What nobody has to look for, in the one list of troubles: silence, grants that nobody takes, the certificate."""

import json

import pytest

from coinslot.base import clock as clocks
from coinslot.operations import certificate
from handlers.kit import troubles
from tests.pages import assert_has

HOUR, DAY = 3600, 86_400


@pytest.fixture
def listed(app, installation):
    """The troubles whose keys begin so."""

    def find(*kinds: str):
        installation.observations.flush()
        with app.app_context():
            return [each for each in troubles.list_troubles(installation) if each.key.split(":")[0] in kinds]

    return find


def buy(post_order, number: int, **changed) -> None:
    ids = {"orderId": f"order-{number}", "purchaseId": f"pr-{number}", "appChargePaymentId": f"payment-{number}"}
    assert post_order(**ids | changed).status_code == 200


def days_of_orders(installation, clock, days: int) -> None:
    clock.move_to((clocks.now() // DAY + 1) * DAY)
    for _ in range(days * 24):
        if 9 <= clocks.now() % DAY / HOUR <= 22:
            installation.observations.called(1, "appcharge", "orders")
            installation.observations.flush()
        clock.shift(HOUR)


def test_ten_days_without_a_call(listed, installation, studio, clock):
    days_of_orders(installation, clock, 12)
    last = clocks.stamp(clocks.now() - 2 * HOUR)
    assert listed("silence") == []
    clock.shift(10 * DAY)

    (found,) = listed("silence")
    assert (found.key, found.severity, found.since) == ("silence:demo:appcharge.orders", "wrong", last)
    assert found.sentence == (
        f"No call of Appcharge to orders since {last[:10]} {last[11:16]} UTC: its longest usual pause is 11 hours."
    )
    assert found.link == "/games/demo/integration/appcharge"

    studio.config("silence.appcharge", "12d")
    assert listed("silence") == []
    studio.config("silence.appcharge", "2d")
    assert listed("silence")[0].sentence.endswith(": silence.appcharge allows 2d.")
    installation.observations.called(1, "appcharge", "orders")
    assert listed("silence") == []


def test_grants_that_the_game_never_read(listed, post_order, studio, clock, feed, browser):
    for number in range(56):
        buy(post_order, number)
    clock.shift(2 * HOUR)

    (found,) = listed("unread")
    assert (found.key, found.severity, found.count, found.money) == ("unread:demo", "wrong", 56, {"USD": "559.44"})
    assert found.sentence == (
        "56 grants have reached nobody: no destination has got them, and the game has never read its feed."
    )
    assert_has(browser.get("/").text, found.sentence)

    page = feed()
    assert listed("unread")[0].sentence.endswith("and the game last read its feed just now.")
    feed(after=page[-1]["id"])
    assert listed("unread") == []


def test_a_feed_that_is_not_read_as_usual(listed, post_order, installation, studio, clock, feed):
    for number in range(5):
        buy(post_order, number)
        clock.shift(600)
        feed(after=feed()[-1]["id"])
        installation.observations.flush()
        installation.own_jobs["feeds"](installation)
        clock.shift(DAY)
    buy(post_order, 99)
    clock.shift(HOUR)

    (found,) = listed("unread")
    assert found.sentence.startswith("1 grant has reached nobody: no destination has got it, and the game last read")
    assert found.sentence.endswith("1 day ago; it usually takes 10 minutes at most.")


@pytest.mark.parametrize(
    ("days", "severity", "said"),
    [(20, None, ""), (13, "look", "ends on"), (2, "wrong", "ends on"), (-1, "wrong", "ended")],
)
def test_a_certificate_that_ends(app, installation, listed, clock, monkeypatch, days, severity, said):
    url = "https://shop.example"
    monkeypatch.setattr(installation, "settings", installation.settings.__class__(
        **vars(installation.settings) | {"public_url": url}
    ))  # fmt: skip
    kept = certificate.Certificate(url, clocks.stamp(clocks.now() + days * DAY), "")
    monkeypatch.setattr(certificate, "look", lambda url: kept)
    certificate.watch(installation.database, url)

    found = listed("certificate")
    assert [each.severity for each in found] == ([] if severity is None else [severity])
    assert all(said in each.sentence for each in found)


def test_a_certificate_that_nobody_can_verify(listed, installation, monkeypatch):
    url = "https://shop.example"
    monkeypatch.setattr(installation, "settings", installation.settings.__class__(
        **vars(installation.settings) | {"public_url": url}
    ))  # fmt: skip
    monkeypatch.setattr(certificate, "look", lambda url: certificate.Certificate(url, None, "self-signed certificate"))
    certificate.watch(installation.database, url)

    (found,) = listed("certificate")
    assert found.severity == "wrong"
    assert found.sentence == "The certificate of https://shop.example cannot be verified: self-signed certificate."


def test_doctor_says_the_same(app, installation, post_order, studio, clock):
    buy(post_order, 1)
    clock.shift(2 * HOUR)
    done = app.test_cli_runner().invoke(args=["doctor", "--json"])

    (found,) = [each for each in json.loads(done.output) if each["key"] == "unread:demo"]
    assert found["money"] == {"USD": "9.99"}
    assert done.exit_code == 1


def test_a_failing_job_of_the_installation_has_no_page(listed, installation, clock):
    installation.own_jobs = {"feeds": lambda installation: 1 / 0}
    installation.new_relay().drain()

    (found,) = listed("job")
    assert (found.key, found.link, found.label) == ("job:feeds", "", "")
