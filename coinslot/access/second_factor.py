"""A person's second factor: six digits that an app shows, and recovery codes for when the phone is lost.

It is asked for only after its person has entered a first code, so that a QR code that was never read locks nobody out.
A code works once: its time step is kept, and codes of that step or an earlier one are refused.
"""

import hashlib
import secrets

import pyotp

from coinslot.access import own_secrets
from coinslot.access.people import Person
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


def is_on(connection: Connection, person: Person) -> bool:
    return _last_step(connection, person) is not None


def offer(tx: Connection, vault: Vault, person: Person) -> None:
    """Make a secret for the person's app; its codes are not asked for before :func:`confirm`."""
    own_secrets.put(tx, vault, f"totp_offered.{person.id}", pyotp.random_base32())


def offered(connection: Connection, vault: Vault, person: Person) -> str | None:
    """The secret that waits for its first code; None when there is none or it is older than an hour."""
    oldest = clock.stamp(clock.now() - OFFER_SECONDS)
    return own_secrets.opened(connection, vault, f"totp_offered.{person.id}", oldest=oldest)


def address(secret: str, name: str) -> str:
    """The ``otpauth`` address in the QR code."""
    return str(pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="Coinslot"))


def confirm(tx: Connection, vault: Vault, person: Person, code: str) -> list[str] | None:
    """Switch the offered second factor on if this is one of its codes; returns the recovery codes, else None."""
    secret = offered(tx, vault, person)
    step = None if secret is None else _step(secret, code, after=-1)
    if secret is None or step is None:
        return None
    own_secrets.put(tx, vault, f"totp.{person.id}", secret)
    own_secrets.delete(tx, f"totp_offered.{person.id}")
    _set_last_step(tx, person, step)
    audit.record(tx, None, person.name, "second-factor.on", person.name)
    return _new_recovery_codes(tx, person)


def accept(tx: Connection, vault: Vault, person: Person, code: str) -> bool:
    """Use up a code of the person's app, or a recovery code; returns whether it was right and unused."""
    last = _last_step(tx, person)
    if last is None:
        return False
    if len(spellings.code(code)) != DIGITS:
        return _use_recovery_code(tx, person, code)
    secret = own_secrets.opened(tx, vault, f"totp.{person.id}")
    # A step further ahead than any code can be was kept before the clock was set back: it must not lock out.
    is_ahead = last > _current_step() + STEPS_APART
    step = None if secret is None else _step(secret, code, after=-1 if is_ahead else last)
    if step is None:
        return False
    _set_last_step(tx, person, step)
    return True


def turn_off(tx: Connection, person: Person, actor: str) -> bool:
    """Ask only for the password from now on; returns whether there was a second factor."""
    was_on = is_on(tx, person)
    _set_last_step(tx, person, None)
    for name in (f"totp.{person.id}", f"totp_offered.{person.id}"):
        own_secrets.delete(tx, name)
    _delete_recovery_codes(tx, person)
    if was_on:
        audit.record(tx, None, actor, "second-factor.off", person.name)
    return was_on


def replace_recovery_codes(tx: Connection, person: Person) -> list[str]:
    """New recovery codes; earlier ones stop working."""
    audit.record(tx, None, person.name, "second-factor.recovery-codes", person.name)
    return _new_recovery_codes(tx, person)


def recovery_codes_left(connection: Connection, person: Person) -> int:
    sql = "SELECT count(*) FROM recovery_codes WHERE person_id = :id AND used_at IS NULL"
    count: int = queries.value(connection, sql, {"id": person.id})
    return count


def _new_recovery_codes(tx: Connection, person: Person) -> list[str]:
    _delete_recovery_codes(tx, person)
    codes = []
    for _ in range(RECOVERY_CODES):
        bare = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(RECOVERY_CHARACTERS))
        row = {"code_hash": _hash(bare), "person_id": person.id, "created_at": clock.stamp()}
        queries.insert(tx, "recovery_codes", row)
        groups = range(0, RECOVERY_CHARACTERS, RECOVERY_GROUP)
        codes.append("-".join(bare[start : start + RECOVERY_GROUP] for start in groups))
    return codes


def _delete_recovery_codes(tx: Connection, person: Person) -> None:
    tx.execute("DELETE FROM recovery_codes WHERE person_id = :id", {"id": person.id})


def _use_recovery_code(tx: Connection, person: Person, code: str) -> bool:
    # Of characters that look alike, our codes have one each.
    bare = spellings.code(code).lower().translate(str.maketrans("018", "olb"))
    used = tx.execute(
        """UPDATE recovery_codes SET used_at = :now
           WHERE code_hash = :hash AND person_id = :id AND used_at IS NULL""",
        {"hash": _hash(bare), "id": person.id, "now": clock.stamp()},
    ).rowcount
    if used:
        left = recovery_codes_left(tx, person)
        audit.record(tx, None, person.name, "second-factor.recovery", f"{left} codes left")
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


def _last_step(connection: Connection, person: Person) -> int | None:
    """The last time step used; None where no second factor is on."""
    step: int | None = queries.get(connection, "totp_step", "people", id=person.id)
    return step


def _set_last_step(tx: Connection, person: Person, step: int | None) -> None:
    tx.execute("UPDATE people SET totp_step = :step WHERE id = :id", {"id": person.id, "step": step})
