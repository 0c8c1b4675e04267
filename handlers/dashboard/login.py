"""Signing in and out: the owner's password, slowed down for whoever guesses."""

import ipaddress
import math
from urllib.parse import urlsplit

from flask import g, redirect, request, url_for
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response as AnyResponse

from coinslot import owner, throttle
from coinslot.db import Connection
from handlers import installation
from handlers.dashboard.pages import SESSION_COOKIE, bp, page, see_other, set_cookie

# What a password is compared with when there is none: an installation without an owner takes as long to say no.
NOBODY = generate_password_hash("nobody's password")


@bp.get("/login")
def login() -> AnyResponse:
    if g.session is not None:
        return redirect("/", 303)
    return _form(200, None)


@bp.post("/login")
def sign_in() -> AnyResponse:
    """Sign this browser in. Every attempt is counted before it is judged; success clears the count."""
    database = installation().database
    key = throttle.key("address", _neighbourhood(request.remote_addr or ""))
    try:
        database.write(lambda tx: throttle.begin(tx, throttle.OWNER, key))
    except throttle.ThrottledError as error:
        minutes = math.ceil(error.retry_after_seconds / 60)
        response = _form(429, f"Too many attempts. Try again in {minutes} minute{'' if minutes == 1 else 's'}.")
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
        return response
    stored = owner.password_hash(database.read())
    is_right = check_password_hash(stored or NOBODY, request.form.get("password", ""))
    if not is_right or stored is None:
        return _form(403, "That is not the password.")
    address, agent = request.remote_addr or "", request.headers.get("User-Agent", "")

    def enter(tx: Connection) -> str:
        throttle.clear(tx, throttle.OWNER, key)
        return owner.begin_session(tx, address, agent)

    response = redirect(_wanted(), 303)
    set_cookie(response, SESSION_COOKIE, database.write(enter))
    return response


@bp.post("/logout")
def sign_out() -> AnyResponse:
    session = g.session
    installation().database.write(lambda tx: owner.end_session(tx, session))
    response = see_other("login", said="signed-out")
    response.delete_cookie(SESSION_COOKIE)
    return response


def _form(status: int, problem: str | None) -> AnyResponse:
    has_owner = owner.has_password(installation().database.read())
    return page("login.html", status, problem=problem, has_owner=has_owner, next=request.values.get("next", ""))


def _neighbourhood(address: str) -> str:
    """Whom an address belongs to: of IPv6, one has the whole half behind the network's."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def _wanted() -> str:
    """The page that was asked for, when it is one of ours: a link must not lead an owner elsewhere."""
    wanted = request.form.get("next", "")
    parts = urlsplit(wanted)
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return wanted if is_ours and not any(ord(letter) < 32 for letter in wanted) else url_for("dashboard.overview")
