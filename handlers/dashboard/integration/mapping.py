"""Expressions: a preview of what each makes of data before it is saved, and a preview of one payment window."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import exact
from coinslot.base.expressions import LONGEST_EXPRESSION, Expression
from coinslot.base.limits import ExpressionError
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.games.options import Setting
from coinslot.outbox import destinations, lists
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, page, read, see_other, show_on_error, who, write
from handlers.dashboard.integration.payment_mapping import LARGEST_PASTED, PAYMENTS, hold, printed
from handlers.kit.previews import Formula, Made, Sample
from handlers.kit.receive import current_installation, partners

LONGEST_RESULT = 16 * 1024  # characters shown
LONGEST_DOCUMENT = 8 * 1024  # likewise
PASTED = "pasted"
DESTINATION = "destination."  # and its name: the key of its success rule
RULES = ("2xx", "200")  # of success, that are no expressions


def mapping(game: Game) -> Response:
    formulas = _formulas(game)
    formula = _chosen(formulas, request.args.get("what"))
    return _page(game, formulas, formula, _current(game, formula), request.args.get("data", ""), "")


def preview_mapping(game: Game) -> AnyResponse:
    """Show what the expression in the form makes of the data in the form, or save the expression."""
    formulas = _formulas(game)
    formula = _chosen(formulas, request.form.get("what"))
    expression = request.form.get("expression", "").replace("\r\n", "\n").strip()
    data, pasted = request.form.get("data", ""), request.form.get("pasted", "")
    if request.form.get("do") != "save":
        return _page(game, formulas, formula, expression, data, pasted)
    show_on_error(_page, game, formulas, formula, expression, data, pasted)
    catalogue = current_installation().catalogue
    write(lambda tx: _save(tx, catalogue, game, formula, expression))
    return see_other("mapping", "saved", what=formula.key)


def _page(
    game: Game,
    formulas: Sequence[Formula],
    formula: Formula,
    expression: str,
    data: str,
    pasted: str,
    status: int = 200,
    problem: str | None = None,
) -> Response:
    samples = list(formula.samples(game))
    sample = next((each for each in samples if each.name == data), samples[0])
    shown = PASTED if data == PASTED else sample.name
    return page(
        "mapping.html",
        status,
        formulas=formulas,
        formula=formula,
        expression=expression,
        current=_current(game, formula),
        samples=samples,
        chosen=shown,
        pasted=pasted[:LARGEST_PASTED],
        problem=problem,
        longest=LONGEST_EXPRESSION,
        is_of_payments=formula.key.startswith(PAYMENTS),
        **_preview(game, formula, expression, sample, pasted if shown == PASTED else None),
    )


def _preview(game: Game, formula: Formula, expression: str, sample: Sample, pasted: str | None) -> dict[str, Any]:
    """The document beside the form, and the result of the expression or where it is wrong."""
    found: dict[str, Any] = {"made": None, "result": "", "is_cut": False, "error": None, "around": None, "document": ""}
    document = sample.document
    if pasted is not None:
        try:
            document = _read(formula, pasted)
        except ValueError as error:
            return found | {"error": f"The pasted data cannot be read: {error}"}
    else:
        found["document"] = printed(document, LONGEST_DOCUMENT)[0]
    try:
        if len(expression) > LONGEST_EXPRESSION:
            raise ExpressionError(f"an expression has at most {LONGEST_EXPRESSION} characters")
        made = formula.apply(game, expression, document)
    except ExpressionError as error:
        return found | {"error": str(error), "around": _around(expression, str(error))}
    result, is_cut = printed(made.value, LONGEST_RESULT)
    return found | {"made": made, "result": result, "is_cut": is_cut}


def _read(formula: Formula, pasted: str) -> Any:
    raw = pasted.encode("utf-8", "replace")
    if len(raw) > LARGEST_PASTED:
        raise ValueError(f"it has {len(raw):,} bytes, and {LARGEST_PASTED:,} are tried at most.")
    try:
        return formula.read(raw)
    except ValueError as error:
        try:
            json.loads(pasted)
        except json.JSONDecodeError as where:
            raise ValueError(f"it is not JSON (line {where.lineno}, character {where.colno}).") from None
        except (ValueError, RecursionError):
            pass
        raise ValueError(f"{error}.") from None


def _around(expression: str, message: str) -> tuple[str, str, str] | None:
    """The expression before, at and after the character that the message names."""
    found = re.match(r"character ([0-9]+):", message)
    if found is None:
        return None
    at = int(found[1]) - 1
    before, after = expression[max(0, at - 60) : at], expression[at + 1 : at + 60]
    return before, expression[at : at + 1] or " ", after


def _chosen(formulas: Sequence[Formula], key: str | None) -> Formula:
    found = next((each for each in formulas if each.key == key), None) if key else formulas[0]
    if found is None:
        raise PageError(404, "There is no such expression")
    return found


def _formulas(game: Game) -> list[Formula]:
    """Those of the partners, and the success rule of each destination."""
    rows = destinations.listing(read(), game.id)
    found = [formula for partner in partners() for formula in partner.formulas]
    return found + [_of_destination(row["name"], row["id"]) for row in rows]


def _of_destination(name: str, destination_id: int) -> Formula:
    return Formula(
        f"{DESTINATION}{name}",
        f"Success of {name}",
        "Says whether an answer of this destination with status 200 means that the delivery has arrived: only true "
        "does. In place of an expression it may be 200 or 2xx, and then the status alone decides.",
        lambda game: _answers(destination_id),
        exact.parse_json,
        _apply_success,
    )


def _answers(destination_id: int) -> list[Sample]:
    found = [
        Sample("yes", "Sample: an answer that says yes", {"result": True, "code": 0}),
        Sample("no", "Sample: an answer that says no", {"result": False, "code": 17, "message": "try again"}),
    ]
    answer = lists.last_answer(read(), destination_id)
    if answer is not None:
        with suppress(ValueError, RecursionError):
            found.append(Sample("last", "The last answer that came", json.loads(answer), True))
    return found


def _apply_success(game: Game, expression: str, document: Any) -> Made:
    if expression in RULES:
        return Made(None, ["The status of the answer alone decides."])
    value = Expression.parse(expression).apply(json.loads(json.dumps(document, default=float)))
    if value is True:
        return Made(value, ["With status 200 this is delivered."])
    return Made(value, ["This is not true, so the delivery would be tried again."], is_good=False)


def _current(game: Game, formula: Formula) -> str:
    if not formula.key.startswith(DESTINATION):
        return game.settings[formula.key]
    rows = destinations.listing(read(), game.id)
    row = next(each for each in rows if f"{DESTINATION}{each['name']}" == formula.key)
    return str(row["success_expression"] or row["success"])


def _save(tx: Connection, catalogue: Mapping[str, Setting], game: Game, formula: Formula, expression: str) -> None:
    if formula.key.startswith(DESTINATION):
        destinations.set_success(tx, game.slug, formula.key.removeprefix(DESTINATION), expression, who())
    else:
        games.set_setting(tx, catalogue, game.slug, formula.key, expression, who())
        if formula.key.startswith(PAYMENTS):
            hold(tx, catalogue, game, who())
