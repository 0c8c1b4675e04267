"""How far the game's payments have been read, as it is noted between runs."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Window:
    """A range of time, [start, end) in Unix seconds. ``pages`` pages of it are stored, ``next`` leads to the next one.

    ``mark`` is that of the API's configuration: if that changes, the window begins again. ``failures`` counts those of
    the next page after which it may not be readable any more.
    """

    start: int
    end: int
    mark: str
    pages: int = 0
    next: str | None = None
    failures: int = 0


@dataclass(frozen=True)
class Gap:
    """The first range in which rows may be missing: its start in Unix seconds, and the mark it was read with."""

    start: int
    mark: str


@dataclass(frozen=True)
class Progress:
    """How far a history is read that begins at ``since``: nothing before ``through`` is missing, in Unix seconds.

    ``until`` is the end of a backfill, or of one search for refunds; ``window`` is the one that is being read. ``gap``
    is read again as soon as the API's configuration changes.
    """

    since: int
    until: int | None = None
    through: int | None = None
    window: Window | None = None
    gap: Gap | None = None

    @classmethod
    def parse(cls, text: str | None) -> "Progress | None":
        """The progress of a :attr:`text`; None for None."""
        if text is None:
            return None
        noted = json.loads(text)
        window, gap = noted.pop("window"), noted.pop("gap", None)
        return cls(**noted, window=window and Window(**window), gap=gap and Gap(**gap))

    @property
    def text(self) -> str:
        return json.dumps(asdict(self))

    @property
    def reached(self) -> int:
        return self.since if self.through is None else self.through

    @property
    def steps(self) -> tuple[int, int]:
        """Grows with each page that is stored."""
        return self.reached, 0 if self.window is None else self.window.pages
