"""The id of the call that is being answered: every log line has it, and so has what the call causes.

It is made here, and never taken from a header: a stranger, too, can send one, and most proxies pass it on.
"""

import random
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def current() -> str | None:
    """The id of the call that this thread answers, or writes for; None outside of calls, as in jobs and commands."""
    return _current.get()


def begin() -> str:
    """Give the call that begins an id: 16 hexadecimal digits."""
    # Not secrets: it tells calls apart and guards nothing. After a fork, random begins anew.
    made = f"{random.getrandbits(64):016x}"
    _current.set(made)
    return made


def end() -> None:
    """The call is answered."""
    _current.set(None)
