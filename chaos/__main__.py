"""The real server under load while something goes wrong, scene after scene, and what came of each."""

import argparse
import random
import signal
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from chaos.game import Game
from chaos.judge import judge
from chaos.report import HEADS, Result, explanation, line, write_json
from chaos.scenes import Scene, clock, cuts, destinations, disk, follower, processes, versions
from chaos.stage import Stage, Template

SCENES = [
    *processes.SCENES,
    *disk.SCENES,
    *clock.SCENES,
    *cuts.SCENES,
    *destinations.SCENES,
    *versions.SCENES,
    *follower.SCENES,
]
SHORT_SECONDS, LONG_SECONDS = 3.0, 90.0


def main() -> int:
    options = _arguments()
    if options.list:
        for scene in SCENES:
            print(f"{scene.name:18} {scene.sentence}{'' if scene.is_short else ' (not in --short)'}")
        return 0
    chosen = [scene for scene in SCENES if _is_chosen(scene, options)]
    # Ended from outside, servers and mounts must go too: SystemExit runs every `finally`, a bare SIGTERM none.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {options.seed}, {options.seconds:g} s of each fault\n{line(HEADS)}", flush=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="coinslot-chaos-") as name:
        folder, game = Path(name), Game()
        new_template = cache(lambda: Template(folder, game.port))
        for scene in chosen:
            result = Result(scene.name, not_run=scene.lacks())
            if result.not_run is None:
                perform(scene, result, folder, new_template(), game, options)
            results.append(result)
            print("\n".join([line(result.cells()), *explanation(result)]), flush=True)
            if options.keep is not None and not result.is_good():
                (folder / scene.name).rename(options.keep / scene.name)
        game.shutdown()
    if options.json:
        write_json(options.json, results, seed=options.seed, seconds=options.seconds)
    is_good = all(result.is_good() for result in results)
    ran = sum(result.not_run is None for result in results)
    print(f"{ran} of {len(results)} scenes run, {sum(not result.is_good() for result in results)} wrong")
    return 0 if is_good else 1


def perform(
    scene: Scene, result: Result, folder: Path, template: Template, game: Game, options: argparse.Namespace
) -> None:
    """Play one scene and judge it. What the scene raises is a fault too."""
    began = time.monotonic()
    where, seconds = folder / scene.name, options.seconds * scene.share
    with Stage(where, template, game, seconds, f"{options.seed}-{scene.name}") as stage:
        try:
            scene.play(stage)
            stage.settle()
            result.verdict = judge(stage.evidence())
        except (AssertionError, OSError, RuntimeError, ValueError) as error:
            result.faults.append(f"{type(error).__name__}: {error}")
        stage.expect(stage.struck > 0, "the fault did not happen, so nothing was tried")
        result.strikes = stage.struck
        result.faults += stage.faults
    result.seconds = time.monotonic() - began


def _is_chosen(scene: Scene, options: argparse.Namespace) -> bool:
    return scene.name in options.only if options.only else scene.is_short or not options.short


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="at most five minutes; without it about an hour")
    parser.add_argument("--only", action="append", choices=[scene.name for scene in SCENES], metavar="SCENE")
    parser.add_argument("--list", action="store_true", help="print the scenes")
    parser.add_argument("--seconds", type=float, help="of each fault, in place of the usual time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="repeats the choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="move what a wrong scene left there")
    options = parser.parse_args()
    if options.seconds is None:
        options.seconds = SHORT_SECONDS if options.short else LONG_SECONDS
    return options


sys.exit(main())
