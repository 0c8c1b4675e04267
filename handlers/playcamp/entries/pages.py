"""The page that a player sees when the WebView cannot be opened."""

import base64
import hashlib
from urllib.parse import quote

from flask import Response
from markupsafe import Markup

STYLE = (
    "body{max-width:30rem;margin:15vh auto;padding:0 1.5rem;font:1.1rem/1.6 system-ui,sans-serif;text-align:center}"
    "a{display:inline-block;margin-top:1rem;padding:.6rem 1.5rem;border:1px solid;border-radius:.5rem}"
)
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Language -> title, sentence, link.
WORDS = {
    "en": (
        "Not available right now",
        "This page cannot be opened right now. Please try again in a moment.",
        "Try again",
    ),
    "ko": ("지금은 열 수 없습니다", "페이지를 여는 데 문제가 생겼습니다. 잠시 후 다시 시도해 주세요.", "다시 시도"),
}

PAGE = Markup(
    """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{sentence}</p>
<p><a href="?{query}">{link}</a></p>
</body>
</html>
"""
)


def trouble(status: int, language: str, query: bytes) -> Response:
    """A page with an apology and a link to the same address; ``query`` is that address's query as it came."""
    title, sentence, link = WORDS[language]
    page = PAGE.format(
        language=language,
        title=title,
        style=Markup(STYLE),  # noqa: S704 - our own, above
        sentence=sentence,
        link=link,
        query=quote(query, safe="".join(map(chr, range(0x21, 0x7F)))),
    )
    return Response(page, status, {"Content-Security-Policy": POLICY}, mimetype="text/html")
