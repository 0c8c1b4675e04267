"""The game's server misbehaves."""

from chaos import game
from chaos.scenes import Play, Scene
from chaos.stage import Stage

HOW_OFTEN = 0.15  # rare enough that the circuit stays closed
PACE = 0.2  # what hangs takes the relay's places: fewer orders


def _misbehaving(name: str) -> Play:
    def play(stage: Stage) -> None:
        stage.game.how_often = HOW_OFTEN
        stage.begin(pace=PACE)
        stage.game.misbehave = game.MISBEHAVIOURS[name]
        for _ in stage.moments(0.5, 1.0):
            pass
        stage.game.misbehave = None
        stage.struck = stage.game.misbehaved
        stage.expect(stage.struck > 0, "the game never misbehaved")

    return play


def down(stage: Stage) -> None:
    """Every delivery fails, until the circuit opens; then the game is back."""
    stage.begin()
    stage.game.how_often, stage.game.misbehave = 1.0, game.fail
    for _ in stage.moments(0.5, 1.0):
        pass
    stage.game.misbehave = None
    stage.struck = stage.game.misbehaved


SCENES = [
    Scene("game-hangs", "the game's server hangs", _misbehaving("hang")),
    Scene("game-drips", "the game's server answers byte by byte", _misbehaving("drip")),
    Scene("game-lies", "the game answers 500 to what it has taken, and 200 with a wrong body", _misbehaving("lie")),
    Scene("game-resets", "the game resets connections in the middle of a request or an answer", _misbehaving("reset")),
    Scene("game-down", "the game refuses everything, until the circuit opens, and is back", down, is_short=False),
]
