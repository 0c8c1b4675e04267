"""Whose account a token of Google, Apple or Facebook is.

It is verified with the provider's published keys, or the provider is asked about it, or a code is exchanged for one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from coinslot.base import clock, exact
from coinslot.base.outbound import Answer, Outbound
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.readers import text_of
from handlers.appcharge.logins.jwks import ALGORITHM, published_keys

TIMEOUT_SECONDS = 3.0
LEEWAY_SECONDS = 30  # between the provider's clock and ours
TITLES = {"google": "Google", "apple": "Apple", "facebook": "Facebook"}
ISSUERS = {
    "google": ("https://accounts.google.com", "accounts.google.com"),
    "apple": ("https://appleid.apple.com",),
    "facebook": ("https://www.facebook.com", "https://limited.facebook.com"),
}
APPLE_SECRET_AUDIENCE = "https://appleid.apple.com"  # noqa: S105 - an address
APPLE_SECRET_SECONDS = 300
FACEBOOK_INVALID_PARAMETER = 100  # the player's token is bad; every other code is about us or Facebook
_REASONS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.InvalidAudienceError: "audience",
    jwt.InvalidIssuerError: "issuer",
}


class LoginRefusedError(Exception):
    """The token proves nothing. ``reason`` is a word for the owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProviderError(Exception):
    """The provider did not answer as documented, so the token is neither good nor bad."""


@dataclass(frozen=True)
class Login:
    game: Game
    outbound: Outbound
    provider: str
    client_ids: Sequence[str]
    client_id: str  # the one that Appcharge names, else the first


def by_id_token(login: Login, token: str) -> str:
    """The account in a signed ID token that was made for one of our client ids.

    This and the readers below raise :class:`LoginRefusedError` for a token that proves nothing, and
    :class:`ProviderError` where the provider does not say.
    """
    return _verified(login, token, login.client_ids)


def google_access_token(login: Login, token: str) -> str:
    """The account of an access token, as Google tells it. The token must be made for one of our client ids."""
    # https://developers.google.com/identity/sign-in/web/backend-auth: 400 for a token that is none or has ended
    url = login.game.settings["appcharge.google_url"]
    query = urlencode({"access_token": token})
    answer = login.outbound.get(f"{url}{'&' if '?' in url else '?'}{query}", _JSON, TIMEOUT_SECONDS)
    if answer.failure is None and answer.status in (400, 401):
        raise LoginRefusedError("token")
    status, document = _read(login, answer)
    if status != 200:
        raise ProviderError(f"Google answered {status}")
    if document.get("aud") not in login.client_ids:
        raise LoginRefusedError("audience")
    _check_expiry(login, document.get("exp"))
    return _account(document.get("sub"))


def facebook_access_token(login: Login, token: str) -> str:
    """The account of an access token, as Facebook tells it. The token must be made for our app."""
    # https://developers.facebook.com/docs/graph-api/reference/debug_token
    app_token = f"{login.client_id}|{_secret(login)}"
    document = _ask_facebook(login, "/debug_token", {"input_token": token, "access_token": app_token})
    about = document.get("data")
    if not isinstance(about, dict):
        raise ProviderError("Facebook's answer cannot be read")
    if about.get("is_valid") is not True or about.get("type", "USER") != "USER":
        raise LoginRefusedError("token")
    if text_of(about.get("app_id")) != login.client_id:
        raise LoginRefusedError("audience")
    if about.get("expires_at") != 0:  # 0: never
        _check_expiry(login, about.get("expires_at"))
    return _account(about.get("user_id"))


def facebook_code(login: Login, code: str) -> str:
    """The account of a code, which is exchanged for an access token first."""
    # https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
    form = {"client_id": login.client_id, "client_secret": _secret(login), "code": code}
    token = _ask_facebook(login, "/oauth/access_token", form | _redirect_uri(login)).get("access_token")
    if not isinstance(token, str) or not token.isascii():
        raise ProviderError("Facebook gave no access token for a code")
    return facebook_access_token(login, token)


def _ask_facebook(login: Login, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    base = login.game.settings["appcharge.facebook_url"].rstrip("/")
    status, document = _read(login, login.outbound.get(f"{base}{path}?{urlencode(parameters)}", _JSON, TIMEOUT_SECONDS))
    error = document.get("error")
    if status == 200 and error is None:
        return document
    code = error.get("code") if isinstance(error, dict) else None
    if code == FACEBOOK_INVALID_PARAMETER and 400 <= status < 500:
        raise LoginRefusedError("token")
    number = f", error {code}" if isinstance(code, int) and 0 <= code < 1_000_000 else ""
    raise ProviderError(
        f"Facebook answered {status}{number}; if that stays, look at appcharge.facebook_app_id, "
        "appcharge.facebook_secret and appcharge.login_redirect_uri"
    )


def apple_code(login: Login, code: str) -> str:
    """The account in the ID token that Apple gives for a code."""
    # https://developer.apple.com/documentation/signinwithapplerestapi/generate_and_validate_tokens
    url = login.game.settings["appcharge.apple_url"].rstrip("/") + "/auth/token"
    return _exchange(login, url, _apple_client_secret(login), code)


def google_code(login: Login, code: str) -> str:
    """The account in the ID token that Google gives for a code."""
    # https://developers.google.com/identity/protocols/oauth2/web-server#exchange-authorization-code
    return _exchange(login, login.game.settings["appcharge.google_code_url"], _secret(login), code)


def _exchange(login: Login, url: str, client_secret: str, code: str) -> str:
    """The account in the JWT that a code is exchanged for. Asked for once: a code works once."""
    form = {
        "client_id": login.client_id,
        "client_secret": client_secret,
        "code": code,
        "grant_type": "authorization_code",
    }
    headers = {**_JSON, "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(form | _redirect_uri(login)).encode()
    status, document = _read(login, login.outbound.post(url, headers, body, TIMEOUT_SECONDS))
    title, error = TITLES[login.provider], document.get("error")
    if status == 400 and error == "invalid_grant":
        raise LoginRefusedError("code")
    if error == "invalid_client":
        raise ProviderError(f"{title} does not accept our client: look at the id and appcharge.{login.provider}_secret")
    made = document.get("id_token")
    if status != 200 or not isinstance(made, str) or not made.isascii():
        raise ProviderError(f"{title} answered {status} to a code{f', {error}' if error in _OAUTH_ERRORS else ''}")
    return _verified(login, made, [login.client_id])


def _apple_client_secret(login: Login) -> str:
    """What is stored, or a token made with it where it is a private key. Raises :class:`ProviderError`."""
    stored = login.game.keys("appcharge.apple_secret")[0].value
    if not is_private_key(stored):
        return stored.decode()
    issued_at = int(clock.now()) - LEEWAY_SECONDS  # Apple refuses one that its own clock has not come to yet
    claims = {
        "iss": login.game.settings["appcharge.apple_team_id"],
        "iat": issued_at,
        "exp": issued_at + APPLE_SECRET_SECONDS,
        "aud": APPLE_SECRET_AUDIENCE,
        "sub": login.client_id,
    }
    try:
        key = load_pem_private_key(stored.strip(), None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError
        return jwt.encode(claims, key, "ES256", {"kid": login.game.settings["appcharge.apple_key_id"]})
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.PyJWTError):
        raise ProviderError(
            "appcharge.apple_secret is no private key that Apple's client secrets are made with"
        ) from None


def _verified(login: Login, token: str, client_ids: Sequence[str]) -> str:
    """The account in a JWT that the provider has signed for one of these clients, and that has not ended."""
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") != ALGORITHM or not header.get("kid"):
            raise LoginRefusedError("token")
    except jwt.PyJWTError:
        raise LoginRefusedError("token") from None
    try:
        key = published_keys(login.outbound, _keys_url(login)).find(header["kid"])
    except jwt.PyJWTError as error:
        raise ProviderError(f"{TITLES[login.provider]}: {error}") from None
    if key is None:
        raise LoginRefusedError("key")
    try:
        claims = jwt.decode(
            token,
            key,
            [ALGORITHM],
            {"require": ["exp", "iat", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            audience=client_ids,
            issuer=ISSUERS[login.provider],
            leeway=LEEWAY_SECONDS,
        )
    except jwt.PyJWTError as error:
        raise LoginRefusedError(_REASONS.get(type(error), "token")) from None
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if any(audience not in client_ids for audience in audiences):  # another client may have passed it on
        raise LoginRefusedError("audience")
    return _account(claims["sub"])


def _keys_url(login: Login) -> str:
    if login.provider == "apple":
        return login.game.settings["appcharge.apple_url"].rstrip("/") + "/auth/keys"
    return login.game.settings[f"appcharge.{login.provider}_keys_url"]


def _read(login: Login, answer: Answer) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of a provider's answer. Raises :class:`ProviderError` for any other answer."""
    title = TITLES[login.provider]
    if answer.failure is not None or answer.status is None:
        raise ProviderError(f"{title} did not answer: {answer.trouble}")
    if answer.status >= 500 or answer.status in (408, 429):
        raise ProviderError(f"{title} answered {answer.status}")
    try:
        document = exact.parse_json(
            answer.body, allow_half_pairs=True
        )  # a name cut within an emoji is not ours to read
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ProviderError(f"{title}'s answer cannot be read: status {answer.status}")
    return answer.status, document


def _check_expiry(login: Login, expires_at: object) -> None:
    """Raises :class:`LoginRefusedError` when it is past. It may be missing: the provider knows live tokens only."""
    if expires_at is None:
        return
    try:
        seconds = exact.whole(expires_at, exact.MINOR_DIGITS)
    except ValueError:
        raise ProviderError(f"{TITLES[login.provider]}'s answer cannot be read: when the token ends") from None
    if seconds <= clock.now() - LEEWAY_SECONDS:
        raise LoginRefusedError("expired")


def _account(value: object) -> str:
    try:
        return registry.checked_id(text_of(value) or "")
    except ValueError:
        raise LoginRefusedError("account") from None


def _secret(login: Login) -> str:
    return login.game.keys(f"appcharge.{login.provider}_secret")[0].value.decode()


def is_private_key(secret: bytes) -> bool:
    return b"PRIVATE KEY" in secret


def _redirect_uri(login: Login) -> dict[str, str]:
    uri = login.game.settings["appcharge.login_redirect_uri"]
    return {"redirect_uri": uri} if uri else {}


_JSON = {"Accept": "application/json"}
_OAUTH_ERRORS = ("invalid_request", "redirect_uri_mismatch", "unauthorized_client", "unsupported_grant_type")
