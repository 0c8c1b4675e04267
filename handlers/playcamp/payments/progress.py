"""How far the game's payments are read, as it is noted between runs."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Window:
    """A range of time, [start, end) in Unix seconds, of which ``pages`` pages are stored and ``next`` comes next.

    ``mark`` tells how it was asked for: another configuration begins it anew. ``failures`` counts those of the next
    page that may mean that it cannot be had any more.
    """

    start: int
    end: int
    mark: str
    pages: int = 0
    next: str | None = None
    failures: int = 0


@dataclass(frozen=True)
class Gap:
    """The first range of which there may be more than was read, in Unix seconds, and how it was asked for."""

    start: int
    mark: str


@dataclass(frozen=True)
class Progress:
    """How far a history is read that begins at ``since``: nothing before ``through`` is missing, in Unix seconds.

    ``until`` is where a backfill ends, or one reading for refunds; ``window`` is the one it is in the middle of.
    ``gap`` is read again as soon as the game's API is asked in another way.
    """

    since: int
    until: int | None = None
    through: int | None = None
    window: Window | None = None
    gap: Gap | None = None

    @classmethod
    def parse(cls, text: str | None) -> "Progress | None":
        if text is None:
            return None
        told = json.loads(text)
        window, gap = told.pop("window"), told.pop("gap", None)
        return cls(
            **told,
            window=None if window is None else Window(**window),
            gap=None if gap is None else Gap(**gap),
        )

    @property
    def reached(self) -> int:
        return self.since if self.through is None else self.through


def steps_made(progress: Progress) -> tuple[int, int]:
    return progress.reached, 0 if progress.window is None else progress.window.pages


def progress_text(progress: Progress) -> str:
    return json.dumps(asdict(progress))
