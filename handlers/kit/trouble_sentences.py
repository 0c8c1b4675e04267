"""The severity, the sentence and the remedy of each kind of trouble. ``coinslot/operations/troubles.py`` finds them.

In a sentence ``{name}`` is a value of :func:`_values`; of ``[one|many]`` the count selects one. No sentence holds a
player's id.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from coinslot.access.keyring import SIGNING_PREFIX
from coinslot.games.games import Game
from coinslot.ledger.refused import NEVER_CAME
from coinslot.operations import feeds, troubles
from coinslot.operations.findings import LOOK, NOTE, WRONG, Trouble, summed
from coinslot.operations.observations import KEPT_PER_PARTNER
from coinslot.operations.troubles import NOTICES, Found
from handlers.kit import wrong_addresses
from handlers.kit.job_names import job_name
from handlers.kit.receive import partners
from handlers.kit.wording import ago, capped, for_time, lasting, shown, utc_moment


@dataclass(frozen=True)
class Said:
    """How a kind of trouble is said. ``link`` is a page, of its game where it has one, and ``label`` its text."""

    severity: str
    sentence: str
    remedy: str = ""
    link: str = ""
    label: str = ""


FEW_FAILURES = 3  # of a job, in a row
_JOB_PAGE = "/{job_page}"  # jobs of the installation as a whole have none
_ORDERS = ("/transactions{query}", "Look at the [order|transactions]")
_CALLS = ("/refusals?partner={name}&reason={reason}", "Look at the [call|calls]")

# What is said before the reason of refused calls that had proved themselves.
_REFUSED = "{count} [{one}|{many}] of {partner} [was|were] refused"
SENTENCES: Mapping[str, Said] = {
    "no_password": Said(
        LOOK, "No password is set for these pages.", "flask admin password, or the link in the server's log."
    ),
    "no_game": Said(LOOK, "There is no game yet.", "flask game add SLUG"),
    "alert_failed": Said(
        WRONG,
        "Alerts do not arrive at {subject}: {detail}.",
        *("What waits is tried again for a day.", "/account/alerts", "Send a test"),
    ),
    "no_alerts": Said(
        NOTE, "Nobody is written to when something is wrong: no alert target is set.", "", "/account/alerts", "Add one"
    ),
    "heartbeat": Said(
        LOOK,
        "The heartbeat's URL has not taken the calls {lasted}: {detail}.",
        *("The watcher outside may take this machine for dead.", "/account/alerts", "Look"),
    ),
    "no_heartbeat": Said(
        NOTE,
        "No watcher outside would notice that this machine is gone: no heartbeat is set.",
        *("", "/account/alerts", "Set one"),
    ),
    "unproved_backup": Said(
        WRONG,
        "The last backup could not be proved, {since}: {detail}",
        "flask proof makes another one and says all that is wrong. Backups that were proved before are kept.",
    ),
    "old_backup": Said(
        WRONG,
        "No backup was proved in the last two days; the last good one: {since}.",
        "A relay makes one every night. Make one now, and see what it says: flask proof",
    ),
    "few_backups": Said(
        LOOK,
        "The disk of the backups is short: {count} [is|are] kept, fewer than seven daily and four weekly ones.",
        "Make room on it, or name a folder on another disk in COINSLOT_BACKUPS.",
    ),
    "unproved_key": Said(
        LOOK,
        "No copy of the master key was ever shown. Without a copy no backup can be restored on another machine.",
        "Keep a copy in another place, and check it from there: flask key check",
    ),
    "no_relay": Said(
        WRONG,
        "Nothing is delivered: no relay is running, {last_seen}.",
        "It is part of the server: start that again, or run flask relay where COINSLOT_RELAY is off.",
    ),
    "down": Said(
        WRONG,
        "{subject} has not answered as it should {lasted}. Its deliveries wait, and one at a time is tried.",
        *("", "/deliveries?state=waiting&destination={quoted}", "See what it answers"),
    ),
    "paused": Said(WRONG, "{subject} paused itself: {detail}. Its deliveries wait.", "", "/deliveries", "Resume it"),
    "stopped": Said(NOTE, "{subject} is paused. Its deliveries wait.", "", "/deliveries", "Resume it"),
    "dead": Said(
        WRONG,
        "{count} [delivery is a dead letter|deliveries are dead letters]: every retry failed, and no more follow.",
        *("", "/deliveries?state=dead", "Look and redrive"),
    ),
    "overdue": Said(
        WRONG,
        "{count} [delivery has|deliveries have] been due for over an hour.",
        *("", "/deliveries?state=waiting", "See what they wait for"),
    ),
    "conflicts": Said(
        LOOK,
        "{count} [call|calls] named a known transaction with other content. The first one counts, and nothing more was "
        "credited.",
        *("", "/conflicts", "Judge"),
    ),
    "payment_conflicts": Said(
        LOOK,
        "In 7 days {count} [payment was|payments were] reported again with other content.",
        *("", "/payments?state=conflicts", "Compare"),
    ),
    "refunds_ambiguous": Said(
        WRONG,
        "{count} [refund names|refunds name] no one order. Nothing was taken back for [it|them].",
        *("", "/refunds?show=open", "Settle"),
    ),
    "refunds_waiting": Said(
        LOOK,
        "{count} [refund has|refunds have] waited for the order for over a day.",
        *("", "/refunds?show=open", "Look"),
    ),
    "refunds_unknown": Said(
        WRONG,
        "{count} [refund|refunds] that you asked for got no answer: the money may be on its way back, or not.",
        "[It is|They are] not sent again: the partner's event or its report decides. Its dashboard shows the state.",
        *("/refunds", "Look"),
    ),
    "refunds_unended": Said(
        LOOK,
        "{count} [refund|refunds] that you asked for began over three days ago, and no event has reported the end.",
        *("", "/refunds", "Look"),
    ),
    "payments_parked": Said(
        WRONG,
        "{count} [payment is|payments are] parked: not to be sent as reported.",
        *("", "/payments?state=parked", "See why"),
    ),
    "payments_waiting": Said(
        WRONG,
        "{count} [payment or refund has|payments or refunds have] waited for over a day to be taken by {in_game}.",
        *("", "/payments?state=waiting", "See why"),
    ),
    "payments_quarantined": Said(
        WRONG,
        "{count} [payment was|payments were] refused too often and [is|are] not tried any more.",
        *("", "/payments?state=quarantined", "See why and redrive"),
    ),
    "payment_refunds": Said(
        WRONG,
        "[The refund of {count} payment was|The refunds of {count} payments were] refused too often.",
        *("", "/payments?state=refund-refused", "See why and redrive"),
    ),
    "conversions": Said(
        WRONG,
        "{count} [event does|events do] not fit the game's own format, and later ones of the same players wait.",
        *("flask {in_game_name} parked {game} says why.", "/integration/{in_game_name}", "Correct the expression"),
    ),
    "job": Said(WRONG, "The job {job} has failed [once|{count} times in a row]: {detail}", "", _JOB_PAGE, "Look"),
    "job_warning": Said(WRONG, "The job {job}: {detail}.", "", _JOB_PAGE, "Look"),
    "late_job": Said(WRONG, "The job {job} has been due for over an hour.", "Is a relay running?", _JOB_PAGE, "Look"),
    "old_key": Said(
        LOOK,
        "{subject} {detail}.",
        *("flask {rotate} {game} {key_name}", "/{key_page}", "Rotate it"),
    ),
    "rotation": Said(
        LOOK,
        "{subject} {detail}.",
        *("flask secret retire {game} {subject}", "/{key_page}", "Finish it"),
    ),
    "new_token": Said(
        NOTE,
        "The API token was replaced {since}, and the one before is still valid.",
        *("Once the game uses the new one: flask game token {game} --retire", "/settings#token", "Retire it"),
    ),
    "old_token": Said(
        LOOK,
        "The API token was replaced {since}, and the one before is still valid.",
        *("flask game token {game} --retire", "/settings#token", "Retire it"),
    ),
    "refused_known": Said(
        WRONG,
        "{count} [call|calls] of {partner} [was|were] refused in 24 hours: {why}. Calls from the same "
        "address have proved themselves before.",
        *("", "/refusals?partner={quoted}", "Find out why"),
    ),
    "refused_all": Said(
        WRONG,
        "{count} [call|calls] of {partner} [was|were] refused in 24 hours: {why}. None has proved itself since.",
        *("", "/refusals?partner={quoted}", "Find out why"),
    ),
    "refused_some": Said(
        LOOK,
        "{count} [call|calls] of {partner} [was|were] refused in 24 hours: {why}. Others proved themselves since.",
        *("", "/refusals?partner={quoted}", "Find out why"),
    ),
    "no_address": Said(
        LOOK,
        "In 7 days {count} [call|calls] went to {detail}, and there is no such address.{meant}",
        *("Correct it in {partner}'s dashboard.", "/refusals?reason=no_address", "Look at the calls"),
    ),
    "no_players": Said(
        LOOK,
        "No player is registered, and unknown ones are refused: so is every credit.",
        *("", "/settings", "Change that"),
    ),
    "no_items": Said(
        LOOK,
        "No item is registered, and unknown ones are refused: so is every credit.",
        *("", "/settings", "Change that"),
    ),
    "silence": Said(
        WRONG,
        "No call of {partner} to {endpoint} since {since_at} UTC: {usual}.",
        "Look at {partner}'s dashboard: does it have this address, and what does it say of its calls? Where nothing is "
        "wrong, silence.{name} fixes another limit or switches this off.",
        *("/integration/{name}", "Look at the address"),
    ),
    "unread": Said(
        WRONG,
        "{count} [grant has|grants have] reached nobody: no destination has got [it|them], and {reading}.",
        "Look at the game's server. Where it reads no feed, add a destination; grants from before are delivered from "
        "the pages of their transactions.",
        *("/integration", "See how a game reads"),
    ),
    # Notices (coinslot/ledger/notices.py): a report that a person has to look at.
    "unnamed_event": Said(
        LOOK,
        "{count} [event|events] of {partner} named an order and not what happened to it: {named}. It may be a refund "
        "or a dispute, and nothing was done about it.",
        *("Look at the order in {partner}'s dashboard.", *_ORDERS),
    ),
    "empty_order": Said(
        WRONG,
        "{count} [paid order|paid orders] of {partner} named nothing to credit: {named}. The money is counted, and the "
        "player was given nothing.",
        *("Look at the offer in {partner}'s dashboard.", *_ORDERS),
    ),
    "unreadable_money": Said(
        LOOK,
        "{count} [order|orders] of {partner} [was|were] credited, and what was paid cannot be read: {named}. No month "
        "counts the money.",
        *("", *_ORDERS),
    ),
    "partial_refund": Said(
        LOOK,
        "{count} [refund|refunds] of {partner} may be of less than the order: {named}. The refund policy was applied "
        "to the whole order.",
        *("", *_ORDERS),
    ),
    "credited_twice": Said(
        WRONG,
        "{count} [purchase|purchases] of {partner} credited twice, under two ids each: {named}.",
        *("Reverse one of the two on its page.", *_ORDERS),
    ),
    "replayed": Said(
        LOOK,
        "{count} [order|orders] of {partner} from before a restore came again: {named}. If it was first credited by "
        "another id, the game has it under another transaction_id and was given it twice.",
        *("Compare.", *_ORDERS),
    ),
}
# Reason -> why calls that had proved themselves were refused, and what to do before they are sent again.
REFUSALS: Mapping[str, tuple[str, str]] = {
    "unknown_player": ("[its player is|their players are] not registered", "Register the [player|players]"),
    "unknown_item": ("[it names an item|they name items] that [is|are] not registered", "Register the [item|items]"),
    "unknown_status": (
        "the status is in neither of your lists",
        "Add [it|each] to {name}.completed_statuses or {name}.failed_statuses",
    ),
    "misplaced": ("[it|they] came to an address that takes no orders", "Correct the address in {partner}'s dashboard"),
    "misplaced_event": (
        "[it|they] came to an address that takes no events",
        "Correct the address in {partner}'s dashboard",
    ),
    "no_address": ("there is no such address", "Correct the address in {partner}'s dashboard"),
    "unknown_game": (
        "the address names no game that is set up for {partner}",
        "Correct the address in {partner}'s dashboard",
    ),
    "other_game": (
        "[it|they] came to the address of another game",
        "Correct the address in {partner}'s dashboard",
    ),
    "token": (
        "the signature is right and the token is not the one set here",
        "Set the token here as {partner}'s dashboard has it",
    ),
    "project": ("[it|they] came from another project", "Correct the project id in the settings"),
    "address": (
        "the caller's address is not on allowlist.{name}",
        "Compare allowlist.{name} with the addresses that {partner} publishes",
    ),
    "timestamp": (
        "[it was|they were] signed too long before [it|they] came, or in the future",
        "Compare this machine's clock with a time server",
    ),
    "game_down": ("the game could not be reached", "Look at its destinations"),
    "lookup_failed": ("the game's server did not say whether it knows the player", "Look at players.lookup_url"),
    "malformed": ("[it|they] cannot be read", "Look at what is wrong in the [call|calls]"),
    NEVER_CAME: ("", ""),
}


def say_refused(partner: str, reason: str) -> tuple[str, str]:
    """Why one call that had proved itself was refused, in the past tense, and what mends it."""
    why, first = REFUSALS.get(reason, REFUSALS["malformed"])
    card = next((each for each in partners() if each.name == partner), None)
    values = {"partner": shown(partner, 80) if card is None else card.title, "name": partner}
    why, first = (_chosen(each, 1).format_map(values) for each in (why, first))
    then = "" if card is None else f" Then {card.send_again}."
    return re.sub(r"\bis\b", "was", why), f"{first}.{then}"


def say(found: Found, game: Game | None) -> Trouble:
    """The trouble in words."""
    values = _values(found, game)
    if found.kind == "refused_order":
        said = _of_refused(found)
        values["named"] = f": {values['named']}" if found.named else ""
    else:
        said = SENTENCES[found.kind]
        if found.kind == "job" and (found.count or 0) < FEW_FAILURES:
            said = replace(said, severity=LOOK)  # it may well succeed the next time
        if said.link == _JOB_PAGE and game is None:
            said = replace(said, remedy="The server's log says more.", link="", label="")
    sentence, remedy, link, label = (
        _chosen(each, found.count).format_map(values) for each in (said.sentence, said.remedy, said.link, said.label)
    )
    return Trouble(
        key=found.key,
        severity=said.severity,
        sentence=sentence,
        remedy=remedy,
        link=f"/games/{game.slug}{link}" if game is not None and link else link,
        label=label if link else "",
        game=None if game is None else game.slug,
        since=found.since,
        latest=found.latest,
        count=1 if found.count is None else found.count,
        money=summed(found.stake),
    )


def _of_refused(found: Found) -> Said:
    if found.detail == NEVER_CAME:
        sentence = "{count} [order|orders] that {partner} lists as paid never came here{named}."
        return Said(WRONG, sentence, "For [it|each], {send_again}.", *_CALLS)
    why, first = REFUSALS.get(found.detail, REFUSALS["malformed"])
    severity = NOTE if found.is_test else LOOK if found.is_question else WRONG
    test = "In the sandbox: " if found.is_test else ""
    then = f"{first}. [Then|Then, for each,] {{send_again}}." if found.named else f"{first}."
    return Said(severity, f"{test}{_REFUSED}: {why}{{named}}.", then, *_CALLS)


def _values(found: Found, game: Game | None) -> dict[str, str]:
    """What the sentences put in: anybody's text is shown safely, and quoted where it is part of an address."""
    card = next((each for each in partners() if each.name == found.subject), None)
    in_game = next(each for each in partners() if each.in_game is not None)
    owner = found.subject.partition(".")[0]  # the partner, in names of keys and jobs
    named = [f"{shown(name, 80)}{f' ({shown(detail, 200)})' if detail else ''}" for name, detail in found.named]
    more = (found.count or 0) - len(named)
    is_destination = found.subject.startswith(SIGNING_PREFIX)
    is_order = bool(found.named) and found.endpoint != "events"
    return {
        "count": capped(found.count, MOST_COUNTED.get(found.kind, NOTICES if named else troubles.MOST)),
        "one": "order" if is_order else "call",
        "many": "orders" if is_order else "calls",
        "subject": shown(found.subject, 80),
        "job": f"“{shown(job_name(found.subject), 80)}”",
        "quoted": quote(found.subject, safe=""),
        "reason": quote(found.detail, safe=""),
        "detail": shown(found.detail, 500 if found.kind == "job_warning" else 200),
        "since": ago(found.since),
        "lasted": for_time(found.since),
        "since_at": utc_moment(found.since)[:16],
        "endpoint": shown(found.endpoint, 80),
        "usual": (
            f"silence.{shown(found.subject, 80)} allows {found.detail}"
            if found.usual_seconds is None
            else f"its longest usual pause is {lasting(found.usual_seconds)}"
        ),
        "reading": _reading(found) if found.kind == "unread" else "",
        "last_seen": f"the last one was seen {ago(found.since)}" if found.since else "none has been seen yet",
        "why": _chosen(WHY.get(found.detail, ""), found.count),
        "meant": _meant(found, game) if found.kind == "no_address" else "",
        "named": ", ".join(named) + (f" and {more:,} more" if more > 0 else ""),
        "query": f"?{urlencode({'q': found.named[0][0]})}" if len(found.named) == 1 else "",
        "partner": shown(found.subject, 80) if card is None else card.title,
        "name": quote(found.subject),
        "game": "" if game is None else game.slug,
        "send_again": "" if card is None else card.send_again,
        "in_game": in_game.title,
        "in_game_name": in_game.name,
        "job_page": "payments" if owner == in_game.name else f"integration/{quote(owner)}",
        "key_page": "settings" if is_destination else f"integration/{quote(owner)}",
        "rotate": "destination rotate" if is_destination else "secret rotate",
        "key_name": shown(found.subject.removeprefix(SIGNING_PREFIX), 80),
    }


# Of the ring no more is kept, so there may have been more; likewise of grants.
MOST_COUNTED = dict.fromkeys(troubles.UNPROVED, KEPT_PER_PARTNER - 1) | {
    "unread": feeds.MOST,
    "refused_order": troubles.MOST,
}
# Reason -> what was wrong with calls that proved nothing.
WHY: Mapping[str, str] = {
    "signature": "[its signature was|their signatures were] wrong",
    "token": "[its token was|their tokens were] wrong",
    "project": "[it|they] came from another project",
    "encryption": "[it|they] could not be decrypted",
    "app_id": "[it names|they name] another AppId",
    "unknown_game": "[it|they] named no game that is set up",
}


def _reading(found: Found) -> str:
    """When the game last read its feed, and how long it usually takes."""
    if not found.detail:
        return "the game has never read its feed"
    usual = "" if found.usual_seconds is None else f"; it usually takes {lasting(found.usual_seconds)} at most"
    return f"the game last read its feed {ago(found.detail)}{usual}"


def _chosen(template: str, count: int | None) -> str:
    return re.sub(r"\[([^|\]\[]*)\|([^|\]\[]*)\]", r"\1" if count == 1 else r"\2", template)


def _meant(found: Found, game: Game | None) -> str:
    near = wrong_addresses.nearest(found.detail, partners(), [] if game is None else [game.slug])
    return "" if near is None or not near.meant else f" Did you mean {near.meant}?"
