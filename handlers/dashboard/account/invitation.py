"""Invitations: the form behind the link, which is good for a day and for one use."""

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import people, sessions
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import SESSION_COOKIE, page, read, set_cookie, write
from handlers.kit import passwords


def invitation() -> Response:
    """The form of the link. Only posting it uses the link up."""
    return _form(request.args.get("token", ""))


def join() -> AnyResponse:
    """Set the invited person's password. Only they have the link, so it signs the browser in."""
    token, address = request.values.get("token", ""), request.remote_addr or ""
    if people.invited(read(), token) is None:
        return _form(token)
    try:
        chosen = people.checked_password(request.form.get("password", ""))
    except people.PersonError as error:
        return _form(token, 400, f"Please {error}.")
    password_hash, agent = passwords.hash_of(chosen), request.headers.get("User-Agent", "")

    def enter(tx: Connection) -> str | None:
        person = people.accept(tx, token, password_hash)
        return None if person is None else sessions.begin(tx, person.id, address, agent)

    session = write(enter)
    if session is None:  # another one was first
        return _form(token)
    response = redirect("/", 303)
    set_cookie(response, SESSION_COOKIE, session)
    return response


def _form(token: str, status: int = 200, problem: str | None = None) -> Response:
    invited = people.invited(read(), token)
    if invited is None:
        status = 410
    return page(
        "invitation.html", status, token=token, invited=invited, problem=problem, shortest=people.SHORTEST_PASSWORD
    )
