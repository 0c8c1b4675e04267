"""Log lines, ours and gunicorn's: ``2026-11-30T11:06:14.123Z [4711] [INFO] [9f86d081884c7d65] message``.

The time is UTC. The process follows, the level, and the id of the call where there is one.
"""

import logging

from coinslot.base import clock, request_ids


class LogLines(logging.Formatter):
    """Formats records in the thread that logs, as :class:`logging.StreamHandler` does."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(process)d] [%(levelname)s] %(request)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        request_id = request_ids.current()
        record.request = "" if request_id is None else f"[{request_id}] "
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return f"{clock.stamp(record.created)[:23]}Z"
