"""Refused calls, each with a sentence that says why; the partner of the call finds it."""

import operator
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from flask import Response, current_app, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import clock, exact
from coinslot.games.games import Game
from coinslot.operations import contacts
from coinslot.operations import refusals as ring
from coinslot.operations.refusals import Refused
from coinslot.store import audit
from coinslot.store.db import Row
from coinslot.store.paging import LAST_ID
from handlers.dashboard.frame import privacy
from handlers.dashboard.frame.pages import (
    PageError,
    page,
    partner_titles,
    read,
    see_other,
    show_on_error,
    who,
    whole,
    write,
)
from handlers.dashboard.integration import checklist, mending
from handlers.kit import wrong_addresses
from handlers.kit.explain import Known
from handlers.kit.explain_words import Finding
from handlers.kit.receive import current_installation, partners
from handlers.kit.wording import shown

SHOWN = 20
LONGEST_FILTER = 255
ENDED = "ended-"
FILTERS = ("state", "partner", "endpoint", "reason", "order", "player")
STATES = {
    "open": "open",
    "mended": "mended",
    "aside": "set aside",
    "unproved": "proved nothing",
}
LIST_SECONDS = 0.03  # of trying, for one list
KEPT_FINDINGS = 2000
BODY_SHOWN = 4096  # of a body, once it is asked for

REASONS = {
    **{reason: name for reason, (name, _) in checklist.REASONS.items()},
    "no_address": "no such address",
    "other_game": "another game's address",
    "lookup_failed": "the game did not answer",
    "never_came": "an order that never came",
    "unknown_status": "unknown status",
    "misplaced": "an order at another address",
    "misplaced_event": "an event at another address",
}

# Page that helps -> its endpoint and the text of the link.
LINKS = {
    "integration": ("integration", "Look at the keys and addresses"),
    "settings": ("settings", "Look at the settings"),
    "players": ("players", "Look at the players"),
    "items": ("settings", "Look at items.unknown in the settings"),
    "deliveries": ("deliveries", "Look at the deliveries"),
    "conflicts": ("transactions", "Look at the transactions and their conflicts"),
}

_findings: OrderedDict[tuple[object, ...], tuple[Sequence[Game], Finding]] = OrderedDict()
_mutex = threading.Lock()


def refusals(game: Game) -> Response:
    return _list(game)


def refusal(game: Game, refusal_id: int) -> Response:
    return _detail(game, _find(game, refusal_id))


def show_refusal_body(game: Game | None, refusal_id: int) -> AnyResponse:
    """The page with the beginning of the body; the audit notes who looked at it."""
    call, game_id = _find(game, refusal_id), None if game is None else game.id
    write(lambda tx: audit.record(tx, game_id, who(), "refusal.body", str(call.id)))
    privacy.reveal()
    return _detail(game, call, call.body[:BODY_SHOWN].decode("utf-8", "replace"))


def mend_refusal(game: Game, refusal_id: int) -> AnyResponse:
    """Register the player or the item of a refused call, or add its status to a list, as the form says."""
    call = _find(game, refusal_id)
    show_on_error(_detail, game, call, None)
    mending.mend(game, call, request.form.get("what", ""), request.form.get("name", "").strip())
    return see_other("refusal", "mended", refusal_id=call.id)


def register_player(game: Game, refusal_id: int) -> AnyResponse:
    """Register the player of a refused call: what support, too, may mend."""
    call = _find(game, refusal_id)
    show_on_error(_detail, game, call, None)
    mending.mend(game, call, "player", "")
    return see_other("refusal", "mended", refusal_id=call.id)


def set_refusal_aside(game: Game, refusal_id: int) -> AnyResponse:
    """Set one call aside, with a note, or take that back, as the form says."""
    call = _find(game, refusal_id)
    is_back, note = request.form.get("back") == "1", request.form.get("note", "").strip()[:500]
    if not is_back and not note:
        return _detail(game, call, None, 400, "The note says nothing. Say why nothing is left to do.")
    is_done = mending.reopen(game, call) if is_back else mending.set_aside(game, call, note)
    said = "nothing" if not is_done else "opened-again" if is_back else "set-aside"
    return see_other("refusal", said, refusal_id=call.id)


def strays() -> Response:
    """Calls that named no game of ours."""
    return _list(None)


def stray(refusal_id: int) -> Response:
    return _detail(None, _find(None, refusal_id))


def show_stray_body(refusal_id: int) -> AnyResponse:
    return show_refusal_body(None, refusal_id)


def _list(game: Game | None) -> Response:
    """The open ones come first, then the others; each newest first."""
    chosen = {name: request.args.get(name, "").strip()[:LONGEST_FILTER] for name in FILTERS}
    chosen["state"] = chosen["state"] if chosen["state"] in STATES else ""
    wanted = ring.Wanted(**{name: exact.whole_text(text) for name, text in chosen.items()})
    calls, following = _page_of(game, wanted)
    known, until = _known(game), time.monotonic() + LIST_SECONDS
    return page(
        "refusals.html",
        calls=[(call, finding(call, known, until)) for call in calls],
        partners=partner_titles(),
        reasons=REASONS if wanted.reason in ("", *REASONS) else {**REASONS, wanted.reason: wanted.reason},
        endpoints=sorted({each.endpoint for partner in partners() for each in partner.addresses}),
        states=STATES,
        chosen=chosen,
        next=following,
    )


def _page_of(game: Game | None, wanted: ring.Wanted) -> tuple[list[Refused], str | None]:
    """A page of the list and the cursor of the next one: an id, which follows ``ended-`` behind the open ones."""
    installation = current_installation()
    connection = installation.database.read()
    key, game_id = installation.vault.current(connection), None if game is None else game.id
    names = [partner.name for partner in partners() if wanted.partner in ("", partner.name)]
    after = request.args.get("after", "")
    before, found = whole(after.removeprefix(ENDED)) or LAST_ID, list[Refused]()
    states = [wanted.state] if wanted.state or game is None else ["open", "ended"]
    if len(states) > 1 and after.startswith(ENDED):
        del states[0]
    for state in states if names else ():
        narrowed, room = replace(wanted, state=state), SHOWN + 1 - len(found)
        found += ring.newest(connection, key, game_id, names, narrowed, before=before, limit=room)
        before = LAST_ID
        if len(found) > SHOWN:
            last = found[SHOWN - 1]
            is_behind = not wanted.state and game is not None and last.state != "open"
            return found[:SHOWN], f"{ENDED if is_behind else ''}{last.id}"
    return found, None


def _detail(
    game: Game | None, call: Refused, body: str | None = None, status: int = 200, problem: str = ""
) -> Response:
    found = finding(call, _known(game))
    return page(
        "refusal.html",
        status,
        problem=problem,
        call=call,
        finding=found,
        link=LINKS.get(found.link) if game is not None and found is not None else None,
        reason=REASONS.get(call.reason, call.reason),
        title=next((each.title for each in partners() if each.name == call.partner), call.partner),
        mending=None if game is None or call.state is None else mending.of(game, call),
        address=None if game is None else mending.right_address(game, call),
        headers={name: _masked(name, value) for name, value in call.headers.items()},
        body=body,
        kept=len(call.body),
        kept_days=7,
    )


def _find(game: Game | None, refusal_id: int) -> Refused:
    installation = current_installation()
    connection = installation.database.read()
    game_id = None if game is None else game.id
    found = None
    if whole(str(refusal_id)) is not None:
        found = ring.find(connection, installation.vault.current(connection), game_id, refusal_id)
    if found is None:
        raise PageError(404, "There is no such refused call. Those that are not open are kept for a week.")
    return found


def finding(call: Refused, known: Known, until: float | None = None) -> Finding | None:
    """Why the call was refused, as its partner explains it; found once per call and configuration of the games.

    A sentence about time depends on later calls, so it is not kept. None when the call was not explained before and
    ``until``, of the monotonic clock, is over: a list explains what it can and links to the rest.
    """
    key = (current_installation().database.name, call.id, call.created_at)
    with _mutex:
        kept = _findings.get(key)
    # A game is another object after each change of it.
    if kept is not None and len(kept[0]) == len(known.games) and all(map(operator.is_, kept[0], known.games)):
        return kept[1]
    if until is not None and time.monotonic() >= until:
        return None
    try:
        found = _explained(call, known)
    except Exception:  # what a stranger has sent must not keep the owner from the rest of the list
        current_app.logger.exception("refused call %d could not be explained", call.id)
        found = Finding("Looking into this call failed; the log says how.", is_sure=False)
    if call.reason != "timestamp":
        with _mutex:
            _findings[key] = (known.games, found)
            while len(_findings) > KEPT_FINDINGS:
                _findings.popitem(last=False)
    return found


def _explained(call: Refused, known: Known) -> Finding:
    partner = next((each for each in partners() if each.name == call.partner), None)
    if partner is None:
        return Finding("No known cause matched.", is_sure=False)
    if call.reason != wrong_addresses.REASON:
        return partner.diagnose(call, known)
    meant = call.found.get("meant")
    called = call.text("path") if call.status == 404 else f"{call.text('method')} {call.text('path')}"
    sentence = f"There is no such address as {shown(called, 200)}" + (f"; did you mean {meant}?" if meant else ".")
    return Finding(sentence, f"Correct it in {partner.title}'s dashboard.", "integration")


def _known(game: Game | None) -> Known:
    facts = _Facts(None if game is None else game.id)
    names = {secret: name for partner in partners() for secret, name in partner.secret_names.items()}
    return Known(current_installation().games.opened(), facts.alike, facts.proved_at, facts.changed, names)


class _Facts:
    """What explaining the calls of one page needs from the database; each is read once, and only when needed."""

    def __init__(self, game_id: int | None) -> None:
        self._game_id = game_id
        self._alike: dict[tuple[str, str, str], Sequence[Refused]] = {}

    def alike(self, call: Refused) -> Sequence[Refused]:
        key = (call.partner, call.reason, call.created_at[:10])
        if key not in self._alike:
            connection = read()
            vault_key = current_installation().vault.current(connection)
            about = (call.partner, call.created_at, call.reason)
            self._alike[key] = ring.of_the_day(connection, vault_key, self._game_id, *about)
        return self._alike[key]

    def proved_at(self, call: Refused) -> float | None:
        rows = self._contacts.items()
        stamps = [row["proved_at"] for (partner, _), row in rows if partner == call.partner and row["proved_at"]]
        return max(map(clock.seconds, stamps), default=None)

    def changed(self, call: Refused) -> Mapping[str, str]:
        return self._changed

    @cached_property
    def _contacts(self) -> Mapping[tuple[str, str], Row]:
        return {} if self._game_id is None else contacts.of_game(read(), self._game_id)

    @cached_property
    def _changed(self) -> Mapping[str, str]:
        return audit.last_done(read(), self._game_id, ("secret.retire",))


def _masked(name: str, value: str) -> str:
    """A header as it may be shown: only the beginning of a proof."""
    if any(word in name for word in ("token", "sign", "finger", "hmac")):
        return f"{value[:24]}…" if len(value) > 24 and "sign" in name else f"{value[:4]}…"
    return value
