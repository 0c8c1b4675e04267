"""Starts the process that sends a message (``child.py``), waits for it a bounded time, and reads what it says.

The task goes to its standard input: no URL and no key is on a command line.
"""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from coinslot.base.settings import Settings
from coinslot.operations.alerts import outbox
from coinslot.operations.alerts.outbox import Attempt
from coinslot.operations.alerts.targets import AlertError
from coinslot.store.db import Database

LIMIT_SECONDS = 30.0  # of a message; then the process records that and ends
TEST_SECONDS = 15.0  # a person waits for it
AT_ONCE = 2  # processes of some 50 MB
KILLED_AFTER_SECONDS = 35.0  # beyond its limit: a child that cannot even record
ENDED = "the process that sends ended without a result"
ROOT = Path(__file__).resolve().parents[3]

log = logging.getLogger("coinslot")
_testing = threading.Lock()


def send_due(database: Database, settings: Settings, seconds: float = LIMIT_SECONDS) -> bool:
    """Send some messages that are due, each in a process of its own; returns whether there may be more.

    Returns once they have ended. Their results are recorded by themselves; a failure is logged here in our words.
    """
    if not outbox.is_due(database.read()):
        return False
    attempts = database.write(lambda tx: outbox.claim(tx, AT_ONCE))
    begun = [(attempt, _begin(_task(settings, attempt, seconds))) for attempt in attempts]
    for attempt, process in begun:
        answer = _answer(process, seconds) or {"failure": ENDED, "is_recorded": False}
        failure = answer["failure"]
        if not answer["is_recorded"]:  # it was killed, could not start, or could not write
            database.write(partial(outbox.record, attempt=attempt, failure=failure))
        if failure is not None:
            log.warning("alert message %d to %s failed: %s", attempt.message_id, attempt.target, failure)
    return bool(attempts)


def send_test(settings: Settings, target: str, subject: str, body: str, seconds: float = TEST_SECONDS) -> str | None:
    """Send something to a target now; returns why that failed, None once it arrived. Raises :class:`AlertError`."""
    if not _testing.acquire(blocking=False):
        raise AlertError("another test is under way; try again in a moment")
    try:
        task = _task(settings, target, seconds) | {"subject": subject, "body": body}
        answer = _answer(_begin(task), seconds)
    finally:
        _testing.release()
    return ENDED if answer is None else answer["failure"]


def understood_scheme(url: str) -> str:
    """The scheme of a URL that Apprise understands. Raises :class:`AlertError`, which holds nothing of the URL."""
    answer = _answer(_begin({"url": url}), TEST_SECONDS)
    if answer is None:
        raise AlertError("Apprise could not be asked about this URL; is it installed? pip install -r requirements.txt")
    if answer["scheme"] is None:
        raise AlertError(
            "Apprise does not understand this URL: use one URL of a service that https://github.com/caronc/apprise "
            "lists, such as mailto://user:password@example.com"
        )
    return str(answer["scheme"])


def _task(settings: Settings, attempt: Attempt | str, seconds: float) -> dict[str, Any]:
    what = {"target": attempt} if isinstance(attempt, str) else vars(attempt)
    return {
        "home": str(settings.home),
        "database": settings.database,
        "master_key": settings.master_key,
        "seconds": seconds,
        **what,
    }


def _begin(task: Mapping[str, Any]) -> "subprocess.Popen[str] | None":
    """Start the process and hand it its task; None when it could not be started."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.child"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError as error:
        log.error("the process that sends alerts could not be started: %s", error.strerror)
        return None
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            json.dump(task, pipe)
    except OSError:  # it has ended already
        pass
    process.stdin = None
    return process


def _answer(process: "subprocess.Popen[str] | None", seconds: float) -> dict[str, Any] | None:
    """What the process said before it ended; None if nothing, or if it had to be killed."""
    if process is None:
        return None
    try:
        output, _ = process.communicate(timeout=seconds + KILLED_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError:
        return None
    return found
