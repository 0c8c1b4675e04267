"""The units of ``deploy/``: what systemd makes of them, without a systemd that runs."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.server.test_server import conf
from tests.servers import ROOT, needs

# systemd's own figure, from 0 to 10, in tenths: 1.5 by systemd 252. What is left of it is the network, mostly.
MOST_EXPOSED = 15
UNIT = (ROOT / "deploy/coinslot.service").read_text()


def analyze(folder: Path, *how: str, unit: str = UNIT) -> subprocess.CompletedProcess[str]:
    """What ``systemd-analyze`` says of both units. The command is not installed on the machine that checks; everything
    else is judged as it stands.
    """
    (folder / "coinslot.service").write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit))
    (folder / "coinslot.socket").write_text((ROOT / "deploy/coinslot.socket").read_text())
    command = [needs("systemd-analyze"), *how, str(folder / "coinslot.service")]
    if how[0] == "verify":
        command.append(str(folder / "coinslot.socket"))
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    verified = analyze(tmp_path, "verify", "--man=no")

    assert [line for line in verified.stderr.splitlines() if "coinslot." in line] == []
    assert verified.returncode == 0, verified.stderr


def test_a_service_that_was_broken_into_can_do_little(tmp_path: Path) -> None:
    how = ("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")

    assert (judged := analyze(tmp_path, *how)).returncode == 0, judged.stdout
    for line in ("ProtectSystem=strict", "CapabilityBoundingSet=", "SystemCallFilter=~@privileged @resources"):
        weaker = UNIT.replace(f"\n{line}\n", "\n")
        assert weaker != UNIT
        assert analyze(tmp_path, *how, unit=weaker).returncode != 0, line


def test_no_start_is_stopped_while_a_schema_step_runs() -> None:
    assert re.findall(r"(?m)^(?:Type|TimeoutStartSec)=(\S+)$", UNIT) == ["notify", "infinity"]


def test_the_unit_waits_longer_for_gunicorn_than_gunicorn_for_its_workers() -> None:
    gunicorn_conf = (ROOT / "gunicorn.conf.py").read_text()

    patience = int(re.findall(r"(?m)^TimeoutStopSec=(\d+)$", UNIT)[0])

    assert patience > int(re.findall(r"(?m)^graceful_timeout = (\d+)", gunicorn_conf)[0])


@pytest.mark.parametrize(
    ("proxies", "addresses", "warned"),
    [(0, [("127.0.0.1", 8000)], []), (1, ["/run/a.sock"], []), (0, [("::1", 8000), "/run/a.sock"], ["/run/a.sock"])],
)
def test_the_start_says_when_nobody_can_say_who_calls(proxies: int, addresses: list[object], warned: list[str]) -> None:
    said: list[str] = []
    master = SimpleNamespace(
        setup_path=None,
        coinslot=SimpleNamespace(settings=SimpleNamespace(trusted_proxies=proxies)),
        LISTENERS=[SimpleNamespace(cfg_addr=each) for each in addresses],
        log=SimpleNamespace(warning=lambda _, path, why: said.append(path)),
    )

    conf()["when_ready"](master)

    assert said == warned
