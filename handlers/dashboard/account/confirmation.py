"""Ask for the password once more, before what a stranger at an open browser must not be able to do."""

from flask import request

from coinslot.access import owner, second_factor, throttle
from coinslot.base.errors import CoinslotError
from coinslot.store.db import Connection
from handlers.dashboard.account.login import later
from handlers.kit import passwords
from handlers.kit.receive import current_installation

KEY = throttle.key("confirmation", "owner")  # one for all addresses: each is signed in


class UnconfirmedError(CoinslotError):
    """What was typed is not the owner's password. ``status`` is that of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def confirm(field: str = "current", *, or_code: bool = False) -> None:
    """Raises :class:`UnconfirmedError` unless this field of the form is the owner's password.

    With ``or_code``, a code of the second factor or a recovery code will do, too.
    """
    installation = current_installation()
    given = request.form.get(field, "")
    try:
        installation.database.write(lambda tx: throttle.begin(tx, throttle.OWNER, KEY))
    except throttle.ThrottledError as error:
        raise UnconfirmedError(429, later(error)) from None
    stored = owner.password_hash(installation.database.read())
    is_right = passwords.is_right(stored or passwords.nobodys_hash(), given) and stored is not None

    def settle(tx: Connection) -> bool:
        is_confirmed = is_right or (or_code and second_factor.accept(tx, installation.vault, given))
        if is_confirmed:
            throttle.clear(tx, throttle.OWNER, KEY)
        return is_confirmed

    if not installation.database.write(settle):
        what = "the password, nor a code that is good now" if or_code else "the password"
        raise UnconfirmedError(403, f"That is not {what}.")
