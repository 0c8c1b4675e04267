"""A few examples of the model test, the same in every run. ``python -m tests.model`` runs many."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests import databases
from tests.model.machine import BOUGHT, Machine
from tests.model.steps import settings_of

pytestmark = pytest.mark.long

DELIVERED = """UPDATE deliveries
    SET state = 'delivered', next_attempt_at = NULL, leased_until = NULL, lease_owner = NULL, finished_at = created_at
    WHERE state = 'waiting'"""
# What is changed behind the server's back -> what the checks say.
FAULTS = {
    "DELETE FROM grants WHERE id = (SELECT max(id) FROM grants)": "should have",
    "UPDATE entries SET quantity = '9' WHERE grant_id = (SELECT max(id) FROM grants)": "changed its meaning",
    DELIVERED: "is delivered, and never arrived",
    "DELETE FROM refusals WHERE state = 'open'": "refused: ",
    "UPDATE transactions SET gross_minor = gross_minor + 1 WHERE partner = 'appcharge'": "months: ",
    "UPDATE transactions SET fingerprint = 'x' WHERE partner = 'playtem'": "flask proof: ",
}


def test_the_real_server_does_what_the_model_says():
    run_state_machine_as_test(Machine, settings=settings_of(6, 30, derandomize=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_found(fault):
    machine = Machine()
    try:
        machine.start()
        machine.award(partner="xsolla", player="dan", items=BOUGHT[0], cents=99, month=0, by_payment=False)
        machine.settle()
        machine.turn_game(is_up=False)
        machine.award(partner="playtem", player="ben", items=BOUGHT[0], cents=0, month=0, by_payment=False)
        assert databases.change_guarded(machine.world.home, fault)
        with pytest.raises(AssertionError, match=FAULTS[fault]):
            machine.checks.end(machine.model, machine.months)
    finally:
        machine.end()
