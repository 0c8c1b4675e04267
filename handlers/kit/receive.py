"""What every receiving address needs: the installation, who may call, and the record of a refused call."""

import base64
import re
from collections.abc import Mapping

from flask import Response, current_app, jsonify, request

from coinslot.access.keyring import SecretValue
from coinslot.base import clock, request_ids, signing
from coinslot.base.addresses import is_allowed
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.ledger.refused import Claim
from coinslot.ledger.reports import Credited
from coinslot.operations.observations import Refusal
from handlers.kit.partner import Partner

KEPT_BODY_BYTES = 48 * 1024  # of a refused call; 64 KiB once it is Base64
PROOFS = ("signature", "X-Webhook-Signature", "X-Gateway-Signature", "X-Fingerprint")  # headers, one per kind of caller
# Headers of a refused call that are kept with their values: those that may belong to a proof, or name the caller.
TELLING = re.compile(r"sign|token|finger|timestamp|project|hmac|^x-forwarded-for$|^user-agent$|^content-encoding$")
MOST_HEADERS = 24
ANSWER_KEPT = 1024  # characters of what the caller got
# Reasons that say that the proof itself is wrong, and those that another list keeps.
UNCLAIMED = ("encryption", "app_id", "conflict", "used")
MOST_GAMES_TRIED = 50  # for a call that names no game that fits
SIMULATED = "X-Coinslot-Simulated"  # header of our own simulated calls, which say nothing of the partner's set-up
SIMULATED_SECONDS = 300  # how long such a header proves anything


def current_installation() -> Installation:
    found: Installation = current_app.extensions["coinslot"]
    return found


def partners() -> tuple[Partner, ...]:
    found: tuple[Partner, ...] = current_app.extensions["coinslot.partners"]
    return found


def plain_error(status: int, message: str) -> Response:
    """An error for callers without a format of their own."""
    response = jsonify(error=message)
    response.status_code = status
    return response


def note_call(game: Game, partner: str, endpoint: str, *keys: SecretValue) -> None:
    """Count a call that has proved itself, so that the owner can see which addresses a partner has never called.

    ``keys`` are those it has proved itself with: the owner can see when an old one is no longer used.
    """
    if not is_simulated():
        named = ((key.name, key.created_at) for key in keys)
        current_installation().observations.called(game.id, partner, endpoint, named, request.remote_addr or "")


def simulated() -> dict[str, str]:
    """The header by which this installation knows a call of its own again, for a few minutes."""
    at = str(int(clock.now()))
    return {SIMULATED: f"{at}.{_simulation_proof(at)}"}


def is_simulated() -> bool:
    """Whether this call is one of our own: those say nothing of what the partner has been given.

    The header holds a proof, so that nobody else can keep forged calls out of the figures.
    """
    at, _, proof = request.headers.get(SIMULATED, "").partition(".")
    if not (proof and re.fullmatch("[0-9]{1,12}", at)):
        return False
    return signing.is_equal(_simulation_proof(at), proof) and signing.is_fresh(float(at), SIMULATED_SECONDS)


def _simulation_proof(at: str) -> str:
    installation = current_installation()
    key = installation.vault.current(installation.database.read()).derive("simulated calls")
    return signing.hmac_hex("sha256", key, at.encode())


def log_credit(partner: str, game: Game, what: str, credited: Credited) -> None:
    """The line of the log for a report that credits, or that repeats one; ``what`` names it as the partner does."""
    said = "credited" if credited.is_new else "credited before:"
    current_app.logger.info("%s %s: %s %s, transaction %s", partner, game.slug, said, what, credited.public_id)


def note_refusal(
    partner: str,
    endpoint: str,
    game: Game | None,
    reason: str,
    status: int,
    keeps_body: bool = True,
    keeps_query: bool = True,
    found: Mapping[str, str] | None = None,
    path: str = "",
    detail: str = "",
    answer: Response | None = None,
) -> None:
    """Keep the current request for the owner, sealed. The caller learns nothing of it.

    A request that proves itself, by a key of ``game`` or of any game where it named none that fits, is committed
    before it is answered, since a player may have paid (coinslot/ledger/refused.py). Any other goes to the bounded
    ring, outside the request.

    ``keeps_body``: False for bodies that may hold a password; ``keeps_query`` for queries that are a proof.
    ``found`` is what is known of the call by now and could not be found out again from what is kept. ``path`` is set
    where there is no address of that path. ``answer`` is what the caller gets, where the owner may read that too.
    """
    body = request.get_data(cache=True)
    claim = None
    if reason not in UNCLAIMED and not is_simulated():
        proving, claim = find_claim(partner, endpoint, game, is_elsewhere=reason == "signature")
        if claim is not None:
            reason = "other_game" if reason == "signature" else reason
            game = proving
    keeps_body = keeps_body or (claim is not None and claim.is_report)
    refusal = Refusal(
        game_id=None if game is None else game.id,
        game_slug="" if game is None else game.slug,
        partner=partner,
        endpoint=endpoint,
        reason=reason,
        status=status,
        remote_address=request.remote_addr or "",
        body_size=len(body),
        request={
            "request_id": request_ids.current(),
            "method": request.method,
            "path": request.path[:512],
            "query": request.query_string[: 8192 if keeps_query else 0].decode("latin-1"),
            "signature": next((request.headers[name][:512] for name in PROOFS if name in request.headers), ""),
            "token": request.headers.get("x-publisher-token", "")[:512],
            "content_type": request.headers.get("content-type", "")[:128],
            "headers": _telling_headers(),
            "found": dict(found or {}),
            "answer": "" if answer is None else answer.get_data(as_text=True)[:ANSWER_KEPT],
            "body": base64.b64encode(body[: KEPT_BODY_BYTES if keeps_body else 0]).decode("ascii"),
        },
        is_simulated=is_simulated(),
        path=path,
        detail=detail,
    )
    # Whether a player exists is asked before a purchase; that one does not is no trouble.
    is_answer = claim is not None and not claim.is_report and reason == "unknown_player"
    if claim is None or claim.is_simulated or is_answer:
        current_installation().observations.refused(refusal)
    else:
        current_installation().observations.keep(refusal, claim)


def find_claim(
    partner: str, endpoint: str, game: Game | None, is_elsewhere: bool = False
) -> tuple[Game | None, Claim | None]:
    """The game whose key proves the current request, and what that reports; None for both where there is no such game.

    Looked at is ``game``, or every game where that is None, or every other game where the call ``is_elsewhere``.
    """
    card = next(each for each in partners() if each.name == partner)
    candidates = [game] if game is not None and not is_elsewhere else current_installation().games.opened()
    for each in candidates[:MOST_GAMES_TRIED]:
        if not (is_elsewhere and game is not None and each.id == game.id):
            claim = card.claim(each, endpoint)
            if claim is not None:
                return each, claim
    return None, None


def _telling_headers() -> dict[str, str]:
    """Headers of a proof and of proxies. Others, such as cookies, are left out."""
    named = [(name.lower(), value) for name, value in request.headers if TELLING.search(name.lower())]
    return {name[:64]: value[:512] for name, value in named[:MOST_HEADERS]}


def is_address_allowed(game: Game, partner: str) -> bool:
    """The socket's address, or the one the trusted proxies name, against the partner's allowlist."""
    return is_allowed(game.settings[f"allowlist.{partner}"], request.remote_addr or "")
