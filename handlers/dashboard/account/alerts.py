"""Account -> Alerts: who is sent the troubles, a test of each, and the heartbeat for a watcher outside."""

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.operations.alerts import heartbeat, sending, targets
from handlers.dashboard.frame.pages import page, read, see_other, show_on_error, who, write
from handlers.kit import alerting
from handlers.kit.receive import current_installation

ADD, HEARTBEAT = "+add", "+heartbeat"  # places of the page's own forms; no target is named so


def alerts(at: str = "", status: int = 200, problem: str = "") -> Response:
    """The page; ``problem`` is shown at the target or the form ``at``. No URL is ever on it."""
    connection = read()
    return page(
        "alerts.html",
        status,
        targets=targets.listing(connection),
        heartbeat=heartbeat.state(connection),
        problems={at: problem} if problem else {},
        name=request.form.get("name", ""),
    )


def add_alert() -> AnyResponse:
    """Add a target, once Apprise understands its URL."""
    vault, name, url = current_installation().vault, *(request.form.get(each, "").strip() for each in ("name", "url"))
    show_on_error(alerts, ADD)
    targets.check_name(read(), name)
    scheme = sending.understood_scheme(url)
    write(lambda tx: targets.add(tx, vault, name, url, scheme, actor=who()))
    return see_other("alerts", "alert-added")


def test_alert(name: str) -> AnyResponse:
    """Send a test and wait for how it goes."""
    show_on_error(alerts, name)
    failure = alerting.send_test(current_installation(), name)
    if failure is not None:
        return alerts(name, 400, f"The test did not arrive: {failure}.")
    return see_other("alerts", "test-arrived")


def remove_alert(name: str) -> AnyResponse:
    show_on_error(alerts, ADD)
    write(lambda tx: targets.remove(tx, name, actor=who()))
    return see_other("alerts", "removed")


def set_heartbeat() -> AnyResponse:
    """Call another URL from now on."""
    vault, url = current_installation().vault, request.form.get("url", "").strip()
    show_on_error(alerts, HEARTBEAT)
    write(lambda tx: heartbeat.set_url(tx, vault, url, actor=who()))
    return see_other("alerts", "saved")


def end_heartbeat() -> AnyResponse:
    was_on = write(lambda tx: heartbeat.turn_off(tx, actor=who()))
    return see_other("alerts", "heartbeat-off" if was_on else "nothing")
