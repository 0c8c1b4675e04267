"""Each call gets an id before anything else happens, and its answer says it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from coinslot.base import request_ids

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADER = "X-Request-ID"


class RequestIds:
    """``X-Request-ID`` on every answer. One in the request is not looked at (coinslot/base/request_ids.py)."""

    def __init__(self, wsgi_app: "WSGIApplication") -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        made = request_ids.begin()

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            headers.append((HEADER, made))
            return start_response(status, headers, *more)

        try:
            answer = self._wsgi_app(environ, start)
        except BaseException:
            request_ids.end()
            raise
        return ClosingIterator(answer, request_ids.end)  # an answer may be made while it is sent
