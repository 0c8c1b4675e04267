"""What the owner sets for Xsolla: the secret key of the project's webhooks, and two settings."""

from coinslot.games.options import Setting, networks
from handlers.kit.partner import WHEN_GAME_DOWN, Key

SIGNING_KEY = "xsolla.secret"

KEYS = (
    Key(
        SIGNING_KEY,
        "Secret key",
        "signs every webhook; in Publisher Account: Project settings, Webhooks",
        is_mandatory=True,
    ),
)

SETTINGS = {
    "xsolla.when_game_down": WHEN_GAME_DOWN,
    "allowlist.xsolla": Setting("CIDR blocks Xsolla calls from; empty: any", networks, title="Addresses that may call"),
}
