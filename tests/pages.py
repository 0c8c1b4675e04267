"""What the tests of the owner's pages share: the worst that somebody may write, how a page is read, a served app."""

import html
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from werkzeug.serving import make_server
from werkzeug.wsgi import LimitedStream

# Markup, the end of an attribute, text that turns round, a formula, what cannot be seen, NUL, and two units of UTF-16.
HOSTILE = "<script>alert(1)</script>\"'><img src=x>\u202e=1+1\u200b\x00😀"


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def follow(browser: Any, answer: Any) -> Any:
    assert answer.status_code == 303, answer.text
    return browser.get(answer.location)


def next_of(answer: Any) -> str | None:
    """Where the page after of a list is, None on the last."""
    found = re.search(r'href="([^"]+)" rel="next"', answer.text)
    return None if found is None else html.unescape(found[1])


def every_page(browser: Any, address: str | None) -> Iterator[Any]:
    """A list's pages, one after the other."""
    while address is not None:
        answer = browser.get(address)
        yield answer
        address = next_of(answer)


@contextmanager
def serving(app: Any, installation: Any = None) -> Iterator[Any]:
    """The app itself on a port of its own, which is the public address of ``installation``."""

    def bounded(environ: Any, start_response: Any) -> Any:
        """As gunicorn has it: a body ends."""
        environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, bounded, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    if installation is not None:
        installation.settings = replace(installation.settings, public_url=f"http://127.0.0.1:{server.server_port}")
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
