"""The table and the JSON document of a run."""

import json
import platform
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chaos.judge import Verdict

HEADS = ("scene", "strikes", "acknowledged", "lost", "doubled", "wrong", "not delivered", "slowest", "verdict")
MOST_SENTENCES = 10


@dataclass
class Result:
    """One scene: what was judged, or why it was not run."""

    scene: str
    strikes: int = 0
    seconds: float = 0.0
    verdict: Verdict | None = None
    not_run: str | None = None
    faults: list[str] = field(default_factory=list)  # the scene itself did not go as it must

    def is_good(self) -> bool:
        return self.not_run is not None or (self.verdict is not None and self.verdict.is_good() and not self.faults)

    def sentences(self) -> list[str]:
        """Everything that is wrong."""
        return [*self.faults, *([] if self.verdict is None else [*self.verdict.named, *self.verdict.wrong])]

    def cells(self) -> tuple[str, ...]:
        """Of the table, below :data:`HEADS`."""
        if self.not_run is not None:
            return (self.scene, *[""] * 7, f"not run: {self.not_run}")
        if self.verdict is None:
            return (self.scene, f"{self.strikes:,}", *[""] * 6, "WRONG")
        judged = self.verdict
        counts = (judged.acknowledged, judged.lost, judged.doubled, len(judged.wrong) + len(self.faults))
        figures = [f"{count:,}" for count in (self.strikes, *counts, judged.not_delivered)]
        said = ("ok" if self.is_good() else "WRONG") + (
            f"; {judged.gone:,} gone with the restore" if judged.gone else ""
        )
        return (self.scene, *figures, f"{judged.slowest_seconds:.2f} s", said)

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"scene": self.scene, "verdict": "not run" if self.not_run else "ok"}
        if self.not_run:
            return found | {"reason": self.not_run}
        judged = self.verdict or Verdict()
        return found | {
            "verdict": "ok" if self.is_good() else "wrong",
            "strikes": self.strikes,
            "acknowledged": judged.acknowledged,
            "lost": judged.lost,
            "doubled": judged.doubled,
            "wrong": len(judged.wrong) + len(self.faults),
            "not_delivered": judged.not_delivered,
            "gone_with_restore": judged.gone,
            "slowest_seconds": judged.slowest_seconds,
            "seconds": round(self.seconds, 1),
            "sentences": self.sentences(),
        }


WIDTHS = (18, 8, 13, 6, 8, 6, 14, 9, 0)


def line(cells: Iterable[str]) -> str:
    """One row of the table: the scene and the verdict to the left, figures to the right."""
    made = []
    for number, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True)):
        made.append(cell.ljust(width) if number in (0, len(WIDTHS) - 1) else cell.rjust(width))
    return " ".join(made).rstrip()


def explanation(result: Result) -> Iterable[str]:
    """The first sentences of what is wrong, to stand below its row."""
    sentences = result.sentences()
    yield from (f"    {sentence}" for sentence in sentences[:MOST_SENTENCES])
    if len(sentences) > MOST_SENTENCES:
        yield f"    and {len(sentences) - MOST_SENTENCES:,} more"


def machine() -> dict[str, str]:
    """What it ran on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "gunicorn": version("gunicorn"),
        "flask": version("flask"),
    }


def write_json(path: Path, results: list[Result], **about: Any) -> None:
    scenes = [result.document() for result in results]
    path.write_text(json.dumps({**about, "machine": machine(), "scenes": scenes}, indent=2) + "\n")
