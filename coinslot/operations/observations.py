"""Observations: what is worth keeping but must not delay a call: refused calls, counts of proved calls, uses of keys.

They are held in memory and written together about once a second, outside every request: a forged call never costs a
commit. A crash loses at most that second. The memory and the table are bounded.
"""

import atexit
import json
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coinslot.access import keyring
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.operations import contacts, feeds
from coinslot.store import counters, portions
from coinslot.store.db import Connection, Database
from coinslot.store.queries import equals, insert

FLUSH_SECONDS = 1.0
HELD_AT_MOST = 128  # refusals in memory; more than that within a second are counted, not kept
KEPT_PER_PARTNER = 300  # refusals per partner and game
KEPT_SECONDS = 7 * 24 * 3600

log = logging.getLogger("coinslot")


@dataclass(frozen=True)
class Refusal:
    """A call we refused. ``request`` is sealed before it is stored; the other fields are stored in plain text."""

    game_id: int | None
    game_slug: str
    partner: str
    endpoint: str
    reason: str
    status: int
    remote_address: str
    body_size: int
    request: Mapping[str, Any] = field(repr=False)
    at: str = field(default_factory=clock.stamp)
    is_simulated: bool = False  # one of our own calls
    path: str = ""  # what was called, where there is no such address; ``endpoint`` is then the nearest one


class Observations:
    """One per process; safe to share between threads."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._mutex = threading.Lock()
        self._refusals: deque[Refusal] = deque(maxlen=HELD_AT_MOST)
        self._refused: Counter[tuple[int | None, str, str, str, str, bool]] = Counter()
        self._used: dict[tuple[int, str, str], float] = {}
        self._called: Counter[tuple[int, str, str]] = Counter()
        self._read: dict[int, tuple[int, float]] = {}
        self._read_before: dict[int, tuple[int, float]] = {}
        self._wake = threading.Event()
        self._pid = 0

    def refused(self, refusal: Refusal) -> None:
        call = (refusal.game_id, refusal.game_slug, refusal.partner, refusal.endpoint)
        key = (*call, refusal.reason, refusal.is_simulated)
        with self._mutex:
            self._refusals.append(refusal)
            self._refused[key] += 1
        self._flush_soon()

    def called(self, game_id: int, partner: str, endpoint: str, keys: Iterable[tuple[str, str]] = ()) -> None:
        """A call to one of our addresses has proved itself, with these keys: name and slot of each."""
        now = clock.now()
        with self._mutex:
            self._called[(game_id, partner, endpoint)] += 1
            for name, slot in keys:
                self._used[(game_id, name, slot)] = now
        self._flush_soon()

    def read(self, game_id: int, after: int) -> None:
        """A game has asked for the grants after an id. A repeat is noted once a minute."""
        now = clock.now()
        with self._mutex:
            furthest, at = self._read_before.get(game_id, (-1, 0.0))
            if after <= furthest and 0 <= now - at < feeds.NOTED_EVERY_SECONDS:
                return
            self._read[game_id] = self._read_before[game_id] = (max(after, furthest), now)
        self._flush_soon()

    def flush(self) -> None:
        """Write what is held. An error is logged, and what was held is dropped."""
        with self._mutex:
            refusals, self._refusals = self._refusals, deque(maxlen=HELD_AT_MOST)
            refused, self._refused = self._refused, Counter()
            used, self._used = self._used, {}
            called, self._called = self._called, Counter()
            read, self._read = self._read, {}
        for (_, slug, partner, endpoint, reason, _), count in refused.items():
            log.warning("refused %d call(s): %s %s %s, reason %s", count, partner, slug or "-", endpoint, reason)
        if not refused and not used and not called and not read:
            return

        def store(tx: Connection) -> None:
            for (game_id, name, slot), at in used.items():
                keyring.used(tx, game_id, name, slot, clock.stamp(at))
            for (game_id, partner, endpoint), count in called.items():
                counters.add(tx, game_id, partner, counters.CALLED, count, endpoint)
                contacts.proved(tx, game_id, partner, endpoint, count)
            for game_id, (after, at) in read.items():
                feeds.note_read(tx, game_id, after, clock.stamp(at))
            for (refused_game, _, partner, endpoint, reason, is_simulated), count in refused.items():
                if refused_game is not None and not is_simulated:
                    counters.add(tx, refused_game, partner, counters.REFUSED, count, reason)
                    contacts.refused(tx, refused_game, partner, endpoint, reason)

        rings = {(refusal.game_id, refusal.partner) for refusal in refusals}
        try:
            self._database.write(store)
            portions.write_each(self._database.write, list(refusals), self._store_refusal)
            portions.write_each(self._database.write, list(rings), lambda tx, ring: _prune(tx, *ring))
        except Exception as error:  # the next flush starts afresh
            log.error("observations were not written: %s", error)

    def _store_refusal(self, tx: Connection, refusal: Refusal) -> None:
        sealed = self._vault.seal(tx, keyring.REFUSAL_PURPOSE, json.dumps(dict(refusal.request)).encode())
        kept = {name: value for name, value in vars(refusal).items() if name not in ("game_slug", "request", "at")}
        insert(
            tx,
            "refusals",
            {**kept, **vars(sealed), "created_at": refusal.at, "is_simulated": int(refusal.is_simulated)},
        )

    def _flush_soon(self) -> None:
        if self._pid != os.getpid():
            with self._mutex:
                if self._pid != os.getpid():
                    self._pid = os.getpid()
                    threading.Thread(target=self._loop, name="coinslot-observations", daemon=True).start()
                    atexit.register(self.flush)
        if not self._wake.is_set():  # which costs a lock less, for every call
            self._wake.set()

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            self._wake.wait()
            pause.wait(FLUSH_SECONDS)
            self._wake.clear()
            self.flush()


def _prune(tx: Connection, game_id: int | None, partner: str) -> None:
    tx.execute("DELETE FROM refusals WHERE created_at < :since", {"since": clock.stamp(clock.now() - KEPT_SECONDS)})
    of_game = equals("game_id", game_id)
    oldest_kept = tx.execute(
        f"""SELECT id FROM refusals WHERE partner = :partner AND {of_game}
           ORDER BY id DESC LIMIT 1 OFFSET :kept""",  # noqa: S608  our own words only
        {"partner": partner, "game_id": game_id, "kept": KEPT_PER_PARTNER - 1},
    ).fetchone()
    if oldest_kept is not None:
        tx.execute(
            f"DELETE FROM refusals WHERE partner = :partner AND {of_game} AND id < :oldest",  # noqa: S608  likewise
            {"partner": partner, "game_id": game_id, "oldest": oldest_kept["id"]},
        )
