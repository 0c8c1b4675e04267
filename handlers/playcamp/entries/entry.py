"""A player enters: the game's client opens this address in a browser and is led to PlayCamp's WebView.

The game's server has signed who enters (``recipe.py``). Neither the signature nor the token that opens the WebView is
logged or kept. Every entry that is not proved gets the same words; only one with a right signature reads what else is
wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from flask import Response, after_this_request, current_app, request
from werkzeug.exceptions import MethodNotAllowed

from coinslot.access import used_entries
from coinslot.base import clock
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.readers import id_of
from handlers.kit.api import ApiError, NotConfiguredError
from handlers.kit.receive import current_installation, note_call, note_refusal
from handlers.playcamp.api.client import Client, webview_url
from handlers.playcamp.entries import pages
from handlers.playcamp.recipe import Proof, Recipe, SignatureError, verify

PARTNER = "playcamp"
ENDPOINT = "sponsor"

PARAMETERS = ("user", "campaign", "auth")  # their names are settings, playcamp.param.<one of these>
LANGUAGES = ("ko", "en")
ALL_TABS = "all"
CODE_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43,128}")  # RFC 7636, S256

UNPROVING = ("malformed", "signature")  # reasons for which a query is kept: it has proved nothing
UNPROVED = (
    "This link cannot be used. Please open it again in the game.\n"
    "이 링크는 사용할 수 없습니다. 게임에서 다시 열어 주세요.\n"
)


@dataclass(eq=False)
class RefusedError(Exception):
    """The entry is refused. ``reason`` and ``found`` are for the owner, ``text`` is for the player."""

    reason: str
    status: int
    text: str
    found: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Wanted:
    """A proved entry."""

    proof: Proof
    campaign_id: str | None
    language: str | None
    code_challenge: str | None = field(repr=False)


def enter(game_slug: str) -> Response:
    """Prove the player's entry and lead to the WebView with a fresh token, which is good for one opening."""
    after_this_request(_keep_private)
    if request.method != "GET":  # Flask runs a GET's view for HEAD too, and a HEAD must use nothing up
        raise MethodNotAllowed(["GET"])
    game = current_installation().games.by_slug(game_slug)
    try:
        if game is None or not is_configured(game):
            raise RefusedError("unknown_game", 404, "Not Found\n")
        return _open(game, _wanted(game))
    except RefusedError as error:
        # A query with a right signature is not kept, even if it is for another player or too old.
        keeps_query = error.status == 401 and error.reason in UNPROVING
        note_refusal(PARTNER, ENDPOINT, game, error.reason, error.status, keeps_query=keeps_query, found=error.found)
        return Response(error.text, error.status, mimetype="text/plain")


def is_configured(game: Game) -> bool:
    """Whether an entry can be proved. Without PlayCamp's API key a good one ends on the page "not available"."""
    return bool(game.keys("playcamp.shared_key"))


def recipe_of(game: Game) -> Recipe:
    """How the game's entries are signed."""
    return Recipe.parse(game.settings["playcamp.signature"], game.is_on("playcamp.signature_campaign"))


def allowed_campaigns(game: Game) -> list[str]:
    """The campaigns players may enter; empty: any."""
    return [each.strip() for each in game.settings["playcamp.campaigns"].split(",") if each.strip()]


def _wanted(game: Game) -> Wanted:
    """What the address asks for, once it is proved. Raises :class:`RefusedError`."""
    given = _given()
    user, campaign, auth = (given.get(game.settings[f"playcamp.param.{name}"], []) for name in PARAMETERS)
    campaigns = [each for each in campaign if each]
    try:
        proof = _prove(game, auth, _only(user), _only(campaigns))
    except SignatureError as error:
        raise RefusedError(error.reason, 401, UNPROVED, error.found) from None
    is_once = game.is_on("playcamp.entry_once")
    if is_once and used_entries.is_used(current_installation().database.read(), game.id, proof.signature):
        raise RefusedError("used", 401, UNPROVED)
    note_call(game, PARTNER, ENDPOINT, proof.key)

    if id_of(_only(user)) is None:
        raise RefusedError("malformed", 400, "The player's id is missing, or cannot be one\n")
    allowed = allowed_campaigns(game)
    campaign_id = id_of(_only(campaigns))
    if campaigns and (campaign_id is None or (allowed and campaign_id not in allowed)):
        raise RefusedError("campaign", 400, "There is no such campaign\n")
    if not campaigns and len(allowed) == 1:
        campaign_id = allowed[0]
    challenge = _only(given.get("code_challenge", []))
    if "code_challenge" in given and not CODE_CHALLENGE.fullmatch(challenge or ""):
        raise RefusedError("malformed", 400, "code_challenge: use 43 to 128 characters of Base64URL\n")
    return Wanted(proof, campaign_id, _language(game, _only(given.get("lang", []))), challenge)


def _open(game: Game, wanted: Wanted) -> Response:
    """Lead to the WebView, or show a page that says why not. Raises :class:`RefusedError` where it was used before."""
    installation, proof = current_installation(), wanted.proof
    try:
        client = Client(game, installation.outbound.for_callers)
        ott = client.issue_ott(
            proof.user,
            wanted.campaign_id,
            callback_id=proof.custom_data,
            code_challenge=wanted.code_challenge,
            is_test=game.is_on("playcamp.webview_test") or proof.user == registry.RESERVED_ID,
        )
    except ApiError as error:
        current_app.logger.error("playcamp %s: an entry could not be opened: %s", game.slug, _cause(error))
        return pages.trouble(504 if error.failure == "timeout" else 502, wanted.language or "en", request.query_string)
    # Used up only now: where PlayCamp failed, the player may come again with the same link.
    if game.is_on("playcamp.entry_once"):
        expires_at = proof.signed_at + float(game.settings["playcamp.tolerance_seconds"])
        if not installation.database.write(lambda tx: used_entries.use(tx, game.id, proof.signature, expires_at)):
            raise RefusedError("used", 401, UNPROVED)
    tabs, color = game.settings["playcamp.tabs"], game.settings["playcamp.primary_color"]
    location = webview_url(client.base_url, ott, wanted.language, None if tabs == ALL_TABS else tabs, color)
    return Response(status=302, headers={"Location": location}, mimetype="text/plain")


def _prove(game: Game, auth: list[bytes], user: str | None, campaign: str | None) -> Proof:
    """Raises SignatureError. A plus sign may be a space, as in a form, or itself, as in Base64 that was not encoded."""
    failure = SignatureError("malformed")
    readings = [auth[0].replace(b"+", b" "), auth[0]] if len(auth) == 1 else []
    for custom_data in dict.fromkeys(_text(reading) for reading in readings):
        if custom_data is None:
            continue
        tolerance = float(game.settings["playcamp.tolerance_seconds"])
        keys = game.keys("playcamp.shared_key")
        try:
            return verify(recipe_of(game), keys, custom_data, user, campaign, clock.now(), tolerance)
        except SignatureError as error:
            failure = error
    raise failure


def _given() -> dict[str, list[bytes]]:
    """The query's parameters with undecoded values: what a plus sign means depends on the parameter.

    (Werkzeug's own ``args`` break off at bytes that are not UTF-8.)
    """
    given: dict[str, list[bytes]] = {}
    for pair in request.query_string.split(b"&"):
        name, _, value = pair.partition(b"=")
        given.setdefault(_text(name.replace(b"+", b" ")) or "", []).append(value)
    return given


def _only(values: list[bytes]) -> str | None:
    """The one value of a parameter; None where there is none, more than one, or one that is not text."""
    return _text(values[0].replace(b"+", b" ")) or None if len(values) == 1 else None


def _text(value: bytes) -> str | None:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return None


def _language(game: Game, asked: str | None) -> str | None:
    """The language asked for, else the game's, else the browser's; None where the WebView has none of those."""
    if asked is not None and asked.lower() in LANGUAGES:
        return asked.lower()
    if game.settings["playcamp.lang"]:
        return game.settings["playcamp.lang"]
    # Best first. (Werkzeug's own best_match prefers a plain "en" to an earlier "ko-KR".)
    accepted = (tag.partition("-")[0].lower() for tag, quality in request.accept_languages if quality > 0)
    return next((language for language in accepted if language in LANGUAGES), None)


def _cause(error: ApiError) -> str:
    """Why a call failed, for the log: PlayCamp's own words may repeat what we sent."""
    if isinstance(error, NotConfiguredError):
        return error.text
    if error.failure is not None:
        return f"no proper answer ({error.failure})"
    return f"PlayCamp answered {error.status}{f' {error.code}' if error.code else ''}"


def _keep_private(response: Response) -> Response:
    """The address holds a signature, and the one it leads to a token."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
