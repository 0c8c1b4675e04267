"""A player enters: the game's client opens this address in a browser, which lands in PlayCamp's WebView.

The game's server has signed who enters (``signature.py``). Nothing of it, nor of the token that opens the WebView, is
logged or kept; whatever an entry fails for, whoever forged it reads the same words. What is wrong besides is told only
to whom the signature belongs.
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
from handlers.kit.api import ApiError, NotConfiguredError
from handlers.kit.receive import current_installation, note_call, note_refusal
from handlers.playcamp.api.client import Client, webview_url
from handlers.playcamp.entries import pages
from handlers.playcamp.recipe import Proof, Recipe, SignatureError, verify

PARTNER = "playcamp"
ENDPOINT = "sponsor"

FUTURE_SECONDS = 5.0  # how far the game's clock may be ahead
LANGUAGES = ("ko", "en")
ALL_TABS = "all"
CODE_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43,128}")  # RFC 7636, S256

UNPROVING = ("malformed", "signature")  # reasons for which a query is kept: it has proved nothing
UNPROVED = (
    "This link cannot be used. Please open it again in the game.\n"
    "이 링크는 사용할 수 없습니다. 게임에서 다시 열어 주세요.\n"
)


class RefusedError(Exception):
    """The entry is refused. ``reason`` is for the owner, ``text`` for whoever came."""

    def __init__(self, reason: str, status: int, text: str, found: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.text = text
        self.found = found


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
        wanted = _wanted(game)
        return _open(game, wanted)
    except RefusedError as error:
        # A query that proves something, if only for another player or a minute ago, is not kept.
        note_refusal(
            PARTNER,
            ENDPOINT,
            game,
            error.reason,
            error.status,
            keeps_query=error.status == 401 and error.reason in UNPROVING,
            found=error.found,
        )
        return Response(error.text, error.status, mimetype="text/plain")


def is_configured(game: Game) -> bool:
    """Whether an entry can be proved. Without PlayCamp's key a good one ends on the page that says not now."""
    return bool(game.keys("playcamp.shared_key"))


def recipe_of(game: Game) -> Recipe:
    return Recipe.parse(game.settings["playcamp.signature"], game.is_on("playcamp.signature_campaign"))


def allowed_campaigns(game: Game) -> list[str]:
    """The campaigns players may enter; empty: any."""
    return [each for each in (word.strip() for word in game.settings["playcamp.campaigns"].split(",")) if each]


def _wanted(game: Game) -> Wanted:
    """What the address asks for, once it is proved. Raises :class:`RefusedError`."""
    given = _given()
    user = _only(given.get(game.settings["playcamp.param.user"], []))
    campaigns = [each for each in given.get(game.settings["playcamp.param.campaign"], []) if each]
    campaign = _only(campaigns)
    try:
        proof = _prove(game, given.get(game.settings["playcamp.param.auth"], []), user, campaign)
    except SignatureError as error:
        raise RefusedError(error.reason, 401, UNPROVED, error.found) from None
    is_once = game.is_on("playcamp.entry_once")
    if is_once and used_entries.is_used(current_installation().database.read(), game.id, proof.signature):
        raise RefusedError("used", 401, UNPROVED)
    note_call(game, PARTNER, ENDPOINT, proof.key)

    if user is None or not _is_id(user):
        raise RefusedError("malformed", 400, "The player's id is missing, or cannot be one\n")
    allowed = allowed_campaigns(game)
    if campaigns and (campaign is None or not _is_id(campaign) or (allowed and campaign not in allowed)):
        raise RefusedError("campaign", 400, "There is no such campaign\n")
    if not campaigns and len(allowed) == 1:
        campaign = allowed[0]
    challenges = given.get("code_challenge", [])
    challenge = _only(challenges)
    if challenges and (challenge is None or not CODE_CHALLENGE.fullmatch(challenge)):
        raise RefusedError("malformed", 400, "code_challenge: use 43 to 128 characters of Base64URL\n")
    return Wanted(proof, campaign, _language(game, _only(given.get("lang", []))), challenge)


def _open(game: Game, wanted: Wanted) -> Response:
    """The way to the WebView, or a page that says why not. Raises :class:`RefusedError` where somebody was first."""
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
        current_app.logger.error("playcamp %s: an entry could not be opened: %s", game.slug, _in_a_word(error))
        return pages.trouble(504 if error.failure == "timeout" else 502, wanted.language or "en", request.query_string)
    # Used up only now: a player whom PlayCamp let down may come again with the same link.
    if game.is_on("playcamp.entry_once"):
        expires_at = proof.signed_at + float(game.settings["playcamp.tolerance_seconds"])
        if not installation.database.write(lambda tx: used_entries.use(tx, game.id, proof.signature, expires_at)):
            raise RefusedError("used", 401, UNPROVED)
    tabs = game.settings["playcamp.tabs"]
    location = webview_url(
        client.base_url,
        ott,
        wanted.language,
        None if tabs == ALL_TABS else tabs,
        game.settings["playcamp.primary_color"],
    )
    return Response(status=302, headers={"Location": location}, mimetype="text/plain")


def _prove(game: Game, auth: list[bytes], user: str | None, campaign: str | None) -> Proof:
    """Raises SignatureError. A plus sign may be a blank, as in a form, or itself, as in Base64 that nobody encoded."""
    failure = SignatureError("malformed")
    readings = [auth[0].replace(b"+", b" "), auth[0]] if len(auth) == 1 else []
    for custom_data in dict.fromkeys(_text(reading) for reading in readings):
        if custom_data is None:
            continue
        try:
            return verify(
                recipe_of(game),
                game.keys("playcamp.shared_key"),
                custom_data,
                user,
                campaign,
                clock.now(),
                float(game.settings["playcamp.tolerance_seconds"]),
                FUTURE_SECONDS,
            )
        except SignatureError as error:
            failure = error
    raise failure


def _given() -> dict[str, list[bytes]]:
    """The query's parameters, values as they came: what a plus sign means depends on who wrote it.

    (Werkzeug's own ``args`` break off at bytes that are no UTF-8.)
    """
    given: dict[str, list[bytes]] = {}
    for pair in request.query_string.split(b"&"):
        name, _, value = pair.partition(b"=")
        given.setdefault(_text(name.replace(b"+", b" ")) or "", []).append(value)
    return given


def _only(values: list[bytes]) -> str | None:
    """The one value of a parameter; None where there is none, more than one, or one that is no text."""
    return _text(values[0].replace(b"+", b" ")) or None if len(values) == 1 else None


def _text(value: bytes) -> str | None:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return None


def _is_id(value: str) -> bool:
    try:
        registry.checked_id(value)
    except ValueError:
        return False
    return True


def _language(game: Game, asked: str | None) -> str | None:
    """The language asked for, else the game's, else the browser's; None where that speaks neither."""
    if asked is not None and asked.lower() in LANGUAGES:
        return asked.lower()
    if game.settings["playcamp.lang"]:
        return game.settings["playcamp.lang"]
    # Best first. (Werkzeug's own best_match prefers a plain "en" to a "ko-KR" that stands before it.)
    spoken = (tag.partition("-")[0].lower() for tag, quality in request.accept_languages if quality > 0)
    return next((language for language in spoken if language in LANGUAGES), None)


def _in_a_word(error: ApiError) -> str:
    """For the log: PlayCamp's own words may repeat what we sent."""
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
