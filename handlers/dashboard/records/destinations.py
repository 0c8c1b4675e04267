"""Destinations of a game, their secrets, and a test of an endpoint."""

import threading
import time
from dataclasses import replace

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import keyring
from coinslot.access.keyring import SecretError
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.outbox import destinations
from coinslot.outbox.formats import STANDARD
from coinslot.relay import grader
from coinslot.store.db import Connection, Row
from handlers.dashboard.frame.pages import PageError, page, read, see_other, show_on_error, who, whole, write
from handlers.kit.grading import new_grader
from handlers.kit.receive import current_installation

# A grading uses one of the threads that all callers share: one at a time, and not for long.
GRADING_SECONDS = 30.0
LONGEST_TRY_SECONDS = 10
_grading = threading.Lock()

CHANGES = {"paused": "paused", "active": "resumed", "removed": "removed"}  # state -> what is said of it
FIELDS = ("name", "url", "events", "format", "retry", "timeout", "success")


def destination_list(game: Game, status: int = 200, problem: str | None = None) -> Response:
    """The page of all destinations; ``problem`` is shown beside the form."""
    installation = current_installation()
    connection = installation.database.read()
    secrets: dict[str, list[keyring.SecretRow]] = {}
    for secret in keyring.listing_of(connection, game.id, game.secrets):
        secrets.setdefault(secret.name, []).append(secret)
    word, colon, _ = (problem or "").partition(":")
    return page(
        "destinations.html",
        status,
        destinations=destinations.listing(connection, game.id),
        secrets=secrets,
        secret_prefix=destinations.SECRET_PREFIX,
        formats=installation.formats,
        problem=problem,
        at=word if colon and word in FIELDS else "",
        form=request.form,
    )


def add_destination(game: Game) -> Response:
    """Add one; its signing secret is on this answer only."""
    installation = current_installation()
    form = {name: request.form.get(name, "").strip() for name in FIELDS}
    timeout = whole(form["timeout"], 3600)

    def add(tx: Connection) -> str:
        return destinations.add(
            tx,
            installation.vault,
            game.slug,
            form["name"],
            form["url"],
            actor=who(),
            events=form["events"] or "*",
            format=form["format"] or STANDARD.name,
            formats=installation.formats,
            retry=form["retry"] or None,
            timeout_seconds=10 if not form["timeout"] else 0 if timeout is None else timeout,
            success=form["success"] or None,
        )

    show_on_error(destination_list, game)
    secret = write(add)
    return page("destination_secret.html", name=form["name"], secret=secret, is_new=True)


def change_destination(game: Game, name: str) -> AnyResponse:
    """Pause, resume or remove one. The waiting deliveries of a removed one are dead."""
    state = request.form.get("state", "")
    _row(game, name)
    if state not in CHANGES:
        raise PageError(400, "There is no such state of a destination")
    if state == "removed" and request.form.get("sure") != "yes":
        return destination_list(game, 400, f"Tick the box to remove {name}.")
    write(lambda tx: destinations.set_state(tx, game.slug, name, state, actor=who()))
    return see_other("destination_list", said=CHANGES[state])


def rotate_destination(game: Game, name: str) -> Response:
    """A new signing secret, on this answer only; deliveries carry both signatures until the old one is retired."""
    installation = current_installation()
    _row(game, name)
    secret = destinations.new_secret()
    write(
        lambda tx: keyring.rotate(
            tx, installation.vault, games.find(tx, game.slug), destinations.secret_name(name), secret, actor=who()
        )
    )
    return page("destination_secret.html", name=name, secret=secret, is_new=False)


def retire_destination_secret(game: Game, name: str) -> AnyResponse:
    _row(game, name)
    try:
        write(lambda tx: keyring.retire(tx, games.find(tx, game.slug), destinations.secret_name(name), actor=who()))
    except SecretError:
        return see_other("destination_list", "nothing")
    return see_other("destination_list", "retired")


def grade_destination(game: Game, name: str) -> Response:
    """Test the endpoint with grants that are not stored, and say what to change."""
    installation = current_installation()
    row = _row(game, name)
    keys = destinations.signing_secrets(installation.database.read(), installation.vault, row["id"])
    if not keys:
        return destination_list(game, 400, f"{name} has no signing secret. Make it a new one first.")
    if not _grading.acquire(blocking=False):
        raise PageError(409, "Another endpoint is being tested at this moment. Try again soon.")
    try:
        destination = destinations.opened(row)
        tried = replace(destination, timeout_seconds=min(destination.timeout_seconds, LONGEST_TRY_SECONDS))
        findings, is_cut = [], False
        began = time.monotonic()
        for finding in new_grader(tried, keys).findings():
            findings.append(finding)
            if time.monotonic() - began > GRADING_SECONDS:
                is_cut = True
                break
    finally:
        _grading.release()
    return page(
        "grade.html",
        name=name,
        destination=destination,
        findings=findings,
        grade=None if is_cut else grader.grade(findings),
        unseen=grader.UNSEEN,
        takes_grants=destinations.wants(row["events"], "grant.created"),
    )


def _row(game: Game, name: str) -> Row:
    rows = destinations.listing(read(), game.id)
    found = next((row for row in rows if row["name"] == name), None)
    if found is None:
        raise PageError(404, "There is no such destination")
    return found
