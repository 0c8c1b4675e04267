"""What the owner sets for Playtem: the key, the settings, and what is still missing."""

from coinslot.games.games import Game
from coinslot.games.options import Setting, networks, one_of, text
from coinslot.games.registry import checked_id
from handlers.kit.partner import WHEN_GAME_DOWN, Key
from handlers.playtem import credit
from handlers.playtem.payload import FORMATS


def _formats(value: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names or any(name not in FORMATS for name in names):
        raise ValueError(f"use a comma list out of: {', '.join(FORMATS)}")
    return ",".join(dict.fromkeys(names))


def unset(game: Game) -> list[str]:
    """A sentence for each setting that a game may do without."""
    if credit.is_configured(game) and not game.settings["playtem.app_id"]:
        return ["playtem.app_id is not set; the first real call will set it"]
    return []


KEYS = (
    Key("playtem.secret", "Signature key", "key of the HMAC-SHA1 signature, agreed with Playtem", is_mandatory=True),
)

SETTINGS = {
    "playtem.app_id": Setting("AppId of this game; empty: learned from the first real call", checked_id, title="AppId"),
    "playtem.parameter": Setting(
        "query parameter that carries the payload", text(32), "payload", title="Name of the payload's parameter"
    ),
    "playtem.formats": Setting(
        "how Items may enter the signed text; narrow it to the one your log names",
        _formats,
        ",".join(FORMATS),
        title="Forms of the signed items",
    ),
    "playtem.items_separator": Setting("between item ids in format concat", text(8), title="Between item ids"),
    "playtem.field_separator": Setting("between the four signed parts", text(8), title="Between signed parts"),
    "playtem.accept_single_quotes": Setting(
        "also read the guide's single-quoted notation", one_of("on", "off"), "on", title="Accept single quotes"
    ),
    "playtem.user_id": Setting(
        "what UserId is: the player's id, a Facebook id, or a Facebook id and else the player's",
        one_of("player", "facebook", "facebook_or_player"),
        "player",
        title="Meaning of UserId",
    ),
    "playtem.when_game_down": WHEN_GAME_DOWN,
    "allowlist.playtem": Setting(
        "CIDR blocks Playtem calls from; empty: any", networks, title="Addresses that may call"
    ),
}
