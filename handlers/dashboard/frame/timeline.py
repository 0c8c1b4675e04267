"""What happened, in the order of time, in sentences that support may read out to a player."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coinslot.base import clock
from coinslot.ledger.dossier import History
from coinslot.ledger.refund_requests import DONE, REQUESTED, state_of
from handlers.kit import wording
from handlers.kit.refunding import sentence

ATTEMPTS_SHOWN = 5  # of one delivery; the rest are counted
ITEMS_SHOWN = 6

REASONS = {"refund": "refunded", "chargeback": "taken back by the player's bank", "reinstated": "paid again"}
OUTCOMES = {
    "reversed": "The items were taken back because of it.",
    "restored": "The items were given back because of it.",
    "ignored": "The refund policy leaves the items with the player.",
    "repeated": "There was nothing left to do.",
    "ambiguous": "It is not clear which purchase is meant, so a person has to decide.",
    "waiting": "It waits for its purchase.",
    "test": "It came as a test, so nothing was done.",
}
POLICIES = {
    "revoke": "take back what is still there",
    "revoke_negative": "take all of it back, below zero if need be",
    "flag": "flag the player and take nothing",
}
FAILURES = {
    "dns": "its name could not be looked up",
    "refused": "the connection was refused",
    "timeout": "no answer came in time",
    "tls": "the secure connection failed",
    "redirect": "it answered with a redirect, which is not followed",
    "too_large": "its answer was too long",
    "status": "it answered with an error",
    "rejected": "it did not take it, or it could not be sent",
}
EVENTS = {
    "player.login": "The player signed in to the store.",
    "sponsor.created": "The player began to support a creator.",
    "sponsor.ended": "The player ended the support of a creator.",
    "appcharge.order.failed": "An order was reported that did not go through; nothing was credited.",
}


Written = Callable[[str | None], str]  # a stamp as text


@dataclass(frozen=True)
class Moment:
    """``word`` is a state of :data:`words.TONES`; ``transaction`` is the public id of the one it belongs to."""

    at: str
    word: str
    sentence: str
    transaction: str | None = None
    delivery: int | None = None


def timeline(history: History, written: Written = wording.utc_moment) -> list[Moment]:
    """From the partner's call to the game's acknowledgement, the oldest first; ``written`` writes the times in it."""
    public_ids = {row["id"]: row["public_id"] for row in history.transactions}
    acked = next(((row["acked_through"], row["acked_at"]) for row in history.transactions), (0, None))
    of_refunds = {refund["event_id"] for refund in history.refunds}
    moments = [moment for row in history.transactions for moment in _of_transaction(row)]
    for grant in history.grants:
        moments += _of_grant(grant, public_ids.get(grant["transaction_id"]), acked)
    moments += [_of_conflict(row, public_ids[row["transaction_id"]], written) for row in history.conflicts]
    moments += [_of_refund(row, public_ids[row["transaction_id"]]) for row in history.refunds]
    moments += [moment for row in history.requests for moment in _of_request(row)]
    moments += [_of_event(event) for event in history.events if event["id"] not in of_refunds]
    moments += [moment for delivery in history.deliveries for moment in _of_delivery(delivery, written)]
    return sorted(moments, key=lambda moment: moment.at)  # stable: within one instant, cause before effect


def as_text(moments: list[Moment]) -> str:
    return "".join(f"{wording.utc_moment(each.at)} UTC  {each.word:<12}  {each.sentence}\n" for each in moments)


def is_own_call(transaction: Mapping[str, Any]) -> bool:
    """Whether it is the answer to a call of ours: its connection proves it, not a signature."""
    return str(transaction["signed_with"]).startswith("playcamp.api_key/")


def items_as_text(items: list[dict[str, Any]]) -> str:
    """1,000 coins and 5 gems. The sentence around it says whether they are given or taken."""
    each = [f"{abs(int(item['quantity'])):,} {wording.shown(item['sku'], 60)}" for item in items[:ITEMS_SHOWN]]
    if len(items) > ITEMS_SHOWN:
        each.append(f"{len(items) - ITEMS_SHOWN} other items")
    return " and ".join(filter(None, [", ".join(each[:-1]), each[-1]])) if each else "nothing"


def _of_transaction(row: Mapping[str, Any]) -> Iterator[Moment]:
    partner, reference = wording.shown(row["partner"], 30).title(), wording.shown(row["reference"], 80)
    if row["kind"] == "adjustment":
        return
    paid = f" for {wording.money(row['gross_minor'], row['currency'])}" if row["gross_minor"] else ""
    if row["occurred_at"] and row["occurred_at"] < row["received_at"]:
        yield Moment(row["occurred_at"], "note", f"By {partner}'s clock, order {reference} was made.", row["public_id"])
    test = " It is a test and does not count." if row["is_test"] else ""
    proof = f"Its signature was checked and is right ({wording.shown(row['signed_with'], 80)})."
    if is_own_call(row):
        proof = "It is the answer to a call of the game's own."
    sentence = f"{partner} reported order {reference}{paid}. {proof}{test}"
    yield Moment(row["received_at"], "seen", sentence, row["public_id"])


def _of_grant(grant: Mapping[str, Any], public_id: str | None, acked: tuple[int, str | None]) -> Iterator[Moment]:
    public_id = public_id or grant["transaction_public_id"]
    items, number = items_as_text(grant["items"]), grant["id"]
    if grant["kind"] == "reversal":
        policy = POLICIES.get(grant["policy"], grant["policy"])
        why = f" The reason given: {wording.shown(grant['reason'])}." if grant["reason"] else ""
        word, sentence = "reversed", f"{items} reversed: the game was asked to {policy} (grant {number}).{why}"
    elif grant["restores"] is not None or grant["kind"] == "adjustment":
        word, sentence = "restored", f"{items} given back to the player (grant {number})."
    else:
        player = wording.shown(grant["player_id"], 80)
        word, sentence = "credited", f"{items} credited to player {player} (grant {number})."
    yield Moment(grant["created_at"], word, sentence, public_id)
    through, at = acked
    if at is not None and number <= through:
        sentence = f"The game had acknowledged grant {number} by then: it says that it has applied it."
        yield Moment(max(at, grant["created_at"]), "done", sentence, public_id)


def _of_conflict(row: Mapping[str, Any], public_id: str, written: Written) -> Moment:
    times = "once" if row["seen"] == 1 else f"{row['seen']:,} times"
    last = f", the last time on {written(row['last_at'])}" if row["seen"] > 1 else ""
    sentence = (
        f"The same order was reported again with other content, {times}{last}. It was refused and nothing was credited"
        " for it."
    )
    return Moment(row["first_at"], "conflict", sentence, public_id)


def _of_refund(row: Mapping[str, Any], public_id: str) -> Moment:
    if row["event_id"] is None:
        return Moment(row["created_at"], "note", "A person decided to take the items back.", public_id)
    what = REASONS.get(row["reason"], row["reason"])
    sentence = f"The partner said that the order was {what}. {OUTCOMES[row['outcome']]}"
    return Moment(row["event_at"] or row["created_at"], "refunded", sentence, public_id)


def _of_request(row: Mapping[str, Any]) -> Iterator[Moment]:
    partner, state = wording.shown(row["partner"], 30).title(), state_of(row)
    why = f" The reason given: {wording.shown(row['reason'])}." if row["reason"] else ""
    yield Moment(row["created_at"], "note", f"A person asked {partner} to refund the order.{why}")
    said = f"{wording.shown(row['detail'])}. " if row["detail"] else ""
    if state != REQUESTED and not (state == DONE and not row["detail"]):  # else the event tells
        at = row["ended_at"] or row["answered_at"] or row["created_at"]
        yield Moment(at, state, f"{said}{sentence(partner, state)}")


def _of_event(row: Mapping[str, Any]) -> Moment:
    sentence = EVENTS.get(row["type"], f"The partner reported {wording.shown(row['type'], 100)}.")
    creator = _object(row["data"]).get("creator_key") if row["type"].startswith("sponsor.") else None
    if isinstance(creator, str):
        sentence = f"{sentence.removesuffix('.')}: {wording.shown(creator, 80)}."
    return Moment(row["received_at"], "note", sentence)


def _of_delivery(row: Mapping[str, Any], written: Written) -> Iterator[Moment]:
    where, number, attempts = wording.shown(row["destination"], 60), row["id"], row["attempts"]
    grant = f"Grant {row['grant_id']}"
    failed = [each for each in attempts if each["failure"] is not None]
    for each in failed[:ATTEMPTS_SHOWN]:
        why = FAILURES.get(each["failure"], each["failure"]) + (f" ({each['status']})" if each["status"] else "")
        sentence = f"{grant} could not be delivered to {where}: {why}."
        yield Moment(each["started_at"], "failing", sentence, delivery=number)
    more = len(failed) - ATTEMPTS_SHOWN
    if more > 0:
        sentence = f"{more} more attempts at {where} failed."
        yield Moment(failed[-1]["started_at"], "failing", sentence, delivery=number)
    if row["state"] == "delivered":
        at, word, sentence = row["finished_at"], "delivered", f"{grant} was delivered to {where}."
    elif row["state"] == "dead":
        sentence = f"The delivery of {grant.lower()} to {where} was given up: {row['dead_reason']}."
        at, word = row["finished_at"], "dead"
    else:
        sentence = f"{grant} is to be delivered to {where}; {_next(row, written)}."
        at, word = attempts[-1]["started_at"] if attempts else row["created_at"], "waiting"
    yield Moment(at, word, sentence, delivery=number)


def _next(row: Mapping[str, Any], written: Written) -> str:
    """What a waiting delivery waits for. Its own due time says nothing while its destination takes none."""
    if row["destination_state"] == "paused":
        return f"it waits until {wording.shown(row['destination'], 60)} is resumed"
    if row["circuit_open_since"] is not None:
        return f"it waits until {wording.shown(row['destination'], 60)} works again"
    if row["next_attempt_at"] <= clock.stamp():
        return "the next attempt is due now"
    return f"the next attempt is due {written(row['next_attempt_at'])}"


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
