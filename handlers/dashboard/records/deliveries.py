"""Deliveries to the destinations of a game: waiting, dead and delivered ones, and each attempt."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.outbox import attempts, destinations, lists, redrives
from coinslot.outbox import deliveries as outbox
from coinslot.outbox.checks import DestinationError
from coinslot.outbox.deliveries import STATES
from coinslot.outbox.redrives import DeliveryError
from coinslot.relay import webhooks
from coinslot.store import audit
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, every
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import PageError, below, page, read, see_other, who, whole, write
from handlers.kit.receive import current_installation
from handlers.kit.wording import shown, until

PER_PAGE = 50
EXPORTED_AT_ONCE = 500
MOST_SELECTED = 500
MOST_ATTEMPTS = 100
LONGEST_REASON = 200
LONGEST_FILTER = 100
LONGEST_BODY = 64 * 1024

# Failure of an attempt -> what it means.
FAILURES = {
    "dns": "the name of the host was not found",
    "refused": "the connection was refused",
    "timeout": "no answer in time",
    "tls": "the certificate or the TLS connection was not right",
    "redirect": "it answered with a redirect, which is not followed",
    "too_large": "the answer was too large",
    "status": "the status of the answer says no",
    "rejected": "the answer says no, or it could not be sent",
}
EXPORTED = (
    "id state destination event_type player_id grant_id public_id event_id attempts_made last_attempt next_attempt_at "
    "dead_reason created_at finished_at webhook_id"
).split()
COMMON_TYPES = ("grant.created", "grant.reversed", "player.login", "sponsor.created", "sponsor.ended")


@dataclass(frozen=True)
class Filter:
    """Which deliveries are listed. A value that makes no sense filters nothing."""

    state: str | None
    destination: str | None
    event_type: str | None

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "Filter":
        state = values.get("state", "")
        name, event_type = (shown(values.get(each, "").strip(), LONGEST_FILTER) for each in ("destination", "type"))
        return cls(state if state in STATES else None, name or None, event_type or None)

    @property
    def query(self) -> dict[str, str]:
        given = {"state": self.state, "destination": self.destination, "type": self.event_type}
        return {name: value for name, value in given.items() if value}

    def page(self, game: Game, before: int, limit: int) -> Listed:
        """The deliveries with ids below ``before``, newest first."""
        return lists.page(
            *(read(), game.id),
            states=STATES if self.state is None else (self.state,),
            destination=self.destination,
            event_type=self.event_type,
            before=before,
            limit=limit,
        )


def deliveries(game: Game) -> Response:
    connection = read()
    wanted = Filter.of(request.args)
    rows, following = wanted.page(game, below(), PER_PAGE)
    goals = destinations.listing(connection, game.id)
    return page(
        "deliveries.html",
        rows=rows,
        following=following,
        wanted=wanted,
        states=STATES,
        destinations=[(row, _circuit(row)) for row in goals],
        queue=lists.queues(connection).get(game.id, {}),
        is_relaying=outbox.is_relay_running(connection),
        common_types=COMMON_TYPES,
        keeps_order=any(row["keeps_order"] for row in goals),
        put_back=whole(request.args.get("back")),
        stayed=whole(request.args.get("stayed")),
        failures=FAILURES,
        next_in_words=_next_in_list,
    )


def deliveries_csv(game: Game) -> Response:
    """All deliveries of a filter, newest first."""
    wanted = Filter.of(request.args)
    rows = every(lambda before: wanted.page(game, before, EXPORTED_AT_ONCE))
    return csv_file(f"{game.slug}-deliveries", EXPORTED, ([row[name] for name in EXPORTED] for row in rows))


def redrive_deliveries(game: Game) -> AnyResponse:
    """Put back the dead and waiting deliveries that were ticked, or all of the filter."""
    wanted, reason = Filter.of(request.form), _reason()
    ids = [number for each in request.form.getlist("id")[:MOST_SELECTED] if (number := whole(each)) is not None]
    is_all = request.form.get("which") == "all"
    if not is_all and not ids:
        raise PageError(400, "Tick the deliveries to redrive first, or choose to redrive all.")

    def put_back(portion: list[int], subject: str) -> int:
        def store(tx: Connection) -> int:
            count = redrives.redrive(tx, game.id, portion)
            if count:
                audit.record(tx, game.id, who(), "delivery.redrive", f"{shown(subject)} ({count}){reason}")
            return count

        return write(store)

    if is_all:
        which: dict[str, Any] = {"event_type": wanted.event_type}
        if wanted.destination is not None:
            which["destination_id"] = _destination_id(game, wanted.destination)
        subject = ", ".join(["all", *(f"{name} {value}" for name, value in wanted.query.items() if name != "state")])
        portions = redrives.redrivable(read(), game.id, state=wanted.state, **which)
        count = sum(put_back(portion, subject) for portion in portions)
        stayed = 0 if wanted.state == "waiting" else redrives.count_overtaken(read(), game.id, **which)
    else:
        count = put_back(list(dict.fromkeys(ids)), ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else ""))
        stayed = sum(redrives.count_overtaken(read(), game.id, delivery_id=each) for each in set(ids))
    return see_other("deliveries", "put-back" if count else "nothing", back=count, stayed=stayed, **wanted.query)


def delivery(game: Game, delivery_id: int) -> Response:
    connection, row = read(), _found(game, delivery_id)
    destination_row = destinations.row_of(connection, row["destination_id"])
    return page(
        "delivery.html",
        row=row,
        destination=destination_row,
        circuit=_circuit(destination_row),
        attempts=lists.attempts(connection, row["id"], MOST_ATTEMPTS),
        failures=FAILURES,
        request_sent=_request_of(connection, row, destination_row),
        next_in_words=_next(row, destination_row),
        keeps_order=bool(destination_row["keeps_order"]),
        most_attempts=MOST_ATTEMPTS,
        longest_body=LONGEST_BODY,
    )


def redrive_delivery(game: Game, delivery_id: int) -> AnyResponse:
    _found(game, delivery_id)
    reason = _reason()

    def put_back(tx: Connection) -> None:
        redrives.redrive_one(tx, game.id, delivery_id)
        audit.record(tx, game.id, who(), "delivery.redrive", f"{delivery_id}{reason}")

    try:
        write(put_back)
    except DeliveryError as error:
        raise PageError(409, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    return see_other("delivery", "redriven", delivery_id=delivery_id)


def switch_destination(game: Game, name: str, verb: str) -> AnyResponse:
    """Pause a destination, or resume it with a closed circuit."""
    if verb not in ("pause", "resume"):
        raise PageError(404, "There is no such page")
    state = "paused" if verb == "pause" else "active"
    try:
        write(lambda tx: destinations.set_state(tx, game.slug, name, state, actor=who()))
    except DestinationError:
        raise PageError(404, "There is no such destination") from None
    return see_other("deliveries", f"{verb}d")


def _found(game: Game, delivery_id: int) -> Row:
    row = lists.find(read(), game.id, delivery_id) if delivery_id <= LAST_ID else None
    if row is None:
        raise PageError(404, "There is no such delivery")
    return row


def _reason() -> str:
    """The reason in the form, as the audit keeps it; empty when there is none."""
    reason = " ".join(request.form.get("reason", "").split())
    return f": {shown(reason, LONGEST_REASON)}" if reason else ""


def _destination_id(game: Game, name: str) -> int:
    """0 when there is none of that name: nothing is owed to it."""
    try:
        return destinations.find_id(read(), game.slug, name)
    except DestinationError:
        return 0


def _circuit(row: Row) -> tuple[str, str]:
    """The state of a destination: a word and a sentence."""
    if row["state"] == "removed":
        return "removed", "It was removed; nothing is sent there any more."
    if row["state"] == "paused":
        why = f" It paused itself: {shown(row['state_reason'], 100)}." if row["state_reason"] else ""
        return "paused", f"Nothing is sent until you resume it; its deliveries wait.{why}"
    if row["circuit_open_since"] is not None:
        probed = f" It was last tried with delivery {row['last_probed']}." if row["last_probed"] else ""
        sentence = (
            f"It is down after {row['failures_in_row']:,} failures in a row. No delivery spends an attempt; one "
            f"at a time tries it, the next {until(row['next_probe_at'])}.{probed} Resume it once it works."
        )
        return "down", sentence
    count = row["failures_in_row"]
    if count:
        return "active", f"Its last {count:,} attempts failed." if count > 1 else "Its last attempt failed."
    return "active", "No recent attempt failed."


def _next(row: Row, destination: Row) -> str:
    """When this delivery is sent next, and what it waits for."""
    if row["state"] == "delivered":
        return "It was delivered; nothing more is sent."
    if row["state"] == "dead":
        return "It is not sent again until you redrive it."
    if row["leased_until"] is not None and row["leased_until"] > clock.stamp():
        return "An attempt is under way."
    if destination["state"] == "paused":
        return "It waits until the destination is resumed."
    if row["waits_for"] is not None and row["waits_for_state"] == "waiting":
        return f"It waits for delivery {row['waits_for']}, the grant it reverses, to arrive first."
    if destination["circuit_open_since"] is not None:
        return (
            f"The destination is down. One delivery tries it {until(destination['next_probe_at'])}; this one follows."
        )
    order = " Earlier ones of the same player go first." if destination["keeps_order"] else ""
    return f"The next attempt is due {until(row['next_attempt_at'])}.{order}"


def _next_in_list(row: Row) -> str:
    if row["leased_until"] is not None and row["leased_until"] > clock.stamp():
        return "under way"
    if row["destination_state"] == "paused":
        return "when resumed"
    if row["circuit_open_since"] is not None:
        return "once it works"
    return until(row["next_attempt_at"])


def _request_of(connection: Connection, row: Row, destination: Row) -> dict[str, Any]:
    """The request as an attempt sends it: headers and the exact bytes of the body."""
    claim = attempts.claim_of(row, destinations.opened(destination))
    try:
        body = webhooks.body(connection, claim)
    except LookupError:
        if row["state"] == "waiting":
            return {"problem": "There is no body yet: what it is made of was not converted."}
        return {"problem": "There is no body any more: its player was forgotten."}
    return {
        "headers": webhooks.shown_headers(claim, body, current_installation().formats[claim.destination.format]),
        "body": body.decode("utf-8", "replace"),
        "size": len(body),
        "pretty": None if destination["is_converted"] else _pretty(body),
    }


def _pretty(body: bytes) -> str | None:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return None
