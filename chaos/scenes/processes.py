"""Processes that are killed, stopped, replaced, or read their configuration again."""

import os
import signal
import time
from contextlib import suppress

from chaos.scenes import Scene
from chaos.stage import Stage

STOPPED_SECONDS = 3.0


def kill_workers(stage: Stage) -> None:
    stage.begin()
    for _ in stage.moments():
        _signal_worker(stage, signal.SIGKILL)


def kill_master(stage: Stage) -> None:
    """Its workers go on for a moment beside the next ones."""
    stage.begin()
    for _ in stage.moments(at_least=2):
        stage.server.kill_master()
        stage.start_again()
        stage.go_on(1)


def kill_all(stage: Stage) -> None:
    """Master and workers at once, as when the machine is reset; what the kernel holds stays."""
    stage.begin()
    for _ in stage.moments(at_least=2):
        stage.server.kill()
        stage.start_again()
        stage.go_on(1)


def kill_relay(stage: Stage) -> None:
    stage.begin(COINSLOT_RELAY="off")
    relay = stage.relay()
    for _ in stage.moments(at_least=2):
        relay.kill()
        relay.wait()
        relay = stage.relay()


def stop_worker(stage: Stage) -> None:
    """Whoever is connected to it waits."""
    stage.begin()
    for _ in stage.moments():
        workers = stage.server.workers
        if workers:
            _pause(stage.chance.choice(workers))


def stop_worker_for_long(stage: Stage) -> None:
    """Until the master takes it for hung and replaces it."""
    stage.begin()
    for _ in stage.moments():
        stopped = stage.chance.choice(stage.server.workers)
        os.kill(stopped, signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while stopped in stage.server.workers and time.monotonic() < deadline:
            time.sleep(0.2)
        stage.expect(stopped not in stage.server.workers, "a worker that hung was not replaced")


def stop_master(stage: Stage) -> None:
    stage.begin()
    for _ in stage.moments():
        _pause(stage.server.pid)


def stop_relay(stage: Stage) -> None:
    """The other relay takes over when a lease ends; the stopped one goes on where it was."""
    stage.begin(COINSLOT_RELAY="off")
    relays = [stage.relay(), stage.relay()]
    for number in stage.moments(at_least=2):
        _pause(relays[number % 2].pid, STOPPED_SECONDS if number % 3 else 8.0)


def hang_up(stage: Stage) -> None:
    """HUP: the master starts new workers and ends the old ones."""
    stage.begin()
    for _ in stage.moments(1.0, 3.0, at_least=2):
        os.kill(stage.server.pid, signal.SIGHUP)


def restart(stage: Stage) -> None:
    """TERM and a new start, as for a new version."""
    stage.begin()
    for _ in stage.moments(0.5, 2.0, at_least=2):
        status = stage.server.stop()
        stage.expect(status == 0, f"gunicorn ended with {status}")
        stage.server.start()


def _signal_worker(stage: Stage, number: signal.Signals) -> None:
    workers = stage.server.workers
    if workers:
        with suppress(ProcessLookupError):
            os.kill(stage.chance.choice(workers), number)


def _pause(pid: int, seconds: float = STOPPED_SECONDS) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


SCENES = [
    Scene("kill-workers", "a worker is killed with SIGKILL", kill_workers),
    Scene("kill-master", "the master is killed with SIGKILL and started again", kill_master),
    Scene("kill-all", "master and workers are killed with SIGKILL at once and started again", kill_all),
    Scene("kill-relay", "flask relay is killed with SIGKILL and started again", kill_relay),
    Scene("stop-worker", "a worker is stopped for 3 s (SIGSTOP) and continued", stop_worker),
    Scene("stop-worker-long", "a worker is stopped until the master replaces it", stop_worker_for_long, is_short=False),
    Scene("stop-master", "the master is stopped for 3 s and continued", stop_master),
    Scene("stop-relay", "one of two flask relay is stopped, longer than a lease now and then", stop_relay),
    Scene("hup", "SIGHUP to the master", hang_up),
    Scene("restart", "SIGTERM and a new start", restart),
]
