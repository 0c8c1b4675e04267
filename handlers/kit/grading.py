"""A game's endpoint put to the test, for the command and the page that do it."""

from coinslot.access.keyring import SecretValue
from coinslot.outbox.destinations import Destination
from coinslot.relay.grader import Grader
from handlers.kit.receive import current_installation, partners


def new_grader(destination: Destination, keys: tuple[SecretValue, ...]) -> Grader:
    """``keys`` are the destination's signing secrets, current first; there is at least one."""
    installation = current_installation()
    return Grader(
        installation.outbound,
        destination,
        installation.formats[destination.format],
        keys,
        partners()[0].name,
    )
