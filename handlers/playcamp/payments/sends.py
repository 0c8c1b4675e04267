"""One run of sending payments and refunds to PlayCamp.

The outcome of each is committed call by call. A payment that PlayCamp refuses for what it is has five tries, then it is
quarantined. When PlayCamp refuses everything, or does not answer, everything waits and no try is counted. When a call
of many payments is refused, or fails in several runs in a row, it is cut into smaller calls, since one payment may be
the cause. A refusal in any words (a redirect, a 403 of a firewall) counts against the payment that was sent, if
PlayCamp answers other calls. The key is at fault when the next calls are refused with 401 or 403 too.

Quirks: one bad payment may be a 400 for the whole call, which may name it or not; an item may be missing from the
results, or have an unknown status, and may have arrived all the same; the answer to a refund of a refunded payment is
undocumented, so the payment is looked at.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from coinslot.base.outbound import Outbound
from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.payments import payment_queue
from coinslot.payments.payment_queue import REFUND, REGISTER, Kind
from coinslot.relay import jobs
from coinslot.store.db import Database, Row
from handlers.kit.api import ApiError, UnsentError
from handlers.playcamp.api.client import PAYMENTS_PER_CALL, Client, item_reasons
from handlers.playcamp.settings import is_sandbox

JOB = "playcamp.register"
PATIENCE_SECONDS = 30.0  # of one call
REFUNDS_AT_ONCE = 20  # claimed; each is a call of its own
LONGEST_WAIT_SECONDS = 3600.0
LAST_PAUSE_SECONDS = 3600.0  # hourly, after the owner's own delays
LONE_REFUSALS = 10  # of single payments, with none accepted: then it is not the payments
BREAKS = 3  # runs that failed at their first call: then it may be a payment, and the call is cut
FAILED_REFUNDS = 3  # in one run, with nothing else answered: then it is not the refunds
FAILED_REFUND_SECONDS = 600.0  # between the tries of a refund that fails again and again
_BECAUSE_OF_CONTENT = (400, 409, 413, 422)


def delays(game: Game) -> list[float]:
    """Seconds between the tries of one payment, as the owner has set them."""
    return [float(each) for each in game.settings["playcamp.payments.retry"].split(",")]


class Sends:
    """One run of the job. ``count`` is how many payments and refunds were settled in it.

    ``refusal`` is why PlayCamp refused single payments while it accepted no other: they may not be at fault.
    ``is_key_refused``: PlayCamp refuses every call with this key. Raises NotConfiguredError.
    """

    def __init__(self, database: Database, outbound: Outbound, game: Game, deadline: float) -> None:
        self.count = 0
        self.refusal: ApiError | None = None
        self.is_key_refused = False
        self._has_accepted = False
        self._is_answering = False  # it has answered a call in this run, so a refusal is about what was sent
        self._breaks = int(jobs.cursor(database.read(), game.id, JOB) or 0)
        self._database = database
        self._game = game
        self._deadline = deadline
        self._delays = delays(game)
        self._is_sandbox = is_sandbox(game)
        # The job itself tries again, and it can wait longer.
        self._client = Client(game, outbound, patience_seconds=PATIENCE_SECONDS, tries=1)

    def register(self) -> bool:
        """Whether everything due has been sent, or ``refusal`` says why not; False when time ran out.

        Raises ApiError.
        """
        while rows := self._claim(REGISTER, PAYMENTS_PER_CALL):
            is_over = self._register_chunk(rows)
            if self.refusal is not None:
                return True
            if not is_over or self._is_late():
                return False
        return True

    def refund(self) -> bool:
        """The same for refunds. One that fails or is refused is postponed alone.

        Raises ApiError when several fail and nothing else is answered.
        """
        failures = 0
        has_answered = False
        refused: list[tuple[Row, ApiError]] = []
        while rows := self._claim(REFUND, REFUNDS_AT_ONCE):
            rows.sort(key=lambda row: row["reason"] is not None)  # what failed before comes last
            try:
                while rows:
                    row = rows.pop(0)
                    try:
                        self._refund_one(row)
                        has_answered = self._is_answering = True
                    except ApiError as error:
                        if not error.is_uncertain and not error.is_refusal:
                            rows.append(row)
                            raise
                        self._postpone_refund(row, error)
                        refused += [(row, error)] if error.is_refusal else []
                        failures += error.is_uncertain
                        is_enough = failures >= FAILED_REFUNDS or (self._is_late() and not self.count)
                        is_over = error.is_uncertain and is_enough
                        if not has_answered and (is_over or self._is_refusing_all([each for _, each in refused])):
                            raise
                    if self._is_late():
                        self._count_refused(refused)
                        return False
            finally:
                self._give_back(REFUND, rows)
        self._count_refused(refused)
        return True

    def _claim(self, kind: Kind, limit: int) -> list[Row]:
        return self._database.write(
            lambda tx: payment_queue.claim(tx, kind, self._game.id, limit, is_sandbox=self._is_sandbox)
        )

    def _settle(self, settle: Callable[..., None], *values: Any, **named: Any) -> None:
        """Call a function of the queue in a write of its own."""
        self._database.write(lambda tx: settle(tx, *values, **named))

    def _finish(self, kind: Kind, row: Row) -> None:
        self._settle(payment_queue.finish, kind, [row["id"]], is_sandbox=self._is_sandbox)
        self.count += 1

    def _give_back(self, kind: Kind, rows: Sequence[Row]) -> None:
        if rows:
            self._settle(payment_queue.postpone, kind, [row["id"] for row in rows], 0)

    # Payments

    def _register_chunk(self, rows: list[Row]) -> bool:
        """Settle each of them; False when time ran out. What is not settled is due again."""
        parts = [rows]
        refusals: list[ApiError] = []  # of single payments
        alone: dict[int, ApiError] = {}  # those of them that say nothing about the content
        try:
            while parts:
                part = parts[-1]
                if self._is_late() and len(part) < len(rows):
                    return False
                try:
                    self._send(part)
                    parts.pop()
                    continue
                except ApiError as error:
                    if error.is_refusal and not isinstance(error, UnsentError) and not _is_of_content(error):
                        self._check_answering(error)
                    if not self._is_to_be_cut(error, is_whole=len(part) == len(rows)):
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
            self._give_back(REGISTER, [row for part in parts for row in part])

    def _check_answering(self, error: ApiError) -> None:
        """Ask for a payment that does not exist, unless PlayCamp has answered in this run.

        Raises ApiError when PlayCamp refuses that too: then ``error`` says nothing of what was sent.
        """
        if self._is_answering:
            return
        try:
            self._client.payment(RESERVED_ID)
        except ApiError as other:
            if other.status != 404 or error.status == 404:  # any other 404 says that there is no such payment
                self.is_key_refused = error.is_key_refused and other.is_key_refused
                raise (error if self.is_key_refused else other) from None
        self._is_answering = True

    def _is_refusing_all(self, errors: Sequence[ApiError]) -> bool:
        """Whether these refusals are not about what was sent, given that no other call of the kind was accepted."""
        is_key = len(errors) >= FAILED_REFUNDS and all(each.is_key_refused for each in errors)
        self.is_key_refused |= is_key
        return is_key or len(errors) >= LONE_REFUSALS

    def _is_to_be_cut(self, error: ApiError, *, is_whole: bool) -> bool:
        """Whether one of the payments may be the cause of a failed call, to be found by sending fewer."""
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
        """Store how many runs in a row failed at their first call of payments."""
        self._settle(jobs.put_cursor, self._game.id, JOB, str(breaks) if breaks else None)

    def _settle_alone(self, errors: dict[int, ApiError], are_others_left: bool) -> None:
        """Count a try if PlayCamp accepted others, or answers other calls and refuses few.

        If not, no try is counted, and the payments that were not sent come first.
        """
        if not errors:
            return
        reasons = {each: str(error) for each, error in errors.items()}
        uncertain = [each for each, error in errors.items() if error.is_uncertain]
        if self._has_accepted or (self._is_answering and self.refusal is None and not uncertain):
            self._settle(payment_queue.refuse, REGISTER, reasons, self._delays, uncertain)
            return
        seconds = 2 * LAST_PAUSE_SECONDS if are_others_left else 0.0
        for each, reason in reasons.items():
            self._settle(payment_queue.postpone, REGISTER, [each], seconds, reason)

    def _send(self, rows: Sequence[Row]) -> None:
        """Register these in one call and store the result of each. Raises ApiError."""
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
                why = result.error or "it has no result with a status"
                reasons[row["id"]] = f"PlayCamp did not say what became of it: {why}"

        def settle(tx: Any) -> None:
            payment_queue.finish(tx, REGISTER, done, is_sandbox=self._is_sandbox)
            payment_queue.refuse(tx, REGISTER, reasons, self._delays, unknown)

        self._settle(settle)
        self.count += len(done)
        self._has_accepted |= bool(done)
        self._is_answering |= bool(done)

    def _smaller(self, part: list[Row], error: ApiError) -> list[list[Row]]:
        """What to send of a refused part, the next call last: without those at fault, or in halves.

        A payment at fault, named or alone in its call, is refused.
        """
        at_fault = {part[at]["id"]: f"PlayCamp: {why}" for at, why in item_reasons(error).items() if at < len(part)}
        if len(part) == 1:
            if error.status == 409:  # PlayCamp has it
                self._finish(REGISTER, part[0])
                return []
            at_fault = {part[0]["id"]: str(error)}
        others = [row for row in part if row["id"] not in at_fault]
        if error.status == 409 and at_fault:  # PlayCamp has these, and says so of each that is sent alone
            return [*([others] if others else []), *([row] for row in part if row["id"] in at_fault)]
        if at_fault and (others or len(part) == 1):
            self._settle(payment_queue.refuse, REGISTER, at_fault, self._delays)
            return [others] if others else []
        middle = len(part) // 2
        return [part[middle:], part[:middle]]

    # Refunds

    def _refund_one(self, row: Row) -> None:
        """Settle one refund. Raises ApiError when this refund may not be at fault."""
        transaction_id = row["transaction_id"]
        try:
            self._client.refund(transaction_id)
        except UnsentError as error:
            self._refuse_refund(row, error)
            return
        except ApiError as error:
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
        self._finish(REFUND, row)

    def _postpone_refund(self, row: Row, error: ApiError) -> None:
        """It comes after the others: soon the first time, and less often if it keeps failing."""
        seconds = self._delays[0] if row["reason"] is None else FAILED_REFUND_SECONDS
        seconds = max(seconds, min(error.retry_after or 0.0, LONGEST_WAIT_SECONDS))
        self._settle(payment_queue.postpone, REFUND, [row["id"]], seconds, f"its refund: {error}")

    def _count_refused(self, refused: Sequence[tuple[Row, ApiError]]) -> None:
        """Count a try of refunds whose refusal says nothing of a refund. Raises ApiError if all calls are refused."""
        if refused:
            self._check_answering(refused[-1][1])
        for row, error in refused:
            self._refuse_refund(row, error)

    def _refuse_refund(self, row: Row, error: ApiError) -> None:
        self._settle(payment_queue.refuse, REFUND, {row["id"]: f"its refund: {error}"}, self._delays)

    def _register_again(self, row: Row) -> None:
        """PlayCamp does not know the payment. It is sent again, but not for ever."""
        if row["refund_tries"] + 1 < payment_queue.MOST_TRIES:
            self._settle(payment_queue.register_again, row["id"])
        else:
            reason = "PlayCamp does not know the payment, however often it is registered"
            self._settle(payment_queue.refuse, REFUND, {row["id"]: reason}, self._delays)

    def _is_late(self) -> bool:
        return time.monotonic() >= self._deadline


def _is_of_content(error: ApiError) -> bool:
    return error.status in _BECAUSE_OF_CONTENT


def _document(row: Row) -> dict[str, Any]:
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
