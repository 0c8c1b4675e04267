"""Request bodies, before a handler reads them: complete, and never left unread."""

import sys
from collections.abc import Iterable
from io import BytesIO
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LARGEST_BODY = 1024 * 1024
MOST_DRAINED = 17 * LARGEST_BODY  # of a body that is refused anyway


class WholeBodies:
    """A body reaches a handler as long as it said it was, or not at all.

    gunicorn marks every body as ended by the server, and Werkzeug then neither notices that a caller hung up halfway
    nor that a chunked body goes on after the limit: both would arrive cut, and look whole.
    """

    def __init__(self, wsgi_app: "WSGIApplication") -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ.pop("wsgi.input_terminated", None)
        stream = environ["wsgi.input"]
        if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
            body = _read(stream, LARGEST_BODY + 1)
            environ["wsgi.input"] = BytesIO(body or b"")
            # A larger body is said to be too large for any limit; one that broke off, to be larger than what came.
            length = 1 if body is None else len(body) if len(body) <= LARGEST_BODY else sys.maxsize
            environ["CONTENT_LENGTH"] = str(length)
        answer = self._wsgi_app(environ, start_response)
        # Read what the handler has left. A connection closed before that is reset, and the answer lost with it.
        left = MOST_DRAINED
        while left > 0 and (piece := _read(stream, min(left, LARGEST_BODY))):
            left -= len(piece)
        return answer


def _read(stream: IO[bytes], size: int) -> bytes | None:
    """Bytes of a body, or None when it breaks off, whatever a server raises for that."""
    try:
        return stream.read(size)
    except Exception:
        return None
