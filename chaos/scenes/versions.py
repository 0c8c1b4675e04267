"""New versions: an upgrade of the running binary, a step of the schema, yesterday's backup."""

import os
import sys
import time
from pathlib import Path

from chaos.journal import facts
from chaos.scenes import Scene
from chaos.stage import Stage
from tests.checkouts import newer
from tests.servers import Server, until

GUNICORN = Path(sys.executable).with_name("gunicorn")
MONTH = "2026-07"  # of the purchases, by what the partner says
STEP = """
tx.execute("ALTER TABLE deliveries ADD COLUMN made_up INTEGER NOT NULL DEFAULT 7")
tx.execute("CREATE TABLE made_up (id INTEGER PRIMARY KEY, player_id TEXT NOT NULL) STRICT")
tx.execute("INSERT INTO made_up SELECT id, player_id FROM grants")
tx.execute("CREATE INDEX made_up_by_player ON made_up (player_id)")
"""


def upgrade(stage: Stage) -> None:
    """A version whose schema is one step newer starts beside the old one, and then takes its place."""
    checkout = newer(stage.folder / "newer", STEP.strip())
    stage.begin()
    time.sleep(stage.seconds / 2)
    before = stage.load.counts["5xx"]
    old = stage.server
    with Server(stage.home, checkout=checkout):  # its start changes the schema while the old one credits
        stage.until_refused(before)
        old.stop()
    stage.server = stage.new_server(checkout=checkout)
    stage.server.start()
    stage.go_on(20)
    stage.server.stop()
    old.launch().wait(60)
    stage.expect("newer than this code" in old.log, "the old version started on the newer file")
    old.kill()
    stage.server.start()
    time.sleep(stage.seconds / 2)
    stage.struck = 1


def replace_binary(stage: Stage) -> None:
    """USR2: a new master beside the old one, on the same port; then the old one ends in good order."""
    pid_file = stage.folder / "pid"
    stage.begin("--pid", str(pid_file), program=(str(GUNICORN),))
    for _ in stage.moments(1.0, 2.0):
        stage.server.replace_master(pid_file)
        until(lambda: _are_spread(stage.server.booted_workers()), "the new workers have processors of their own", 20)
        stage.go_on(5)


def _are_spread(pids: list[int]) -> bool:
    places = [os.sched_getaffinity(pid) for pid in pids]
    return len(pids) > 1 and len(set().union(*places)) == min(len(pids), len(os.sched_getaffinity(0)))


def restore(stage: Stage) -> None:
    """A copy is taken, orders go on, and the copy is served instead of what came after it. The server runs on."""
    copy = stage.folder / "copy.db"
    stage.begin()
    taken_at = time.time()  # what is acknowledged while the copy is made may be in it or not
    stage.flask("backup", str(copy))
    stage.go_on(60)
    for _ in stage.moments(0.5, 1.5):
        pass
    stage.flask("restore", str(copy))
    stage.restored = (taken_at, time.time())
    for _ in stage.moments(0.5, 1.5):
        pass
    stage.go_on(60)
    stage.struck = 1
    stage.load.end()
    compare_with_report(stage)


def compare_with_report(stage: Stage) -> None:
    """Close the month and compare it with the partner's list of all orders that it was acknowledged."""
    acknowledged = [
        fact["id"]
        for path in sorted((stage.folder / "callers").glob("appcharge-*.jsonl"))
        for fact in facts(path)
        if fact["what"] == "answer" and fact["status"] == 200
    ]
    report = stage.folder / "report.csv"
    report.write_text("\n".join(["order,cents", *(f"{name},999" for name in dict.fromkeys(acknowledged)), ""]))
    stage.flask("settlement", "close", "demo", MONTH)
    columns = ("--map", "reference=order", "--map", "amount=cents", "--unit", "minor", "--currency", "USD")
    stage.flask("settlement", "reconcile", "demo", MONTH, "--partner", "appcharge", "--file", str(report), *columns)
    found = stage.flask("settlement", "differences", "demo", MONTH, "--result", "missing_here")
    (stage.folder / "missing.csv").write_text(found)


def _lacks_script() -> str | None:
    return None if GUNICORN.exists() else f"there is no gunicorn beside {sys.executable}"


SCENES = [
    Scene("usr2", "USR2 and TERM: a new master takes over from the old one", replace_binary, _lacks_script),
    Scene("upgrade", "a version with one more schema step starts beside the old one and takes its place", upgrade),
    Scene("restore", "a backup is restored while orders come in", restore),
]
