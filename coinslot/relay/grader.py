"""Grades a game's endpoint: sends it test grants, good ones and forged ones, and says what to change.

Every grant sent is marked ``is_test``, names the reserved player and item, and has ids made for this one grading.
Nothing is written to the database. An endpoint that accepts a repeated delivery may still have applied it twice: what
only the game can know is said in :data:`UNSEEN`.
"""

import secrets
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coinslot.access.keyring import SecretValue
from coinslot.base import clock, outbound
from coinslot.base.outbound import Answer, Outbound
from coinslot.games.registry import RESERVED_ID
from coinslot.outbox import destinations
from coinslot.outbox.destinations import Destination
from coinslot.outbox.formats import Format
from coinslot.relay import webhooks

STALE_SECONDS = 3600
LARGE_BYTES = 100_000
TRICKLE_SECONDS, TRICKLE_PIECES = 2.0, 20
NOT_NOW = (408, 425, 429, 503)  # refusals that ask for another attempt

UNSEEN = (
    "Not visible from outside: whether a repeated grant is applied once, whether success is answered only after the "
    f"commit, and whether test grants stay out of the inventory. Look into your game: {RESERVED_ID} must own nothing."
)


@dataclass(frozen=True)
class Delivery:
    """Headers and body, to be sent as often as needed."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Finding:
    """What one delivery has shown. ``is_unsafe``: it was accepted and had to be refused."""

    title: str
    is_ok: bool
    words: str
    is_unsafe: bool = False


def grade(findings: Sequence[Finding]) -> str:
    """The grade, in words."""
    problems = [finding for finding in findings if not finding.is_ok]
    if not problems:
        return f"ready. All {len(findings)} answers are as they should be."
    if not findings[0].is_ok:
        return "none. Before a good grant is accepted, nothing else can be judged."
    count = f"{len(problems)} of {len(findings)} answers need a change."
    if any(finding.is_unsafe for finding in problems):
        return f"UNSAFE, for it accepts what it must refuse. {count}"
    return f"not ready. {count}"


@dataclass(frozen=True)
class Grader:
    """Grades one destination, in its ``format``. ``keys`` are its signing secrets, current first; at least one.

    ``partner`` is the one that the grants say they come from.
    """

    outbound: Outbound
    destination: Destination
    format: Format
    keys: tuple[SecretValue, ...]
    partner: str

    def findings(self) -> Iterator[Finding]:
        """One after the other, as they are found; only the first when a good grant is not accepted."""
        first = self._signed(self._grant(), at=clock.now() - 1)
        good = self._good(self._post(first))
        yield good
        if good.is_ok:
            yield from self._repeated(first)
            yield from self._reordered()
            yield from self._forged()
            yield from self._unusual()

    def _good(self, answer: Answer) -> Finding:
        if not self._is_accepted(answer):
            return Finding("a good grant", False, self._why_refused(answer))
        limit = self.destination.timeout_seconds
        words = f"accepted ({answer.status}) after {answer.duration_ms} ms; the limit is {limit} s"
        if answer.duration_ms > limit * 500:
            words += ". That is close: commit the grant, answer, and do what is slow afterwards"
        return Finding("a good grant", True, words)

    def _why_refused(self, answer: Answer) -> str:
        status = answer.status or 0
        if answer.failure == "timeout":
            advice = "commit the grant, answer, and do what is slow afterwards, or it is sent again"
        elif answer.failure == "redirect":
            advice = "redirects are not followed; give the destination its final address"
        elif answer.failure == "too_large":
            advice = "answer in a few words, or in none"
        elif not status:
            advice = "check your endpoint's address, and that it is running"
        elif 200 <= status < 300:
            advice = "answer so, or add the destination again"
        elif status in (401, 403):
            advice = (
                "the grant was properly signed; check that your game has this destination's secret, that its clock is "
                f"right, and that it takes the signature over the raw body ({self.format.recipe})"
            )
        elif status >= 500:
            advice = "your endpoint failed; its own log says why"
        else:
            advice = (
                "check that your endpoint takes POST at this address, and that it notes a grant with is_test and "
                f"answers success, without looking up {RESERVED_ID}"
            )
        return f"{self._said(answer)}: {advice}"

    def _repeated(self, first: Delivery) -> Iterator[Finding]:
        advice = (
            "answer a grant you have already with the same success as the first time, or it comes again for days and "
            "ends as a dead letter"
        )
        note = "; whether it was applied once is not visible from here"
        yield self._accepted("the same again, byte for byte", self._post(first), advice, note)
        anew = self._sign(first.headers[self.format.id_header], first.body, self.keys, clock.now())
        yield self._accepted("the same again, signed anew", self._post(anew), advice, note)

    def _reordered(self) -> Iterator[Finding]:
        grant = self._grant()
        line = {"sku": RESERVED_ID, "quantity": -1}
        reversal = {**grant, "kind": "reversal", "items": [line], "reverses": grant["id"], "policy": "revoke"}
        advice = (
            "deliveries may come in another order; keep a reversal whose grant is not there yet, answer success, and "
            "apply both when the grant comes"
        )
        yield self._accepted("a reversal before its grant", self._post(self._signed(reversal)), advice)
        yield self._accepted("the grant after its reversal", self._post(self._signed(grant)), advice)

    def _forged(self) -> Iterator[Finding]:
        signature = self.format.signature_header
        yield self._refused(
            "signed with another key",
            self._post(self._signed(self._grant(), keys=(_strange_key(),))),
            f"anybody could give items; verify {signature} over the raw body before parsing",
        )
        genuine = self._signed(self._grant())
        changed = genuine.body.replace(b'"quantity":1}', b'"quantity":9}')
        yield self._refused(
            "changed after it was signed",
            self._post(replace(genuine, body=changed)),
            f"what is given could be changed on the way; verify {signature} over the raw body, all of it",
        )
        yield self._refused(
            "signed an hour ago",
            self._post(self._signed(self._grant(), at=clock.now() - STALE_SECONDS)),
            f"what was overheard once can be sent for ever; refuse it when {self.format.time_header} is more than "
            "five minutes from your clock",
        )
        plain = {name: value for name, value in genuine.headers.items() if name in ("Content-Type", "User-Agent")}
        yield self._refused(
            "not signed at all",
            self._post(Delivery(plain, self._signed(self._grant()).body)),
            f"anybody could give items; refuse what comes without {signature}",
        )

    def _unusual(self) -> Iterator[Finding]:
        if self.format.has_several_signatures:
            yield self._accepted(
                "several signatures, the first a stranger's",
                self._post(self._signed(self._grant(), keys=(_strange_key(), *self.keys))),
                f"{self.format.signature_header} holds several, separated by blanks, while the secret is being "
                "changed; one that is right is enough",
            )
        yield self._accepted(
            "an unknown event type",
            self._post(self._signed(self._grant(), event_type="coinslot.test")),
            "new types come without asking you; answer those you do not know with success and do nothing, or they come "
            "again for days and make your endpoint look down",
        )
        yield self._accepted(
            f"{LARGE_BYTES // 1000} KB large",
            self._post(self._signed(self._grant(lines=LARGE_BYTES // 30))),
            "take bodies of up to 1 MiB, in your endpoint and in the proxy before it, and in time",
        )
        trickled = self._trickle(self._signed(self._grant()))
        title = f"arriving slowly, over {TRICKLE_SECONDS:.0f} s"
        if trickled.status in NOT_NOW:
            yield Finding(title, True, f"answered {trickled.status}, so it would be sent again")
        else:
            yield self._accepted(title, trickled, "read on until there are Content-Length bytes, and wait for them")

    def _accepted(self, title: str, answer: Answer, advice: str, note: str = "") -> Finding:
        if self._is_accepted(answer):
            return Finding(title, True, f"accepted ({answer.status}){note}")
        return Finding(title, False, f"{self._said(answer)}: {advice}")

    def _refused(self, title: str, answer: Answer, danger: str) -> Finding:
        status = answer.status
        # Where a destination says no in the body of a 200, that is a refusal.
        says_no = self.destination.success == "expression" and status == 200 and not self._is_accepted(answer)
        if says_no or (status is not None and 400 <= status < 500):
            return Finding(title, True, f"refused ({status})")
        if status is not None and 200 <= status < 300:
            return Finding(title, False, f"your endpoint accepted it ({status}): {danger}", is_unsafe=True)
        return Finding(title, False, f"{self._said(answer)}: refuse it with 401, and let no stranger make you fail")

    def _is_accepted(self, answer: Answer) -> bool:
        if answer.failure is not None or answer.status is None:
            return False
        return self.destination.accepts(answer.status, answer.body)

    def _said(self, answer: Answer) -> str:
        if answer.failure == "timeout":
            return f"no answer within {self.destination.timeout_seconds} s"
        if answer.status is None:
            return f"no answer ({answer.detail})"
        if answer.failure == "too_large":
            return f"answered more than {outbound.LARGEST_ANSWER} bytes"
        if 200 <= answer.status < 300:
            return f"answered {answer.status}, and success is {self._success()} here"
        return f"answered {answer.status}"

    def _success(self) -> str:
        words = {"2xx": "any 2xx", "200": "exactly 200"}
        return words.get(self.destination.success, f"200 and {self.destination.success_expression}")

    def _post(self, delivery: Delivery) -> Answer:
        destination = self.destination
        return self.outbound.post(destination.url, delivery.headers, delivery.body, destination.timeout_seconds)

    def _trickle(self, delivery: Delivery) -> Answer:
        """POST the body in small pieces; the answer has the usual time after the last."""
        size = -(-len(delivery.body) // TRICKLE_PIECES)

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(delivery.body), size):
                time.sleep(TRICKLE_SECONDS / TRICKLE_PIECES)
                yield delivery.body[start : start + size]

        headers = {**delivery.headers, "Content-Length": str(len(delivery.body))}
        limit = TRICKLE_SECONDS + self.destination.timeout_seconds
        return self.outbound.call("POST", self.destination.url, headers, pieces(), limit)

    def _signed(
        self,
        grant: dict[str, Any],
        event_type: str | None = None,
        keys: tuple[SecretValue, ...] | None = None,
        at: float | None = None,
    ) -> Delivery:
        usual = "grant.reversed" if grant["kind"] == "reversal" else "grant.created"
        body = webhooks.envelope(event_type or usual, grant["created_at"], grant)
        webhook_id = f"msg_grade_{secrets.token_hex(12)}"
        return self._sign(webhook_id, body, keys or self.keys, clock.now() if at is None else at)

    def _sign(self, webhook_id: str, body: bytes, keys: tuple[SecretValue, ...], at: float) -> Delivery:
        return Delivery(webhooks.signed(self.format, webhook_id, 1, body, keys, at), body)

    def _grant(self, lines: int = 1) -> dict[str, Any]:
        return {
            "id": 0,  # below every real one: a game that mistakes it for the feed's cursor skips nothing
            "transaction_id": str(uuid.uuid4()),
            "partner": self.partner,
            "external_id": f"{RESERVED_ID}-{secrets.token_hex(6)}",
            "kind": "purchase",
            "player_id": RESERVED_ID,
            "items": [{"sku": RESERVED_ID, "quantity": 1}] * lines,
            "reverses": None,
            "policy": None,
            "is_test": True,
            "created_at": clock.stamp(),
        }


def _strange_key() -> SecretValue:
    return SecretValue("strange", "current", destinations.new_secret().encode())
