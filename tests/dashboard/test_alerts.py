"""Account -> Alerts: targets are added, tested and removed, and no URL is ever shown."""

import pytest

from coinslot.operations.alerts import sending, targets
from tests.fakes.http import FakeServer, status
from tests.pages import assert_has, follow, text_of

SECRET = "not-for-your-eyes"


@pytest.fixture
def service():
    with FakeServer(lambda request: (200, {})) as server:
        yield server


def test_a_target_is_added_tested_and_removed(browser, service, db):
    answer = browser.post("/account/alerts", name="ops", url=f"json://u:{SECRET}@127.0.0.1:{service.port}/{SECRET}")
    assert_has(follow(browser, answer).text, "Added.", "ops", "json", "nothing yet", without=[SECRET])

    tried = browser.post("/account/alerts/ops/test")
    assert_has(follow(browser, tried).text, "The service took the test", without=[SECRET])
    assert len(service.requests) == 1

    service.script = [status(500)]
    failed = browser.post("/account/alerts/ops/test")
    assert failed.status_code == 400
    assert_has(text_of(failed), "The test did not arrive: the service answered 500.", "failing", without=[SECRET])

    assert follow(browser, browser.post("/account/alerts/ops/remove")).status_code == 200
    assert browser.post("/account/alerts/ops/remove").status_code == 400
    assert browser.post("/account/alerts/ops/test").status_code == 400
    assert [row["action"] for row in db("SELECT action FROM audit WHERE action LIKE 'alert%'")] == [
        "alert.add",
        "alert.remove",
    ]
    assert SECRET not in str(db("SELECT * FROM audit"))
    assert "Added the alert target" in browser.get("/activity").text


@pytest.mark.parametrize(
    ("name", "url", "problem"),
    [
        ("Ops!", "json://host", "is not a name"),
        ("ops", f"{SECRET}://{SECRET}", "Apprise does not understand this URL"),
        ("ops", "", "Apprise does not understand this URL"),
    ],
)
def test_what_cannot_be_added_is_said_at_the_form(browser, name, url, problem):
    answer = browser.post("/account/alerts", name=name, url=url)

    assert answer.status_code == 400
    assert_has(answer.text, problem, 'id="add-problem"', f'value="{name}"', without=[SECRET])


def test_a_second_target_of_the_same_name_is_refused(browser, installation):
    installation.database.write_here(lambda tx: targets.add(tx, installation.vault, "a", "json://x", "json", "test"))

    assert "an alert target a already" in browser.post("/account/alerts", name="a", url="json://y").text


def test_one_test_at_a_time(browser, installation):
    installation.database.write_here(lambda tx: targets.add(tx, installation.vault, "a", "json://x", "json", "test"))
    with sending._testing:
        assert "another test is under way" in browser.post("/account/alerts/a/test").text


def test_the_heartbeat_is_set_replaced_and_switched_off(browser):
    for _ in range(2):
        answer = browser.post("/account/heartbeat", url=f"https://watch.example/{SECRET}")
        assert_has(follow(browser, answer).text, "Replace it", "nothing yet", without=[SECRET])
    wrong = browser.post("/account/heartbeat", url=f"ftp://{SECRET}")
    assert wrong.status_code == 400
    assert_has(wrong.text, 'id="heartbeat-problem"', without=[SECRET])
    assert "The heartbeat is off." in follow(browser, browser.post("/account/heartbeat/off")).text
    assert "There was nothing to do." in follow(browser, browser.post("/account/heartbeat/off")).text
