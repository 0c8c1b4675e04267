"""Brings an installation to another revision, and back when that fails; ``deploy/upgrade`` calls it.

Nothing is changed before the new revision has passed its checks beside the old one: its packages, its start, and a
backup of this database restored aside by it. Then the folder of the service, which is a link, is switched at once.

The database decides how to go back. Where its schema stays, the old revision reads whatever the new one has stored, and
only the link goes back. Where a schema step has run, the old revision would refuse the file, and only the backup from
before would do. So such an upgrade stops the service first, makes the backup then, and tries the new revision where no
partner reaches it. The backup is put back as long as nothing was accepted after it was made. Once something was, the
new revision stays, whatever fails: an order that was acknowledged is never given up for a version.
"""

import argparse
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from as_service import UNIT_PATH, Service, TroubleError, environment_of, read_service

DONE, WENT_BACK, STAYS = 0, 1, 2  # exit statuses; 1 also where nothing was changed
ANSWER_SECONDS = 60  # for the server to answer once systemd says that it is started
KEPT_RELEASES = 2  # the one that runs and the one before
AT_FDCWD, RENAME_EXCHANGE = -100, 2

REQUIREMENTS = """
import importlib.metadata, re, sys
for line in open("requirements.txt", encoding="utf-8"):
    if found := re.match(r"([A-Za-z0-9._-]+)==([^ #]+)", line):
        name, wanted = found[1], found[2].strip()
        try:
            there = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            there = "missing"
        if there != wanted:
            sys.exit(f"{name} {wanted} is wanted, and it is {there}")
"""
VERSION = "from coinslot.store.db import SCHEMA_VERSION; print(SCHEMA_VERSION)"
# What partners, game and people have brought about. Tests, which `flask simulate` makes, are left out.
FACTS = """
import contextlib, json, pathlib, sqlite3, sys
queries = {
    "games": "SELECT group_concat(slug) FROM (SELECT slug FROM games ORDER BY slug)",
    "transactions": "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM transactions WHERE is_test = 0",
    "grants": "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM grants WHERE is_test = 0",
    "events": "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM events WHERE is_test = 0"
              " AND NOT (type = 'player.login' AND player_id IS NULL)",  # a login that was refused
    "payments": "SELECT count(*) || ' ' || coalesce(max(updated_at), '') FROM payments WHERE is_test = 0",
    "refunds": "SELECT count(*) || ' ' || coalesce(max(settled_at), '') FROM refunds WHERE is_test = 0",
    "refused calls": "SELECT count(*) || ' ' || coalesce(max(last_at), '') FROM refusals"
                     " WHERE state IS NOT NULL AND is_simulated = 0 AND is_test = 0",
    "players": "SELECT count(*) || ' ' || coalesce(max(updated_at), '') FROM players"
               " WHERE player_id <> 'coinslot-test'",
    "acknowledgements": "SELECT group_concat(acked_through) FROM games",
    "changes by people": "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM audit",
}
path = pathlib.Path(sys.argv[1])
with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
    found = {name: connection.execute(query).fetchone()[0] for name, query in queries.items()}
    found["schema"] = connection.execute("PRAGMA user_version").fetchone()[0]
    found["until"] = (connection.execute("SELECT max(received_at) FROM transactions WHERE is_test = 0").fetchone())[0]
print(json.dumps(found))
"""


class FailedError(TroubleError):
    """The new revision did not do what it must."""


class Upgrade:
    """One upgrade of one installation."""

    def __init__(self, service: Service, options: argparse.Namespace) -> None:
        self.service = service
        self.options = options
        self.environment = environment_of(service, dict(os.environ))
        if self.environment.get("COINSLOT_DATABASE"):  # a backup restored aside would go into it
            raise TroubleError(
                "the database is PostgreSQL, and this upgrades an installation on SQLite alone. "
                "By hand: docs/deploy.md, Another version"
            )
        self.link = Path(service.folder)  # what the unit names
        self.releases = self.link.with_name(f"{self.link.name}-releases")
        self.home = Path(self.environment["COINSLOT_HOME"])
        self.database = self.home / "coinslot.db"
        self.url = (options.url or self.environment.get("COINSLOT_PUBLIC_URL") or "http://127.0.0.1:8000").rstrip("/")
        self.stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.backup = self.home / f"before-upgrade-{self.stamp}.db"
        self.games: list[str] = []  # those that `flask simulate` plays
        self.is_begun = False  # whether anything was changed

    # Steps, in their order ------------------------------------------------------------------------------------------

    def run(self) -> int:
        old, new, revision = self.prepare()
        before = self.facts()
        wanted = int(self.asked([new / ".venv/bin/python", "-c", VERSION], new))
        if wanted < before["schema"]:
            raise TroubleError(f"{revision} knows schema version {wanted}, and the database has {before['schema']}")
        self.check(new)
        self.choose_games(before)
        self.make_backup(old)
        self.rehearse(new)
        self.tell_of_units(old, new)
        if wanted == before["schema"]:
            return self.switch_while_it_runs(old, new, revision)
        say(f"the database is to be brought from schema version {before['schema']} to {wanted}")
        return self.switch_with_a_schema_step(old, new, revision)

    def prepare(self) -> tuple[Path, Path, str]:
        """The old and the new revision's folders, the new one complete with its packages."""
        self.releases.mkdir(mode=0o755, exist_ok=True)
        source = self.options.source or output(["git", "-C", self.link, "remote", "get-url", "origin"])
        clone = self.releases / f".fetched-{os.getpid()}"
        try:
            say(f"fetching from {without_password(source)}")
            output(["git", "clone", "--quiet", "--no-checkout", source, clone])
            named = self.options.revision or "HEAD"
            for name in (f"origin/{named}", named):
                with suppress(TroubleError):
                    commit = output(["git", "-C", clone, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"])
                    break
            else:
                raise TroubleError(f"there is no revision {named}")
            output(["git", "-C", clone, "checkout", "--quiet", "--detach", commit])
            new = self.releases / commit[:12]
            old = self.link.resolve()
            if new == old:
                raise TroubleError(f"{commit[:12]} is what runs already")
            if new.exists():  # of an attempt that failed
                shutil.rmtree(new)
            os.replace(clone, new)
        finally:
            shutil.rmtree(clone, ignore_errors=True)
        say(f"making the virtual environment of {commit[:12]}")
        if self.options.make_environment:
            output([self.options.make_environment, new])
        else:
            output([old / ".venv/bin/python", "-m", "venv", new / ".venv"])
            output([new / ".venv/bin/python", "-m", "pip", "install", "--quiet", "-r", new / "requirements.txt"])
        output([new / ".venv/bin/python", "-m", "compileall", "-q", "-x", r"/\.venv/|/tests/", new])
        return old, new, commit[:12]

    def check(self, new: Path) -> None:
        """What can be known of the new revision without touching anything."""
        say("checking packages and start")
        self.asked([new / ".venv/bin/python", "-c", REQUIREMENTS], new)
        self.asked([new / ".venv/bin/gunicorn", "--check-config", "wsgi:app"], new)

    def choose_games(self, facts: Mapping[str, Any]) -> None:
        """Play every game against what runs now: a test that fails before the change says nothing after it."""
        for game in (facts["games"] or "").split(",") if facts["games"] else ():
            done = self.simulated(self.link, game, self.url)
            if done.returncode == 0:
                self.games.append(game)
            elif f"no partner of {game} is configured" in done.stderr:
                continue
            elif self.options.mend:
                self.games.append(game)
                say(f"{game} does not pass `flask simulate` now")
            else:
                raise TroubleError(
                    f"the present revision does not pass `coinslot simulate {game} --url {self.url}`:\n"
                    f"{done.stdout}{done.stderr}Name another address with --url, or say with --mend "
                    "that the new revision is to mend this"
                )
        if not self.games:
            say("no game has a partner yet: whether the server answers is all that will be tested")

    def make_backup(self, old: Path) -> None:
        say(f"backing up to {self.backup}")
        self.asked([old / ".venv/bin/flask", "backup", self.backup], old)

    def rehearse(self, new: Path) -> None:
        """Restore the backup aside with the new revision: it is sound, every secret opens, and the steps run on it."""
        say("restoring the backup aside with the new revision")
        aside = self.home / f".upgrade-{self.stamp}"
        key = {}
        if not self.environment.get("COINSLOT_MASTER_KEY"):
            try:
                key["COINSLOT_MASTER_KEY"] = (self.home / "master.key").read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                raise TroubleError(f"{self.home / 'master.key'} cannot be read") from None
        try:
            self.asked(["mkdir", "-m", "0700", aside], new)
            self.asked([new / ".venv/bin/flask", "restore", self.backup], new, COINSLOT_HOME=str(aside), **key)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def switch_while_it_runs(self, old: Path, new: Path, revision: str) -> int:
        self.is_begun = True
        old = self.point_to(old, new)
        try:
            self.systemctl("restart")
            self.wait_for_answer()
            self.smoke(self.link, self.url)
        except TroubleError as error:
            no_more_interruptions()
            say(f"{error}\n{revision} failed: the revision before is put back. The database is as it is: both read it")
            self.point_to(new, old)
            self.systemctl("restart")
            self.wait_for_answer()
            return WENT_BACK
        return self.done(old, new, revision)

    def switch_with_a_schema_step(self, old: Path, new: Path, revision: str) -> int:
        say("stopping the service: from here on nothing is accepted until the new revision has passed")
        self.is_begun = True
        self.systemctl("stop")
        try:
            self.backup.unlink()  # what was accepted since it was made is in the next one
            self.make_backup(old)
            before = self.facts()
            old = self.point_to(old, new)
        except (TroubleError, OSError):
            self.systemctl("start")
            raise
        try:
            self.try_behind_closed_doors(new)
            self.systemctl("start")
            self.wait_for_answer()
            self.smoke(self.link, self.url)
        except TroubleError as error:
            no_more_interruptions()
            say(error)
            return self.back_or_stay(old, new, revision, before)
        return self.done(old, new, revision)

    def try_behind_closed_doors(self, new: Path) -> None:
        """Start the new revision where no partner reaches it: the schema step runs, and the smoke test."""
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        say("starting the new revision on this machine alone")
        apart = {"COINSLOT_RELAY": "off", "WEB_CONCURRENCY": "1", "COINSLOT_BIND": f"127.0.0.1:{port}"}
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            process = subprocess.Popen(
                [new / ".venv/bin/gunicorn", "wsgi:app"],
                cwd=new,
                env=self.environment | apart,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self.user(),
            )
            try:
                while not answers(url):  # a schema step takes as long as it takes
                    if process.poll() is not None:
                        log.seek(0)
                        raise FailedError(f"it does not start:\n{log.read()}".rstrip())
                    time.sleep(0.2)
                self.smoke(new, url)
            finally:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def back_or_stay(self, old: Path, new: Path, revision: str, before: Mapping[str, Any]) -> int:
        """After a schema step: back to the backup, unless that would lose something."""
        try:
            self.systemctl("stop")
            self.check_nobody_uses_the_database()
            now = self.facts()
            accepted = [name for name in before if name not in ("schema", "until") and now[name] != before[name]]
        except TroubleError as error:
            accepted = [f"that cannot be known: {error}"]
            now = {"schema": None}
        if now["schema"] == before["schema"]:
            say("no schema step was made: the revision before reads the database as it is")
        elif accepted:
            with suppress(TroubleError):
                self.systemctl("start")
            what, until = ", ".join(accepted), before["until"] or "the beginning"
            say(STAYING.format(revision=revision, old=old, link=self.link, backup=self.backup, what=what, until=until))
            return STAYS
        say(f"{revision} failed: the revision before is put back")
        self.point_to(new, old)
        if now["schema"] != before["schema"]:
            say(f"nothing was accepted since {self.backup} was made: it is restored")
            try:
                # Not the file alone: a game may have read the feed meanwhile, so no id may be given out again.
                say(self.asked([self.link / ".venv/bin/flask", "restore", self.backup], self.link).strip())
            except TroubleError:
                self.point_to(old, new)
                self.systemctl("start")
                raise
        self.systemctl("start")
        self.wait_for_answer()
        return WENT_BACK

    def done(self, old: Path, new: Path, revision: str) -> int:
        kept = {old.resolve(), new.resolve()}
        for release in self.releases.iterdir():
            if release.is_dir() and release.resolve() not in kept and not release.name.startswith("."):
                shutil.rmtree(release, ignore_errors=True)
        for backup in self.home.glob("before-upgrade-*.db"):
            if backup != self.backup:
                backup.unlink()
        say(f"{revision} serves. The revision before is {old}; the backup from before is {self.backup}")
        return DONE

    # What they are made of ------------------------------------------------------------------------------------------

    def point_to(self, old: Path, new: Path) -> Path:
        """Switch the link, at once; returns where the old revision is now."""
        following = self.link.with_name(f".{self.link.name}-next-{os.getpid()}")
        following.unlink(missing_ok=True)
        following.symlink_to(new)
        if self.link.is_symlink():
            os.replace(following, self.link)
        else:  # the first time it is the checkout itself: link and folder change places
            exchange(following, self.link)
            old = self.releases / f"first-{self.stamp}"
            os.replace(following, old)
        sync(self.link.parent)
        return old

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.asked([sys.executable, "-I", "-c", FACTS, self.database], Path("/")))
        return found

    def check_nobody_uses_the_database(self) -> None:
        for path in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if path.samefile(self.database):
                    raise FailedError(f"process {path.parts[2]} has the database open")

    def smoke(self, code: Path, url: str) -> None:
        for game in self.games:
            say(f"testing {game} with `flask simulate`")
            done = self.simulated(code, game, url)
            if done.returncode != 0:
                raise FailedError(f"`flask simulate {game} --url {url}` failed:\n{done.stdout}{done.stderr}")

    def simulated(self, code: Path, game: str, url: str) -> "subprocess.CompletedProcess[str]":
        return self.as_service([code / ".venv/bin/flask", "simulate", game, "--url", url], code)

    def wait_for_answer(self) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while not answers(self.url):
            if time.monotonic() > until:
                raise FailedError(f"{self.url}/healthz does not answer")
            time.sleep(0.2)

    def systemctl(self, verb: str) -> None:
        say(f"systemctl {verb} {self.service.unit}")
        output(["systemctl", verb, self.service.unit])

    def tell_of_units(self, old: Path, new: Path) -> None:
        for path in sorted((new / "deploy").glob("*.*")):
            former = old / "deploy" / path.name
            if path.suffix not in (".service", ".socket", ".conf"):
                continue
            if not former.exists() or former.read_bytes() != path.read_bytes():
                say(f"deploy/{path.name} is another one in this revision: compare it with yours")

    def user(self) -> dict[str, Any]:
        account = self.service.account
        groups = os.getgrouplist(account.pw_name, self.service.group)
        umask = int(self.service.settings.get("UMask", "0022"), 8)
        return {"user": account.pw_uid, "group": self.service.group, "extra_groups": groups, "umask": umask}

    def as_service(
        self, command: Sequence[str | Path], folder: Path, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        known = self.environment | {"FLASK_APP": str(folder / "wsgi.py")} | environment
        return subprocess.run(
            command, cwd=folder, env=known, stdin=subprocess.DEVNULL, capture_output=True, text=True, **self.user()
        )

    def asked(self, command: Sequence[str | Path], folder: Path, **environment: str) -> str:
        done = self.as_service(command, folder, **environment)
        if done.returncode != 0:
            what = " ".join(str(word) for word in command[:2] if "\n" not in str(word))
            raise TroubleError(f"{what} failed:\n{done.stdout}{done.stderr}".rstrip())
        return done.stdout


STAYING = """{revision} failed, and stays: it has accepted something since ({what}).
The revision before cannot read the database, and putting {backup} back would lose that.
1. `journalctl -u coinslot` says what is wrong. Deploy a revision that mends it, with --mend; until then this one
   serves.
2. Only where it credits wrongly: `systemctl stop coinslot`; partners call again for hours or days. If it cannot be
   mended in that time: `ln -sfn {old} {link}`, `coinslot restore {backup}`
   (what is served now is kept beside the database), `systemctl start coinslot`, and have each partner send again what
   came after {until}. The same order gets the same transaction id: a game that has it applies it once."""


def exchange(one: Path, other: Path) -> None:
    """Let two names change places at once (renameat2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise TroubleError(
            f"{other} cannot be replaced by a link at once ({reason}); make it one by hand: docs/deploy.md"
        )


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:  # noqa: S310  the owner's own address
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def output(command: Sequence[str | Path]) -> str:
    """What a program prints. Raises TroubleError when it fails, or is not there."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise TroubleError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        words = without_password(" ".join(map(str, command)))
        raise TroubleError(f"{words} failed:\n{without_password(done.stdout + done.stderr)}".rstrip())
    return done.stdout.strip()


def without_password(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://", text)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One upgrade at a time."""
    folder.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TroubleError("another upgrade is under way") from None
    finally:
        os.close(descriptor)


def interrupt(number: int, _: object) -> None:
    raise FailedError(f"interrupted by {signal.Signals(number).name}")


def no_more_interruptions() -> None:
    """The way back is not left halfway."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)


def say(text: object) -> None:
    print(f"upgrade: {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser("upgrade", description="Bring Coinslot to another revision, and back if it fails.")
    parser.add_argument("revision", nargs="?", help="branch, tag or commit; the remote's own HEAD when left out")
    parser.add_argument(
        "--from", dest="source", metavar="URL", help="the repository; origin of the checkout when left out"
    )
    parser.add_argument("--url", help="where the server is tested; COINSLOT_PUBLIC_URL when left out")
    parser.add_argument(
        "--make-environment", metavar="PROGRAM", help="makes the virtual environment in place of venv and pip"
    )
    parser.add_argument("--mend", action="store_true", help="go on although the present revision fails its own test")
    options = parser.parse_args()
    os.umask(0o022)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupt)
    upgrade = None
    unit = os.environ.get("COINSLOT_UNIT", "coinslot").removesuffix(".service") + ".service"
    try:
        if os.geteuid() != 0:
            raise TroubleError("only root can do this")
        upgrade = Upgrade(read_service(unit, os.environ.get("SYSTEMD_UNIT_PATH") or UNIT_PATH), options)
        with alone(upgrade.releases):
            return upgrade.run()
    except TroubleError as error:
        say(error)
        if upgrade is None or not upgrade.is_begun:
            say("nothing was changed")
            return WENT_BACK
        say(f"{upgrade.link} is {upgrade.link.resolve()}; `systemctl status {unit}` says whether it runs")
        return STAYS


if __name__ == "__main__":
    sys.exit(main())
