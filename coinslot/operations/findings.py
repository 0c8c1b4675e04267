"""What a check of the installation has found, and how bad that is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ParamSpec

from coinslot.access.vault import VaultError
from coinslot.store.db import (
    DatabaseError,
    EngineError,
)

OK, NOTE, WARNING, WRONG = "ok", "note", "warning", "WRONG"
P = ParamSpec("P")


@dataclass(frozen=True)
class Finding:
    """One line. WRONG: credits fail or will, or secrets lie open; warning: a person should look at it; note: what could
    be had besides.
    """

    level: str
    text: str


def guarded(check: Callable[P, Iterator[Finding]], *args: P.args, **kwargs: P.kwargs) -> Iterator[Finding]:
    """The check's findings; when it stumbles over what it checks, that is the finding."""
    try:
        yield from check(*args, **kwargs)
    except (EngineError, DatabaseError, VaultError, OSError, ValueError) as error:
        yield Finding(WRONG, f"{check.__name__.strip('_').replace('_', ' ')}: {error}")
