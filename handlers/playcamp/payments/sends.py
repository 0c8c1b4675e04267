"""One run of sending payments and refunds to PlayCamp.

What becomes of each is committed chunk by chunk. Where PlayCamp refuses payments for what they are, each of
them has five tries and then waits for a person; where it refuses or answers nothing at all, everything waits. A call of
many that breaks again and again is cut, as one that is refused is: that may be the fault of a single payment. A refusal
in whatever words (a redirect, a firewall's 403) is that of the one that was sent, if PlayCamp answers other calls. The
key is at fault where the next calls are refused with 401 or 403 too.

Quirks: one bad payment may be a 400 for all that came with it, which may name it or not; an item may be missing from
the results, or have a status that nobody knows, and may have arrived all the same; a refund of what is refunded already
has no documented answer, so the payment is looked at.
"""

import time
from collections.abc import Sequence
from typing import Any

from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.installation import Installation
from coinslot.payments import queue
from coinslot.relay import jobs
from handlers.kit.api import ApiError, UnsentError
from handlers.playcamp.api.client import PAYMENTS_PER_CALL, Client, item_reasons
from handlers.playcamp.settings import is_sandbox

JOB = "playcamp.register"
PATIENCE_SECONDS = 30.0  # of one call
REFUNDS_AT_ONCE = 20  # claimed; each is a call of its own
LONGEST_WAIT_SECONDS = 3600.0
LAST_PAUSE_SECONDS = 3600.0  # hourly, after the owner's own delays
LONE_REFUSALS = 10  # of single payments, with none accepted: then it is not the payments
BREAKS = 3  # in a row with nothing done: then it may be the payments, and what is sent is cut
FAILED_REFUNDS = 3  # in one run, with nothing else answered: then it is not the refunds
FAILED_REFUND_SECONDS = 600.0  # between the tries of one that PlayCamp fails at again and again
_BECAUSE_OF_CONTENT = (400, 409, 413, 422)


def delays(game: Game) -> list[float]:
    return [float(each) for each in game.settings["playcamp.payments.retry"].split(",")]


class Sends:
    """One run of the job. ``count`` is how much has been settled in it.

    ``refusal`` is why PlayCamp refused single payments where it took no other: that may be no fault of theirs.
    ``is_key_refused``: it refuses whatever is sent with this key.
    """

    def __init__(self, installation: Installation, game: Game, deadline: float) -> None:
        self.count = 0
        self.refusal: ApiError | None = None
        self.is_key_refused = False
        self._has_accepted = False
        self._is_answering = False  # properly, in this run: what it refuses is that one
        self._breaks = int(jobs.cursor(installation.database.read(), game.id, JOB) or 0)
        self._installation = installation
        self._game = game
        self._deadline = deadline
        self._delays = delays(game)
        self._is_sandbox = is_sandbox(game)
        # The schedule tries again, and it can wait longer.
        self._client = Client(game, installation.outbound, patience_seconds=PATIENCE_SECONDS, tries=1)

    def register(self) -> bool:
        """Whether everything due has been sent, or ``refusal`` says why not; False when there was no time for more.

        Raises ApiError.
        """
        while True:
            rows = self._installation.database.write(
                lambda tx: queue.claim_due(tx, self._game.id, PAYMENTS_PER_CALL, is_sandbox=self._is_sandbox)
            )
            if not rows:
                return True
            is_over = self._register_chunk(rows)
            if self.refusal is not None:
                return True
            if not is_over or self._is_late():
                return False

    def refund(self) -> bool:
        """The same for refunds. One that PlayCamp fails at or refuses waits by itself; several, with no other answer,
        are ApiError.
        """
        failures = 0
        has_answered = False
        refused: list[tuple[Any, ApiError]] = []
        while True:
            rows = self._installation.database.write(
                lambda tx: queue.claim_refunds(tx, self._game.id, REFUNDS_AT_ONCE, is_sandbox=self._is_sandbox)
            )
            rows.sort(key=lambda row: row["reason"] is not None)  # what had trouble before comes last
            for at, row in enumerate(rows):
                try:
                    self._refund_one(row)
                    has_answered = self._is_answering = True
                except ApiError as error:
                    if not error.is_uncertain and not error.is_refusal:
                        self._give_back_refunds(rows[at:])
                        raise
                    self._postpone_refund(row, error)
                    refused += [(row, error)] if error.is_refusal else []
                    failures += error.is_uncertain
                    is_over = error.is_uncertain and (
                        failures >= FAILED_REFUNDS or (self._is_late() and not self.count)
                    )
                    if not has_answered and (is_over or self._is_refusing_all([each for _, each in refused])):
                        self._give_back_refunds(rows[at + 1 :])
                        raise
                if self._is_late():
                    self._give_back_refunds(rows[at + 1 :])
                    break
            if not rows or self._is_late():
                self._count_refused(refused)
                return not rows

    # Payments

    def _register_chunk(self, rows: Sequence[Any]) -> bool:
        """Settle each of them; False when there was no time for all. What is not settled is due again."""
        parts = [list(rows)]
        refusals: list[ApiError] = []  # of single payments
        alone: dict[int, ApiError] = {}  # those of them that were refused without a word about the content
        try:
            while parts:
                if self._is_late() and len(parts[-1]) < len(rows):
                    return False
                part = parts[-1]
                try:
                    self._send(part)
                except ApiError as error:
                    if error.is_refusal and not isinstance(error, UnsentError) and not _is_of_content(error):
                        self._look_further(error)
                    if not self._is_to_be_cut(part, error, len(part) == len(rows)):
                        raise
                    is_refusal = len(part) == 1 and error.status not in (None, 409)
                    if is_refusal and (not error.details or error.is_uncertain):
                        alone[part[0]["id"]] = error
                        parts.pop()
                    else:
                        parts[-1:] = self._smaller(part, error)
                    refusals += [error] if is_refusal else []
                    if len(refusals) >= LONE_REFUSALS and not self._has_accepted:
                        break
                else:
                    parts.pop()
            if (alone or parts) and not self._has_accepted:
                if refusals[-1].is_uncertain:
                    raise refusals[-1]
                is_of_all = any(_is_of_content(each) or each.status == 404 for each in refusals)  # 404: no such call
                if parts or self._is_refusing_all(refusals) or is_of_all:
                    self.is_key_refused = all(each.is_key_refused for each in refusals)
                    self.refusal = refusals[-1]
            return not parts
        finally:
            if self.count and self._breaks:
                self._note_breaks(0)
            self._settle_alone(alone, bool(parts))
            self._give_back([row for part in parts for row in part])

    def _look_further(self, error: ApiError) -> None:
        """Ask for a payment that nobody has, unless PlayCamp has answered in this run. Raises ApiError where it takes
        no call at all: then the refusal says nothing of what was sent.
        """
        if self._is_answering:
            return
        try:
            self._client.payment(RESERVED_ID)
        except ApiError as other:
            if other.status != 404 or error.status == 404:  # in whatever words: it has no such payment
                self.is_key_refused = error.is_key_refused and other.is_key_refused
                raise (error if self.is_key_refused else other) from None
        self._is_answering = True

    def _is_refusing_all(self, errors: Sequence[ApiError]) -> bool:
        """Whether it is not the calls that were refused so, given that no other of the kind was taken."""
        is_key = len(errors) >= FAILED_REFUNDS and all(each.is_key_refused for each in errors)
        self.is_key_refused |= is_key
        return is_key or len(errors) >= LONE_REFUSALS

    def _is_to_be_cut(self, part: list[Any], error: ApiError, is_whole: bool) -> bool:
        """Whether a call that failed may have done so for one of its payments, to be found by sending less."""
        if isinstance(error, UnsentError):
            return error.is_permanent
        if error.is_refusal:
            return True
        is_broken = error.status is not None and (error.status >= 500 or error.status < 300)
        if not is_broken or error.retry_after is not None:
            return False
        if self._breaks < BREAKS and is_whole and not self.count:
            self._note_breaks(self._breaks + 1)
            return False
        return self._breaks >= BREAKS

    def _note_breaks(self, breaks: int) -> None:
        """How many runs in a row ended because PlayCamp broke at the first call of payments."""
        text = str(breaks) if breaks else None
        self._installation.database.write(lambda tx: jobs.put_cursor(tx, self._game.id, JOB, text))

    def _settle_alone(self, errors: dict[int, ApiError], are_others_left: bool) -> None:
        """It was their fault if PlayCamp took others, or answers other calls and refuses few; if not, no try is
        counted, and what is left comes before them.
        """
        seconds = 2 * LAST_PAUSE_SECONDS if are_others_left else 0.0
        reasons = {each: str(error) for each, error in errors.items()}
        uncertain = [each for each, error in errors.items() if error.is_uncertain]

        def settle(tx: Any) -> None:
            if self._has_accepted or (self._is_answering and self.refusal is None and not uncertain):
                queue.refused(tx, reasons, self._delays, uncertain)
            else:
                for each, reason in reasons.items():
                    queue.postpone(tx, [each], seconds, reason)

        if reasons:
            self._installation.database.write(settle)

    def _send(self, rows: Sequence[Any]) -> None:
        """Have PlayCamp register these, and write down what it says of each."""
        results = self._client.register_payments([_document(row) for row in rows])
        done, unknown, reasons = [], [], {}
        for row in rows:
            result = results[row["transaction_id"]]
            if result.is_registered:
                done.append(row["id"])
            elif result.status == "FAILED":
                reasons[row["id"]] = f"PlayCamp: {result.error}"
            else:
                unknown.append(row["id"])
                told = result.error or "it has no result with a status"
                reasons[row["id"]] = f"PlayCamp did not say what became of it: {told}"

        def settle(tx: Any) -> None:
            queue.registered(tx, done, is_sandbox=self._is_sandbox)
            queue.refused(tx, reasons, self._delays, unknown)

        self._installation.database.write(settle)
        self.count += len(done)
        self._has_accepted |= bool(done)
        self._is_answering |= bool(done)

    def _smaller(self, part: list[Any], error: ApiError) -> list[list[Any]]:
        """What to send of a part that was refused, the next one last: it without those that are to blame, or halves.

        Whoever is to blame, by name or because it was alone, is written down.
        """
        blamed = {part[at]["id"]: f"PlayCamp: {why}" for at, why in item_reasons(error).items() if at < len(part)}
        if len(part) == 1:
            if error.status == 409:  # PlayCamp knows it
                known = [part[0]["id"]]
                self._installation.database.write(lambda tx: queue.registered(tx, known, is_sandbox=self._is_sandbox))
                self.count += 1
                return []
            blamed = {part[0]["id"]: str(error)}
        if error.status == 409 and blamed:  # PlayCamp knows these: it says of each by itself that it does
            others = [row for row in part if row["id"] not in blamed]
            return [*([others] if others else []), *([row] for row in part if row["id"] in blamed)]
        if 0 < len(blamed) < len(part) or len(part) == 1:
            self._installation.database.write(lambda tx: queue.refused(tx, blamed, self._delays))
            rest = [row for row in part if row["id"] not in blamed]
            return [rest] if rest else []
        middle = len(part) // 2
        return [part[middle:], part[:middle]]

    def _give_back(self, rows: Sequence[Any]) -> None:
        if rows:
            ids = [row["id"] for row in rows]
            self._installation.database.write(lambda tx: queue.postpone(tx, ids, 0))

    # Refunds

    def _refund_one(self, row: Any) -> None:
        """Settle one refund. Raises ApiError where it is not this one's fault."""
        transaction_id = row["transaction_id"]
        try:
            self._client.refund(transaction_id)
        except ApiError as error:
            if isinstance(error, UnsentError):
                self._refuse_refund(row, error)
                return
            if error.status not in (400, 404, 409, 422):
                raise
            known = self._client.payment(transaction_id)
            self._is_answering = True
            if known is None:
                self._register_again(row)
                return
            if str(known.get("status")).upper() != "REFUNDED":
                self._refuse_refund(row, error)
                return
        self._installation.database.write(lambda tx: queue.refund_done(tx, row["id"], is_sandbox=self._is_sandbox))
        self.count += 1

    def _postpone_refund(self, row: Any, error: ApiError) -> None:
        """It comes after the others, soon the first time: what keeps failing is to cost the others little."""
        seconds = self._delays[0] if row["reason"] is None else FAILED_REFUND_SECONDS
        seconds = max(seconds, min(error.retry_after or 0.0, LONGEST_WAIT_SECONDS))
        reason = f"its refund: {error}"
        self._installation.database.write(lambda tx: queue.postpone_refund(tx, row["id"], seconds, reason))

    def _count_refused(self, refused: Sequence[tuple[Any, ApiError]]) -> None:
        """These were refused in words that say nothing of a refund. Raises ApiError where nothing else is taken."""
        if refused:
            self._look_further(refused[-1][1])
        for row, error in refused:
            self._refuse_refund(row, error)

    def _refuse_refund(self, row: Any, error: ApiError) -> None:
        reason = f"its refund: {error}"
        self._installation.database.write(lambda tx: queue.refund_refused(tx, row["id"], reason, self._delays))

    def _register_again(self, row: Any) -> None:
        """PlayCamp does not know what it is to refund. Once or twice that may be; then a person has to look."""

        def settle(tx: Any) -> None:
            if row["refund_tries"] + 1 < queue.MOST_TRIES:
                queue.register_again(tx, row["id"])
            else:
                reason = "PlayCamp does not know the payment, however often it is registered"
                queue.refund_refused(tx, row["id"], reason, self._delays)

        self._installation.database.write(settle)

    def _give_back_refunds(self, rows: Sequence[Any]) -> None:
        def settle(tx: Any) -> None:
            for row in rows:
                queue.postpone_refund(tx, row["id"], 0)

        if rows:
            self._installation.database.write(settle)

    def _is_late(self) -> bool:
        return time.monotonic() >= self._deadline


def _is_of_content(error: ApiError) -> bool:
    return error.status in _BECAUSE_OF_CONTENT


def _document(row: Any) -> dict[str, Any]:
    """A payment in PlayCamp's words, the same each time it is sent."""
    return {
        "userId": row["player_id"],
        "transactionId": row["transaction_id"],
        "productId": row["product_id"],
        "productName": row["product_name"],
        "amount": row["amount"],
        "currency": row["currency"],
        "platform": row["platform"],
        "distributionType": row["distribution_type"],
        "purchasedAt": f"{row['purchased_at'][:23]}Z",
    }
