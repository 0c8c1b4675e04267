"""The Markdown files of the project as HTML: raw HTML is text, and links between them lead to their pages."""

import itertools
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit

from flask import url_for
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

ROOT = Path(__file__).parents[3]
PICTURES = "docs/pictures"
# Name in the address -> file, in the order of the list. What stands in docs/ and is not named here comes last.
FIRST = {
    "readme": "README.md",
    **{
        name: f"docs/{name}.md"
        for name in (
            "dashboard midnight alerts appcharge playtem playcamp xsolla deliveries settlement deploy".split()
            + "follower scaling moving retention proof chaos speed".split()
        )
    },
    "security": "SECURITY.md",
    "examples": "examples/README.md",
}


@dataclass(frozen=True)
class Heading:
    """``level`` is 2 or 3; ``anchor`` is what GitHub calls it, so that links work in both places."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Document:
    """``html`` is safe to show; ``headings`` are those below the title."""

    name: str
    title: str
    html: Markup
    headings: tuple[Heading, ...]
    anchors: frozenset[str]


@cache
def names() -> dict[str, str]:
    """Name in the address -> file below :data:`ROOT`, of those that are there."""
    others = {path.stem: f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))}
    return {name: file for name, file in (FIRST | others).items() if (ROOT / file).is_file()}


@cache
def document(name: str) -> Document | None:
    """A file as a page; None where there is none of this name. The files do not change while a server runs."""
    file = names().get(name)
    if file is None:
        return None
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse((ROOT / file).read_text(encoding="utf-8"))
    headings = _headings(tokens)
    for token in tokens:
        _relink(token.children or [], posixpath.dirname(file))
    for token in tokens:
        if token.type in ("th_open", "td_open") and token.attrs.pop("style", "") == "text-align:right":
            token.attrSet("class", "number")  # the pages' policy allows no style of an element
    html = markdown.renderer.render(tokens, markdown.options, {})
    # What may be wider than the page is scrolled within itself, by keyboard too.
    html = html.replace("<table", '<div class="table" tabindex="0" role="region" aria-label="Table"><table')
    html = html.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')
    title = next((each.text for each in headings if each.level == 1), name)
    below = tuple(each for each in headings if each.level in (2, 3))
    anchors = frozenset(each.anchor for each in headings)
    return Document(name, title, Markup(html), below, anchors)  # noqa: S704  raw HTML in the file is escaped


def listed() -> list[Document]:
    """All documents, in the order of the list."""
    return [each for each in map(document, names()) if each is not None]


def _headings(tokens: list[Token]) -> list[Heading]:
    """All headings; each gets its anchor as an id."""
    found = []
    seen: Counter[str] = Counter()
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(each.content for each in inline.children or [])
            plain = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            anchor = f"{plain}-{seen[plain]}" if seen[plain] else plain
            seen[plain] += 1
            token.attrSet("id", anchor)
            found.append(Heading(int(token.tag[1:]), text, anchor))
    return found


def _relink(tokens: list[Token], folder: str) -> None:
    """Lead links to files of the project to their pages. A file that has none is named, and not linked."""
    is_linked = True
    for token in tokens:
        if token.type == "image":
            token.attrSet("src", _picture(str(token.attrGet("src")), folder))
            token.attrSet("loading", "lazy")
        elif token.type == "link_open":
            address = _page(str(token.attrGet("href")), folder)
            is_linked = address is not None
            if address is not None:
                token.attrSet("href", address)
        if token.type in ("link_open", "link_close") and not is_linked:
            token.type, token.tag = "text", ""
            token.content, token.nesting = "", 0


def _page(address: str, folder: str) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") or not parts.path:
        return address
    file = posixpath.normpath(posixpath.join(folder, parts.path))
    file = f"{file}/README.md" if (ROOT / file).is_dir() else file
    name = next((name for name, each in names().items() if each == file), None)
    if name is None:
        return None
    return url_for("dashboard.document", name=name) + (f"#{quote(parts.fragment)}" if parts.fragment else "")


def _picture(address: str, folder: str) -> str:
    file = posixpath.normpath(posixpath.join(folder, urlsplit(address).path))
    return url_for("dashboard.picture", name=posixpath.basename(file))
