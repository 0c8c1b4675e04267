"""Two servers with homes of their own and one PostgreSQL database: whatever one has made or stored, the other knows."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from app import create_app
from coinslot.access.vault import MasterKey
from coinslot.installation import Installation
from coinslot.operations.alerts import heartbeat
from tests import postgres
from tests.books import Books
from tests.conftest import MAIN_KEY, Studio, furnish
from tests.fakes.http import FakeServer
from tests.server.test_server import post_order
from tests.servers import ROOT, Answer, Server, until

pytestmark = pytest.mark.long

PASSWORD = "a long password of the owner"
METRICS = "metrics-token-0123456789"


@dataclass
class Two:
    """``installation`` is a third process, which stands for commands."""

    one: Server
    other: Server
    installation: Installation
    studio: Studio
    environment: dict[str, str]
    next_key: MasterKey


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    postgres.needs_postgres()
    folder = tmp_path_factory.mktemp("two")
    keys = MasterKey.generate(), MasterKey.generate()
    with postgres.fresh_database() as url:
        environment = {"COINSLOT_DATABASE": url, "COINSLOT_MASTER_KEY": " ".join(key.text() for key in keys)}
        environment["COINSLOT_METRICS_TOKEN"] = METRICS
        installation = create_app({"COINSLOT_HOME": str(folder / "command"), **environment}).extensions["coinslot"]
        installation.prepare()
        studio = furnish(installation)
        with (
            Server(folder / "one", "-w", "1", **environment) as one,
            Server(folder / "other", "-w", "1", **environment) as other,
        ):
            yield Two(one, other, installation, studio, environment, keys[1])
        installation.database.close()


class Browser:
    """A browser that a load balancer sends to another server with each call."""

    def __init__(self, *servers: Server) -> None:
        self._servers = list(servers)
        self._cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        server = self._servers.pop(0)
        self._servers.append(server)
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = server.call(method, path, body, sent)
        for name, value in re.findall(r"(?:^|, )(\w+)=([^;]*)", answer.headers.get("set-cookie", "")):
            self._cookies[name] = value
        return answer

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, page: str = "/", **form: str) -> Answer:
        found = re.search(r'name="form_token" value="([^"]+)"', self.get(page).body.decode())
        form["form_token"] = found[1] if found else ""
        return self.ask("POST", path, urlencode(form).encode(), Content_Type="application/x-www-form-urlencoded")


@pytest.fixture(scope="module")
def browser(two: Two) -> Browser:
    """Signed in by the setup link of one server, at the other."""
    link = until(lambda: re.search(r"http://\S+(/setup\?token=\S+)", two.other.log), "the setup link")[1]
    browser = Browser(two.one, two.other)
    assert browser.get(link).status == 200
    answer = browser.post("/setup", link, token=link.partition("=")[2], password=PASSWORD)
    assert b"Your password is set" in answer.body, answer.body.decode()
    return browser


def test_a_person_stays_signed_in_whichever_server_answers(browser):
    assert [browser.get("/").status for _ in range(4)] == [200] * 4


def test_an_upload_is_found_by_the_other_server(two, browser):
    Books(two.installation, two.studio).close("2026-07")
    month = "/games/demo/settlements/2026-07/differences"
    token = re.search(r'name="form_token" value="([^"]+)"', browser.get("/").body.decode())[1]
    fields = {"form_token": token, "partner": "playcamp"}
    body = "".join(f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items())
    body += '--b\r\nContent-Disposition: form-data; name="file"; filename="r.csv"\r\n\r\n'
    body += "id,amount,currency\nGP-1,9.99,USD\n\r\n--b--\r\n"
    browser.get("/")  # so that the upload goes to one server and the form to the other
    uploaded = browser.ask("POST", f"{month}/upload", body.encode(), Content_Type="multipart/form-data; boundary=b")
    assert uploaded.status == 303, uploaded.body.decode()
    where = uploaded.headers["location"]

    assert b"GP-1" in browser.get(where).body
    assert b"GP-1" in browser.get(where).body
    read = browser.post(where, reference="0", amount="1", currency="2", unit="major")
    assert read.status == 303, read.body.decode()
    assert two.installation.database.read().execute("SELECT count(*) FROM uploads").fetchone()[0] == 0


def test_a_change_holds_on_the_other_server_at_its_next_call(two):
    assert post_order(two.one, "before").status == 200
    assert post_order(two.other, "before").status == 200  # a repeat
    two.studio.secret("appcharge.main_key", "another-main-key-0123456789")
    try:
        for server in (two.one, two.other):
            assert post_order(server, "after").status == 401
            assert post_order(server, "after", key="another-main-key-0123456789").status == 200
    finally:
        two.studio.secret("appcharge.main_key", MAIN_KEY)
    counts = two.installation.database.read().execute("SELECT count(*) FROM grants").fetchone()[0]
    assert counts == 2


def test_both_count_the_same(two):
    def credits(server: Server) -> list[str]:
        text = server.get("/metrics", {"Authorization": f"Bearer {METRICS}"}).body.decode()
        return re.findall(r"(?m)^coinslot_(?:credits|duplicates|calls)_total.*$", text)

    post_order(two.one, "counted")
    post_order(two.other, "counted")
    until(lambda: credits(two.one) == credits(two.other) != [], "both say the same")


def test_a_job_of_the_installation_runs_on_one_of_them(two):
    with FakeServer(lambda request: (200, {})) as service:
        installation = two.installation
        installation.database.write(lambda tx: heartbeat.set_url(tx, installation.vault, f"{service.url}/ping", "test"))
        until(lambda: service.requests, "the heartbeat is called", 30)
        until(lambda: heartbeat.state(installation.database.read()).arrived_at, "it is recorded")
        time.sleep(1.0)  # in which the other would call too
        installation.database.write(lambda tx: heartbeat.turn_off(tx, "test"))
        assert len(service.requests) == 1


def test_guesses_count_against_all_servers_together(two, browser):
    guessing = Browser(two.one, two.other)
    seen = [guessing.post("/login", "/login", name="owner", password=f"guess {n}").status for n in range(11)]

    assert 429 in seen[-1:], seen


def test_the_master_key_is_replaced_while_both_serve(two):
    command = [sys.executable, "-m", "flask", "key", "rotate"]
    others = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    environment = others | two.environment | {"COINSLOT_HOME": str(two.installation.settings.home)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=f"{two.next_key.text()}\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Servers that have both keys in COINSLOT_MASTER_KEY go on" in done.stdout

    assert [post_order(server, "under the new key").status for server in (two.one, two.other)] == [200, 200]


def test_nothing_that_matters_is_in_a_home(two):
    for server in (two.one, two.other):
        left = sorted(path.name for path in server.home.rglob("*") if path.is_file())
        assert set(left) <= {"forgotten"}, left
