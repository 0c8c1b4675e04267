"""Runs a command of Coinslot as its service runs; ``deploy/coinslot`` calls it.

The unit's files are read here, not asked of systemd: that is the same with and without a running systemd, and sees what
the next start will. Root runs this code, so it imports nothing of the application. Values of the environment are never
printed, and reach the command in no other way than the environment.
"""

import fcntl
import glob
import grp
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

# Where systemd looks for units, the strongest first.
UNIT_PATH = (
    "/etc/systemd/system:/run/systemd/system:/usr/local/lib/systemd/system:/usr/lib/systemd/system:/lib/systemd/system"
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"  # systemd's own
FROM_CALLER = re.compile(r"TERM|COLUMNS|LINES|NO_COLOR|LANG|LANGUAGE|LC_[A-Z]+")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SPACES = " \t\n\r"
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
SIDE_FILES = ("", "-wal", "-journal")


class TroubleError(Exception):
    """It cannot be run; the message says why, and what to do."""


@dataclass
class Service:
    """What a unit says, as far as a command needs it."""

    unit: str
    settings: dict[str, str] = field(default_factory=dict)  # the last value of each that is no list
    environment: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)  # of EnvironmentFile=, with their "-"

    @property
    def folder(self) -> str:
        return self.settings.get("WorkingDirectory", "").lstrip("-") or "/"

    @property
    def programs(self) -> str:
        """The folder of the virtual environment's programs, in which the server is."""
        program = next(iter(words(self.settings.get("ExecStart", ""), self.unit)), "").lstrip("@-:+!|")
        if not program.startswith("/"):
            raise TroubleError(f"{self.unit} has no ExecStart= with the whole path of gunicorn")
        return os.path.dirname(program)

    @property
    def account(self) -> pwd.struct_passwd:
        name = self.settings.get("User") or "root"
        try:
            return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError:
            raise TroubleError(f"there is no user {name}, which {self.unit} names") from None

    @property
    def group(self) -> int:
        name = self.settings.get("Group")
        if not name:
            return self.account.pw_gid
        try:
            return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
        except KeyError:
            raise TroubleError(f"there is no group {name}, which {self.unit} names") from None


def read_service(unit: str, unit_path: str) -> Service:
    """What the unit and its drop-ins say. Raises TroubleError."""
    folders = [each for each in unit_path.split(":") if each]
    found = next((path for each in folders if os.path.isfile(path := f"{each}/{unit}")), None)
    if found is None:
        raise TroubleError(
            f"there is no {unit} in {', '.join(folders)}. This is for a machine on which the service is installed "
            "(docs/deploy.md); in a checkout use .venv/bin/flask"
        )
    drop_ins = {}
    for each in ("service.d", f"{unit}.d"):
        for folder in reversed(folders):
            drop_ins |= {os.path.basename(path): path for path in glob.glob(f"{glob.escape(folder)}/{each}/*.conf")}
    service = Service(unit)
    for path in (found, *(drop_ins[name] for name in sorted(drop_ins))):
        for key, value in assignments(read_text(path)):
            apply(service, key, value)
    return service


def assignments(text: str) -> Iterator[tuple[str, str]]:
    """The settings in the section [Service] of a unit's file."""
    section, pending = "", ""
    for line in text.split("\n"):
        line = line.lstrip(SPACES)
        if line.startswith(("#", ";")):  # also between the lines of one value
            continue
        if (len(line) - len(line.rstrip("\\"))) % 2:
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).rstrip(SPACES), ""
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line:
            key, _, value = line.partition("=")
            yield key.strip(SPACES), value.strip(SPACES)


def apply(service: Service, key: str, value: str) -> None:
    if key == "Environment":
        if not value:
            service.environment.clear()
        for word in words(value, service.unit):
            name, sign, held = word.partition("=")
            if sign and NAME.fullmatch(name):
                service.environment[name] = without_specifiers(held, name, service.unit)
    elif key == "EnvironmentFile":
        if not value:
            service.files.clear()
        else:
            service.files.append(without_specifiers(value, key, service.unit))
    elif key == "DynamicUser" and value.lower() in ("1", "yes", "true", "on"):
        raise TroubleError(f"{service.unit} has DynamicUser=: its user exists only while it runs")
    else:
        service.settings[key] = value


def words(text: str, unit: str) -> list[str]:
    """The words of a setting, as systemd splits them: quotes and backslashes of C."""
    found: list[str] = []
    word: str | None = None
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and position < len(text):
            escaped = text[position]
            position += 1
            if escaped == "x" and re.fullmatch("[0-9a-fA-F]{2}", digits := text[position : position + 2]):
                escaped, position = chr(int(digits, 16)), position + 2
            elif escaped in ESCAPES:
                escaped = ESCAPES[escaped]
            elif escaped.isalnum():
                raise TroubleError(f"{unit} has a backslash before {escaped}, which is not understood here")
            word = (word or "") + escaped
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'" and word is None:
            quote, word = character, ""
        elif not quote and character in "\"'":
            quote = character
        elif not quote and character in SPACES:
            if word is not None:
                found.append(word)
            word = None
        else:
            word = (word or "") + character
    if quote:
        raise TroubleError(f"{unit} has a quote that is not closed")
    return found if word is None else [*found, word]


def without_specifiers(text: str, name: str, unit: str) -> str:
    if "%" in text.replace("%%", ""):
        raise TroubleError(
            f"{unit} has a % in {name} that only systemd can replace; write %% for the sign itself, or put the value "
            "into the environment file"
        )
    return text.replace("%%", "%")


def read_environment(text: str) -> dict[str, str]:
    """An EnvironmentFile as systemd reads it (the states are those of its env-file.c)."""
    found: dict[str, str] = {}
    state, name, value, kept = "before", "", "", 0  # kept: how much of the value is not trailing blanks
    for character in text:
        if state == "before":
            if character in "#;":
                state = "comment"
            elif character not in SPACES:
                state, name, value, kept = "name", character, "", 0
        elif state == "name":
            state = "value?" if character == "=" else "before" if character == "\n" else "name"
            name += character if state == "name" else ""
        elif state == "comment":
            state = "before" if character == "\n" else "escaped comment" if character == "\\" else state
        elif state == "escaped comment":
            state = "comment"
        elif state == "escaped":
            state, value = "value", value + ("" if character == "\n" else character)
            kept = len(value)
        elif state == 'escaped "':
            state = '"'
            value += character if character in '"\\`$' else "" if character == "\n" else f"\\{character}"
        elif state in ("'", '"'):
            if character == state:
                state, kept = "value?", len(value)
            elif character == "\\" and state == '"':
                state = 'escaped "'
            else:
                value += character
        elif character == "\n":
            keep(found, name, value[:kept])
            state = "before"
        elif character == "\\":
            state, kept = "escaped", len(value)
        elif state == "value?" and character in "\"'":
            state = character
        elif state == "value" or character not in SPACES:
            state, value = "value", value + character
            kept = len(value) if character not in SPACES else kept
    if state not in ("before", "name", "comment", "escaped comment"):
        keep(found, name, value if state.endswith(("'", '"')) else value[:kept])
    return found


def keep(found: dict[str, str], name: str, value: str) -> None:
    if NAME.fullmatch(name.strip(SPACES)):
        found[name.strip(SPACES)] = value


def environment_of(service: Service, caller: dict[str, str]) -> dict[str, str]:
    """What the command gets: the service's variables, and of the caller's only what concerns the terminal."""
    account = service.account
    found = {name: value for name, value in caller.items() if FROM_CALLER.fullmatch(name)}
    found |= {"PATH": PATH, "HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
    found |= {"SHELL": account.pw_shell, **service.environment}
    for entry in service.files:  # systemd lets these win over Environment=
        pattern = entry.removeprefix("-")
        paths = sorted(glob.glob(pattern))
        if not paths and not entry.startswith("-"):
            raise TroubleError(f"there is no {pattern}, which {service.unit} names")
        for path in paths:
            found |= read_environment(read_text(path))
    # The command stays in the caller's folder, so that its arguments mean what they say.
    found["COINSLOT_HOME"] = os.path.join(service.folder, found.get("COINSLOT_HOME", "instance"))
    if found.get("COINSLOT_BACKUPS"):
        found["COINSLOT_BACKUPS"] = os.path.join(service.folder, found["COINSLOT_BACKUPS"])
    found["FLASK_APP"] = os.path.join(service.folder, "wsgi.py")
    return found


def read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().lstrip("\ufeff")
    except OSError as error:
        raise TroubleError(f"{path} cannot be read ({error.strerror}); run this as root: sudo coinslot ...") from None


def become(service: Service) -> None:
    """Turn this process into one of the service's user, for good. Raises TroubleError."""
    account, group = service.account, service.group
    os.umask(int(service.settings.get("UMask", "0022"), 8))
    if os.geteuid() == account.pw_uid and account.pw_uid != 0:
        return
    try:
        groups = set(os.getgrouplist(account.pw_name, group))
        for name in words(service.settings.get("SupplementaryGroups", ""), service.unit):
            groups.add(int(name) if name.isdigit() else grp.getgrnam(name).gr_gid)
        os.setgroups(sorted(groups))
        os.setresgid(group, group, group)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    except (OSError, KeyError) as error:
        raise TroubleError(
            f"cannot become the user {account.pw_name} ({error}); run this as root: sudo coinslot ..."
        ) from None


def can(service: Service, test: Callable[[], bool]) -> bool:
    """What a test says to the service's user."""
    pid = os.fork()
    if pid == 0:
        answer = 2
        try:
            become(service)
            answer = 0 if test() else 1
        except TroubleError:
            pass
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def run(service: Service, environment: dict[str, str], arguments: list[str], output: int | None = None) -> int:
    """Run the command as a child; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            if output is not None:
                os.dup2(output, 1)
            replace_process(service, environment, arguments)
        except TroubleError as error:
            say(error)
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


def replace_process(service: Service, environment: dict[str, str], arguments: list[str]) -> None:
    program = os.path.join(service.programs, "flask")
    become(service)
    try:
        os.execve(program, ["flask", *arguments], environment)  # noqa: S606  no shell is the point
    except OSError as error:
        raise TroubleError(f"{program} does not run as {service.account.pw_name}: {error.strerror}") from None


@contextmanager
def lent(service: Service, home: str, paths: list[str]) -> Iterator[list[str]]:
    """Copies of the caller's files that the service's user may read, in its home, until the block ends.

    The folder has the name and the lock of those that the application removes when their process was killed.
    """
    place = os.path.join(home, f".download-{secrets.token_hex(4)}")
    account, group = service.account, service.group
    try:
        os.mkdir(place, 0o700)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise TroubleError(f"{home}: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        os.fchown(folder, account.pw_uid, group)
        made = []
        for number, path in enumerate(paths):
            name = os.path.basename(path)
            if os.path.join(place, name) in made:
                name = f"{number}-{name}"
            for suffix in SIDE_FILES:
                if suffix and not os.path.isfile(f"{path}{suffix}"):
                    continue
                with open(f"{path}{suffix}", "rb") as original:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                    with open(os.open(f"{name}{suffix}", flags, 0o600, dir_fd=folder), "wb") as copy:
                        os.fchown(copy.fileno(), account.pw_uid, group)
                        shutil.copyfileobj(original, copy)
            made.append(os.path.join(place, name))
        yield made
    finally:
        os.close(folder)
        shutil.rmtree(place, ignore_errors=True)


def run_with_files(service: Service, environment: dict[str, str], arguments: list[str]) -> int:
    """Run a command that is to read files of the caller's, or to write its backup where only the caller may."""
    is_backup = len(arguments) == 2 and arguments[0] == "backup" and arguments[1] != "-"
    if is_backup:
        target = os.path.abspath(arguments[1])
        folder = os.path.dirname(target)
        if not os.path.isdir(folder) or can(service, lambda: os.access(folder, os.W_OK | os.X_OK)):
            replace_process(service, environment, arguments)
        return back_up_for_caller(service, environment, target)
    readable = [each for each in arguments[1:] if may_be_a_path(each, arguments[0]) and is_file(each)]
    closed = [each for each in readable if not can(service, lambda each=each: os.access(each, os.R_OK))]
    if not closed:
        replace_process(service, environment, arguments)
    with lent(service, environment["COINSLOT_HOME"], closed) as copies:
        for path in closed:
            say(f"{path} is not readable for {service.account.pw_name}: a copy is passed on")
        passed = dict(zip(closed, copies, strict=True))
        return run(service, environment, [passed.get(each, each) for each in arguments])


def back_up_for_caller(service: Service, environment: dict[str, str], target: str) -> int:
    if os.path.lexists(target):
        raise TroubleError(
            f"{target} exists, and {service.account.pw_name} may not replace it; name a file that does not exist"
        )
    folder, name = os.path.split(target)
    partial = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.partial")
    output = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        status = run(service, environment, ["backup", "-"], output)
        if status == 0:
            owner = os.stat(folder)
            os.fchown(output, owner.st_uid, owner.st_gid)  # as of every backup: the folder's owner's
            os.fsync(output)
            os.link(partial, target)  # fails where there is one by now
            directory = os.open(folder, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
            say(f"the backup is {target}")
    except OSError as error:
        raise TroubleError(f"{target}: {error.strerror}") from None
    finally:
        os.close(output)
        with suppress(OSError):
            os.unlink(partial)
    return status


def may_be_a_path(argument: str, command: str) -> bool:
    """Whether an argument is a file's name rather than that of a game, which a file may happen to have too."""
    return not argument.startswith("-") and (command == "restore" or "/" in argument or "." in argument)


def is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.R_OK)
    except (OSError, ValueError):
        return False


def say(text: object) -> None:
    print(f"coinslot: {text}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    unit = os.environ.get("COINSLOT_UNIT", "coinslot").removesuffix(".service") + ".service"
    try:
        service = read_service(unit, os.environ.get("SYSTEMD_UNIT_PATH") or UNIT_PATH)
        account = service.account
        if os.geteuid() not in (0, account.pw_uid):
            raise TroubleError(
                f"run this as root (sudo coinslot ...): it becomes the user {account.pw_name}, which only root can"
            )
        environment = environment_of(service, dict(os.environ))
        if os.geteuid() != 0:
            replace_process(service, environment, arguments)
        return run_with_files(service, environment, arguments)
    except TroubleError as error:
        say(error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
