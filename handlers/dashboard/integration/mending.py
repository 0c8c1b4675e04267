"""What mends a refused call that had proved itself: one click where there is one, and how it is sent again."""

from dataclasses import dataclass

from coinslot.base import clock
from coinslot.games import games, registry
from coinslot.games.games import Game
from coinslot.games.registry import RegistryError, checked_id, checked_text
from coinslot.ledger import refused
from coinslot.ledger.refused import MENDED
from coinslot.operations.refusals import Refused
from coinslot.store import audit, counters
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, read, who, write
from handlers.dashboard.integration.key_forms import anchor_of
from handlers.kit.partner import Partner
from handlers.kit.receive import current_installation, partners
from handlers.kit.trouble_sentences import say_refused

# A call that is refused for one of these never counts among those that proved themselves.
BEFORE_THE_PROOF = ("signature", "timestamp", "token", "project", "encryption", "app_id", "address", "other_game")
LISTS = {"completed": "completed_statuses", "failed": "failed_statuses"}  # button -> setting


@dataclass(frozen=True)
class Mending:
    """``player``, ``sku`` and ``status`` are what one click registers or adds; each None where that mends nothing.

    ``key`` is the anchor of the form of the key that differs.

    ``is_done``: what was missing is there by now, and the call has only to come again. ``proved``: how many other calls
    of the partner this game's keys have proved today, where that says something about this one.
    """

    remedy: str
    send_again: str
    transaction: str | None = None
    player: str | None = None
    sku: str | None = None
    status: str | None = None
    is_done: bool = False
    key: str | None = None
    proved: int = 0


def of(game: Game, call: Refused) -> Mending:
    """What mends a call that has a state."""
    partner, connection = _partner(call), read()
    send_again = "ask the partner to report it again" if partner is None else partner.send_again
    _, remedy = say_refused(call.partner, call.reason)
    player = sku = status = key = None
    is_done = False
    if call.reason == "unknown_player" and call.player_id and _is_id(call.player_id):
        is_done = game.settings["players.unknown"] == "create" or registry.has_player(
            connection, game.id, call.player_id
        )
        player = call.player_id if not is_done and game.settings["players.unknown"] == "reject" else None
    elif call.reason == "unknown_item" and _is_id(call.detail):
        is_done = game.settings["items.unknown"] == "accept" or registry.has_item(connection, game.id, call.detail)
        sku = None if is_done else call.detail
    elif call.reason == "unknown_status" and call.detail and "," not in call.detail:
        is_done = any(call.detail in _words(game, call, name) for name in LISTS)
        status = None if is_done else call.detail
    elif call.reason == "token" and partner is not None:
        token = next((each.secret for each in partner.keys if each.secret.endswith("_token")), None)
        key = None if token is None else f"key-{anchor_of(token)}"
    proved = 0
    if call.reason in BEFORE_THE_PROOF and (call.last_at or "")[:10] == clock.stamp()[:10]:
        proved = counters.called_on(connection, game.id, call.partner, clock.stamp()[:10])
    return Mending(
        remedy=remedy.lstrip(". "),
        send_again=send_again[:1].upper() + send_again[1:],
        transaction=refused.transaction(connection, call.id) if call.state == MENDED else None,
        player=player,
        sku=sku,
        status=status,
        is_done=is_done,
        key=key,
        proved=proved,
    )


def mend(game: Game, call: Refused, what: str, name: str) -> None:
    """Register the call's player or item, or add its status to a list. ``name`` is the item's, and may be empty.

    What is registered is what the call names, not what a form says. Raises PageError where this mends nothing, and
    CoinslotError for a name or a list that cannot be.
    """
    found = of(game, call) if call.state is not None else None
    if found is not None and what == "player" and found.player is not None:
        _register_player(game, found.player)
    elif found is not None and what == "item" and found.sku is not None:
        _add_item(game, found.sku, name)
    elif found is not None and what in LISTS and found.status is not None:
        key = f"{call.partner}.{LISTS[what]}"
        value = ",".join([*_words(game, call, what), found.status])
        catalogue = current_installation().catalogue
        write(lambda tx: games.set_setting(tx, catalogue, game.slug, key, value, actor=who()))
    else:
        raise PageError(409, "There is nothing to do: what the call needs is there by now.")


def set_aside(game: Game, call: Refused, note: str) -> bool:
    """Set it aside with a note; False where it was not open."""

    def change(tx: Connection) -> bool:
        is_done = refused.set_aside(tx, [call.id], note) > 0
        if is_done:
            audit.record(tx, game.id, who(), "refusal.aside", str(call.id))
        return is_done

    return write(change)


def reopen(game: Game, call: Refused) -> bool:
    """Take that back; False where it was not set aside."""

    def change(tx: Connection) -> bool:
        is_done = refused.reopen(tx, call.id)
        if is_done:
            audit.record(tx, game.id, who(), "refusal.reopen", str(call.id))
        return is_done

    return write(change)


def right_address(game: Game, call: Refused) -> str | None:
    """The URL to paste into the partner's dashboard, where the call came to another address; None elsewhere."""
    partner = _partner(call)
    if partner is None or call.reason not in (
        *("misplaced", "misplaced_event", "no_address", "unknown_game", "other_game"),
    ):
        return None
    address = next((each for each in partner.addresses if each.endpoint == call.endpoint), None)
    if call.reason == "misplaced":
        address = next((each for each in partner.addresses if "credited" in each.steps), None)
    elif call.reason == "misplaced_event":
        address = next((each for each in partner.addresses if each.endpoint == "events"), None)
    if address is None:
        return None
    return current_installation().settings.public_url + address.path.format(game=game.slug)


def _register_player(game: Game, player_id: str) -> None:
    def register(tx: Connection) -> None:
        registry.register_player(tx, game.id, player_id)
        audit.record(tx, game.id, who(), "player.add", player_id)

    write(register)


def _add_item(game: Game, sku: str, name: str) -> None:
    try:
        checked_text(name, registry.LONGEST_ID)
    except ValueError as error:
        raise RegistryError(f"Please {error}.") from None

    def add(tx: Connection) -> None:
        registry.register_item(tx, game.id, sku, name or None)
        audit.record(tx, game.id, who(), "item.add", sku)

    write(add)


def _words(game: Game, call: Refused, what: str) -> list[str]:
    return [word for word in game.settings.get(f"{call.partner}.{LISTS[what]}", "").split(",") if word]


def _partner(call: Refused) -> Partner | None:
    return next((each for each in partners() if each.name == call.partner), None)


def _is_id(value: str) -> bool:
    try:
        checked_id(value)
    except ValueError:
        return False
    return True
