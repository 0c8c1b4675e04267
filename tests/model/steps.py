"""How Hypothesis runs the machine."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import rule


def settings_of(examples: int, steps: int, *, derandomize: bool = False, **more: Any) -> settings:
    """A failing example is not shrunk: each try takes seconds."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        **more,
    )


def step(**strategies: Any) -> Callable[..., Any]:
    """A rule of a machine with ``steps``, which says there what it is about to do.

    Hypothesis prints the steps of a failure that happens again; these are there for any.
    """

    def decorate(function: Callable[..., None]) -> Any:
        @wraps(function)
        def run(machine: Any, **drawn: Any) -> None:
            words = ", ".join(f"{name}={value!r}" for name, value in drawn.items())
            machine.steps.append(f"{function.__name__}({words})")
            function(machine, **drawn)

        return rule(**strategies)(run)

    return decorate
