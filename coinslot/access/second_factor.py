"""The owner's second factor: six digits that an app shows, and recovery codes for when the phone is lost.

It is asked for only after the owner has entered a first code, so that a QR code that was never read locks nobody out. A
code works once: its time step is kept, and codes of that step or an earlier one are refused.
"""

import hashlib
import secrets

import pyotp

from coinslot.access import own_secrets
from coinslot.access.vault import Vault
from coinslot.base import clock, signing, spellings
from coinslot.store import audit, queries
from coinslot.store.db import Connection

STEP_SECONDS = 30
DIGITS = 6
STEPS_APART = 1  # how far the phone's clock may be off, both ways
OFFER_SECONDS = 3600
RECOVERY_CODES = 10
RECOVERY_CHARACTERS = 16  # of 32 kinds: 80 bits, too many to try them all against a copy of the hashes
RECOVERY_GROUP = 4

# The fact of the installation with the last time step used; its presence switches the second factor on.
FACT = "owner.totp"
OFFERED = "owner.totp_offered"


def is_on(connection: Connection) -> bool:
    return _last_step(connection) is not None


def offer(tx: Connection, vault: Vault) -> None:
    """Make a secret for the owner's app; its codes are not asked for before :func:`confirm`."""
    own_secrets.put(tx, vault, OFFERED, pyotp.random_base32())


def offered(connection: Connection, vault: Vault) -> str | None:
    """The secret that waits for its first code; None when there is none or it is older than an hour."""
    return own_secrets.opened(connection, vault, OFFERED, oldest=clock.stamp(clock.now() - OFFER_SECONDS))


def address(secret: str, name: str) -> str:
    """The ``otpauth`` address in the QR code."""
    return str(pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="Coinslot"))


def confirm(tx: Connection, vault: Vault, code: str, actor: str) -> list[str] | None:
    """Switch the offered second factor on if this is one of its codes; returns the recovery codes, else None."""
    secret = offered(tx, vault)
    step = None if secret is None else _step(secret, code, after=-1)
    if secret is None or step is None:
        return None
    own_secrets.put(tx, vault, FACT, secret)
    own_secrets.delete(tx, OFFERED)
    queries.set_fact(tx, FACT, str(step))
    audit.record(tx, None, actor, "second-factor.on", "owner")
    return _new_recovery_codes(tx)


def accept(tx: Connection, vault: Vault, code: str) -> bool:
    """Use up a code of the app, or a recovery code; returns whether it was right and unused."""
    last = _last_step(tx)
    if last is None:
        return False
    if len(spellings.code(code)) != DIGITS:
        return _use_recovery_code(tx, code)
    secret = own_secrets.opened(tx, vault, FACT)
    # A step further ahead than any code can be was kept before the clock was set back: it must not lock out.
    is_ahead = last > _current_step() + STEPS_APART
    step = None if secret is None else _step(secret, code, after=-1 if is_ahead else last)
    if step is None:
        return False
    queries.set_fact(tx, FACT, str(step))
    return True


def turn_off(tx: Connection, actor: str) -> bool:
    """Ask only for the password from now on; returns whether there was a second factor."""
    was_on = is_on(tx)
    tx.execute("DELETE FROM installation WHERE name = :name", {"name": FACT})
    for name in (FACT, OFFERED):
        own_secrets.delete(tx, name)
    tx.execute("DELETE FROM recovery_codes")
    if was_on:
        audit.record(tx, None, actor, "second-factor.off", "owner")
    return was_on


def replace_recovery_codes(tx: Connection, actor: str) -> list[str]:
    """New recovery codes; earlier ones stop working."""
    audit.record(tx, None, actor, "second-factor.recovery-codes", "owner")
    return _new_recovery_codes(tx)


def recovery_codes_left(connection: Connection) -> int:
    count: int = queries.value(connection, "SELECT count(*) FROM recovery_codes WHERE used_at IS NULL", {})
    return count


def _new_recovery_codes(tx: Connection) -> list[str]:
    tx.execute("DELETE FROM recovery_codes")
    codes = []
    for _ in range(RECOVERY_CODES):
        bare = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(RECOVERY_CHARACTERS))
        queries.insert(tx, "recovery_codes", {"code_hash": _hash(bare), "created_at": clock.stamp()})
        groups = range(0, RECOVERY_CHARACTERS, RECOVERY_GROUP)
        codes.append("-".join(bare[start : start + RECOVERY_GROUP] for start in groups))
    return codes


def _use_recovery_code(tx: Connection, code: str) -> bool:
    # Of characters that look alike, our codes have one each.
    bare = spellings.code(code).lower().translate(str.maketrans("018", "olb"))
    used = tx.execute(
        "UPDATE recovery_codes SET used_at = :now WHERE code_hash = :hash AND used_at IS NULL",
        {"hash": _hash(bare), "now": clock.stamp()},
    ).rowcount
    if used:
        audit.record(tx, None, "owner", "second-factor.recovery", f"{recovery_codes_left(tx)} codes left")
    return used > 0


def _step(secret: str, code: str, after: int) -> int | None:
    """The time step near now whose code this is; None when there is none after the step ``after``."""
    bare = spellings.code(code)
    totp = pyotp.TOTP(secret)
    current = _current_step()
    steps = range(max(current - STEPS_APART, 0), current + STEPS_APART + 1)
    found = [step for step in steps if signing.is_equal(totp.generate_otp(step), bare) and step > after]
    return found[-1] if found else None


def _current_step() -> int:
    return int(clock.now()) // STEP_SECONDS


def _hash(bare: str) -> str:
    return hashlib.sha256(bare.encode()).hexdigest()


def _last_step(connection: Connection) -> int | None:
    step = queries.fact(connection, FACT)
    return None if step is None else int(step)
