"""The partners: callers that send orders, note each order and each answer, and retry as partners do."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from chaos.journal import Journal
from chaos.orders import PLAYERS, SKUS, Order

CALLERS = {"appcharge": 5, "playtem": 2}
REPEATED = 0.2  # of the acknowledged orders: an earlier one is sent again
ABANDONED = 0.1  # of the orders: not sent again when the first call fails
RETRY_SECONDS = 0.05
CALL_SECONDS = 15.0
GIVE_UP_SECONDS = 90.0  # after the end of the load; an order without an answer then is a fault


class Load:
    """Callers in a thread each. ``pace``: seconds between two orders of one caller.

    ``permitted``: statuses besides 5xx that a scene itself causes; the order is then sent again.
    """

    def __init__(self, port: int, folder: Path, seed: str, pace: float, permitted: Collection[int] = ()) -> None:
        self.port = port
        self.acknowledged = 0
        self.counts: Counter[str] = Counter()
        self._pace = pace
        self._permitted = set(permitted)
        self._is_over = threading.Event()
        self._give_up_at = float("inf")
        self._mutex = threading.Lock()
        folder.mkdir()
        names = [(partner, number) for partner, count in CALLERS.items() for number in range(count)]
        self._callers = [_Caller(self, folder, *each, random.Random(f"{seed}-{each}")) for each in names]
        self._threads = [threading.Thread(target=each.run, daemon=True) for each in self._callers]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No new orders; returns once each one that is not abandoned is acknowledged, or given up. Again: nothing."""
        if self._is_over.is_set():
            return
        self._give_up_at = time.monotonic() + GIVE_UP_SECONDS
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        for caller in self._callers:
            caller.journal.close()

    def give_up(self) -> None:
        """End at once, where a scene failed: nobody judges it."""
        self._permitted = set()
        self._give_up_at = 0.0
        self._is_over.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS)

    def send(self, order: Order, journal: Journal) -> int:
        """One call; returns the status, 0 where there was no answer."""
        call = order.call()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        began = time.monotonic()
        try:
            connection.request(call.method, call.path, call.body, call.headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            status, content = 0, ""
        finally:
            connection.close()
        seconds = round(time.monotonic() - began, 4)
        journal.note(what="answer", partner=order.partner, id=order.id, status=status, body=content, seconds=seconds)
        with self._mutex:
            self.counts["200" if status == 200 else "5xx" if status >= 500 else str(status or "cut off")] += 1
        return status

    def place(self, order: Order, journal: Journal, may_abandon: bool = False) -> bool:
        """Send an order until it is acknowledged; False where it was abandoned, refused or given up."""
        while (status := self.send(order, journal)) != 200:
            is_trouble = status == 0 or status >= 500 or status in self._permitted
            if may_abandon or not is_trouble or time.monotonic() > self._give_up_at:
                journal.note(what="abandoned" if may_abandon else "given up", partner=order.partner, id=order.id)
                return False
            time.sleep(RETRY_SECONDS)
        with self._mutex:
            self.acknowledged += 1
        return True

    def is_over(self) -> bool:
        return self._is_over.is_set()

    def pause(self) -> None:
        self._is_over.wait(self._pace)


class _Caller:
    """One order after another."""

    def __init__(self, load: Load, folder: Path, partner: str, number: int, chance: random.Random) -> None:
        self._load = load
        self._partner = partner
        self._name = f"{partner}-{number}"
        self._chance = chance
        self.journal = Journal(folder / f"{self._name}.jsonl")

    def run(self) -> None:
        own: list[Order] = []
        count = 0
        while not self._load.is_over():
            order = new_order(self._partner, f"{self._name}-{count}", self._chance)
            count += 1
            note(self.journal, order)
            if self._load.place(order, self.journal, self._chance.random() < ABANDONED):
                own.append(order)
                if self._chance.random() < REPEATED:
                    self._load.place(self._chance.choice(own), self.journal)
            self._load.pause()


def new_order(partner: str, name: str, chance: random.Random) -> Order:
    """Playtem sends each item once; Appcharge any number."""
    amounts = (1, 1) if partner == "playtem" else (chance.randint(1, 9), chance.randint(1, 9))
    return Order(partner, name, chance.choice(PLAYERS), tuple(zip(SKUS, amounts, strict=True)))


def note(journal: Journal, order: Order) -> None:
    """Before it is sent for the first time."""
    journal.note(what="order", partner=order.partner, id=order.id, player=order.player, items=dict(order.items))
