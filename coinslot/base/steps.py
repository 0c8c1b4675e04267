"""The steps of an expression: plain calls for common ones, JMESPath's interpreter with limits for all others."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import jmespath
from jmespath.visitor import TreeInterpreter

from coinslot.base.functions import ExpressionFunctions
from coinslot.base.limits import Limits
from coinslot.base.moments import are

Step = Callable[["Interpreter", Any], Any]  # makes one value of another


def step_of(node: Any) -> Step:
    """A node as one function, since an expression is applied to row after row.

    The library's interpreter, which takes four calls for a field, does the rest with the same result.
    """
    names = _path(node)
    if names:
        return partial(_read_path, names)
    match node["type"]:
        case "multi_select_dict":
            return partial(_make_object, members_of(node))
        case "function_expression":
            return partial(_call, node["value"], [step_of(child) for child in node["children"]])
        case "or_expression":
            left, right = (step_of(child) for child in node["children"])
            return partial(_either, left, right)
        case "and_expression":
            left, right = (step_of(child) for child in node["children"])
            return partial(_both, left, right)
        case "literal" if not isinstance(node["value"], list | dict):
            return partial(_give, node["value"])
    return lambda run, value: run.visit(node, value)


def members_of(node: Any) -> list[tuple[str, Step]]:
    return [(child["value"], step_of(child["children"][0])) for child in node["children"]]


def _path(node: Any) -> tuple[str, ...]:
    """The names of nothing but fields, one below the other; empty for anything else."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] != "subexpression":
        return ()
    parts = [_path(child) for child in node["children"]]
    return tuple(name for part in parts for name in part) if all(parts) else ()


def _read_path(names: tuple[str, ...], run: "Interpreter", value: Any) -> Any:
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def make_members(members: list[tuple[str, Step]], run: "Interpreter", value: Any) -> dict[str, Any] | None:
    run.limits.spend(len(members))
    return None if value is None else {name: step(run, value) for name, step in members}


def _make_object(members: list[tuple[str, Step]], run: "Interpreter", value: Any) -> dict[str, Any] | None:
    made = make_members(members, run, value)
    run.limits.weigh(made)
    return made


def _call(name: str, arguments: list[Step], run: "Interpreter", value: Any) -> Any:
    return run.functions.call_function(name, [step(run, value) for step in arguments])


def _either(left: Step, right: Step, run: "Interpreter", value: Any) -> Any:
    run.limits.spend()
    found = left(run, value)
    return right(run, value) if run.is_false(found) else found


def _both(left: Step, right: Step, run: "Interpreter", value: Any) -> Any:
    run.limits.spend()
    found = left(run, value)
    return found if run.is_false(found) else right(run, value)


def _give(literal: Any, run: "Interpreter", value: Any) -> Any:
    return literal


class Interpreter(TreeInterpreter):
    """JMESPath's evaluation, within limits."""

    def __init__(self, functions: "ExpressionFunctions", limits: Limits) -> None:
        super().__init__(jmespath.Options(custom_functions=functions))
        self.functions = functions
        self.limits = limits

    def is_false(self, value: Any) -> bool:
        return bool(self._is_false(value))  # type: ignore[attr-defined]  # the library has no types

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self.limits.spend()
        if node["type"] == "field":  # most steps are; the library takes four calls for one
            (value,) = args
            return value.get(node["value"]) if isinstance(value, dict) else None
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        left, right = (self.visit(child, value) for child in node["children"])
        for side in (left, right):
            if isinstance(side, str | list | dict):
                self.limits.weigh(side)
        # The library raises TypeError where the specification says null, as for a text and a number.
        if node["value"] not in ("eq", "ne") and not (are(str, left, right) or are(int | float, left, right)):
            return None
        return self.COMPARATOR_FUNC[node["value"]](left, right)

    def visit_literal(self, node: Any, value: Any) -> Any:
        literal = node["value"]
        if isinstance(literal, list | dict):  # the caller may change the result, and the expression is shared
            self.limits.weigh(literal)
            return deepcopy(literal)
        return literal

    def visit_multi_select_list(self, node: Any, value: Any) -> list[Any] | None:
        made = super().visit_multi_select_list(node, value)
        self.limits.weigh(made)
        return made

    def visit_multi_select_dict(self, node: Any, value: Any) -> Any:
        made = super().visit_multi_select_dict(node, value)
        self.limits.weigh(made)
        return made
