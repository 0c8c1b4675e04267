"""Observations: what is worth keeping but must not delay a call: refused calls, counts of proved calls, uses of keys.

They are held in memory and written together about once a second, outside every request: a forged call never costs a
commit. A crash loses at most that second. The memory and the table are bounded. Only a refused call that had proved
itself is committed before it is answered (:meth:`Observations.keep`): a player may have paid.
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
from coinslot.ledger import refused
from coinslot.ledger.refused import Claim
from coinslot.operations import contacts, feeds
from coinslot.store import counters, portions
from coinslot.store.db import Connection, Database
from coinslot.store.queries import equals, insert

FLUSH_SECONDS = 1.0
HELD_AT_MOST = 128  # refusals in memory; more than that within a second are counted, not kept
KEPT_PER_PARTNER = 300  # refusals per partner and game
KEPT_SECONDS = 7 * 24 * 3600
MOST_CALLERS = 1000  # addresses in memory
ON_CALLER = "ON CONFLICT (partner, remote_address) DO UPDATE SET proved_at = excluded.proved_at"
NAMED_IN_LOG = 5  # calls of one kind that a line of the log names; more are counted

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
    detail: str = ""  # more about the reason: the sku, the status


class Observations:
    """One per process; safe to share between threads."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._mutex = threading.Lock()
        self._flushing = threading.RLock()
        self._refusals: deque[Refusal] = deque(maxlen=HELD_AT_MOST)
        self._refused: Counter[tuple[int | None, str, str, str, str, bool]] = Counter()
        self._refused_ids: dict[tuple[int | None, str, str, str, str, bool], list[str]] = {}
        self._used: dict[tuple[int, str, str], float] = {}
        self._called: Counter[tuple[int, str, str]] = Counter()
        self._read: dict[int, tuple[int, float]] = {}
        self._read_before: dict[int, tuple[int, float]] = {}
        self._callers: dict[tuple[str, str], int] = {}  # (partner, address) -> the hour of its last proved call
        self._new_callers: set[tuple[str, str]] = set()
        self._wake = threading.Event()
        self._pid = 0

    def keep(self, refusal: Refusal, claim: Claim) -> None:
        """Commit a refused call that had proved itself as a row of its own; where its order is credited already, hold
        it for the ring. Raises DatabaseError when it cannot be committed.
        """
        if not self._database.write(lambda tx: refused.keep(tx, refusal.partner, claim, self._columns(tx, refusal))):
            self.refused(refusal)
            return
        with self._mutex:
            self._count(refusal)
        self._flush_soon()

    def refused(self, refusal: Refusal) -> None:
        """Hold a refused call for the ring."""
        with self._mutex:
            self._refusals.append(refusal)
            self._count(refusal)
        self._flush_soon()

    def called(
        self,
        game_id: int,
        partner: str,
        endpoint: str,
        keys: Iterable[tuple[str, str]] = (),
        remote_address: str = "",
    ) -> None:
        """A call to one of our addresses has proved itself, with these keys: name of each, and when it was set."""
        now = clock.now()
        caller, hour = (partner, remote_address), int(now // 3600)
        with self._mutex:
            self._called[(game_id, partner, endpoint)] += 1
            if self._callers.get(caller) != hour:
                if len(self._callers) >= MOST_CALLERS:
                    self._callers.clear()
                self._callers[caller] = hour
                self._new_callers.add(caller)
            for name, created_at in keys:
                self._used[(game_id, name, created_at)] = now
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
        """Write what is held, and wait for what another thread writes just now: who stops may close the database then.

        An error is logged, and what was held is dropped.
        """
        with self._flushing:
            with self._mutex:
                refusals, self._refusals = self._refusals, deque(maxlen=HELD_AT_MOST)
                refused, self._refused = self._refused, Counter()
                refused_ids, self._refused_ids = self._refused_ids, {}
                used, self._used = self._used, {}
                called, self._called = self._called, Counter()
                read, self._read = self._read, {}
                callers, self._new_callers = self._new_callers, set()
            for call, count in refused.items():
                _, slug, partner, endpoint, reason, _ = call
                ids = refused_ids[call]
                named = f"{', '.join(ids)}{' and others' if count > len(ids) else ''}"
                log.warning(
                    "refused %d call(s): %s %s %s, reason %s, request %s",
                    *(count, partner, slug or "-", endpoint, reason, named),
                )
            if not refused and not used and not called and not read:
                return

            def store(tx: Connection) -> None:
                for (game_id, name, created_at), at in used.items():
                    keyring.used(tx, game_id, name, created_at, clock.stamp(at))
                for partner, remote_address in callers:
                    row = {"partner": partner, "remote_address": remote_address, "proved_at": clock.stamp()}
                    insert(tx, "callers", row, ON_CALLER)
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

    def _count(self, refusal: Refusal) -> None:
        """Under the mutex: one more of its kind for the counters and the log."""
        counted = (refusal.game_id, refusal.game_slug, refusal.partner, refusal.endpoint)
        call = (*counted, refusal.reason, refusal.is_simulated)
        self._refused[call] += 1
        ids = self._refused_ids.setdefault(call, [])
        if len(ids) < NAMED_IN_LOG:
            ids.append(str(refusal.request.get("request_id")))

    def _store_refusal(self, tx: Connection, refusal: Refusal) -> None:
        insert(tx, "refusals", self._columns(tx, refusal) | {"created_at": refusal.at})

    def _columns(self, tx: Connection, refusal: Refusal) -> dict[str, Any]:
        sealed = self._vault.seal(tx, keyring.REFUSAL_PURPOSE, json.dumps(dict(refusal.request)).encode())
        kept = {name: value for name, value in vars(refusal).items() if name not in ("game_slug", "request", "at")}
        return {**kept, **vars(sealed), "is_simulated": int(refusal.is_simulated)}

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
    now = clock.now()
    tx.execute(
        "DELETE FROM refusals WHERE state IS NULL AND created_at < :since", {"since": clock.stamp(now - KEPT_SECONDS)}
    )
    tx.execute(
        """DELETE FROM refusals WHERE game_id = :game_id AND partner = :partner AND state = 'open'
                                  AND is_question = 1 AND last_at < :since""",
        {"game_id": game_id, "partner": partner, "since": clock.stamp(now - KEPT_SECONDS)},
    )
    of_game = equals("game_id", game_id)
    oldest_kept = tx.execute(
        f"""SELECT id FROM refusals WHERE partner = :partner AND {of_game} AND state IS NULL
           ORDER BY id DESC LIMIT 1 OFFSET :kept""",  # noqa: S608  our own words only
        {"partner": partner, "game_id": game_id, "kept": KEPT_PER_PARTNER - 1},
    ).fetchone()
    if oldest_kept is not None:
        tx.execute(
            f"""DELETE FROM refusals
                WHERE partner = :partner AND {of_game} AND state IS NULL AND id < :oldest""",  # noqa: S608  likewise
            {"partner": partner, "game_id": game_id, "oldest": oldest_kept["id"]},
        )
