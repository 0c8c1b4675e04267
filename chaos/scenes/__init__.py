"""The scenes: each makes one fault happen again and again while orders come in."""

from dataclasses import dataclass
from typing import Protocol

from chaos.stage import Stage


class Play(Protocol):
    def __call__(self, stage: Stage) -> None: ...


class Lacks(Protocol):
    def __call__(self) -> str | None: ...


def nothing() -> str | None:
    return None


@dataclass(frozen=True)
class Scene:
    """``play`` begins the load and makes the fault; ``lacks`` says why it cannot be played here, None if it can."""

    name: str
    sentence: str
    play: Play
    lacks: Lacks = nothing
    share: float = 1.0  # of the time that a scene gets
    is_short: bool = True  # whether it belongs to --short
