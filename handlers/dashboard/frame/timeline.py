"""What happened, in the order of time, in sentences that may be read out to a player."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coinslot.ledger.dossier import History
from handlers.kit import wording

MOST_ATTEMPTS_TOLD = 5  # of one delivery; the rest are counted
ITEMS_TOLD = 6

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
    "rejected": "it answered that it did not take it",
}
EVENTS = {
    "player.login": "The player signed in to the store.",
    "sponsor.created": "The player began to support a creator.",
    "sponsor.ended": "The player ended the support of a creator.",
    "appcharge.order.failed": "An order was reported that did not go through; nothing was credited.",
}


@dataclass(frozen=True)
class Moment:
    """``word`` is a state of :data:`words.TONES`; ``transaction`` is the public id of the one it belongs to."""

    at: str
    word: str
    sentence: str
    transaction: str | None = None
    delivery: int | None = None


def timeline(history: History) -> list[Moment]:
    """From the partner's call to the game's acknowledgement, the oldest first."""
    public_ids = {row["id"]: row["public_id"] for row in history.transactions}
    moments: list[Moment] = []
    for transaction in history.transactions:
        moments += _of_transaction(transaction)
    acked = next(((row["acked_through"], row["acked_at"]) for row in history.transactions), (0, None))
    for grant in history.grants:
        moments += _of_grant(grant, public_ids.get(grant["transaction_id"]), acked)
    for conflict in history.conflicts:
        moments += _of_conflict(conflict, public_ids[conflict["transaction_id"]])
    for refund in history.refunds:
        moments.append(_of_refund(refund, public_ids[refund["transaction_id"]]))
    told = {refund["event_id"] for refund in history.refunds}
    moments += [_of_event(event) for event in history.events if event["id"] not in told]
    for delivery in history.deliveries:
        moments += _of_delivery(delivery)
    return sorted(moments, key=lambda moment: moment.at)  # stable: within one instant, cause before effect


def as_text(moments: list[Moment]) -> str:
    return "".join(f"{wording.moment(each.at)} UTC  {each.word:<12}  {each.sentence}\n" for each in moments)


def is_own_call(transaction: Mapping[str, Any]) -> bool:
    """Whether this came as the answer to a call of ours, proved by its connection and not by a signature."""
    return str(transaction["signed_with"]).startswith("playcamp.api_key/")


def items_in_words(items: list[dict[str, Any]]) -> str:
    """1,000 coins and 5 gems; without signs, which the sentence around it says."""
    each = [f"{abs(int(item['quantity'])):,} {wording.shown(item['sku'], 60)}" for item in items[:ITEMS_TOLD]]
    if len(items) > ITEMS_TOLD:
        each.append(f"{len(items) - ITEMS_TOLD} other items")
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
    yield Moment(
        row["received_at"], "seen", f"{partner} reported order {reference}{paid}. {proof}{test}", row["public_id"]
    )


def _of_grant(grant: Mapping[str, Any], public_id: str | None, acked: tuple[int, str | None]) -> Iterator[Moment]:
    public_id = public_id or grant["transaction_public_id"]
    items, number = items_in_words(grant["items"]), grant["id"]
    if grant["kind"] == "reversal":
        policy = POLICIES.get(grant["policy"], grant["policy"])
        why = f" The reason given: {wording.shown(grant['reason'])}." if grant["reason"] else ""
        sentence, word = f"{items} reversed: the game was asked to {policy} (grant {number}).{why}", "reversed"
    elif grant["restores"] is not None or grant["kind"] == "adjustment":
        sentence, word = f"{items} given back to the player (grant {number}).", "restored"
    else:
        sentence, word = (
            f"{items} credited to player {wording.shown(grant['player_id'], 80)} (grant {number}).",
            "credited",
        )
    yield Moment(grant["created_at"], word, sentence, public_id)
    through, at = acked
    if at is not None and number <= through:
        yield Moment(
            max(at, grant["created_at"]),
            "done",
            f"The game had acknowledged grant {number} by then: it says that it has applied it.",
            public_id,
        )


def _of_conflict(row: Mapping[str, Any], public_id: str) -> Iterator[Moment]:
    times = "once" if row["seen"] == 1 else f"{row['seen']:,} times"
    last = f", the last time on {wording.moment(row['last_at'])}" if row["seen"] > 1 else ""
    yield Moment(
        row["first_at"],
        "conflict",
        f"The same order was reported again with other content, {times}{last}. It was refused and nothing was credited"
        " for it.",
        public_id,
    )


def _of_refund(row: Mapping[str, Any], public_id: str) -> Moment:
    if row["event_id"] is None:
        return Moment(row["created_at"], "note", "A person decided to take the items back.", public_id)
    what = REASONS.get(row["reason"], row["reason"])
    sentence = f"The partner said that the order was {what}. {OUTCOMES[row['outcome']]}"
    return Moment(row["event_at"] or row["created_at"], "refunded", sentence, public_id)


def _of_event(row: Mapping[str, Any]) -> Moment:
    sentence = EVENTS.get(row["type"], f"The partner reported {wording.shown(row['type'], 100)}.")
    if row["type"].startswith("sponsor."):
        creator = _told(row["data"]).get("creator_key")
        if isinstance(creator, str):
            sentence = f"{sentence.removesuffix('.')}: {wording.shown(creator, 80)}."
    return Moment(row["received_at"], "note", sentence)


def _of_delivery(row: Mapping[str, Any]) -> Iterator[Moment]:
    where, number = wording.shown(row["destination"], 60), row["id"]
    what = f"Grant {row['grant_id']}"
    attempts = row["attempts"]
    failed = [each for each in attempts if each["failure"] is not None]
    for each in failed[:MOST_ATTEMPTS_TOLD]:
        why = FAILURES.get(each["failure"], each["failure"])
        status = f" ({each['status']})" if each["status"] else ""
        yield Moment(
            each["started_at"], "failing", f"{what} could not be delivered to {where}: {why}{status}.", None, number
        )
    if len(failed) > MOST_ATTEMPTS_TOLD:
        more = len(failed) - MOST_ATTEMPTS_TOLD
        yield Moment(failed[-1]["started_at"], "failing", f"{more} more attempts at {where} failed.", None, number)
    if row["state"] == "delivered":
        yield Moment(
            row["finished_at"],
            "delivered",
            f"{what} was delivered to {where}, which said that it has it.",
            None,
            number,
        )
    elif row["state"] == "dead":
        yield Moment(
            row["finished_at"],
            "dead",
            f"The delivery of {what.lower()} to {where} was given up: {row['dead_reason']}.",
            None,
            number,
        )
    else:
        yield Moment(
            attempts[-1]["started_at"] if attempts else row["created_at"],  # behind what has been tried
            "waiting",
            f"{what} is to be delivered to {where}; the next attempt is due {wording.moment(row['next_attempt_at'])}.",
            None,
            number,
        )


def _told(data: str) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
