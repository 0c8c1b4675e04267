"""Troubles in words, each with the link that mends it. What is found, and how: ``coinslot/operations/troubles.py``."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from flask import current_app

from coinslot.access.keyring import SIGNING_PREFIX
from coinslot.access.vault import VaultError
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.operations import troubles
from coinslot.operations.findings import WARNING, WRONG, Finding
from coinslot.operations.troubles import Trouble
from coinslot.store.db import Connection, DatabaseError, EngineError
from handlers.kit import notice_sentences, wrong_addresses
from handlers.kit.receive import partners
from handlers.kit.wording import ago, capped, shown

LEAST_FREE_BYTES = 64 * 1024 * 1024  # below this a credit is about to fail
LITTLE_FREE_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Told:
    """A trouble as the page says it: whose, what, and where it is mended (no link: ``text`` says how)."""

    kind: str
    text: str
    link: str = ""
    label: str = ""
    game: str = ""  # its name; empty where it concerns all
    is_bad: bool = True  # money or grants wait for it; else it can wait for a quiet hour


# Kinds of troubles for which the doctor has checks of its own.
CHECKED_BY_DOCTOR = frozenset(
    "no_password no_relay down paused job late_job rotation refused no_players no_items dead overdue conflicts "
    "payment_conflicts refunds_ambiguous refunds_waiting payments_parked payments_quarantined payment_refunds "
    "conversions".split()
)

UNREADABLE = Told(
    "unreadable", "The database could not be read, so nobody knows what else is wrong. On the server, run flask doctor."
)


def told(installation: Installation, connection: Connection, outlines: Sequence[Game]) -> list[Told]:
    """Everything that is wrong, the worst first; what could not be looked at is told too."""
    found: list[Told] = [*_machine(installation, connection)]
    try:
        known = troubles.find(connection)
    except (EngineError, DatabaseError) as error:
        current_app.logger.error("troubles could not be read: %s", error)
        return [UNREADABLE, *found]
    by_slug = {game.slug: game for game in outlines}
    for trouble in known:
        game = None if trouble.game is None else by_slug.get(trouble.game)
        if trouble.kind in ("no_players", "no_items") and (game is None or not is_begun(game)):
            continue  # a game nobody can credit yet has other things to do first
        found.append(_in_words(trouble, game))
    for game in outlines:
        for partner in partners():
            found += [
                Told(
                    "lacking",
                    f"{partner.title}: {sentence}.",
                    f"/games/{game.slug}/integration/{partner.name}",
                    "Set it",
                    game.name,
                )
                for sentence in partner.lacking(game)
            ]
    return sorted(found, key=lambda each: not each.is_bad)


def findings(connection: Connection, outlines: Sequence[Game]) -> Iterator[Finding]:
    """For ``flask doctor``: the troubles that it has no check of its own for, in the same words."""
    by_slug = {game.slug: game for game in outlines}
    for trouble in troubles.find(connection):
        if trouble.kind not in CHECKED_BY_DOCTOR:
            said = _in_words(trouble, None if trouble.game is None else by_slug.get(trouble.game))
            whose = f"game {trouble.game}: " if trouble.game else ""
            where = f" See the page {said.link}." if said.link else ""
            yield Finding(WRONG if said.is_bad else WARNING, f"{whose}{said.text}{where}")


def _machine(installation: Installation, connection: Connection) -> list[Told]:
    found = []
    try:
        installation.vault.current(connection)
    except (VaultError, EngineError, DatabaseError, OSError):
        text = "The master key is missing or is not the one the secrets are under: every call is refused for now."
        found.append(Told("key", f"{text} Put the right key back; flask doctor says which that is."))
    try:
        free = shutil.disk_usage(installation.settings.home).free
    except OSError:
        return [*found, Told("disk", "How much room the disk has left is unknown.", is_bad=False)]
    if free < LITTLE_FREE_BYTES:
        text = f"The disk is nearly full: {free // 2**20:,} MiB are left. Make room before credits begin to fail."
        found.append(Told("disk", text, is_bad=free < LEAST_FREE_BYTES))
    return found


def is_begun(game: Game) -> bool:
    """Whether a key of a partner's has been entered."""
    return any(name in game.secrets for partner in partners() for name in partner.secrets)


def _in_words(trouble: Trouble, game: Game | None) -> Told:
    count = capped(trouble.count)
    one = trouble.count == 1
    subject, detail = shown(trouble.subject, 80), shown(trouble.detail, 200)
    card = next((each for each in partners() if each.name == trouble.subject), None)
    of_partner = subject if card is None else card.title
    at = "" if game is None else f"/games/{game.slug}"
    name = "" if game is None else game.name
    partner = trouble.subject.partition(".")[0]

    def say(text: str, link: str = "", label: str = "", *, is_bad: bool = True) -> Told:
        return Told(trouble.kind, text, at + link if link else "", label, name, is_bad)

    if card is not None and trouble.kind in notice_sentences.SENTENCES:
        return say(
            *notice_sentences.SENTENCES[trouble.kind](trouble, card), is_bad=trouble.kind in notice_sentences.BAD
        )
    match trouble.kind:
        case "no_password":
            return Told(trouble.kind, "No password is set for these pages.", "/account", "Set one")
        case "no_relay":
            seen = f"the last one was seen {ago(trouble.detail)}" if trouble.detail else "none has been seen yet"
            text = f"Nothing is delivered: no relay is running, {seen}. It is part of the server: start that again, or"
            return Told(trouble.kind, f"{text} run flask relay where COINSLOT_RELAY is off.")
        case "down":
            text = f"{subject} has not answered as it should since {ago(trouble.detail)}. What it is owed waits, and"
            link = f"/deliveries?{urlencode({'state': 'waiting', 'destination': trouble.subject})}"
            return say(f"{text} one delivery at a time tries it.", link, "See what it answers")
        case "paused":
            return say(f"{subject} paused itself: {detail}. What it is owed waits.", "/deliveries", "Resume it")
        case "dead":
            text = f"{count} {'delivery is a dead letter' if one else 'deliveries are dead letters'}: tried again and"
            return say(f"{text} again, and not any more.", "/deliveries?state=dead", "Look and redrive")
        case "overdue":
            text = f"{count} {'delivery has' if one else 'deliveries have'} been due for over an hour."
            return say(text, "/deliveries?state=waiting", "See what they wait for")
        case "conflicts":
            text = f"In 7 days {count} {'call' if one else 'calls'} named a known transaction with other content."
            return say(
                f"{text} The first one stands, and nothing more was credited.", "/conflicts", "Judge", is_bad=False
            )
        case "payment_conflicts":
            text = f"In 7 days {count} {'payment was' if one else 'payments were'} reported again with other content."
            return say(text, "/payments?state=conflicts", "Compare", is_bad=False)
        case "refunds_ambiguous":
            text = f"{count} {'refund names' if one else 'refunds name'} no one order."
            return say(f"{text} Nothing was taken back for {'it' if one else 'them'}.", "/refunds", "Settle")
        case "refunds_waiting":
            text = f"{count} {'refund has' if one else 'refunds have'} waited for the order for over a day."
            return say(text, "/refunds", "Look", is_bad=False)
        case "payments_parked":
            text = f"{count} {'payment is' if one else 'payments are'} parked: not to be sent as reported."
            return say(text, "/payments?state=parked", "See why")
        case "payments_waiting":
            text = f"{count} {'payment or refund has' if one else 'payments or refunds have'} waited for over a day to"
            return say(f"{text} be taken by PlayCamp.", "/payments?state=waiting", "See why")
        case "payments_quarantined":
            text = f"{count} {'payment was' if one else 'payments were'} refused too often and not tried any more."
            return say(text, "/payments?state=quarantined", "See why and try again")
        case "payment_refunds":
            text = f"The refund of {count} {'payment was' if one else 'payments was'} refused too often."
            return say(text, "/payments?state=refund-refused", "See why and try again")
        case "conversions":
            text = f"{count} {'event fits' if one else 'events fit'} no format of the game's, and later ones of the"
            return say(f"{text} same players wait.", "/integration/playcamp", "Mend the expression")
        case "job":
            times = "once" if one else f"{count} times in a row"
            return say(f"The job {subject} has failed {times}: {detail}", f"/{_job_page(partner)}", "Look")
        case "job_warning":
            return say(f"The job {subject}: {shown(trouble.detail, 500)}.", f"/{_job_page(partner)}", "Look")
        case "late_job":
            text = f"The job {subject} has been due for over an hour. Is a relay running?"
            return say(text, f"/{_job_page(partner)}", "Look")
        case "rotation":
            where = "settings" if trouble.subject.startswith(SIGNING_PREFIX) else f"integration/{quote(partner)}"
            text = f"The rotation of {subject} began {ago(trouble.detail)}, and its previous value is still valid."
            return say(text, f"/{where}", "Finish it", is_bad=False)
        case "old_token":
            text = f"The API token was replaced {ago(trouble.detail)}, and the one before is still valid."
            return say(text, "/settings#token", "Retire it", is_bad=False)
        case "refused":
            why = "their signature was wrong" if trouble.detail == "signature" else "they were too old"
            why = why.replace("their", "its").replace("they were", "it was") if one else why
            text = (
                f"{count} {'call' if one else 'calls'} of {of_partner} {'was' if one else 'were'} refused in 24 hours"
            )
            return say(f"{text}: {why}.", f"/refusals?{urlencode({'partner': trouble.subject})}", "Find out why")
        case "no_address":
            near = wrong_addresses.nearest(trouble.detail, partners(), [] if game is None else [game.slug])
            meant = "" if near is None or not near.meant else f" Did you mean {near.meant}?"
            text = (
                f"In 7 days {count} {'call' if one else 'calls'} went to {detail}, and there is no such address.{meant}"
            )
            link = f"{at}/refusals?{urlencode({'reason': trouble.kind})}"
            return Told(
                trouble.kind, f"{text} Correct it in {of_partner}'s dashboard.", link, "Look at the calls", name, False
            )
        case "no_players" | "no_items":
            what = "player" if trouble.kind == "no_players" else "item"
            text = f"No {what} is registered, and unknown ones are refused: so is every credit."
            return say(text, "/settings", "Change that")
    return say(f"{trouble.kind}: {count} {detail}")


def _job_page(partner: str) -> str:
    return "payments" if partner == "playcamp" else f"integration/{quote(partner)}"
