"""The short-lived process that uses Apprise: ``python -m coinslot.operations.alerts.child``. One task, then it ends.

Apprise is imported here alone: its memory is gone with the process, and a service that hangs hangs nobody else. The
task is JSON on standard input (:mod:`coinslot.operations.alerts.sending`), the answer JSON on standard output. Standard
error goes nowhere, since libraries may write addresses there. This process records the result of a message itself, so
that it counts whatever has become of the one that started it, and ends by itself when its time is up.
"""

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from coinslot.access.vault import Vault, VaultError
from coinslot.operations.alerts import outbox, targets
from coinslot.operations.alerts.outbox import Attempt
from coinslot.store.db import Database, DatabaseError, EngineError, open_database

RECORDING_TRIES = 6  # each waits up to 5 s for the lock
NOT_INSTALLED = "Apprise is not installed here: pip install -r requirements.txt"
NOT_UNDERSTOOD = "Apprise does not understand its URL any more: remove it and add it again"
NOT_OPENED = "its URL does not open under the master key"

_ending = threading.Lock()  # of the message and the clock, whoever is first


def main() -> None:
    task = json.load(sys.stdin)
    if "url" in task:
        json.dump({"scheme": scheme_of(task["url"])}, sys.stdout)
        return
    database = open_database(Path(task["home"]), task["database"])
    send = partial(_send, database, Vault(Path(task["home"]), task["master_key"]))
    if "number" in task:
        attempt = Attempt(task["message_id"], task["target"], task["number"])
        message = outbox.find(database.read(), attempt)
        if message is None:
            return
        record = partial(outbox.record, attempt=attempt)
        subject, body = message["subject"], message["body"]
    else:
        record = partial(outbox.note, target=task["target"])
        subject, body = task["subject"], task["body"]
    end = partial(_end, database, record)
    watch = threading.Timer(task["seconds"], end, (f"nothing was sent within {task['seconds']:g} s",))
    watch.daemon = True
    watch.start()
    end(send(task["target"], subject, body))


def scheme_of(url: str) -> str | None:
    """The scheme under which Apprise knows the service; None when the text is not one URL of a service it knows."""
    service = _services(url)
    return None if len(service) != 1 or not url.isprintable() else str(service[0].url()).partition("://")[0]


def _end(database: Database, record: Callable[..., None], failure: str | None) -> None:
    """Record the result, say it, and end the process, whatever else runs in it. The first call counts."""
    _ending.acquire()
    is_recorded = False
    try:
        for _ in range(RECORDING_TRIES):
            try:
                database.write_here(lambda tx: record(tx, failure=failure))
                is_recorded = True
                break
            except (DatabaseError, EngineError):
                time.sleep(0.2)
        json.dump({"failure": failure, "is_recorded": is_recorded}, sys.stdout)
        sys.stdout.flush()
    finally:  # the one that reads may be gone
        os._exit(0)


def _send(database: Database, vault: Vault, target: str, subject: str, body: str) -> str | None:
    """Send through Apprise; returns why it failed, in words that hold nothing of the URL, or None."""
    try:
        url = targets.url(database.read(), vault, target)
    except VaultError:
        return NOT_OPENED
    if url is None:
        return "it was removed"
    said: list[str] = []
    try:
        services = _services(url, said)
        if len(services) != 1:
            return NOT_UNDERSTOOD
        service = services[0]
        has_title = service.title_maxlen > 0
        room = service.body_maxlen - (0 if has_title else len(subject) + 10)
        is_sent = services.notify(title=subject, body=fitted(body, room), body_format="text", notify_type="warning")
    except ImportError:
        return NOT_INSTALLED
    except Exception as error:  # of any of a hundred services; its text may hold the URL
        return f"Apprise failed ({type(error).__name__})"
    return None if is_sent else reason(said)


def fitted(body: str, longest: int) -> str:
    """A message in a service's limit: whole paragraphs from its beginning, and how many follow on the page."""
    if len(body) <= longest:
        return body
    paragraphs = body.split("\n\n")
    for count in range(len(paragraphs) - 1, 0, -1):
        shortened = "\n\n".join([*paragraphs[:count], f"{len(paragraphs) - count} more on the overview."])
        if len(shortened) <= longest:
            return shortened
    return body[: max(0, longest - 1)]


def reason(said: list[str]) -> str:
    """Why a service did not take a message, from what Apprise logged: its words may hold the URL, ours do not."""
    text = "\n".join(said)
    if found := re.search(r"error=([1-5][0-9][0-9])\b", text):
        return f"the service answered {found[1]}"
    if re.search(r"onnection error|ocket|imeout|timed out", text):
        return "no connection to the service, or no answer in time"
    if re.search(r"uthenticat", text):
        return "the service refused the user or the password"
    return "the service did not take it"


def _services(url: str, said: list[str] | None = None) -> Any:
    """Apprise with this URL. What it logs goes into ``said`` and nowhere else."""
    import apprise

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if said is not None:
                said.append(record.getMessage())

    for name in ("apprise", "urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [Kept() if name == "apprise" else logging.NullHandler()], False
    asset = apprise.AppriseAsset(app_id="Coinslot", app_desc="Coinslot", async_mode=False)
    services = apprise.Apprise(asset=asset)
    services.add(url)
    return services


if __name__ == "__main__":
    main()
