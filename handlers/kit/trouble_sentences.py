"""The sentence and the link of each kind of trouble. ``coinslot/operations/troubles.py`` finds them.

In a sentence ``{name}`` is a value of :func:`_values`; of ``[one|many]`` the count selects one.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from flask import current_app

from coinslot.access.keyring import SIGNING_PREFIX
from coinslot.access.vault import VaultError
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.operations import troubles
from coinslot.operations.findings import LEAST_FREE_BYTES, LITTLE_FREE_BYTES, WARNING, WRONG, Finding
from coinslot.operations.troubles import NOTICES, Trouble
from coinslot.store.db import Connection, DatabaseError, EngineError
from handlers.kit import wrong_addresses
from handlers.kit.receive import partners
from handlers.kit.wording import ago, capped, shown

_ORDERS = ("/transactions{query}", "Look at the [order|transactions]")
_JOB = ("/{job_page}", "Look")

# Kind -> the sentence, a page (of its game, where it has one), what the link to it says.
SENTENCES: Mapping[str, tuple[str, str, str]] = {
    "no_password": ("No password is set for these pages.", "/account", "Set one"),
    "no_relay": (
        "Nothing is delivered: no relay is running, {last_seen}. It is part of the server: start that again, or run "
        "flask relay where COINSLOT_RELAY is off.",
        *("", ""),
    ),
    "down": (
        "{subject} has not answered as it should since {since}. Its deliveries wait, and one at a time is tried.",
        "/deliveries?state=waiting&destination={quoted}",
        "See what it answers",
    ),
    "paused": ("{subject} paused itself: {detail}. Its deliveries wait.", "/deliveries", "Resume it"),
    "dead": (
        "{count} [delivery is a dead letter|deliveries are dead letters]: every retry failed, and no more follow.",
        "/deliveries?state=dead",
        "Look and redrive",
    ),
    "overdue": (
        "{count} [delivery has|deliveries have] been due for over an hour.",
        "/deliveries?state=waiting",
        "See what they wait for",
    ),
    "conflicts": (
        "In 7 days {count} [call|calls] named a known transaction with other content. The first one counts, and "
        "nothing more was credited.",
        *("/conflicts", "Judge"),
    ),
    "payment_conflicts": (
        "In 7 days {count} [payment was|payments were] reported again with other content.",
        "/payments?state=conflicts",
        "Compare",
    ),
    "refunds_ambiguous": (
        "{count} [refund names|refunds name] no one order. Nothing was taken back for [it|them].",
        "/refunds?show=open",
        "Settle",
    ),
    "refunds_waiting": (
        "{count} [refund has|refunds have] waited for the order for over a day.",
        "/refunds?show=open",
        "Look",
    ),
    "payments_parked": (
        "{count} [payment is|payments are] parked: not to be sent as reported.",
        "/payments?state=parked",
        "See why",
    ),
    "payments_waiting": (
        "{count} [payment or refund has|payments or refunds have] waited for over a day to be taken by {in_game}.",
        "/payments?state=waiting",
        "See why",
    ),
    "payments_quarantined": (
        "{count} [payment was|payments were] refused too often and [is|are] not tried any more.",
        "/payments?state=quarantined",
        "See why and try again",
    ),
    "payment_refunds": (
        "[The refund of {count} payment was|The refunds of {count} payments were] refused too often.",
        "/payments?state=refund-refused",
        "See why and try again",
    ),
    "conversions": (
        "{count} [event does|events do] not fit the game's own format, and later ones of the same players wait.",
        "/integration/{in_game_name}",
        "Correct the expression",
    ),
    "job": ("The job {subject} has failed [once|{count} times in a row]: {detail}", *_JOB),
    "job_warning": ("The job {subject}: {detail}.", *_JOB),
    "late_job": ("The job {subject} has been due for over an hour. Is a relay running?", *_JOB),
    "rotation": (
        "The rotation of {subject} began {since}, and its previous value is still valid.",
        "/{key_page}",
        "Finish it",
    ),
    "old_token": (
        "The API token was replaced {since}, and the one before is still valid.",
        "/settings#token",
        "Retire it",
    ),
    "refused": (
        "{count} [call|calls] of {partner} [was|were] refused in 24 hours: {why}.",
        "/refusals?partner={quoted}",
        "Find out why",
    ),
    "no_address": (
        "In 7 days {count} [call|calls] went to {detail}, and there is no such address.{meant} Correct it in "
        "{partner}'s dashboard.",
        "/refusals?reason=no_address",
        "Look at the calls",
    ),
    "no_players": (
        "No player is registered, and unknown ones are refused: so is every credit.",
        *("/settings", "Change that"),
    ),
    "no_items": (
        "No item is registered, and unknown ones are refused: so is every credit.",
        *("/settings", "Change that"),
    ),
    # Notices (coinslot/ledger/notices.py): a report that a person has to look at.
    "unknown_status": (
        "Orders of {partner} are refused, because their status is in neither of your lists: {named}. Add [it|each] to "
        "{name}.completed_statuses or {name}.failed_statuses. Then, for each order that was paid, {send_again}.",
        "/settings",
        "Add to a list",
    ),
    "misplaced_order": (
        "{count} [order|orders] of {partner} came to an address that takes no orders, and credited nothing: {named}. "
        "Correct the address in {partner}'s dashboard. Then, for each order, {send_again}.",
        "/integration/{name}",
        "Look at the addresses",
    ),
    "unnamed_event": (
        "{count} [event|events] of {partner} named an order and not what happened to it: {named}. It may be a refund "
        "or a dispute, and nothing was done about it. Look at the order in {partner}'s dashboard.",
        *_ORDERS,
    ),
    "empty_order": (
        "{count} [paid order|paid orders] of {partner} named nothing to credit: {named}. The money is counted, and the "
        "player was given nothing. Look at the offer in {partner}'s dashboard.",
        *_ORDERS,
    ),
    "partial_refund": (
        "{count} [refund|refunds] of {partner} may be of less than the order: {named}. The refund policy was applied "
        "to the whole order.",
        *_ORDERS,
    ),
    "credited_twice": (
        "{count} [purchase|purchases] of {partner} credited twice, under two ids each: {named}. Reverse one of the two "
        "on its page.",
        *_ORDERS,
    ),
    "replayed": (
        "{count} [order|orders] of {partner} from before a restore came again: {named}. If it was first credited by "
        "another id, the game has it under another transaction_id and was given it twice. Compare.",
        *_ORDERS,
    ),
}
# Kinds for which neither money nor grants wait: they can wait for a quiet hour.
NOT_BAD = frozenset(
    "conflicts payment_conflicts refunds_waiting rotation old_token no_address unnamed_event empty_order "
    "partial_refund replayed".split()
)
# A player paid and has nothing, or has it twice, or a job cannot do its work: ``flask doctor`` calls it WRONG.
WRONG_FOR_DOCTOR = frozenset(("unknown_status", "misplaced_order", "credited_twice", "job_warning"))
# Kinds that checks of the doctor's own say with more detail.
CHECKED_BY_DOCTOR = frozenset("no_password rotation old_token refused no_players no_items conversions".split())


@dataclass(frozen=True)
class Entry:
    """A trouble as the page shows it. ``link`` leads to the page that corrects it; empty: ``text`` says how."""

    kind: str
    text: str
    link: str = ""
    label: str = ""
    game: str = ""  # its name; empty where it concerns all
    is_bad: bool = True  # money or grants wait for it


UNREADABLE = Entry(
    "unreadable", "The database could not be read, so nobody knows what else is wrong. On the server, run flask doctor."
)


def list_troubles(installation: Installation, connection: Connection, outlines: Sequence[Game]) -> list[Entry]:
    """Everything that is wrong, the worst first, including what could not be checked."""
    found = _machine(installation, connection)
    try:
        known = troubles.find(connection)
    except (EngineError, DatabaseError) as error:
        current_app.logger.error("troubles could not be read: %s", error)
        return [UNREADABLE, *found]
    by_slug = {game.slug: game for game in outlines}
    for trouble in known:
        game = by_slug.get(trouble.game or "")
        if trouble.kind in ("no_players", "no_items") and (game is None or not is_begun(game)):
            continue  # a game nobody can credit yet has other things to do first
        found.append(_say(trouble, game))
    for game in outlines:
        for partner in partners():
            page = f"/games/{game.slug}/integration/{partner.name}"
            for sentence in partner.lacking(game):
                found.append(Entry("lacking", f"{partner.title}: {sentence}.", page, "Set it", game.name))
    return sorted(found, key=lambda each: not each.is_bad)


def findings(connection: Connection, outlines: Sequence[Game]) -> Iterator[Finding]:
    """The same troubles for ``flask doctor``, without those that it has checks of its own for."""
    by_slug = {game.slug: game for game in outlines}
    for trouble in troubles.find(connection):
        if trouble.kind not in CHECKED_BY_DOCTOR:
            said = _say(trouble, by_slug.get(trouble.game or ""))
            whose = f"game {trouble.game}: " if trouble.game else ""
            where = f" See the page {said.link}." if said.link else ""
            yield Finding(WRONG if trouble.kind in WRONG_FOR_DOCTOR else WARNING, f"{whose}{said.text}{where}")


def is_begun(game: Game) -> bool:
    """Whether a key of a partner's has been entered."""
    return any(name in game.secrets for partner in partners() for name in partner.secrets)


def _machine(installation: Installation, connection: Connection) -> list[Entry]:
    found = []
    try:
        installation.vault.current(connection)
    except (VaultError, EngineError, DatabaseError, OSError):
        text = "The master key is missing or is not the one the secrets are under: every call is refused for now."
        found.append(Entry("key", f"{text} Put the right key back; flask doctor says which that is."))
    try:
        free = shutil.disk_usage(installation.settings.home).free
    except OSError:
        return [*found, Entry("disk", "How much room the disk has left is unknown.", is_bad=False)]
    if free < LITTLE_FREE_BYTES:
        text = f"The disk is nearly full: {free // 2**20:,} MiB are left. Make room before credits begin to fail."
        found.append(Entry("disk", text, is_bad=free < LEAST_FREE_BYTES))
    return found


def _say(trouble: Trouble, game: Game | None) -> Entry:
    values = _values(trouble, game)

    text, link, label = (_chosen(each, trouble.count).format_map(values) for each in SENTENCES[trouble.kind])
    page = f"/games/{game.slug}{link}" if game is not None and link else link
    return Entry(trouble.kind, text, page, label, "" if game is None else game.name, trouble.kind not in NOT_BAD)


def _values(trouble: Trouble, game: Game | None) -> dict[str, str]:
    """What the sentences put in: anybody's text is shown safely, and quoted where it is part of an address."""
    card = next((each for each in partners() if each.name == trouble.subject), None)
    in_game = next(each for each in partners() if each.in_game is not None)
    owner = trouble.subject.partition(".")[0]  # the partner, in names of keys and jobs
    named = [f"{shown(name, 80)}{f' ({shown(detail, 200)})' if detail else ''}" for name, detail in trouble.named]
    more = (trouble.count or 0) - len(named)
    is_moment = trouble.kind in ("no_relay", "down", "rotation", "old_token")
    since = ago(trouble.detail) if is_moment else ""
    why = (
        "[its signature was|their signatures were] wrong"
        if trouble.detail == "signature"
        else "[it was|they were] too old"
    )
    return {
        "count": capped(trouble.count, NOTICES if named else troubles.MOST),
        "subject": shown(trouble.subject, 80),
        "quoted": quote(trouble.subject, safe=""),
        "detail": shown(trouble.detail, 500 if trouble.kind == "job_warning" else 200),
        "since": since,
        "last_seen": f"the last one was seen {since}" if trouble.detail else "none has been seen yet",
        "why": _chosen(why, trouble.count),
        "meant": _meant(trouble, game) if trouble.kind == "no_address" else "",
        "named": ", ".join(named) + (f" and {more:,} more" if more > 0 else ""),
        "query": f"?{urlencode({'q': trouble.named[0][0]})}" if len(trouble.named) == 1 else "",
        "partner": shown(trouble.subject, 80) if card is None else card.title,
        "name": quote(trouble.subject),
        "send_again": "" if card is None else card.send_again,
        "in_game": in_game.title,
        "in_game_name": in_game.name,
        "job_page": "payments" if owner == in_game.name else f"integration/{quote(owner)}",
        "key_page": "settings" if trouble.subject.startswith(SIGNING_PREFIX) else f"integration/{quote(owner)}",
    }


def _chosen(template: str, count: int | None) -> str:
    return re.sub(r"\[([^|\]]*)\|([^\]]*)\]", r"\1" if count == 1 else r"\2", template)


def _meant(trouble: Trouble, game: Game | None) -> str:
    near = wrong_addresses.nearest(trouble.detail, partners(), [] if game is None else [game.slug])
    return "" if near is None or not near.meant else f" Did you mean {near.meant}?"
