"""Google, Apple and Facebook as far as logins go: real HTTP over loopback, tokens signed with keys made here.

Each is a context manager; ``settings`` and ``secrets`` are what a game needs to use it, and ``set_up`` gives them to a
studio. Answers are written by hand after the providers' documentation. What was asked is in ``requests``; ``trouble``
maps a path to a behaviour of ``tests/fakes/http.py`` in place of the answer.

    with Google() as google:
        google.set_up(studio)
        token = google.id_token(sub="110169484474386276334")
"""

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt import PyJWS
from jwt.algorithms import RSAAlgorithm

from tests.fakes.http import Behaviour, FakeServer, Handler, Request


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A key of this name, made once per process: making one takes a while."""
    return rsa.generate_private_key(65537, 2048)


@cache
def apple_private_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    """A private key as Apple hands it out, in a file named AuthKey_....p8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass
class Code:
    sub: str
    client_id: str
    redirect_uri: str | None = None
    is_spent: bool = False


class Provider(FakeServer):
    """What the three have in common: a server, published keys, and tokens signed with them."""

    issuer: str
    client_id: str
    keys_path: str
    is_closing_connections = True

    def __init__(self) -> None:
        super().__init__()
        self.base = f"/fake-{next(_numbers)}"  # a port may come again, and what is kept by address with it
        self.trouble: dict[str, Behaviour] = {}
        self.keys = {"key-1": rsa_key("first")}
        self.codes: dict[str, Code] = {}

    @property
    def url(self) -> str:
        return f"{super().url}{self.base}"

    @property
    def settings(self) -> dict[str, str]:
        raise NotImplementedError

    @property
    def secrets(self) -> dict[str, str]:
        return {}

    def set_up(self, studio: Any, **changed: str) -> None:
        """Configure a studio's game for this provider; ``changed`` are settings without their ``appcharge.``."""
        for key, value in (self.settings | {f"appcharge.{key}": value for key, value in changed.items()}).items():
            studio.config(key, value)
        for name, value in self.secrets.items():
            studio.secret(name, value)

    def paths(self) -> list[str]:
        with self.mutex:
            return [self.path_of(request) for request in self.requests]

    def rotate_keys(self, kid: str = "key-2") -> None:
        """From now on another key signs, and only that one is published."""
        self.keys = {kid: rsa_key("second")}

    def id_token(
        self, key: Any = None, algorithm: str = "RS256", header: Mapping[str, Any] | None = None, **changed: Any
    ) -> str:
        """A signed token of an account; ``...`` leaves out a claim, or with ``header={"kid": ...}`` the key's id."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "sub": "110169484474386276334",
            "iat": now,
            "exp": now + 3600,
            "email": "alice@example.com",
        }
        kid, own_key = next(iter(self.keys.items()))
        headers = {name: value for name, value in ({"kid": kid} | dict(header or {})).items() if value is not ...}
        claims = {name: value for name, value in (claims | changed).items() if value is not ...}
        # Below jwt.encode, which has opinions on the claims.
        return PyJWS().encode(json.dumps(claims).encode(), own_key if key is None else key, algorithm, headers)

    def published(self) -> dict[str, Any]:
        return {
            "keys": [
                {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "RS256"}
                for kid, key in self.keys.items()
            ]
        }

    def path_of(self, request: Request) -> str:
        return request.path.removeprefix(self.base)

    def answer(self, handler: Handler, request: Request) -> None:
        self.send(handler, self.trouble.get(self.path_of(request)) or self.reply(request))

    def reply(self, request: Request) -> tuple[int, Any]:
        if self.path_of(request) == self.keys_path:
            return 200, self.published()
        return 404, {"error": "not_found"}

    def redeem(self, given: Mapping[str, str]) -> Code | None:
        """A code of this client that was never redeemed before, with the redirect_uri it was made for."""
        with self.mutex:
            code = self.codes.get(given.get("code", ""))
            wanted = None if code is None else (code.client_id, code.redirect_uri)
            if code is None or code.is_spent or wanted != (given.get("client_id"), given.get("redirect_uri")):
                return None
            code.is_spent = True
            return code


class Google(Provider):
    issuer = "https://accounts.google.com"
    client_id = "1234567890-abc.apps.googleusercontent.com"
    client_secret = "GOCSPX-fake-client-secret"
    keys_path = "/oauth2/v3/certs"

    def __init__(self) -> None:
        super().__init__()
        self.access_tokens: dict[str, dict[str, Any]] = {}

    @property
    def settings(self) -> dict[str, str]:
        return {
            "appcharge.google_client_id": self.client_id,
            "appcharge.google_url": f"{self.url}/tokeninfo",
            "appcharge.google_code_url": f"{self.url}/token",
            "appcharge.google_keys_url": f"{self.url}{self.keys_path}",
        }

    @property
    def secrets(self) -> dict[str, str]:
        return {"appcharge.google_secret": self.client_secret}

    def access_token(self, **changed: Any) -> str:
        """An access token, and what Google tells about it (numbers are text there)."""
        token = f"ya29.a0Af/{secrets.token_urlsafe(24)}+="
        fields = {
            "azp": self.client_id,
            "aud": self.client_id,
            "sub": "110169484474386276334",
            "scope": "openid https://www.googleapis.com/auth/userinfo.email",
            "exp": str(int(time.time()) + 3599),
            "expires_in": "3599",
            "email": "alice@example.com",
            "email_verified": "true",
            "access_type": "online",
        }
        self.access_tokens[token] = {name: value for name, value in (fields | changed).items() if value is not ...}
        return token

    def code(self, sub: str = "110169484474386276334", redirect_uri: str | None = None) -> str:
        code = f"4/0A{secrets.token_urlsafe(24)}"
        self.codes[code] = Code(sub, self.client_id, redirect_uri)
        return code

    def reply(self, request: Request) -> tuple[int, Any]:
        if self.path_of(request) == "/tokeninfo":
            fields = self.access_tokens.get(request.query.get("access_token", ""))
            return (400, {"error_description": "Invalid Value"}) if fields is None else (200, fields)
        if self.path_of(request) == "/token" and request.method == "POST":
            if (request.form.get("client_id"), request.form.get("client_secret")) != (
                self.client_id,
                self.client_secret,
            ):
                return 401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}
            code = self.redeem(request.form)
            if code is None:
                return 400, {"error": "invalid_grant", "error_description": "Malformed auth code."}
            return 200, {"access_token": "ya29.x", "token_type": "Bearer", "id_token": self.id_token(sub=code.sub)}
        return super().reply(request)


class Apple(Provider):
    issuer = "https://appleid.apple.com"
    client_id = "com.example.store"
    team_id = "TEAM123456"
    key_id = "KEY1234567"
    keys_path = "/auth/keys"

    def __init__(self) -> None:
        super().__init__()
        self.client_secret: str | None = None  # taken instead of one made with the private key

    @property
    def settings(self) -> dict[str, str]:
        return {
            "appcharge.apple_client_id": self.client_id,
            "appcharge.apple_team_id": self.team_id,
            "appcharge.apple_key_id": self.key_id,
            "appcharge.apple_url": self.url,
        }

    @property
    def secrets(self) -> dict[str, str]:
        return {"appcharge.apple_secret": pem(apple_private_key())}

    def code(
        self, sub: str = "001234.abcdef.0123", client_id: str | None = None, redirect_uri: str | None = None
    ) -> str:
        code = f"c{secrets.token_hex(16)}.0.srtx.{secrets.token_urlsafe(16)}"
        self.codes[code] = Code(sub, client_id or self.client_id, redirect_uri)
        return code

    def reply(self, request: Request) -> tuple[int, Any]:
        if self.path_of(request) == "/auth/token" and request.method == "POST":
            form = request.form
            if not self.accepts(form.get("client_secret", ""), form.get("client_id", "")):
                return 400, {"error": "invalid_client"}
            if form.get("grant_type") != "authorization_code":
                return 400, {"error": "unsupported_grant_type"}
            code = self.redeem(form)
            if code is None:
                return 400, {"error": "invalid_grant", "error_description": "The code has expired or has been revoked."}
            token = self.id_token(sub=code.sub, aud=code.client_id)
            return 200, {"access_token": "a.b", "token_type": "Bearer", "expires_in": 3600, "id_token": token}
        return super().reply(request)

    def accepts(self, client_secret: str, client_id: str) -> bool:
        """As Apple's documentation says: ES256, our team and key, the client as subject, at most six months."""
        if self.client_secret is not None:
            return client_secret == self.client_secret
        try:
            claims = jwt.decode(
                client_secret,
                apple_private_key().public_key(),
                ["ES256"],
                {"require": ["iss", "iat", "exp", "aud", "sub"]},
                audience="https://appleid.apple.com",
                issuer=self.team_id,
                subject=client_id,
            )
        except jwt.PyJWTError:
            return False
        is_ours = jwt.get_unverified_header(client_secret).get("kid") == self.key_id
        return is_ours and claims["exp"] - time.time() < 15777000


class Facebook(Provider):
    issuer = "https://www.facebook.com"
    client_id = "611392880818819"
    app_secret = "fake0facebook0app0secret"
    keys_path = "/.well-known/oauth/openid/jwks/"

    def __init__(self) -> None:
        super().__init__()
        self.access_tokens: dict[str, dict[str, Any]] = {}

    @property
    def settings(self) -> dict[str, str]:
        return {
            "appcharge.facebook_app_id": self.client_id,
            "appcharge.facebook_url": self.url,
            "appcharge.facebook_keys_url": f"{self.url}{self.keys_path}",
        }

    @property
    def secrets(self) -> dict[str, str]:
        return {"appcharge.facebook_secret": self.app_secret}

    def access_token(self, **changed: Any) -> str:
        token = f"EAAB{secrets.token_hex(40)}"
        about = {
            "app_id": self.client_id,
            "type": "USER",
            "application": "Example",
            "data_access_expires_at": int(time.time()) + 7_776_000,
            "expires_at": int(time.time()) + 5_184_000,
            "is_valid": True,
            "scopes": ["public_profile"],
            "user_id": "10215241773831025",
        }
        self.access_tokens[token] = {name: value for name, value in (about | changed).items() if value is not ...}
        return token

    def code(self, user_id: str = "10215241773831025", redirect_uri: str | None = None) -> str:
        code = f"AQ{secrets.token_urlsafe(40)}"
        self.codes[code] = Code(user_id, self.client_id, redirect_uri)
        return code

    def reply(self, request: Request) -> tuple[int, Any]:
        query = request.query
        if self.path_of(request) == "/debug_token":
            if query.get("access_token") != f"{self.client_id}|{self.app_secret}":
                return _facebook_error(190, "Invalid OAuth access token signature.")
            about = self.access_tokens.get(query.get("input_token", ""))
            if about is None:
                error = {"code": 190, "message": "Invalid OAuth access token."}
                return 200, {"data": {"error": error, "is_valid": False, "scopes": []}}
            if about.get("app_id") not in (self.client_id, int(self.client_id)):
                return _facebook_error(100, "The App_id in the input_token did not match the Viewing App")
            return 200, {"data": about}
        if self.path_of(request) == "/oauth/access_token":
            if (query.get("client_id"), query.get("client_secret")) != (self.client_id, self.app_secret):
                return _facebook_error(1, "Error validating client secret.")
            code = self.redeem(query)
            if code is None:
                return _facebook_error(100, "This authorization code has been used.")
            token = self.access_token(user_id=code.sub)
            return 200, {"access_token": token, "token_type": "bearer", "expires_in": 5_183_944}
        return super().reply(request)


def _facebook_error(code: int, message: str) -> tuple[int, Any]:
    return 400, {"error": {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "A1b2"}}


_numbers = count()
