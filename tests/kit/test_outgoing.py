"""Where outgoing calls may go: each of them, against every spelling of a private address and a resolver that lies.

The table of calls is in ``tests/outgoing.py``. A call, or a setting with an address, that is not in it fails here.
"""

import ast
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import create_app
from coinslot.base.connections import is_public
from tests.outgoing import EXEMPT, NEVER_CALLED, WAYS, World, told
from tests.private_network import CLOSED, PRIVATE, PRIVATE_6, PUBLIC, PUBLIC_6, Listeners, Names, inside
from tests.test_layout import ROOT, sources

# Modules of others that open connections, and who may import them.
NETWORK = tuple("socket http.client urllib.request urllib3 requests apprise smtplib ftplib asyncio ssl httpx".split())
MAY_IMPORT = {
    "coinslot/base/connections.py",
    "coinslot/base/outbound.py",
    "coinslot/operations/follower.py",  # a Unix socket that the environment names, and no network
    "handlers/playcamp/payments/source.py",  # urllib3's parser of addresses
    *(place.partition(":")[0] for place in EXEMPT),
}
CLIENT = re.compile(r"(\boutbound|outbound_anywhere|for_callers)$")
CALLS = ("get", "post", "call", "request", "urlopen", "create_connection", "connect", "notify")

# {port} is one where all listen. What is between the quotes is the whole address.
SPELLINGS = [
    *(
        f"http://{host}:80/x"
        for host in """
        127.0.0.1 127.1 127.0.1 0x7f.1 0x7f000001 0X7F.0.0.1 0177.0.0.1 0177.1 017700000001 2130706433 127.000.000.001
        127.255.255.254 0 0.0.0.0 00.0 0x0 localhost LOCALHOST LocalHost. localhost. 127.0.0.1. 127.1.
        10.0.0.5 10.5 0xa000005 012.0.0.5 167772165 172.16.0.1 172.31.255.255 192.168.1.1 192.168.257 100.64.0.1
        169.254.169.254 0xa9fea9fe 2852039166 0251.0376.0251.0376 169.254.43518 169.254.169.254. 192.0.0.192 198.18.0.1
        224.0.0.1 255.255.255.255 240.0.0.1
        [::1] [::] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::127.0.0.1] [::7f00:1] [::a00:5]
        [::ffff:127.0.0.1] [::ffff:7f00:1] [::FFFF:0a00:0005] [0:0:0:0:0:ffff:169.254.169.254] [::ffff:0:127.0.0.1]
        [64:ff9b::127.0.0.1] [64:ff9b::a00:5] [64:ff9b::a9fe:a9fe] [64:ff9b:1::7f00:1] [64:ff9b:1:a00:5::]
        [2002:7f00:1::] [2002:a00:5::1] [2002:a9fe:a9fe::] [2002:c0a8:101:1::1]
        [2001:0:7f00:1::] [2001:0:4136:e378:8000:63bf:80ff:fffe] [2001:0:5db8:d822:0:0:f5ff:fffa]
        [fd00::5] [fc00::1] [fe80::1] [fe80::1%251] [fe80::1%25lo] [fe80::1%lo] [::1%25lo] [::1%251] [::1%lo]
        [::ffff:10.0.0.5%25lo] [fec0::1] [ff02::1] [ff02::1%25lo] [fd00:ec2::254] [2001:db8::1]
        １２７.0.0.1 127。0。0。1 127．0．0．1 127｡0｡0｡1 ①②⑦.⓪.⓪.① ⑩.0.0.⑤ ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ 0ⅹ7f.1 ١٢٧.0.0.1
        loc%61lhost %6c%6f%63alhost %31%32%37.0.0.1 127%2e0%2e0%2e1 127.0.0.1%00 127.0.0.1%00.public.test
        private.test PRIVATE.test private.test. private%2etest priv%61te.test private。test six.test mapped.test
        """.split()
    ),
    *(
        f"http://{authority}/x"
        for authority in """
        public.test@10.0.0.5 public.test:80@127.0.0.1 public.test%40127.0.0.1 10.0.0.5:80#@public.test
        public.test#@10.0.0.5 public.test\\@10.0.0.5 10.0.0.5\\@public.test public.test\\.10.0.0.5 public.test&@10.0.0.5
        public.test?@10.0.0.5 10.0.0.5?@public.test a@b@10.0.0.5 @10.0.0.5 :@10.0.0.5 public.test;10.0.0.5
        10.0.0.5: 10.0.0.5:080 10.0.0.5:+80 10.0.0.5:0x50 10.0.0.5:８０ 10.0.0.5:0 10.0.0.5:65616 10.0.0.5:-1
        [10.0.0.5] [10.0.0.5]:80 [::1 ::1] ::1 :80 @ . .. [] [%] 10.0.0.5. 10.0.0.5.. ..10.0.0.5
        """.split()
    ),
    *(f"http://public.test{blank}@10.0.0.5/" for blank in (" ", "\t", "\r\n", "\0", "\u2028", "\u00a0")),
    *(f"http://10.0.0.5{blank}.public.test/" for blank in (" ", "\t", "\r\n", "\0", "\u3002", "\u00ad", "\u200b")),
    "http://10.0.0.5/x\r\nX-Injected: yes",
    "http://10.0.0.5/x HTTP/1.1\r\nHost: public.test\r\n\r\nGET /y",
    "http://10.0.0.5:80\r\n/x",
    " http://10.0.0.5/",
    "\thttp://10.0.0.5/",
    "hTTp://10.0.0.5/",
    "http:10.0.0.5/",
    "http:/10.0.0.5/",
    "http:///10.0.0.5/",
    "http:\\\\10.0.0.5\\x",
    "http://",
    "http:///x",
    "https://",
    "https:///x",
    "//10.0.0.5/x",
    "10.0.0.5",
    "",
    "x",
    "?",
    "file:///etc/passwd",
    "file://10.0.0.5/etc/passwd",
    "gopher://10.0.0.5:80/_GET%20/x",
    "ftp://10.0.0.5/",
    "dict://10.0.0.5:80/x",
    "ldap://10.0.0.5:80/",
    "unix:///run/x.sock",
    "http+unix://%2Frun%2Fx.sock/",
    "jar:http://10.0.0.5!/",
    "url:http://10.0.0.5/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "https://10.0.0.5/",
    "https://localhost/",
    "https://private.test/",
    "https://[::1]/",
]
ANSWERS = {
    "public.test": lambda before, family: [PUBLIC],
    "private.test": lambda before, family: [PRIVATE, PRIVATE_6],
    "six.test": lambda before, family: [PRIVATE_6],
    "mapped.test": lambda before, family: ["::ffff:10.0.0.5"],
    "redirect.test": lambda before, family: [PUBLIC],
    # The first look-up gives a public address, and each later one a private one.
    "rebind.test": lambda before, family: [PRIVATE if before else PUBLIC],
    "rebind6.test": lambda before, family: [PRIVATE_6 if before else PUBLIC_6],
    # The addresses of both families differ.
    "mixed.test": lambda before, family: [PUBLIC, PRIVATE_6],
    "several.test": lambda before, family: [PUBLIC, PRIVATE, "93.184.216.35"],
}
WHY = "is not a public one"


def calls_of(path: Path) -> Iterator[str]:
    """Each function of a file that calls something that looks like a connection of the outbound client."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if not (
                    isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS
                ):
                    continue
                owner = ast.unparse(node.func.value)
                if re.search(r"(outbound|outbound_anywhere|for_callers)$|^pool$|urllib3|^socket$|Pool\w*\(", owner):
                    yield f"{path.relative_to(ROOT).as_posix()}:{function.name}"


class TestTable:
    def test_every_call_that_the_code_makes_is_in_it(self):
        found = {place for path in sources() for place in calls_of(path)}
        found -= {"coinslot/base/outbound.py:call"}

        ours = {place for way in WAYS.values() for place in way.places}
        assert found - set(EXEMPT) == ours
        assert set(EXEMPT) - found == {"coinslot/operations/alerts/child.py:main"}, "Apprise makes that call"

    def test_nothing_else_opens_connections(self):
        for path in sources():
            modules = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {each.name for each in node.names}
                elif isinstance(node, ast.ImportFrom):
                    modules |= {f"{node.module}.{each.name}" for each in node.names}
            network = {name for name in modules if f"{name}.".startswith(tuple(f"{each}." for each in NETWORK))}
            place = path.relative_to(ROOT).as_posix()
            assert not network or place in MAY_IMPORT, f"{place} imports {network}"

    def test_the_client_has_one_name_so_that_no_call_of_it_is_missed(self):
        for path in sources():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.arg) and node.annotation is not None:
                    if re.search(r"\bOutbound\b", ast.unparse(node.annotation)):
                        assert node.arg == "outbound", path
                elif isinstance(node, ast.Assign) and CLIENT.search(ast.unparse(node.value)):
                    assert ast.unparse(node.targets[0]).endswith("outbound"), (path, ast.unparse(node))

    def test_every_setting_with_an_address_is_in_it(self):
        catalogue = create_app({"COINSLOT_HOME": "/nonexistent"}).extensions["coinslot"].catalogue
        found = {
            key
            for key, setting in catalogue.items()
            if key.endswith(("_url", ".url", "_uri", "_link")) or setting.default.startswith("http")
        }
        for key, setting in catalogue.items():
            try:
                setting.checked("https://a.example/x/{token}")
                with pytest.raises(ValueError):
                    setting.checked("no address")
            except (ValueError, pytest.fail.Exception):
                continue
            found.add(key)

        called = {key for way in WAYS.values() for key in way.settings} - {"destination"}
        assert found == called | NEVER_CALLED


@pytest.fixture(scope="module")
def found():
    """What :func:`main` finds in a network of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return inside(Path(folder), "tests.kit.test_outgoing", folder)


@pytest.mark.long
class TestEveryCall:
    def test_it_reaches_private_addresses_by_default(self, found):
        assert found["on"] == dict.fromkeys(WAYS, True)

    def test_it_reaches_public_addresses_when_private_ones_are_off(self, found):
        assert found["public"] == dict.fromkeys(WAYS, True)

    def test_no_spelling_leads_to_a_private_address(self, found):
        assert found["calls"] == len(WAYS) * len(SPELLINGS)
        assert found["private"] == []

    def test_the_owner_is_told_why(self, found):
        assert found["untold"] == []

    def test_a_name_that_changes_its_address_leads_to_none(self, found):
        assert found["rebound"] == []


# What follows runs in the network of tests/private_network.py.


def main(folder: str) -> None:
    names, listeners = Names(ANSWERS), Listeners(80, 443)
    found: dict[str, object] = {"on": {}, "public": {}}
    on, off = World(Path(folder) / "on", "on"), World(Path(folder) / "off", "off")

    def scheme(name: str) -> str:
        return "https" if name.endswith("API") or "pinned" in name else "http"

    for name, way in WAYS.items():
        told(on, way, f"{scheme(name)}://private.test/")
        found["on"][name] = bool(set(listeners.take()) & {PRIVATE, PRIVATE_6})
        told(off, way, f"{scheme(name)}://public.test/")
        found["public"][name] = listeners.take().keys() == {PUBLIC}

    calls, private, untold = 0, [], []
    for name, way in WAYS.items():
        for url in SPELLINGS:
            said = told(off, way, url)
            calls += 1
            reached = [each for each in listeners.take() if not is_public(each)]
            if reached:
                private.append((name, url, reached, said))
        for host in ("private.test", "10.0.0.5", "[fd00::5]", "localhost"):
            said = told(off, way, f"{scheme(name)}://{host}/")
            if WHY not in said:
                untold.append((name, host, said))

    rebound = []
    for name, way in WAYS.items():
        for host in (
            "rebind.test",
            "rebind6.test",
            "mixed.test",
            "several.test",
            f"several.test:{CLOSED}",
            "redirect.test",
        ):
            names.asked.clear()
            said = [told(off, way, f"{scheme(name)}://{host}/") for _ in range(3)]
            reached = listeners.take()
            if any(not is_public(each) for each in reached):
                rebound.append((name, host, "reached", dict(reached)))
            if host.startswith("rebind") and (sum(reached.values()) != 1 or any(WHY not in each for each in said[1:])):
                rebound.append((name, host, dict(reached), said))
    found |= {"calls": calls, "private": private, "untold": untold, "rebound": rebound}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
