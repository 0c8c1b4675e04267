"""Callers whose connection is cut at each byte of a request and of an answer; they send the order again afterwards."""

import socket
import struct
from contextlib import suppress

from chaos.journal import Journal
from chaos.load import new_order, note
from chaos.orders import PARTNERS
from chaos.scenes import Scene
from chaos.stage import Stage

EACH_BYTE_SECONDS = 30.0  # in a shorter scene every third byte must do
MOST_SECONDS = 15.0


def requests(stage: Stage) -> None:
    stage.begin()
    with _Cuts(stage) as cuts:
        for partner in PARTNERS:
            longest = len(new_order(partner, "cut-0000", stage.chance).call().raw())
            for sent in range(stage.chance.randrange(cuts.step), longest + 1, cuts.step):
                cuts.cut(partner, sent=sent, taken=0)


def answers(stage: Stage) -> None:
    stage.begin()
    with _Cuts(stage) as cuts:
        for partner in PARTNERS:
            taken = stage.chance.randrange(cuts.step)
            while cuts.cut(partner, sent=None, taken=taken):
                taken += cuts.step


class _Cuts:
    """A caller with a journal of its own."""

    def __init__(self, stage: Stage) -> None:
        self.step = 1 if stage.seconds >= EACH_BYTE_SECONDS else 3
        self._stage = stage
        self._journal = Journal(stage.folder / "callers" / "cuts.jsonl")

    def __enter__(self) -> "_Cuts":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def cut(self, partner: str, sent: int | None, taken: int) -> bool:
        """Send so many bytes (None: all), take so many of the answer and cut, then send the order until it is
        acknowledged. Returns whether there were so many bytes to take.
        """
        order = new_order(partner, f"cut-{self._stage.struck}", self._stage.chance)
        self._stage.struck += 1
        note(self._journal, order)
        got = 0
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._stage.port), MOST_SECONDS) as connection:
            connection.sendall(order.call().raw()[:sent])
            while got < taken and (part := connection.recv(taken - got)):
                got += len(part)
            if self._stage.struck % 2 or sent is None:  # a reset; the others end as a process that is killed does
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stage.load.place(order, self._journal)
        return got == taken


SCENES = [
    Scene("cut-requests", "a caller is cut off after each byte of its request", requests),
    Scene("cut-answers", "a caller is cut off after each byte of the answer", answers),
]
