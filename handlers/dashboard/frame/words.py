"""Filters and globals of the templates: money, times, states, links. State words are those of the database."""

import json
import re
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, request, url_for

from handlers.dashboard.frame.help import help_address
from handlers.dashboard.frame.times import day, hover, moment, zone_in_words
from handlers.kit.job_names import job_name
from handlers.kit.receive import partners
from handlers.kit.wording import ago, amount, capped, delay, for_time, money, number, until, utc_moment

# Word in the address -> what the page says after a change. A link of a stranger can say nothing else.
SAID = {
    "saved": "Saved.",
    "removed": "Removed.",
    "redriven": "Redriven: it will be delivered.",
    "reversed": "Reversed.",
    "signed-out": "You are signed out.",
    "ended": "The other browsers are signed out.",
    "redelivered": "It will be delivered again.",
    "refund-sent": "The refund has begun. This page says when the money is back.",
    "refund-refused": "The refund was refused. This page says why.",
    "refund-unknown": "There was no answer. The refund may have begun, and is not sent again.",
    "refund-done": "The money is on its way back.",
    "forgotten": "The player is forgotten. The sums stay.",
    "nothing": "There was nothing to do.",
    # deliveries and payments
    "put-back": "Redriven: they will be sent.",
    "paused": "Paused. Its deliveries wait until you resume it.",
    "resumed": "Resumed. What has waited longest goes first.",
    "too-late": "That took too long. Please enter your password once more.",
    "password": "Your password is changed. The other browsers are signed out.",
    "zone": "Times on all pages are in this zone now.",
    "session-ended": "That browser is signed out.",
    "person-removed": "Removed, and signed out everywhere.",
    "person-signed-out": "Signed out everywhere.",
    "second-factor-off": "The second factor is off.",
    "added": "Added.",
    "alert-added": "Added. Send a test, to be sure that it arrives.",
    "test-arrived": "The service took the test. Look whether it reached you.",
    "heartbeat-off": "The heartbeat is off.",
    "retired": "The old value is no longer valid.",
    # integration
    "polling": "Saved. Payments are asked for from now on.",
    "polling-off": "Polling is stopped. What was read stays.",
    "key-set": "The key is set. It holds from the next call on.",
    "key-rotated": "The new value is set. The old one stays valid until you retire it.",
    "key-mistyped": "The new value is set. The one before was never used and is gone; the older one stays valid.",
    "key-replaced": "The new value is set, and the old one is no longer valid.",
    "keys-saved": "The keys are saved. They hold from the next call on.",
    "key-nothing": "No key was entered, so nothing has changed.",
    "key-retired": "The previous value is no longer valid.",
    # refused calls
    "mended": "Done. What the call lacked is there now.",
    "set-aside": "Set aside.",
    "opened-again": "Open again.",
    # settlements
    "reconciling": "It is being compared now.",
    "accepted": "The month is reconciled, with the differences there are.",
}

# Tone -> the state words in its colour: done, being waited for or to be looked at, wrong, over. Every state of the
# schema is here, and every word that a page says of one; screen readers read the word.
TONES = {
    "good": """
        credited delivered registered converted active ok seen done restored matched on reconciled payment_confirmed
        creators_settled mended repeated
    """,
    "busy": """
        waiting claimed parked paused down test unset previous note warning old missing_there amount_differs
        refunded_there refunded_here unknown requested unreadable at_edge id_altered reading comparing searching
        adjustment orders incomplete kept
    """,
    "bad": "dead refused open conflict quarantined failing wrong ambiguous missing missing_here too_large",
    "calm": """
        open_month closed reopened reversed refunded ignored aside off removed replaced free unproved sent given_up
    """,
}
TONE_OF = {word: tone for tone, words in TONES.items() for word in words.split()}
TONE_OF |= dict.fromkeys(("still used", "not entered", "safe to retire", "not registered yet"), "busy")


def register(bp: Blueprint) -> None:
    of_values = (amount, job_name, money, moment, utc_moment, day, hover, ago, for_time, number)
    filters = (*of_values, partner_title, filled, delay, browser_name, tone, capped, until)
    for function in filters:
        bp.add_app_template_filter(function, function.__name__)
    for maker in (said, with_query, player_address, payment_address, zone_in_words, help_address):
        bp.add_app_template_global(maker, maker.__name__)


def partner_title(name: str) -> str:
    """What people call a partner: Appcharge for appcharge. The name of one that is not known stays."""
    return next((each.title for each in partners() if each.name == name), name)


def filled(content: str) -> str:
    """The JSON object of an event without the fields that are null; other text stays as it is."""
    try:
        found = json.loads(content)
    except ValueError:
        return content
    if not isinstance(found, dict):
        return content
    return json.dumps({name: value for name, value in found.items() if value is not None}, ensure_ascii=False)


def browser_name(user_agent: str) -> str:
    """Name and system of a browser. The order matters: each browser names its ancestors, too."""
    names = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrom", "Chrome"), ("Safari/", "Safari"))
    systems = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac", "Mac"))
    name = next((name for sign, name in names if sign in user_agent), "A browser")
    system = next((name for sign, name in (*systems, ("Linux", "Linux")) if sign in user_agent), None)
    return name if system is None else f"{name} on {system}"


def tone(word: str) -> str:
    return TONE_OF.get(word, "calm")


def said() -> str | None:
    """The sentence about the change before this page."""
    return SAID.get(request.args.get("said", ""))


def with_query(**changed: object) -> str:
    """The address of this page with parts of its query changed; None removes one."""
    query = {name: value for name, value in request.args.items() if name != "said"}
    query.update({name: str(value) for name, value in changed.items() if value is not None})
    kept = {name: value for name, value in query.items() if name not in changed or changed[name] is not None}
    return f"{request.path}?{urlencode(kept)}" if kept else request.path


def player_address(player_id: str, **query: Any) -> str:
    """The page of a player of this game, or of the one that ``slug`` names, whatever the id is."""
    return _address("player", "players", "player_id", player_id, **query)


def payment_address(transaction_id: str, **query: Any) -> str:
    """The page of a payment of this game, or of the one that ``slug`` names, whatever its id is."""
    return _address("payment", "payments", "transaction_id", transaction_id, **query)


def _address(endpoint: str, of_list: str, name: str, value: str, **query: Any) -> str:
    """Browsers and proxies change dots, slashes and percents in a path: an id with such goes into the query."""
    if re.fullmatch(r"[A-Za-z0-9_:@~-][A-Za-z0-9_.:@~-]*", value):
        return url_for(f"dashboard.{endpoint}", **(query | {name: value}))
    return url_for(f"dashboard.{of_list}", id=value, **query)
