"""How the pages say things: money, moments, states. Filters of the templates; state words are the database's."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

from flask import Blueprint, request

from coinslot.base import clock
from coinslot.base import money as amounts

NOTHING = "\N{EN DASH}"
LONGEST_CODE = 10  # of a currency
LONGEST_SHOWN = 300  # characters of anybody's text in a list

# What a page says after a change, by the word in its address: nobody can have it say something else by a link.
SAID = {
    "saved": "Saved.",
    "removed": "Removed.",
    "redriven": "Put back: it will be delivered again.",
    "reversed": "Reversed.",
    "signed-out": "You are signed out.",
    "ended": "The other browsers are signed out.",
    "redelivered": "It will be delivered again.",
    "forgotten": "The player is forgotten. The sums stay.",
    "nothing": "There was nothing to do.",
    # deliveries and payments
    "put-back": "Put back: they will be sent again.",
    "paused": "Paused. What is owed waits until you resume it.",
    "resumed": "Resumed. What has waited longest goes first.",
    "too-late": "That took too long. Please enter your password once more.",
    "password": "Your password is changed. The other browsers are signed out.",
    "session-ended": "That browser is signed out.",
    "second-factor-off": "The second factor is off.",
    "added": "Added.",
    "retired": "The old value is no longer valid.",
    # integration
    "key-set": "The key is set. It holds from the next call on.",
    "key-rotated": "The new value is set. The old one stays valid until you retire it.",
    "key-mistyped": "The new value is set. The one before was never used and is gone; the older one stays valid.",
    "key-replaced": "The new value is set, and the old one is no longer valid.",
    "key-retired": "The previous value is no longer valid.",
    # settlements
    "reconciling": "It is being compared now. Look again in a moment.",
    "accepted": "The month is reconciled, with the differences there are.",
}

# State word -> its tone, which colours it. A reader of the screen hears the word.
TONES = {
    "good": (
        "credited",
        "delivered",
        "registered",
        "converted",
        "active",
        "ok",
        "seen",
        "done",
        "restored",
        "matched",
        "on",
        *("reconciled", "payment_confirmed", "creators_settled"),
    ),
    "bad": ("dead", "refused", "conflict", "quarantined", "failing", "wrong", "ambiguous", "missing", "missing_here"),
    "busy": (
        "waiting",
        "parked",
        "paused",
        "down",
        "test",
        "unset",
        "previous",
        "note",
        "warning",
        "old",
        "still used",
        "not entered",
        "safe to retire",
        *(
            "missing_there",
            "amount_differs",
            "refunded_there",
            "refunded_here",
            "unreadable",
            "at_edge",
            "id_altered",
            "reading",
            "comparing",
            "searching",
        ),
    ),
    "calm": ("reversed", "ignored", "repeated", "kept", "removed", "refunded"),
}

# Controls and the marks that turn the direction of text around; line breaks and tabs may stay.
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def register(bp: Blueprint) -> None:
    for function in (money, moment, day, ago, number, shown, delay, browser_name, tone, capped, until):
        bp.add_app_template_filter(function, function.__name__)
    bp.add_app_template_global(said)
    bp.add_app_template_global(with_query)


def money(minor: int | Decimal | None, currency: str | None) -> str:
    """Minor units as people write them: 9.99 USD, 1,200 JPY, 1.500 KWD; 999 minor units of what nobody knows."""
    return NOTHING if minor is None else amounts.written(minor, shown(currency or "", LONGEST_CODE))


def moment(stamp: str | None) -> str:
    """A stored time to the second, in UTC, as everything here is."""
    return NOTHING if not stamp else f"{stamp[:10]} {stamp[11:19]}"


def day(stamp: str | None) -> str:
    return NOTHING if not stamp else stamp[:10]


def ago(stamp: str | None) -> str:
    """How long ago a stored time is, in words."""
    if not stamp:
        return "never"
    seconds = clock.now() - clock.seconds(stamp)
    if seconds < -1:
        return f"at {moment(stamp)}"
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count:,} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def number(value: int | None) -> str:
    """A figure; one that could not be read is unknown and not 0."""
    return "unknown" if value is None else f"{value:,}"


def capped(value: int | None, most: int = 10_000) -> str:
    """A count that was not made further than ``most`` and one."""
    return f"{most:,}+" if value is not None and value > most else number(value)


def until(stamp: str | None) -> str:
    """How long it is to a stored time, in words."""
    if not stamp:
        return "never"
    seconds = clock.seconds(stamp) - clock.now()
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"in {count:,} {unit}{'' if count == 1 else 's'}"
    return "now" if seconds <= 0 else "in less than a minute"


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """Anybody's text, safe to look at: what cannot be seen is made visible, what is too long is cut. Not escaped."""
    text = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", str(value))
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def delay(seconds: int | str) -> str:
    """Seconds in the largest unit that has no remainder: 5 s, 1 min, 2 h."""
    count = int(seconds)
    for size, unit in ((3600, "h"), (60, "min")):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} s"


def browser_name(user_agent: str) -> str:
    """What a browser is, as far as people care. The order matters: each names its ancestors too."""
    names = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrom", "Chrome"), ("Safari/", "Safari"))
    systems = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac", "Mac"))
    name = next((name for sign, name in names if sign in user_agent), "A browser")
    system = next((name for sign, name in (*systems, ("Linux", "Linux")) if sign in user_agent), None)
    return name if system is None else f"{name} on {system}"


def tone(word: str) -> str:
    return next((name for name, words in TONES.items() if word in words), "calm")


def said() -> str | None:
    """What has just been done, when the address says so."""
    return SAID.get(request.args.get("said", ""))


def with_query(**changed: object) -> str:
    """This page's address with some of its query changed; None leaves one out."""
    query = {name: value for name, value in request.args.items() if name != "said"}
    query.update({name: str(value) for name, value in changed.items() if value is not None})
    kept = {name: value for name, value in query.items() if name not in changed or changed[name] is not None}
    return f"{request.path}?{urlencode(kept)}" if kept else request.path


def days_back(count: int) -> list[str]:
    """The last ``count`` UTC days, the oldest first, today last."""
    now = clock.now()
    return [datetime.fromtimestamp(now - 86400 * back, UTC).date().isoformat() for back in reversed(range(count))]
