"""Payments are registered with PlayCamp in bulk, and those that were given back are refunded there, one by one.

PlayCamp knows a payment by its transaction id, so that sending one again is always safe and always has the content it
had before. How they are sent is in ``sends.py``.
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

KEY_REFUSED = "playcamp.api_key is refused"  # how a job's error begins that only another key can end


def pauses(game: Game) -> list[float]:
    """Between runs that failed: the owner's delays, then hourly."""
    return [*delays(game), LAST_PAUSE_SECONDS]


def run(installation: Installation, game: Game) -> float | None:
    """Register and refund what is due, for a while. Raises JobError; what was not settled is due again then."""
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
        # Neither a refused key nor a refusal of whatever is sent is anything that more tries soon could mend.
        is_hopeless = work.is_key_refused or error is work.refusal
        table = [LAST_PAUSE_SECONDS] if is_hopeless else pauses(game)
        trouble = f"{KEY_REFUSED}: {error}" if work.is_key_refused else str(error)
        raise JobError(trouble, table, error.retry_after or 0, is_anew=work.count > 0) from None
    due = payment_queue.next_due(installation.database.read(), game.id)
    return None if due is None else min(max(0.0, clock.seconds(due) - clock.now()), LONGEST_WAIT_SECONDS)


def wrong(game: Game, errors: Mapping[str, str]) -> list[str]:
    """A sentence for the owner where PlayCamp takes no payment of theirs before they have set another key.

    ``errors`` are those of the game's jobs.
    """
    trouble = errors.get(JOB)
    if trouble is None or not trouble.startswith(KEY_REFUSED):
        return []
    return [
        f"{trouble}; no payment is registered until `flask secret set {game.slug} playcamp.api_key` has the SERVER key "
        f"(keyId:secret) of PlayCamp's {game.settings['playcamp.environment']} environment"
    ]


def sample_payment() -> dict[str, Any]:
    """A payment for calls that are marked as tests: it names the reserved ids, and is another one each time."""
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
