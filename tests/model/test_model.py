"""A few examples of the model test, the same in every run. ``python -m tests.model`` runs many."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine, settings_of


@pytest.mark.long
def test_the_real_server_does_what_the_model_says():
    run_state_machine_as_test(Machine, settings=settings_of(4, 30, derandomize=True))
