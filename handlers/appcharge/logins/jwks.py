"""The keys with which Google, Apple and Facebook sign their tokens, fetched from where each publishes them.

Fetched when they are first needed, kept for hours, and looked for again when a token names a key that is not among
them. A token is a stranger's text until it is verified, so that happens once a minute at most. While the provider
cannot be reached the keys known so far stay good for a day.
"""

import logging
import math
import threading
from functools import lru_cache
from typing import Any

from jwt import PyJWK, PyJWKClient, PyJWKClientError, PyJWTError

from coinslot.base import clock, exact
from coinslot.base.outbound import Outbound

ALGORITHM = "RS256"  # of all three; what a token's header says never chooses
TIMEOUT_SECONDS = 3.0
FRESH_SECONDS = 6 * 3600
USABLE_SECONDS = 24 * 3600
PAUSE_SECONDS = 60  # between two fetches
MOST_WAITING = 2  # threads that wait for another's fetch; any further one waits a moment only, since threads are few
MOMENT_SECONDS = 0.2
PAUSE_WITHOUT_KEYS_SECONDS = 5  # the same while there are no keys, and so no login can be verified

_MEMBERS = ("kty", "kid", "use", "alg", "n", "e")

log = logging.getLogger("coinslot")


class _TurnedAwayError(PyJWKClientError):
    """The provider was not asked, since no thread was free."""


class PublishedKeys(PyJWKClient):
    """The signing keys published at one address. Safe to share between threads.

    PyJWT's client reads the document. This class decides when and how it is fetched, since PyJWT's own cache does not
    count failed fetches, forgets the keys while the provider is down, and makes every thread wait for a fetch.
    """

    def __init__(self, outbound: Outbound, url: str) -> None:
        super().__init__(url, cache_jwk_set=False)
        self._outbound = outbound
        self._keys: list[PyJWK] = []
        self._fetched_at = self._asked_at = -math.inf
        self._trouble: str | None = None  # with the last fetch
        self._fetching = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    def find(self, kid: str) -> PyJWK | None:
        """The key of this id; None when the provider has none. Raises PyJWKClientError when that cannot be known."""
        found = self._known(kid)
        if found is None or not _is_within(self._fetched_at, FRESH_SECONDS):
            # A thread with a key does not wait for another's fetch.
            if self._fetching.acquire(blocking=False) or (found is None and self._is_my_turn()):
                try:
                    self._fetch_if_due()
                finally:
                    self._fetching.release()
            elif found is None:
                raise PyJWKClientError("the published keys are being fetched, and enough logins wait for them")
            found = self._known(kid)
        if found is None and self._trouble is not None:
            raise PyJWKClientError(self._trouble)
        return found

    def fetch_data(self) -> dict[str, Any]:
        answer = self._outbound.get(self.uri, {"Accept": "application/json"}, TIMEOUT_SECONDS)
        if answer.is_turned_away:
            raise _TurnedAwayError("the published keys were not asked for: enough calls wait already")
        if answer.failure is not None or answer.status != 200:
            raise PyJWKClientError(f"the published keys were not given: {answer.trouble}")
        try:
            document = exact.parse_json(answer.body, allow_half_pairs=True)
        except ValueError:
            document = None
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list):
            raise PyJWKClientError("the published keys cannot be read")
        return {
            "keys": [_plain(key) for key in keys if isinstance(key, dict) and key.get("alg", ALGORITHM) == ALGORITHM]
        }

    def _is_my_turn(self) -> bool:
        """Wait for another's fetch to end. True: the lock is ours, to be released."""
        may_stay = self._waiting.acquire(blocking=False)
        try:
            return self._fetching.acquire(timeout=2 * TIMEOUT_SECONDS if may_stay else MOMENT_SECONDS)
        finally:
            if may_stay:
                self._waiting.release()

    def _known(self, kid: str) -> PyJWK | None:
        return self.match_kid(self._keys, kid) if _is_within(self._fetched_at, USABLE_SECONDS) else None

    def _fetch_if_due(self) -> None:
        has_keys = _is_within(self._fetched_at, USABLE_SECONDS)
        if _is_within(self._asked_at, PAUSE_SECONDS if has_keys else PAUSE_WITHOUT_KEYS_SECONDS):
            return
        asked_before, self._asked_at = self._asked_at, clock.now()
        try:
            self._keys = self.get_signing_keys()
        except PyJWTError as error:
            self._trouble = str(error)
            if isinstance(error, _TurnedAwayError):
                self._asked_at = asked_before
            log.warning("the keys at %s were not fetched: %s", self.uri, error)
        else:
            self._fetched_at = self._asked_at
            self._trouble = None


def published_keys(outbound: Outbound, url: str) -> PublishedKeys:
    """This process's keys of an address; ``outbound`` says which addresses may be called."""
    with _making:
        return _kept(outbound, url)


_making = threading.Lock()
_kept = lru_cache(maxsize=64)(PublishedKeys)


def _plain(key: dict[str, Any]) -> dict[str, str]:
    """The members of a public RSA key that are ASCII. PyJWT gets nothing else of what is published."""
    return {name: key[name] for name in _MEMBERS if isinstance(key.get(name), str) and key[name].isascii()}


def _is_within(since: float, seconds: float) -> bool:
    return 0 <= clock.now() - since < seconds  # a clock that was set back counts as long ago
