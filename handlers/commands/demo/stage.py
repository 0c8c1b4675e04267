"""Time and calls of a demo: what happens is planned for a moment, and played in the order of moments."""

import csv
import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from flask import Flask

from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.installation import Installation
from coinslot.outbox import attempts
from coinslot.settlement import jobs
from coinslot.settlement.columns import Layout
from handlers.kit import partner_reports
from handlers.kit.partner import Call, Partner
from handlers.kit.receive import partners

# Kept for documentation (RFC 5737).
PARTNERS_ADDRESS, GAMES_ADDRESS, STRANGERS_ADDRESS = "203.0.113.10", "198.51.100.7", "192.0.2.66"
ACTOR = "owner"
LOOK_SECONDS = 900.0  # between two looks of the relay, where nothing else happens


class DemoError(CoinslotError):
    """The demo cannot be made."""


class Stage:
    """An installation that lives through planned moments, in one thread. ``tokens``: slug -> API token."""

    def __init__(self, app: Flask, installation: Installation) -> None:
        self.installation = installation
        self.tokens: dict[str, str] = {}
        self._client = app.test_client()
        self._partners: dict[str, Partner] = {each.name: each for each in partners()}
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._relay = installation.new_relay(_AtOnce())

    def plan(self, at: float, act: Callable[[], object]) -> None:
        """Have this happen at that moment; what is planned first comes first."""
        heapq.heappush(self._planned, (at, len(self._planned) + self.played, act))

    played = 0

    def play(self) -> Iterator[float]:
        """Live through all that is planned, and what that plans; yields each moment, once it is over."""
        now = clock.now()
        while self._planned:
            at, _, act = heapq.heappop(self._planned)
            self.played += 1
            while (due := self._next_attempt()) is not None and now < due < at:
                next_look = max(due, now + LOOK_SECONDS)
                if next_look >= at:  # nothing may come later than it was planned: the last moments end at the present
                    break
                now = next_look
                self._look(now)
            now = max(at, now)
            clock.stop_at(now)
            act()
            self.installation.observations.flush()
            self._look(now + 0.25)
            yield now

    def partner(
        self,
        slug: str,
        name: str,
        endpoint: str,
        content: Any,
        *,
        expect: int = 200,
        address: str = PARTNERS_ADDRESS,
        **headers: str,
    ) -> None:
        """A call of a partner's, proved with the stored keys. Raises :class:`DemoError` for another answer."""
        game, partner = self.installation.games.by_slug(slug), self._partners[name]
        assert game is not None
        assert partner.proved is not None
        call = partner.proved(game, endpoint, content)
        self._call(call, {**call.headers, **headers}, address, expect)

    def game(self, slug: str, method: str, path: str, content: Any = None, *, expect: int = 200) -> Any:
        """A call of the game's server; returns the JSON of its answer."""
        headers = {"Authorization": f"Bearer {self.tokens[slug]}", "Content-Type": "application/json"}
        body = None if content is None else json.dumps(content).encode()
        call = Call(path, method, f"/game/v1{path}", headers, body, "", lambda status, answered: None)
        return json.loads(self._call(call, headers, GAMES_ADDRESS, expect) or b"null")

    def end(self) -> None:
        self._relay.stop()
        self.installation.observations.flush()

    def compare(self, slug: str, month: str, name: str, rows: Sequence[Mapping[str, str]]) -> None:
        """Compare a closed month with a partner's report, as the owner does who uploads it; the relay ends it."""
        database, partner = self.installation.database, self._partners[name]
        game = self.installation.games.by_slug(slug)
        assert game is not None
        assert partner.report is not None
        layout = Layout.of(partner.report, {})
        with NamedTemporaryFile("w", suffix=".csv", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            path = Path(file.name)
            reading = jobs.look_through(path, layout)
            run_id = partner_reports.begin(self.installation, game, month, partner, ACTOR, (path, layout))
            jobs.take_file(database, run_id, path, layout, reading=reading)

    def _call(self, call: Call, headers: Mapping[str, str], address: str, expect: int) -> bytes:
        answer = self._client.open(
            call.path,
            method=call.method,
            headers=dict(headers),
            data=call.body,
            environ_base={"REMOTE_ADDR": address},
        )
        if answer.status_code != expect:
            raise DemoError(
                f"{call.method} {call.path.partition('?')[0]} got {answer.status_code}: {answer.text[:300]}"
            )
        return answer.get_data()

    def _next_attempt(self) -> float | None:
        moments = attempts.next_due(self.installation.database.read())
        return min(map(clock.seconds, moments.values()), default=None)

    def _look(self, now: float) -> None:
        clock.stop_at(now)
        self._relay.send_due()


class _AtOnce(Executor):
    """Runs each piece of work when it is handed over, in the same thread: the clock stands still meanwhile."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **named))
        return future


@contextmanager
def stopped_clock() -> Iterator[None]:
    """Within this the clock stands where it is put; afterwards it is the machine's again."""
    try:
        yield
    finally:
        clock.stop_at(None)
