"""``python -m chaos`` itself: one scene from start to end, what it prints, and how it ends."""

import json
import subprocess
import sys

import pytest

from tests.servers import ROOT


def chaos(*options):
    command = [sys.executable, "-m", "chaos", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_workers_and_the_master_are_killed_and_nothing_is_lost(tmp_path):
    done = chaos("--only", "kill-workers", "--only", "kill-master", "--seconds", "2", "--json", tmp_path / "found")

    assert done.returncode == 0, done.stdout + done.stderr
    scenes = json.loads((tmp_path / "found").read_text())["scenes"]
    assert [scene["scene"] for scene in scenes] == ["kill-workers", "kill-master"]
    for scene in scenes:
        assert scene["acknowledged"] > 20
        assert scene["strikes"] > 0
        assert [scene[name] for name in ("verdict", "lost", "doubled", "wrong", "not_delivered")] == ["ok", 0, 0, 0, 0]


@pytest.mark.long
def test_what_lacks_a_right_is_not_run_and_says_why(tmp_path):
    """A stranger who is not root, and has no chattr."""
    program = (
        "import os, runpy, shutil, sys; os.geteuid = lambda: 1000; sys.argv[0] = 'chaos';"
        "runpy.run_module('chaos', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--only", "disk-full", "--only", "read-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "not run: mounting needs root" in done.stdout
    assert "not run: chattr +i needs root" in done.stdout
    assert "0 of 2 scenes run, 0 wrong" in done.stdout
