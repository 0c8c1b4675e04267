"""The owner's second factor: six digits that an app shows, and recovery codes for the day the phone is gone.

It is first offered and asked for once the owner has shown a code of it, so that nobody is locked out by a QR code that
was never read. A code is good once: the time step it belongs to is remembered, and an earlier one is refused.
"""

import hashlib
import hmac
import secrets

import pyotp

from coinslot.access.vault import Sealed, Vault
from coinslot.base import clock, spellings
from coinslot.store import audit
from coinslot.store.db import Connection

STEP_SECONDS = 30
DIGITS = 6
STEPS_APART = 1  # how far the phone's clock may be off, both ways
OFFER_SECONDS = 3600
RECOVERY_CODES = 10
RECOVERY_CHARACTERS = 16  # of 32 kinds: 80 bits, too many to try them all against a copy of the hashes
RECOVERY_GROUP = 4

# How a row of installation names the last time step used; that row's presence switches the second factor on.
FACT = "owner.totp"
OFFERED = "owner.totp_offered"


def is_on(connection: Connection) -> bool:
    return _last_step(connection) is not None


def offer(tx: Connection, vault: Vault) -> None:
    """Make a secret for the owner's app to take; nothing asks for its codes before :func:`confirm`."""
    _put(tx, vault, OFFERED, pyotp.random_base32())


def offered(connection: Connection, vault: Vault) -> str | None:
    """The secret that waits for its first code; None when there is none or it is older than an hour."""
    oldest = clock.stamp(clock.now() - OFFER_SECONDS)
    return _open(connection, vault, OFFERED, oldest)


def address(secret: str, name: str) -> str:
    """What the QR code says to the app: an ``otpauth`` address."""
    return str(pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="Coinslot"))


def confirm(tx: Connection, vault: Vault, code: str, actor: str) -> list[str] | None:
    """Switch the offered second factor on if this is one of its codes; returns the recovery codes, None otherwise."""
    secret = offered(tx, vault)
    step = None if secret is None else _step(secret, code, after=-1)
    if secret is None or step is None:
        return None
    _put(tx, vault, FACT, secret)
    _delete(tx, OFFERED)
    _set_last_step(tx, step)
    audit.record(tx, None, actor, "second-factor.on", "owner")
    return _new_recovery_codes(tx)


def accept(tx: Connection, vault: Vault, code: str) -> bool:
    """Whether this is a code of the app, or a recovery code, that has not been used. It is used now."""
    last = _last_step(tx)
    if last is None:
        return False
    if len(spellings.code(code)) != DIGITS:
        return _use_recovery_code(tx, code)
    secret = _open(tx, vault, FACT)
    # A step further ahead than any code can be was remembered before the clock was set back: it must not lock out.
    is_ahead = last > _current_step() + STEPS_APART
    step = None if secret is None else _step(secret, code, after=-1 if is_ahead else last)
    if step is None:
        return False
    _set_last_step(tx, step)
    return True


def turn_off(tx: Connection, actor: str) -> bool:
    """Ask for the password alone from now on; returns whether there was a second factor."""
    was_on = is_on(tx)
    tx.execute("DELETE FROM installation WHERE name = :name", {"name": FACT})
    for name in (FACT, OFFERED):
        _delete(tx, name)
    tx.execute("DELETE FROM recovery_codes")
    if was_on:
        audit.record(tx, None, actor, "second-factor.off", "owner")
    return was_on


def replace_recovery_codes(tx: Connection, actor: str) -> list[str]:
    """New recovery codes; those there were end with it."""
    audit.record(tx, None, actor, "second-factor.recovery-codes", "owner")
    return _new_recovery_codes(tx)


def recovery_codes_left(connection: Connection) -> int:
    rows = connection.execute(
        "SELECT 1 FROM recovery_codes WHERE used_at IS NULL LIMIT :most", {"most": RECOVERY_CODES}
    ).fetchall()
    return len(rows)


def _new_recovery_codes(tx: Connection) -> list[str]:
    tx.execute("DELETE FROM recovery_codes")
    codes = []
    for _ in range(RECOVERY_CODES):
        bare = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(RECOVERY_CHARACTERS))
        tx.execute(
            "INSERT INTO recovery_codes (code_hash, created_at) VALUES (:hash, :now)",
            {"hash": _hash(bare), "now": clock.stamp()},
        )
        groups = range(0, RECOVERY_CHARACTERS, RECOVERY_GROUP)
        codes.append("-".join(bare[start : start + RECOVERY_GROUP] for start in groups))
    return codes


def _use_recovery_code(tx: Connection, code: str) -> bool:
    # Of the signs that look alike only one each is ever given out.
    bare = spellings.code(code).lower().translate(str.maketrans("018", "olb"))
    used = tx.execute(
        "UPDATE recovery_codes SET used_at = :now WHERE code_hash = :hash AND used_at IS NULL",
        {"hash": _hash(bare), "now": clock.stamp()},
    ).rowcount
    if used:
        audit.record(tx, None, "owner", "second-factor.recovery", f"{recovery_codes_left(tx)} codes left")
    return used > 0


def _step(secret: str, code: str, after: int) -> int | None:
    """The time step near now that this is the code of, unless it is one up to ``after``."""
    bare = spellings.code(code).encode()
    totp = pyotp.TOTP(secret)
    current = _current_step()
    found = None
    for step in range(max(current - STEPS_APART, 0), current + STEPS_APART + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), bare) and step > after:
            found = step
    return found


def _current_step() -> int:
    return int(clock.now()) // STEP_SECONDS


def _hash(bare: str) -> str:
    return hashlib.sha256(bare.encode()).hexdigest()


def _last_step(connection: Connection) -> int | None:
    row = connection.execute("SELECT value FROM installation WHERE name = :name", {"name": FACT}).fetchone()
    return None if row is None else int(row["value"])


def _set_last_step(tx: Connection, step: int) -> None:
    tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES (:name, :value, :now)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
        {"name": FACT, "value": str(step), "now": clock.stamp()},
    )


def _put(tx: Connection, vault: Vault, name: str, secret: str) -> None:
    # The purpose a value is sealed for is the row's name: keyring.reseal opens it by that.
    sealed = vault.seal(tx, name, secret.encode())
    tx.execute(
        """INSERT INTO installation_secrets (name, ciphertext, nonce, key_id, created_at)
           VALUES (:name, :ciphertext, :nonce, :key_id, :now)
           ON CONFLICT (name) DO UPDATE SET ciphertext = excluded.ciphertext, nonce = excluded.nonce,
               key_id = excluded.key_id, created_at = excluded.created_at""",
        {**vars(sealed), "name": name, "now": clock.stamp()},
    )


def _open(connection: Connection, vault: Vault, name: str, oldest: str = "") -> str | None:
    row = connection.execute(
        "SELECT * FROM installation_secrets WHERE name = :name AND created_at > :oldest",
        {"name": name, "oldest": oldest},
    ).fetchone()
    if row is None:
        return None
    return vault.unseal(connection, name, Sealed(row["ciphertext"], row["nonce"], row["key_id"])).decode()


def _delete(tx: Connection, name: str) -> None:
    tx.execute("DELETE FROM installation_secrets WHERE name = :name", {"name": name})
