"""The owner's second factor: codes are good once, near their time; recovery codes each sign in once."""

import pyotp
import pytest

from coinslot.access import keyring, owner, second_factor
from coinslot.access.vault import MasterKey


def whose(installation):
    return installation.database.write_here(owner.first)


@pytest.fixture
def write(installation):
    return installation.database.write_here


def offer(installation):
    """The secret of a new offer."""
    person = whose(installation)
    installation.database.write_here(lambda tx: second_factor.offer(tx, installation.vault, person))
    return second_factor.offered(installation.database.read(), installation.vault, person)


@pytest.fixture
def secret(installation, write, clock):
    """A second factor that is on, with the clock three steps after the code that switched it on."""
    secret = offer(installation)
    assert write(lambda tx: second_factor.confirm(tx, installation.vault, owner.first(tx), code(secret)))
    assert not accept(installation, code(secret))  # that code signs nobody in
    clock.shift(90)
    return secret


def code(secret, steps=0):
    totp = pyotp.TOTP(secret)
    return totp.generate_otp(second_factor._current_step() + steps)


def accept(installation, given):
    return installation.database.write_here(
        lambda tx: second_factor.accept(tx, installation.vault, owner.first(tx), given)
    )


def test_an_offer_is_not_asked_for_before_a_code_of_it_was_shown(installation, write, db):
    secret = offer(installation)
    assert not second_factor.is_on(installation.database.read(), whose(installation))
    assert write(lambda tx: second_factor.confirm(tx, installation.vault, owner.first(tx), "000000x")) is None
    codes = write(lambda tx: second_factor.confirm(tx, installation.vault, owner.first(tx), code(secret)))
    assert second_factor.is_on(installation.database.read(), whose(installation))
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    assert [each["name"] for each in db("SELECT name FROM installation_secrets")] == ["totp.1"]


def test_an_offer_ends_after_an_hour(installation, clock):
    offer(installation)
    clock.shift(second_factor.OFFER_SECONDS + 1)
    assert second_factor.offered(installation.database.read(), installation.vault, whose(installation)) is None


def test_a_code_is_good_once_and_no_earlier_one_after_it(installation, secret):
    assert accept(installation, code(secret))
    assert not accept(installation, code(secret))
    assert not accept(installation, code(secret, -1))
    assert accept(installation, code(secret, +1))


@pytest.mark.parametrize(("steps", "is_good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_off_by_one_step(installation, secret, steps, is_good):
    assert accept(installation, code(secret, steps)) is is_good


def test_blanks_do_not_matter_and_odd_signs_are_no_code(installation, secret):
    given = code(secret)
    for wrong in ("", "12345", "1234567", "٠١٢٣٤٥", "ａｂｃ", "\0" * 6, "é" * 6, "x" * 10_000):
        assert not accept(installation, wrong)
    assert accept(installation, f" {given[:3]} {given[3:]} ")


def test_a_clock_that_was_set_back_locks_nobody_out(installation, secret, clock):
    assert accept(installation, code(secret))
    clock.shift(-86400)
    assert accept(installation, code(secret))
    assert not accept(installation, code(secret))


def test_a_recovery_code_signs_in_once_and_is_kept_as_a_hash(installation, write, secret, db):
    codes = write(lambda tx: second_factor.replace_recovery_codes(tx, owner.first(tx)))
    first = codes[0]
    assert accept(installation, first.upper().replace("-", " ").replace("O", "0"))
    assert not accept(installation, first)
    assert accept(installation, codes[1])
    assert second_factor.recovery_codes_left(installation.database.read(), whose(installation)) == 8
    assert first.replace("-", "") not in str(db("SELECT * FROM recovery_codes"))
    write(lambda tx: second_factor.replace_recovery_codes(tx, owner.first(tx)))  # which ends the others
    assert not accept(installation, codes[2])


def test_switched_off_nothing_of_it_is_left_and_nothing_is_accepted(installation, write, secret, db):
    codes = write(lambda tx: second_factor.replace_recovery_codes(tx, owner.first(tx)))
    assert write(lambda tx: second_factor.turn_off(tx, owner.first(tx), "command"))
    assert not write(lambda tx: second_factor.turn_off(tx, owner.first(tx), "command"))
    assert db("SELECT * FROM installation_secrets") == db("SELECT * FROM recovery_codes") == []
    assert not accept(installation, codes[0])
    assert not accept(installation, code(secret))


def test_it_is_sealed_and_survives_a_new_master_key(installation, write, secret, db):
    (row,) = db("SELECT ciphertext FROM installation_secrets")
    assert secret.encode() not in row["ciphertext"]
    keyring.rotate_master_key(installation.database, installation.vault, MasterKey.generate(), "owner")
    assert accept(installation, code(secret))
