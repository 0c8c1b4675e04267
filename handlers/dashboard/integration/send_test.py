"""A test of an address, sent from the page as its partner would, and what came back."""

import ipaddress
from urllib.parse import urlsplit

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games.games import Game
from coinslot.operations import contacts
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, page, see_other, who, write
from handlers.dashboard.integration.addresses import address_of, partner_of, refusals_of
from handlers.kit import sending
from handlers.kit.partner import Call
from handlers.kit.receive import current_installation

TEST_SECONDS = 5.0
SHOWN_HEADERS = ("Content-Type", "Location", "Retry-After", "Allow", "Server", "Via")


def note_copied(game: Game, partner: str) -> AnyResponse:
    """Note that the owner has pasted an address at the partner, or has not."""
    its = partner_of(partner)
    address = address_of(its)
    is_copied = request.form.get("is_copied") == "1"

    def note(tx: Connection) -> None:
        (contacts.copied if is_copied else contacts.not_copied)(tx, game.id, its.name, address.endpoint)
        what = "address.copied" if is_copied else "address.not_copied"
        audit.record(tx, game.id, who(), what, f"{its.name}/{address.endpoint}")

    write(note)
    return see_other("integration_partner", "saved", partner=partner)


def send_test(game: Game, partner: str) -> Response:
    """Send a signed sample of the reserved player to the real address, and show the answer."""
    its = partner_of(partner)
    address = address_of(its)
    installation = current_installation()
    lacking = address.lacks(game)
    if lacking:
        raise PageError(409, f"Nothing can be signed yet: {' and '.join(lacking)} must be set first.")
    call = its.sample(game, address.endpoint)
    if call is None:
        raise PageError(409, address.unsent or "There is no sample for this address as it is set up now.")
    here = _here()
    base = here if request.form.get("where") == "here" and here else installation.settings.public_url
    subject = f"{its.name}/{address.endpoint}"
    write(lambda tx: audit.record(tx, game.id, who(), "address.test", subject))
    try:
        answer, trouble = sending.send(base, call, TEST_SECONDS), None
    except sending.UnreachableError as error:
        answer, trouble = None, str(error)
    return page(
        "integration_test.html",
        partner=its,
        address=address,
        base=base,
        sent=_sent(game, base, call),
        call=call,
        answer=answer,
        answer_headers=[] if answer is None else _headers(answer, game, call),
        body="" if answer is None else _text(answer.body, game, call),
        surprise=None if answer is None else call.expect(answer.status, answer.body),
        trouble=trouble,
        here=here if base != here else None,
        refusals=refusals_of(game, its),
    )


def _here() -> str | None:
    """Where this server listens on its own machine, behind every proxy; None when that is not known.

    On a Unix socket, gunicorn takes SERVER_NAME from the Host header, so a caller could name any machine. Such a caller
    has no port.
    """
    if not request.environ.get("REMOTE_PORT"):
        return None
    name, port = request.environ.get("SERVER_NAME", ""), str(request.environ.get("SERVER_PORT", ""))
    if name == "localhost":
        name = "127.0.0.1"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    if not (address.is_loopback or address.is_private) or not port.isdigit():
        return None
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _sent(game: Game, base: str, call: Call) -> dict[str, object]:
    return {
        "line": f"{call.method} {sending.without_proofs(base + call.path, game, call)}",
        "headers": sorted(call.headers),
        "body": "" if call.body is None else _text(call.body, game, call),
    }


def _headers(answer: sending.Answered, game: Game, call: Call) -> list[tuple[str, str]]:
    given = {name.lower(): value for name, value in answer.headers.items()}
    found = [(name, given[name.lower()]) for name in SHOWN_HEADERS if name.lower() in given]
    return [
        (name, sending.without_proofs(_without_query(value) if name == "Location" else value, game, call))
        for name, value in found
    ]


def _without_query(address: str) -> str:
    """An address without its query, which may hold a token."""
    parts = urlsplit(address)
    return parts._replace(query=sending.HIDDEN if parts.query else "", fragment="").geturl()


def _text(content: bytes, game: Game, call: Call) -> str:
    return sending.without_proofs(content.decode("utf-8", errors="replace"), game, call)
