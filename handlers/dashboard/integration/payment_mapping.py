"""How the game's payments are asked for: tried as the form says, then saved. Polls begin when the owner says so."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import moments
from coinslot.games import games
from coinslot.games.games import Game, GameError
from coinslot.games.options import Setting, declared
from coinslot.relay import jobs as schedules
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, page, read, see_other, who, write
from handlers.kit.previews import Window
from handlers.kit.receive import current_installation, partners

LARGEST_PASTED = 64 * 1024
LONGEST_RAW = 4096  # characters of a row that are shown
PAYMENTS = "playcamp.payments."
POLLING = f"{PAYMENTS}polling"
SINCE = f"{PAYMENTS}since"
JOB = "playcamp.poll"
TRIED_DAYS = (1, 7, 30)
# The fields of the form: the end of the setting's key, its label and what it is.
FIELDS = (
    ("url", "Address", "With {from}, {to}, {cursor}, {limit} and the like in it."),
    ("rows", "Rows", "JMESPath: the list of rows in an answer."),
    ("next", "Next page", "JMESPath: the next cursor, page or link; null ends. Empty: one page only."),
    ("map", "Mapping of a row", "JMESPath: one row as a payment."),
)
EXAMPLES = {
    "url": "https://game.example/payments?from={from}&to={to}&after={cursor}",
    "rows": "result.orders",
    "next": "result.next",
    "map": "{transactionId: order_id, userId: to_string(usn), productId: item, amount: price, currency: currency, "
    "market: store, purchasedAt: paid_at}",
}


def payment_mapping(game: Game) -> Response:
    return _page(game, _saved(game))


def try_window(game: Game) -> Response:
    """Ask the game's payment API for one page as the form says, show it, and store nothing."""
    typed = _typed(game)
    problems = _problems(typed)
    if problems:
        return _page(game, typed, 400, problems)
    tries = [partner.try_window for partner in partners() if partner.try_window is not None]
    wanted = request.form.get("days", "")
    days = int(wanted) if wanted in map(str, TRIED_DAYS) else TRIED_DAYS[0]
    unsaved = {f"{PAYMENTS}{name}": value for name, value in typed.items()}
    trial = tries[0](current_installation(), replace(game, settings={**game.settings, **unsaved}), days)
    return _page(game, typed, trial=trial, days=days)


def save_payment_mapping(game: Game) -> AnyResponse:
    """Save the form. ``do`` is ``save``, which begins no polls, ``begin``, from ``since`` on, or ``stop``."""
    what = request.form.get("do", "save")
    if what not in ("save", "begin", "stop"):
        raise PageError(400, "There is no such thing to do")
    typed, since = _typed(game), request.form.get("since", "").strip()
    problems = _problems(typed)
    if what == "begin":
        lacking = [label for name, label, _ in FIELDS if name != "next" and not typed[name]]
        if lacking:
            problems.setdefault(" and ".join(lacking), "is needed before payments can be asked for")
        problems |= _problems_of(since, game)
    if problems:
        return _page(game, typed, 400, problems)
    catalogue, actor = current_installation().catalogue, who()

    def store(tx: Connection) -> None:
        for name, value in typed.items():
            if value != game.settings[f"{PAYMENTS}{name}"]:
                games.set_setting(tx, catalogue, game.slug, f"{PAYMENTS}{name}", value, actor)
        if what == "begin":
            if since != game.settings[SINCE]:
                games.set_setting(tx, catalogue, game.slug, SINCE, since, actor)
            games.set_setting(tx, catalogue, game.slug, POLLING, "on", actor)
        elif what == "stop":
            games.set_setting(tx, catalogue, game.slug, POLLING, "off", actor)
        else:
            hold(tx, catalogue, game, actor)

    write(store)
    return see_other("payment_mapping", {"save": "saved", "begin": "polling", "stop": "polling-off"}[what])


def hold(tx: Connection, catalogue: Mapping[str, Setting], game: Game, actor: str) -> None:
    """Called after settings were saved: see to it that this begins no polls. Where the owner has begun them, or could
    have before, they go on.
    """
    stored = games.stored_settings(tx, game.id)
    completes = not _is_complete(game.settings) and _is_complete(stored)
    if completes and POLLING not in stored and _cursor(tx, game) is None:
        games.set_setting(tx, catalogue, game.slug, POLLING, "off", actor)


def printed(value: Any, longest: int) -> tuple[str, bool]:
    """A document as indented JSON, and whether it was cut."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text[:longest], len(text) > longest


def _page(
    game: Game,
    typed: Mapping[str, str],
    status: int = 200,
    problems: Mapping[str, str] | None = None,
    trial: Window | None = None,
    days: int = TRIED_DAYS[0],
) -> Response:
    first = [json.dumps(row.raw, indent=2, default=str) for row in trial.rows[:1]] if trial else []
    return page(
        "payment_mapping.html",
        status,
        fields=FIELDS,
        examples=EXAMPLES,
        typed=typed,
        problems=problems or {},
        trial=trial,
        rows=[
            (
                printed(row.raw, LONGEST_RAW)[0],
                None if row.payment is None else printed(row.payment, LONGEST_RAW)[0],
                row,
            )
            for row in (trial.rows if trial else ())
        ],
        first=first[0] if first and len(first[0]) <= LARGEST_PASTED else None,
        days=days,
        choices=TRIED_DAYS,
        is_unsaved=typed != _saved(game),
        is_polling=_is_complete(game.settings) and game.is_on(POLLING),
        has_begun=_cursor(read(), game) is not None,
        since=request.form.get("since", game.settings[SINCE]),
    )


def _is_complete(settings: Mapping[str, str]) -> bool:
    """Whether these are enough to poll."""
    return all(settings.get(f"{PAYMENTS}{name}") for name, _, _ in FIELDS if name != "next")


def _saved(game: Game) -> dict[str, str]:
    return {name: game.settings[f"{PAYMENTS}{name}"] for name, _, _ in FIELDS}


def _typed(game: Game) -> dict[str, str]:
    """What is in the form, and what is saved where the form lacks a field."""
    return {name: request.form.get(name, saved).replace("\r\n", "\n").strip() for name, saved in _saved(game).items()}


def _problems(typed: Mapping[str, str]) -> dict[str, str]:
    """Label -> what is wrong with the field."""
    found = {}
    for name, label, _ in FIELDS:
        setting = declared(current_installation().catalogue, f"{PAYMENTS}{name}")
        assert setting is not None, "PlayCamp declares it"
        try:
            if typed[name]:
                setting.checked(typed[name])
        except ValueError as error:
            found[label] = str(error)
    return found


def _problems_of(since: str, game: Game) -> dict[str, str]:
    try:
        if since:
            moments.milliseconds(since, game.settings[f"{PAYMENTS}zone"])
    except (ValueError, GameError, moments.UnfitError):
        return {"Read payments from": "write a day or a time, such as 2026-11-01"}
    return {}


def _cursor(connection: Connection, game: Game) -> str | None:
    """How far polls have read; None before the first."""
    return next((row["cursor"] for row in schedules.listing(connection, game.id) if row["name"] == JOB), None)
