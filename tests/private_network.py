"""A network of our own in which every address is this machine: ``inside(...)`` runs a module's ``main`` in it.

There the resolver of the C library asks a name server that answers anew each time, so a name may change its address
between two look-ups. Whoever connects is counted by the address that was called. It takes Linux, util-linux and
iproute2; nothing leaves the machine, and nothing is left when the process ends.
"""

import json
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PUBLIC, PUBLIC_6 = "93.184.216.34", "2606:2800:220:1::1"
PRIVATE, PRIVATE_6 = "10.0.0.5", "fd00::5"
CLOSED = 81  # nobody listens there at public addresses
SECONDS = 120
_IPV6_FREEBIND = 78  # of Linux; Python has no name for it
_SETUP = """
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
echo 'nameserver 127.0.0.1' > "$0/resolv.conf"
echo 'hosts: files dns' > "$0/nsswitch.conf"
mount --bind "$0/resolv.conf" /etc/resolv.conf
mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf
exec "$@"
"""


def inside(folder: Path, module: str, *arguments: str) -> Any:
    """Run ``python -m module arguments`` in the network; returns the JSON document on its last line."""
    for options in (["-mn"], ["-mn", "--map-root-user"]):
        if subprocess.run(["unshare", *options, "true"], stderr=subprocess.DEVNULL).returncode == 0:
            break
    else:
        pytest.skip("this machine lets nobody make a network of their own")
    command = ["unshare", *options, "sh", "-euc", _SETUP, folder, sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


class Names:
    """A name server on UDP port 53 of the loopback. ``answers`` maps a name to a function: of how often it was asked
    for an address of this family before -> addresses.
    """

    def __init__(self, answers: dict[str, Callable[[int, int], Iterable[str]]]) -> None:
        self.answers = answers
        self.asked: Counter[tuple[str, int]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, caller = self._socket.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
                at += query[at] + 1
            name, (kind,) = ".".join(labels).lower(), struct.unpack("!H", query[at + 1 : at + 3])
            family = {1: 4, 28: 6}.get(kind)
            found = [] if family is None or name not in self.answers else list(self._answer(name, family))
            code = 0 if name in self.answers else 3  # there is no such name
            records = b"".join(
                b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(packed)) + packed  # good for 0 seconds
                for packed in (socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, a) for a in found)
            )
            header = query[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(found), 0, 0)
            self._socket.sendto(header + query[12 : at + 5] + records, caller)

    def _answer(self, name: str, family: int) -> Iterable[str]:
        before = self.asked[name, family]
        self.asked[name, family] += 1
        return [each for each in self.answers[name](before, family) if (":" in each) == (family == 6)]


class Listeners:
    """Servers on every address of this network. ``called`` counts connections by the address that was called.

    They answer 404, or where the Host is ``redirect.test`` a redirect to a private address.
    """

    def __init__(self, *ports: int) -> None:
        self.called: Counter[str] = Counter()
        places = [(host, port) for port in ports for host in ("0.0.0.0", "::")]
        for host, port in (*places, (PRIVATE, CLOSED), (PRIVATE_6, CLOSED)):
            listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ":" in host:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)  # no interface has the address
            listener.bind((host, port))
            listener.listen(128)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            self.called[connection.getsockname()[0]] += 1
            with connection, suppress(OSError):
                connection.settimeout(3)
                request = connection.recv(65536)
                line = b"302 Found\r\nLocation: http://10.0.0.5/" if b"redirect.test" in request else b"404 Not Found"
                connection.sendall(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    def take(self) -> Counter[str]:
        """The connections since the last time. A connection that was accepted is counted before it is answered."""
        found, self.called = self.called, Counter()
        return found
