"""Paths of the game API, in which a slash that was sent as ``%2F`` belongs to an id.

A server hands over the path decoded, so that the player ``a/granted`` looks like the sums of ``a``. gunicorn and
Werkzeug add the path as it was sent, under the name ``RAW_URI``, which is in no standard.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROOT = "/game/v1/"


class EncodedSlashes:
    """Below :data:`ROOT` the path keeps ``%2F`` and ``%25`` as they are; :func:`decoded` is for the ids in it.

    Where the path as it was sent is unknown, or a proxy has rewritten it, every slash divides.
    """

    def __init__(self, wsgi_app: "WSGIApplication") -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(ROOT):
            pieces = _pieces(environ.get("RAW_URI", ""), environ.get("SCRIPT_NAME", ""))
            if "/".join(pieces) != path:
                pieces = [path]
            environ["PATH_INFO"] = "%2F".join(piece.replace("%", "%25") for piece in pieces)
        return self._wsgi_app(environ, start_response)


def decoded(part: str) -> str:
    """An id as it was before :class:`EncodedSlashes` kept its slashes encoded."""
    return part.replace("%2F", "/").replace("%25", "%")


def _pieces(raw_uri: str, script_name: str) -> list[str]:
    """The path between its encoded slashes, each piece decoded as WSGI wants it."""
    sent = re.sub(r"^[a-zA-Z]+://[^/]*", "", raw_uri).partition("?")[0].removeprefix(script_name)
    try:
        pieces = re.split(b"%2[Ff]", sent.encode("latin-1"))
    except UnicodeEncodeError:
        return []
    return [unquote_to_bytes(piece).decode("latin-1") for piece in pieces]
