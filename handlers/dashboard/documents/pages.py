"""The pages of the documents. They are open: the files are public, and who builds the game's side needs no password."""

from flask import Response, send_from_directory

from handlers.dashboard.documents import rendering
from handlers.dashboard.frame.pages import PageError, page


def documents() -> Response:
    """The list of all documents."""
    return page("documents.html", listed=rendering.listed())


def document(name: str) -> Response:
    """One document, and where its sections begin."""
    found = rendering.document(name)
    if found is None:
        raise PageError(404, "There is no such document")
    return page("document.html", document=found, listed=rendering.listed())


def picture(name: str) -> Response:
    """A picture that a document shows."""
    return send_from_directory(rendering.ROOT / rendering.PICTURES, name, mimetype="image/png")
