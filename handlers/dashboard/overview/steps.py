"""The five steps to a game's first credit, each done or not."""

from collections.abc import Sequence
from dataclasses import dataclass

from coinslot.games.games import Game
from coinslot.store.db import Row
from handlers.kit.receive import partners


@dataclass(frozen=True)
class Step:
    """``link`` is the page on which it is done."""

    name: str
    is_done: bool
    link: str


def steps(game: Game, has: Row, calls: Sequence[Row]) -> list[Step]:
    """``has`` is a row of :func:`glance.of_all`, ``calls`` are the rows of its addresses (contacts)."""
    page = f"/games/{game.slug}"
    begun = [partner for partner in partners() if any(name in game.secrets for name in partner.secrets)]
    of_partner = f"{page}/integration/{begun[0].name}" if begun else f"{page}/integration"
    registry = f"{page}/settings/registry"
    knows_players = bool(has["has_players"]) or game.settings["players.unknown"] != "reject"
    knows_items = bool(has["has_items"]) or game.settings["items.unknown"] != "reject"
    is_pasted = any(row["copied_at"] or row["first_at"] for row in calls)
    return [
        Step("Keys entered", any(partner.is_configured(game) for partner in begun), of_partner),
        Step("Address pasted", is_pasted, of_partner),
        Step("Players known", knows_players, registry),
        Step("Items known", knows_items, registry),
        Step("First credit", bool(has["has_credits"]), of_partner),
    ]
