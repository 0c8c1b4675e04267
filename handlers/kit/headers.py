"""Request headers, before any handler reads them: few and short; and who calls, where proxies of ours say it."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from flask import request
from werkzeug.exceptions import RequestHeaderFieldsTooLarge

from coinslot.base import addresses

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# gunicorn.conf.py has the same limits, for lines. Lines of one name are one header by now.
MOST_HEADERS = 64
LONGEST_HEADER = 8190

_BLANKS = re.compile(r"[ \t]{2,}")


def refuse_oversized() -> None:
    """Refuse a request with too many or too long headers, before a handler reads them."""
    headers = [value for name, value in request.environ.items() if name.startswith("HTTP_") or name == "CONTENT_TYPE"]
    if len(headers) > MOST_HEADERS or any(len(value) > LONGEST_HEADER for value in headers):
        raise RequestHeaderFieldsTooLarge


class ReadHeaders:
    """The address of the caller in one spelling, and the scheme: the socket's, or what our own proxies saw.

    A cookie header has single blanks.
    """

    def __init__(self, wsgi_app: "WSGIApplication", proxies: int) -> None:
        self._wsgi_app = wsgi_app
        self._proxies = proxies

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        for_, proto = environ.get("HTTP_X_FORWARDED_FOR"), environ.get("HTTP_X_FORWARDED_PROTO")
        if not environ.get("REMOTE_ADDR"):  # at a Unix socket a caller has none
            environ["REMOTE_ADDR"] = addresses.UNKNOWN
        if self._proxies and for_ is not None:
            environ["REMOTE_ADDR"] = addresses.forwarded(for_, self._proxies)
        else:
            with suppress(ValueError):
                environ["REMOTE_ADDR"] = str(addresses.parsed(environ["REMOTE_ADDR"]))
        if self._proxies and proto is not None:
            scheme = proto.rsplit(",", self._proxies)[-self._proxies :][0].strip(" \t").lower()
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
        if "HTTP_COOKIE" in environ:  # Werkzeug's reader tries every way to share blanks between its patterns
            environ["HTTP_COOKIE"] = _BLANKS.sub(" ", environ["HTTP_COOKIE"])
        return self._wsgi_app(environ, start_response)
