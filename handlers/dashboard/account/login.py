"""Signing in and out: name and password, then the second factor if it is on. Guessing is slowed down.

As long as only one person can sign in, no name is asked for. Between the password and the second factor, the browser
has a signed cookie: its password was right. It is valid for five minutes, for this browser, person and password.
"""

import hashlib
import ipaddress
import math
import threading
from urllib.parse import urlsplit

from flask import Response, g, redirect, request, url_for
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import owner, people, second_factor, sessions, throttle
from coinslot.access.people import Person
from coinslot.base import addresses
from coinslot.store.db import Connection, Row
from handlers.dashboard.frame.pages import SESSION_COOKIE, page, read, see_other, set_cookie, write
from handlers.kit import passwords
from handlers.kit.receive import current_installation

PROOF_COOKIE = "coinslot_proof"
PROOF_SECONDS = 300
LONGEST_NEXT = 1000
LONGEST_NAME = 200  # of what is typed in
# A password takes a thread, its processor and 32 MiB for the better part of a tenth of a second. Strangers with many
# addresses get no more than these at a time, in each worker; the other threads are left to partners' calls.
judging = threading.BoundedSemaphore(2)
BUSY = "Too many people are signing in at this moment. Try again in a few seconds."
BUSY_SECONDS = 2  # in Retry-After


def login() -> AnyResponse:
    if g.session is not None:
        return redirect("/", 303)
    return _form(200, None)


def sign_in() -> AnyResponse:
    """Sign this browser in. Every attempt is counted before it is judged; success clears the count."""
    database = current_installation().database
    name, network = request.form.get("name", "")[:LONGEST_NAME], _network(request.remote_addr or "")
    row = people.meant(database.read(), name)
    # A person's own success clears what was tried from there, but not what was tried there with another name.
    # Names that nobody has are told apart like the others, or the count would say which names are people's.
    whose = f"{network} {f'name {people.folded_name(name)}' if row is None else row['id']}"
    keys = [throttle.key("address", network), throttle.key("address and person", whose)]

    def count(tx: Connection) -> None:
        for key in keys:
            throttle.begin(tx, throttle.OWNER, key)

    def take_back(tx: Connection) -> None:
        for key in keys:
            throttle.take_back(tx, throttle.OWNER, key)

    try:
        database.write(count)
    except throttle.ThrottledError as error:
        return _later(_form(429, later(error)), error.retry_after_seconds)
    if not judging.acquire(blocking=False):
        database.write(take_back)
        return _later(_form(503, BUSY), BUSY_SECONDS)
    stored = None if row is None else row["password_hash"]
    try:
        is_right = passwords.is_right(stored or passwords.nobodys_hash(), request.form.get("password", ""))
    finally:
        judging.release()
    if not is_right or row is None or stored is None:
        return _form(403, "That is not the name and password of anybody here." if name else "That is not the password.")
    person, address, agent = Person.of(row), request.remote_addr or "", _agent()

    def enter(tx: Connection) -> str | None:
        for key in keys:
            throttle.clear(tx, throttle.OWNER, key)
        return None if second_factor.is_on(tx, person) else sessions.begin(tx, person.id, address, agent)

    session = database.write(enter)
    if session is None:
        response = see_other("login_code")
        set_cookie(response, PROOF_COOKIE, _new_proof(row, _wanted()), PROOF_SECONDS, path="/login")
    else:
        response = redirect(_wanted(), 303)
        set_cookie(response, SESSION_COOKIE, session)
    return response


def login_code() -> AnyResponse:
    if g.session is not None:
        return redirect("/", 303)
    return see_other("login") if _proved() is None else _code_form(200, None)


def sign_in_with_code() -> AnyResponse:
    """Check the code of a browser whose password was right a moment ago."""
    installation = current_installation()
    proved = _proved()
    if proved is None:
        return see_other("login", said="too-late")
    person, wanted = proved
    code, address, agent = request.form.get("code", ""), request.remote_addr or "", _agent()
    # One count for all addresses: six digits are soon guessed from many.
    key = throttle.key("second-factor", str(person.id))

    def enter(tx: Connection) -> str | None:
        throttle.begin(tx, throttle.OWNER, key)
        if not second_factor.accept(tx, installation.vault, person, code):
            return None
        throttle.clear(tx, throttle.OWNER, key)
        return sessions.begin(tx, person.id, address, agent)

    try:
        session = installation.database.write(enter)
    except throttle.ThrottledError as error:
        return _later(_code_form(429, later(error)), error.retry_after_seconds)
    if session is None:
        return _code_form(403, "That is not a code that is good now. Each is good once.")
    response = redirect(wanted, 303)
    set_cookie(response, SESSION_COOKIE, session)
    response.delete_cookie(PROOF_COOKIE, path="/login")
    return response


def sign_out() -> AnyResponse:
    write(lambda tx: sessions.end(tx, g.person.id, g.session))
    response = see_other("login", said="signed-out")
    response.delete_cookie(SESSION_COOKIE)
    return response


def _form(status: int, problem: str | None) -> Response:
    connection = read()
    return page(
        "login.html",
        status,
        problem=problem,
        has_owner=owner.has_password(connection),
        are_several=people.are_several(connection),
        name=request.form.get("name", ""),
        next=request.values.get("next", ""),
    )


def _network(address: str) -> str:
    """The address; for IPv6 its network, since one person has a whole /64."""
    try:
        parsed = addresses.parsed(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def _agent() -> str:
    return request.headers.get("User-Agent", "")


def later(error: throttle.ThrottledError) -> str:
    minutes = math.ceil(error.retry_after_seconds / 60)
    return f"Too many attempts. Try again in {minutes} minute{'' if minutes == 1 else 's'}."


def _later(response: Response, seconds: float) -> Response:
    response.headers["Retry-After"] = str(math.ceil(seconds))
    return response


def _code_form(status: int, problem: str | None) -> Response:
    return page("login_code.html", status, problem=problem)


def _new_proof(row: Row, wanted: str) -> str:
    # Browsers drop a cookie of more than 4 KiB.
    proof = {"person": row["id"], "for": _whose(row), "next": wanted if len(wanted) <= LONGEST_NEXT else "/"}
    return _proofs().dumps(proof)


def _proved() -> tuple[Person, str] | None:
    """Whose password was right, and the page to go to after the code; None when the cookie is not valid."""
    try:
        proof = _proofs().loads(request.cookies.get(PROOF_COOKIE, ""), max_age=PROOF_SECONDS)
    except BadSignature:
        return None
    row = people.by_id(read(), proof["person"])
    return (Person.of(row), str(proof["next"])) if row is not None and proof["for"] == _whose(row) else None


def _whose(row: Row) -> str:
    """This browser, and the person's password of now: a proof is valid for both alone."""
    return hashlib.sha256(f"{g.browser}\n{row['password_hash']}".encode()).hexdigest()


def _proofs() -> URLSafeTimedSerializer:
    installation = current_installation()
    key = installation.vault.current(installation.database.read()).derive("second factor")
    return URLSafeTimedSerializer(key, salt="password was right")


def _wanted() -> str:
    """The page that was asked for, if it is one of ours: no link may lead elsewhere."""
    wanted = request.form.get("next", "")
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return url_for("dashboard.overview")
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return wanted if is_ours and not any(ord(letter) < 32 for letter in wanted) else url_for("dashboard.overview")
