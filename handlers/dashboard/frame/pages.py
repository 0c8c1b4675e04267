"""What all pages use: the blueprint, the guard before each request, headers, and how a page is made.

The guard is deny by default: an address that ``roles.py`` does not name is for a signed-in owner alone, and every POST
must carry the form token of the browser it comes from.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from flask import (
    Blueprint,
    Response,
    current_app,
    g,
    make_response,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.globals import request_ctx
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from coinslot import __version__
from coinslot.access import page_facts, sessions
from coinslot.access.people import Person
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.ledger import refused
from coinslot.store.db import Connection, DatabaseError, EngineError, Row
from coinslot.store.paging import LAST_ID
from handlers.dashboard.frame import privacy, roles, times, words
from handlers.kit.receive import current_installation, partners, plain_error

T = TypeVar("T")

SESSION_COOKIE = "coinslot_session"
VISITOR_COOKIE = "coinslot_visitor"  # of a browser that is not signed in; its form token is made of it
TOKEN_FIELD = "form_token"  # noqa: S105  a field's name

# POSTs that bring a proof of their own in place of a form token.
PROVES_ITSELF = frozenset({"dashboard.complete_setup", "dashboard.join"})

# Bytes; any other form is as small as every other body. Before signing in, there is a password, a code or a setup.
LARGEST_OF_STRANGERS = 16 * 1024
UPLOADS = {
    "dashboard.import_players": 8 * 1024 * 1024,
    "dashboard.import_items": 8 * 1024 * 1024,
    "dashboard.upload_report": 16 * 1024 * 1024,
}

# What the navigation of a game leads to: the function that shows it, and its name.
GAME_PAGES = (
    ("integration", "Integration"),
    ("refusals", "Refused calls"),
    ("transactions", "Transactions"),
    ("players", "Players"),
    ("items", "Items"),
    ("events", "Events"),
    ("deliveries", "Deliveries"),
    ("payments", "Payments"),
    ("settlements", "Settlements"),
    ("settings", "Settings"),
)

OWN_PAGES = {"": "Overview", "activity": "Activity", "account": "Account"}  # first word of the address -> name

# The first word after a game's name in addresses -> the page of the navigation that it belongs to, if not its own.
SECTIONS = {"conflicts": "transactions", "edit-player": "players", "refunds": "transactions", "mapping": "integration"}

MOST_OPEN_SHOWN = 100  # refused calls, in the navigation
MOST_GAMES_SHOWN = 30  # to switch to; the overview has all

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


class PageError(Exception):
    """What was asked cannot be shown or done; the message is for the owner."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


bp = Blueprint(
    "dashboard", __name__, template_folder="../templates", static_folder="../static", static_url_path="/static"
)
words.register(bp)
privacy.register(bp)
roles.register(bp)


@bp.before_request
def guard() -> AnyResponse | None:
    """Let people in where they may go, and only our own forms change something."""
    if request.endpoint == "dashboard.static":
        return None
    row = _recognise()
    if not roles.may(g.person, (request.endpoint or "").removeprefix("dashboard.")):
        if row is None:
            return redirect(url_for("dashboard.login", next=_here()), 303)
        raise PageError(403, f"Only an owner may do that. You are signed in as {g.person.name}, for {g.person.role}.")
    if row is None:
        request.max_content_length = LARGEST_OF_STRANGERS
    elif request.endpoint in UPLOADS:  # only now: the upload of a stranger is not read
        request.max_content_length = UPLOADS[request.endpoint]
    if request.method not in ("GET", "HEAD") and request.endpoint not in PROVES_ITSELF:
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise PageError(403, "This form comes from another website.")
        given = request.form.get(TOKEN_FIELD, "")
        if not hmac.compare_digest(given.encode(), form_token().encode()):
            raise PageError(403, "This form is too old, or not ours. Go back, reload the page and try again.")
    if row is not None and sessions.is_due(row):
        current_installation().database.write(lambda tx: sessions.seen(tx, row["token_hash"]))
    return None


@bp.url_defaults
def stay_in_game(endpoint: str, values: dict[str, Any]) -> None:
    """Links lead to pages of the same game, unless they name another."""
    slug = (request.view_args or {}).get("slug")
    if slug is not None and current_app.url_map.is_endpoint_expecting(endpoint, "slug"):
        values.setdefault("slug", slug)


@bp.errorhandler(PageError)
def tell(error: PageError) -> Response:
    return refuse(error.status, error.message)


@bp.after_request
def harden(response: Response) -> Response:
    """Headers of every page: nothing is cached, framed, sniffed or told to other sites."""
    if request.endpoint != "dashboard.static":
        response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "no-referrer"  # the setup link carries a token
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if "browser" in g and g.session is None and request.cookies.get(VISITOR_COOKIE) != g.browser:
        set_cookie(response, VISITOR_COOKIE, g.browser)
    return response


def form_token() -> str:
    """The token in the forms of this browser: only who can read its cookie can make it."""
    return hmac.new(g.browser.encode(), b"form", hashlib.sha256).hexdigest()


def set_cookie(
    response: AnyResponse, name: str, value: str, seconds: int = sessions.SESSION_SECONDS, path: str = "/"
) -> None:
    """Set a cookie that no script reads, and that only HTTPS carries where we are called by it."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=path,
        httponly=True,
        samesite="Lax",  # Strict would ask for the password again after every link from a mail
        secure=current_installation().settings.public_url.startswith("https://") or request.is_secure,
    )


def page(template: str, status: int = 200, **values: object) -> Response:
    """A page with the navigation around it. ``game`` is the one in the address, None when there is none."""
    game: Any = values.get("game", g.get("game"))  # an error's page has none, and reads nothing
    section = _section(game)
    frame = {
        "game": game,
        "section": section,
        "here": dict(GAME_PAGES).get(section) or OWN_PAGES.get(request.path.split("/")[1]),
        "games_to_switch": () if g.session is None or "games_to_switch" in values else _other_games(game),
        "open_calls": 0 if "open_calls" in values or game is None or g.session is None else _count_open(game),
        "game_pages": [each for each in GAME_PAGES if roles.may(g.person, each[0])],
        "is_signed_in": g.session is not None,
        "person": g.person,
        "is_first": "after" not in request.args,  # page of a list
        "release": __version__,
        "is_demo": g.get("is_demo", False),
        "token_field": lambda: Markup('<input type="hidden" name="{}" value="{}">').format(TOKEN_FIELD, form_token()),
    }
    # JSON can spell half a surrogate pair and UTF-8 cannot: it is shown as it was spelled.
    html = render_template(template, **frame | values).encode("utf-8", "backslashreplace")
    response = make_response(html)
    response.status_code = status
    return response


def refuse(status: int, message: str) -> Response:
    """An error as a page."""
    if request_ctx.url_adapter is None:  # the Host header is none, and a page has addresses in it
        return plain_error(status, message)
    if "browser" not in g:
        g.session, g.person, g.browser = None, None, ""
    return harden(page("error.html", status, game=None, games_to_switch=(), code=status, message=message))


def refuse_elsewhere(status: int, message: str) -> Response:
    """An error at an address that does not exist: a page for people who are signed in, JSON for all others."""
    if status == 404 and SESSION_COOKIE in request.cookies and _recognise() is not None:
        return refuse(status, message)
    return plain_error(status, message)


def show_on_error(show: Callable[..., Response], *args: object) -> None:
    """Answer with ``show(*args, status=..., problem=...)``, the form again, if the request fails with CoinslotError."""
    g.form = partial(show, *args)


def see_other(endpoint: str, said: str = "", **values: Any) -> AnyResponse:
    """Redirect to a page after a change; ``said`` is the key of its sentence in :data:`words.SAID`."""
    if said:
        values["said"] = said
    return redirect(url_for(f"dashboard.{endpoint}", **values), 303)


def read() -> Connection:
    """A connection to read with; see :meth:`Database.read`."""
    return current_installation().database.read()


def write(change: Callable[[Connection], T]) -> T:
    """Make a change in one transaction; see :meth:`Database.write`. In it, too, :func:`who` says who is signed in."""
    context = copy_context()  # the change is made by another thread
    return current_installation().database.write(lambda tx: context.run(change, tx))


def who() -> str:
    """The name of who is signed in: the actor of what this request does."""
    name: str = g.person.name
    return name


def partner_titles() -> dict[str, str]:
    """Name -> title of each partner."""
    return {partner.name: partner.title for partner in partners()}


def find_game(slug: str) -> Game:
    """The game in an address; 404 when there is none. Ids of rows are looked for within this one only."""
    game, g.every_game = current_installation().games.among(slug)
    if game is None:
        raise PageError(404, "There is no such game")
    return game


def every_game() -> list[Row]:
    """Id, slug and name of all games, by name; read once per request."""
    if "every_game" not in g:
        g.every_game = games.names(read())
    found: list[Row] = g.every_game
    return found


def whole(value: str | None, largest: int = 2**63 - 1) -> int | None:
    """A whole number out of a query or a form; None when it is none or too large."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 19 or int(value) > largest:
        return None
    return int(value)


def below() -> int:
    """The ids of a page of a list are below this one: ``?after=``, or the largest id for the first page."""
    return whole(request.args.get("after")) or LAST_ID


def download(chunks: Iterable[str | bytes], name: str, mimetype: str) -> Response:
    """A file that is streamed as it is made. ``name`` has no text of strangers."""
    response = Response(
        stream_with_context(chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks),
        mimetype=mimetype,
        direct_passthrough=False,
    )
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _recognise() -> Row | None:
    """The session of the browser that asks; None when it is not signed in."""
    token = request.cookies.get(SESSION_COOKIE, "")
    connection = read()
    row = sessions.find(connection, token) if token else None
    facts = row or page_facts.read(connection)
    g.zone, g.is_demo = times.zone_of(facts["zone"]), facts["demo"] is not None
    g.session = None if row is None else row["token_hash"]
    g.person = None if row is None else Person.of(row)
    g.is_shown = row is not None and sessions.is_shown(row, privacy.this_page())
    g.browser = token if row is not None else request.cookies.get(VISITOR_COOKIE) or secrets.token_urlsafe(32)
    return row


def _section(game: Game | None) -> str:
    """Which page of :data:`GAME_PAGES` this is, or belongs to; empty outside of a game."""
    word = request.path.split("/")[3:4] if game is not None else []
    return SECTIONS.get(word[0], word[0]) if word else ""


def _other_games(game: Game | None) -> list[Row]:
    """Games to switch to; none when they cannot be read, since a page must be shown then, too."""
    try:
        return [row for row in every_game() if game is None or row["id"] != game.id][:MOST_GAMES_SHOWN]
    except (EngineError, DatabaseError, OSError):
        return []


def _count_open(game: Game) -> int:
    return refused.count_open(read(), game.id, MOST_OPEN_SHOWN)


def _here() -> str:
    """The page to show after signing in: this one, if it was asked for by GET."""
    return request.full_path.rstrip("?") if request.method == "GET" else "/"
