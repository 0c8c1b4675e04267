"""Sending a simulated partner's call to a running server, and showing the answer without secrets.

``flask simulate`` and the dashboard's Send test use it. What is shown holds no secret, signature or token,
not even where a server echoes what it was sent.
"""

import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import unquote_plus

import urllib3

from coinslot.base import connections
from coinslot.games.games import Game
from handlers.kit.partner import Call
from handlers.kit.receive import simulated

LARGEST_ANSWER = 64 * 1024
HIDDEN = "[hidden]"
PUBLIC_HEADERS = ("content-type", "x-webhook-batch")
SHORTEST_PROOF = 8  # characters of what proves anything; shorter values of headers are flags and counts


class UnreachableError(Exception):
    """The server gave no HTTP answer."""


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    seconds: float


def send(base: str, call: Call, timeout_seconds: float) -> Answered:
    """Raises :class:`UnreachableError`. Its words are ours: urllib3's would quote the URL, and a signature with it."""
    begun = time.monotonic()
    connections.limit(timeout_seconds)
    try:
        with connections.pools(_tls(), "CERT_REQUIRED", True, are_kept=False) as pool:
            response = pool.request(
                call.method,
                base + call.path,
                headers={"User-Agent": "Coinslot", **call.headers, **simulated()},
                body=call.body,
                redirect=False,
                timeout=timeout_seconds,
                preload_content=False,
            )
            body = response.read(LARGEST_ANSWER)
            response.close()
            return Answered(response.status, dict(response.headers), body, time.monotonic() - begun)
    except urllib3.exceptions.NameResolutionError:
        raise UnreachableError("there is no such host") from None
    except urllib3.exceptions.NewConnectionError:
        raise UnreachableError("nobody answers there; is the server running?") from None
    except (urllib3.exceptions.TimeoutError, TimeoutError):
        raise UnreachableError(f"no answer within {timeout_seconds:g} seconds") from None
    except urllib3.exceptions.SSLError:
        raise UnreachableError("no safe connection; the certificate or TLS is not right") from None
    except urllib3.exceptions.HTTPError:
        raise UnreachableError("what came back is not an HTTP answer") from None
    except ValueError:  # http.client quotes the header, and that may be a secret
        raise UnreachableError("a header cannot be sent: it has characters that no header may have") from None


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates of all authorities takes longer than most calls."""
    return ssl.create_default_context()


def without_proofs(text: str, game: Game, call: Call) -> str:
    """A text of the call or its answer, with secrets and signatures hidden."""
    for word in _words_to_hide(game, call):
        text = text.replace(word, HIDDEN)
    return text


def _words_to_hide(game: Game, call: Call) -> list[str]:
    """Secrets, and what was signed or proved with them, longest first so that no piece of one is left."""
    query = call.path.partition("?")[2].partition("=")[2]
    words = [value.value.decode() for values in game.secrets.values() for value in values]
    for name, value in call.headers.items():
        if name.lower() not in PUBLIC_HEADERS and len(value) >= SHORTEST_PROOF:
            words += [value, *(part for part in re.split("[=,]", value) if len(part) >= 8)]
    words += [query, unquote_plus(query)]
    return sorted({word for word in words if word}, key=len, reverse=True)
