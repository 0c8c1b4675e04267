"""The search over all games: what an id, a name or an e-mail address leads to, one row each.

One exact hit gets the page too, and no redirect: the row says what was found and in which state, and one id may lead to
several things.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Response, request, url_for

from coinslot.base import clock
from coinslot.games import games
from coinslot.ledger.refused import NEVER_CAME
from coinslot.operations import search_all
from coinslot.operations.search_all import Hit
from coinslot.store.db import Row
from handlers.dashboard.frame.pages import page, read
from handlers.dashboard.frame.privacy import private
from handlers.dashboard.frame.times import day, moment
from handlers.dashboard.frame.words import payment_address, player_address
from handlers.kit.receive import current_installation
from handlers.kit.trouble_sentences import say_refused
from handlers.kit.wording import money

TOO_LONG = f"Search for at most {search_all.LONGEST} characters: the beginning of an id is enough."


@dataclass(frozen=True)
class Shown:
    """A row of the page. ``how`` says how it was found, where that was not by exactly this text."""

    what: str
    text: str
    how: str
    link: str | None
    player_id: str | None
    player_link: str | None
    amount: str
    at: str
    states: Sequence[str]
    remedy: str = ""


def search_everything() -> Response:
    """Never says in its title what was searched, since browsers keep titles."""
    wanted = request.args.get("q", "").strip()
    is_too_long = len(wanted) > search_all.LONGEST
    connection = read()
    found = search_all.find(connection, current_installation().vault, "" if is_too_long else wanted)
    hits_of: dict[int, list[Hit]] = {}
    for hit in found.hits:
        hits_of.setdefault(hit.game_id, []).append(hit)
    known = {row["id"]: row for row in games.every(connection)} if hits_of else {}
    return page(
        "search.html",
        400 if is_too_long else 200,
        problem=TOO_LONG if is_too_long else None,
        wanted=wanted,
        groups=[(known[game_id], [_shown(hit, known[game_id]) for hit in hits]) for game_id, hits in hits_of.items()],
        is_cut=found.is_cut,
        is_address=search_all.is_address(wanted),
    )


def _shown(hit: Hit, game: Row) -> Shown:
    row, slug = hit.row, game["slug"]
    player_id = row["player_id"]
    player_link = None if player_id is None else player_address(player_id, slug=slug)
    how = "" if hit.is_exact else "begins so"
    if hit.what == "player":
        return _player(hit, slug, player_link)
    if hit.what == "call":
        return _call(hit, slug, how)
    if hit.what == "transaction":
        link: str | None = url_for("dashboard.transaction", slug=slug, public_id=row["public_id"])
        states = [
            "restored" if row["is_restored"] else "reversed" if row["is_reversed"] else "credited",
            *(["conflict"] if row["has_conflict"] else []),
        ]
        what, amount = f"{row['kind']}, {row['partner']}", money(row["gross_minor"], row["currency"])
    else:
        states = [row["state"]] if row["state"] else []
        what = f"{hit.what} {row['type'] or ''}, {row['partner']}"
        amount = money(row["gross_minor"], row["currency"])
        if hit.what == "payment":
            link = payment_address(row["target"], slug=slug)
            amount = "" if row["amount"] is None else f"{row['amount']} {row['currency'] or ''}"
        elif hit.what == "delivery":
            link = url_for("dashboard.delivery", slug=slug, delivery_id=row["id"])
        elif row["public_id"] is not None:
            link = url_for("dashboard.transaction", slug=slug, public_id=row["public_id"])
        else:
            link = player_link
    states += ["test"] if row["is_test"] else []
    return Shown(what, hit.matched or "", how, link, player_id, player_link, amount, hit.at, states)


def _call(hit: Hit, slug: str, how: str) -> Shown:
    """A refused call. Its page has what mends it, and so has the row as long as it is open."""
    row = hit.row
    why, remedy = say_refused(row["partner"], row["reason"])
    at = row["last_at"]
    time = moment(at)[:16].removeprefix(f"{day(clock.stamp())} ")
    name = row["reference"] or f"call {row['id']}"
    what = f"Refused at {time}: {why}"
    if row["reason"] == NEVER_CAME:
        what, remedy = f"{row['partner']} lists it as paid, and it never came here", remedy.lstrip(". ")
    link = url_for("dashboard.refusal", slug=slug, refusal_id=row["id"])
    states = ["refused"] if row["state"] == "open" else ["refused", row["state"]]
    states += ["test"] if row["is_test"] else []
    amount = "" if row["amount_minor"] is None else money(row["amount_minor"], row["currency"])
    player_id = row["player_id"]
    return Shown(
        *(f"{what} ({row['detail']})" if row["detail"] else what, hit.matched or name, how, link, player_id, None),
        *(amount, at, states, remedy if row["state"] == "open" else ""),
    )


def _player(hit: Hit, slug: str, link: str | None) -> Shown:
    row = hit.row
    if not row["is_registered"] and not row["is_in_ledger"]:
        link = url_for("dashboard.payments", slug=slug, q=row["player_id"]) if row["is_paying"] else None
    by = "by e-mail address" if hit.matched is None else "" if hit.is_exact else "begins so"
    what = "player" if row["name"] is None else f"player {private(row['name'])}"
    amount = "" if row["reference"] is None else money(row["gross_minor"], row["currency"])
    states = ["registered"] if row["is_registered"] else ["not registered"]
    text = hit.matched or row["player_id"]
    return Shown(what, text, by, link, row["player_id"], link, amount, row["received_at"] or "", states)
