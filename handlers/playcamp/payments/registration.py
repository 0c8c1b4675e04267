"""The job that registers payments with PlayCamp in bulk, and refunds them one by one; ``sends.py`` sends them.

PlayCamp knows a payment by its transaction id, so sending one again is safe: it has the same content every time.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.installation import Installation
from coinslot.payments import payment_queue
from coinslot.relay.jobs import JobError
from handlers.kit.api import ApiError, NotConfiguredError
from handlers.playcamp.payments.sends import JOB, LAST_PAUSE_SECONDS, LONGEST_WAIT_SECONDS, Sends, delays

SLICE_SECONDS = 40.0  # of work in one run; then one call more at most, so that it ends well within its lease

KEY_REFUSED = "playcamp.api_key is refused"  # the start of a job's error that only another key can end


def pauses(game: Game) -> list[float]:
    """Seconds between runs that failed: the owner's delays, then hourly."""
    return [*delays(game), LAST_PAUSE_SECONDS]


def run(installation: Installation, game: Game) -> float | None:
    """Register and refund what is due, for a while; returns the seconds until more is due. Raises JobError."""
    if not game.keys("playcamp.api_key"):
        return None
    try:
        work = Sends(installation.database, installation.outbound, game, time.monotonic() + SLICE_SECONDS)
    except NotConfiguredError as error:
        raise JobError(str(error), [LAST_PAUSE_SECONDS]) from None
    try:
        if not (work.register() and work.refund()):
            return 0.0
        if work.refusal is not None:
            raise work.refusal
    except ApiError as error:
        # A refused key, or a refusal of everything, does not end by itself: more tries soon are useless.
        is_hopeless = work.is_key_refused or error is work.refusal
        table = [LAST_PAUSE_SECONDS] if is_hopeless else pauses(game)
        trouble = f"{KEY_REFUSED}: {error}" if work.is_key_refused else str(error)
        raise JobError(trouble, table, error.retry_after or 0, is_anew=work.count > 0) from None
    due = payment_queue.next_due(installation.database.read(), game.id)
    return None if due is None else min(max(0.0, clock.seconds(due) - clock.now()), LONGEST_WAIT_SECONDS)


def wrong(game: Game, errors: Mapping[str, str]) -> list[str]:
    """A sentence for the owner if PlayCamp refuses the key. ``errors``: job -> its last error."""
    trouble = errors.get(JOB)
    if trouble is None or not trouble.startswith(KEY_REFUSED):
        return []
    return [
        f"{trouble}; no payment is registered until `flask secret set {game.slug} playcamp.api_key` has the SERVER key "
        f"(keyId:secret) of PlayCamp's {game.settings['playcamp.environment']} environment"
    ]


def sample_payment() -> dict[str, Any]:
    """A payment for calls that are tests: it names the reserved ids, and has a new transaction id each time."""
    return {
        "userId": RESERVED_ID,
        "transactionId": f"{RESERVED_ID}-{secrets.token_hex(8)}",
        "productId": RESERVED_ID,
        "amount": "0.01",
        "currency": "USD",
        "platform": "Other",
        "distributionType": "PC_SELF_STORE",
        "purchasedAt": f"{clock.stamp()[:23]}Z",
    }
