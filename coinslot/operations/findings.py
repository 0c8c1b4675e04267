"""What a check of the installation has found, and how bad that is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec

from coinslot.access.vault import VaultError
from coinslot.store.db import DatabaseError, EngineError

OK, NOTE, WARNING, WRONG = "ok", "note", "warning", "WRONG"
LEAST_FREE_BYTES = 64 * 1024 * 1024  # on the disk; below this a credit is about to fail
LITTLE_FREE_BYTES = 1024 * 1024 * 1024
P = ParamSpec("P")


@dataclass(frozen=True)
class Finding:
    """One line. WRONG: credits fail or will, or secrets are readable by others; warning: a person should look at it;
    note: something optional is not set up.
    """

    level: str
    text: str


ok, note, warning, wrong = (partial(Finding, level) for level in (OK, NOTE, WARNING, WRONG))


def guarded(check: Callable[P, Iterator[Finding]], *args: P.args, **kwargs: P.kwargs) -> Iterator[Finding]:
    """The check's findings; an error that it raises is one too."""
    try:
        yield from check(*args, **kwargs)
    except (EngineError, DatabaseError, VaultError, OSError, ValueError) as error:
        yield Finding(WRONG, f"{check.__name__.strip('_').replace('_', ' ')}: {error}")
