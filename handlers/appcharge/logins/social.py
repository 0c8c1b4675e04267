"""Logins with Google, Apple and Facebook: whose account a token is, proved by the provider that issued it.

Appcharge's documents do not say which kind of token its store sends (checked 2026-11), so each kind a provider has is
read: by ``appcharge.<provider>_token``, or by what the token looks like.

* ``id_token``: a JWT, verified with the provider's published keys (``jwks.py``).
* ``access_token``: the provider is asked about it (Google's tokeninfo, Facebook's debug_token).
* ``code``: exchanged at the provider, once; nothing here ever sends it again.

Every token must have been issued to our own configured client id. The app id in a call must be one of ours, but a token
is never checked against it. Redirects are not followed. No error or log line holds a token or a secret.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence

from coinslot.base import exact
from coinslot.base.outbound import Outbound
from coinslot.games.games import Game
from coinslot.games.readers import text_of
from handlers.appcharge.logins.providers import (
    TITLES,
    Login,
    LoginRefusedError,
    apple_code,
    by_id_token,
    facebook_access_token,
    facebook_code,
    google_access_token,
    google_code,
    is_private_key,
)

LONGEST_TOKEN = 8 * 1024

CLIENT_IDS = {
    "google": "appcharge.google_client_id",
    "apple": "appcharge.apple_client_id",
    "facebook": "appcharge.facebook_app_id",
}


_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


def is_configured(game: Game, provider: str) -> bool:
    """Whether logins with this provider can be proved: the client id is set, and the secret where one is needed."""
    if provider not in TITLES or not _client_ids(game, provider):
        return False
    if game.settings[f"appcharge.{provider}_token"] in _WITHOUT_SECRET[provider]:
        return True
    secrets = game.keys(f"appcharge.{provider}_secret")
    if provider == "apple" and secrets and is_private_key(secrets[0].value):
        return all(game.settings[f"appcharge.apple_{name}"] for name in ("team_id", "key_id"))
    return bool(secrets)


def subject(game: Game, outbound: Outbound, provider: str, token: object, app_id: object = None) -> str:
    """The provider's id of the account that logs in.

    Raises :class:`LoginRefusedError` when the token proves nothing, :class:`ProviderError` when the provider does not
    answer as it should.
    """
    if not is_configured(game, provider):
        raise LoginRefusedError("not_configured")
    client_ids = _client_ids(game, provider)
    login = Login(game, outbound, provider, client_ids, _named(app_id, client_ids) or client_ids[0])
    token = _checked_token(token)
    kind = game.settings[f"appcharge.{provider}_token"]
    if kind == "auto":
        kind = "id_token" if _is_jwt(token) else _OTHERWISE[provider]
    return _CHECKS[provider, kind](login, token)


def _client_ids(game: Game, provider: str) -> list[str]:
    return [word.strip() for word in game.settings[CLIENT_IDS[provider]].split(",") if word.strip()]


def _named(app_id: object, client_ids: Sequence[str]) -> str | None:
    """The client id that a call names; None when it names none. Raises :class:`LoginRefusedError` for any but ours."""
    if app_id is None or app_id in ("", "NA"):
        return None
    named = text_of(app_id)
    if named not in client_ids:
        raise LoginRefusedError("app_id")
    return named


def _checked_token(token: object) -> str:
    """All kinds of tokens are plain ASCII. Raises :class:`LoginRefusedError`."""
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN:
        raise LoginRefusedError("token")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise LoginRefusedError("token")
    return token


def _is_jwt(token: str) -> bool:
    """Three parts in Base64, the first of them JSON that names an algorithm: Apple's codes have dots as well."""
    if not _JWT.fullmatch(token):
        return False
    head = token.partition(".")[0]
    try:
        header = exact.parse_json(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False
    return isinstance(header, dict) and "alg" in header


_WITHOUT_SECRET = {"google": ("auto", "id_token", "access_token"), "apple": ("id_token",), "facebook": ("id_token",)}
_OTHERWISE = {"google": "access_token", "facebook": "access_token", "apple": "code"}
_CHECKS: Mapping[tuple[str, str], Callable[[Login, str], str]] = {
    ("google", "id_token"): by_id_token,
    ("google", "access_token"): google_access_token,
    ("google", "code"): google_code,
    ("apple", "id_token"): by_id_token,
    ("apple", "code"): apple_code,
    ("facebook", "id_token"): by_id_token,
    ("facebook", "access_token"): facebook_access_token,
    ("facebook", "code"): facebook_code,
}
