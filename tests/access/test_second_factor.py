"""The owner's second factor: codes are good once, near their time; recovery codes each sign in once."""

import pyotp
import pytest

from coinslot.access import keyring, second_factor
from coinslot.access.vault import MasterKey


@pytest.fixture
def write(house):
    return house.database.write_here


@pytest.fixture
def secret(house, write, clock):
    """A second factor that is on, with the clock a step after the code that switched it on."""
    write(lambda tx: second_factor.offer(tx, house.vault))
    secret = second_factor.offered(house.database.read(), house.vault)
    assert write(lambda tx: second_factor.confirm(tx, house.vault, pyotp.TOTP(secret).now(), "owner"))
    clock.shift(90)
    return secret


def code(secret, steps=0):
    totp = pyotp.TOTP(secret)
    return totp.generate_otp(second_factor._current_step() + steps)


def accept(house, given):
    return house.database.write_here(lambda tx: second_factor.accept(tx, house.vault, given))


def test_an_offer_is_not_asked_for_before_a_code_of_it_was_shown(house, write, db):
    write(lambda tx: second_factor.offer(tx, house.vault))
    assert not second_factor.is_on(house.database.read())
    assert write(lambda tx: second_factor.confirm(tx, house.vault, "000000x", "owner")) is None
    secret = second_factor.offered(house.database.read(), house.vault)
    codes = write(lambda tx: second_factor.confirm(tx, house.vault, pyotp.TOTP(secret).now(), "owner"))
    assert second_factor.is_on(house.database.read())
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    assert [each["name"] for each in db("SELECT name FROM installation_secrets")] == ["owner.totp"]


def test_an_offer_ends_after_an_hour(house, write, clock):
    write(lambda tx: second_factor.offer(tx, house.vault))
    clock.shift(second_factor.OFFER_SECONDS + 1)
    assert second_factor.offered(house.database.read(), house.vault) is None


def test_a_code_is_good_once_and_no_earlier_one_after_it(house, secret):
    assert accept(house, code(secret))
    assert not accept(house, code(secret))
    assert not accept(house, code(secret, -1))
    assert accept(house, code(secret, +1))


def test_the_code_that_switched_it_on_does_not_sign_in(house, write, clock):
    write(lambda tx: second_factor.offer(tx, house.vault))
    secret = second_factor.offered(house.database.read(), house.vault)
    write(lambda tx: second_factor.confirm(tx, house.vault, code(secret), "owner"))
    assert not accept(house, code(secret))


@pytest.mark.parametrize(("steps", "is_good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_off_by_one_step(house, secret, steps, is_good):
    assert accept(house, code(secret, steps)) is is_good


def test_blanks_do_not_matter_and_odd_signs_are_no_code(house, secret):
    given = code(secret)
    for wrong in ("", "12345", "1234567", "٠١٢٣٤٥", "ａｂｃ", "\0" * 6, "é" * 6, "x" * 10_000):
        assert not accept(house, wrong)
    assert accept(house, f" {given[:3]} {given[3:]} ")


def test_a_clock_that_was_set_back_locks_nobody_out(house, secret, clock):
    assert accept(house, code(secret))
    clock.shift(-86400)
    assert accept(house, code(secret))
    assert not accept(house, code(secret))


def test_a_recovery_code_signs_in_once_and_is_kept_as_a_hash(house, write, secret, db):
    codes = write(lambda tx: second_factor.replace_recovery_codes(tx, "owner"))
    first = codes[0]
    assert accept(house, first.upper().replace("-", " ").replace("O", "0"))
    assert not accept(house, first)
    assert accept(house, codes[1])
    assert second_factor.recovery_codes_left(house.database.read()) == 8
    assert first.replace("-", "") not in str(db("SELECT * FROM recovery_codes"))


def test_new_recovery_codes_end_the_old_ones(house, write, secret):
    old = write(lambda tx: second_factor.replace_recovery_codes(tx, "owner"))
    write(lambda tx: second_factor.replace_recovery_codes(tx, "owner"))
    assert not accept(house, old[0])


def test_switched_off_nothing_of_it_is_left_and_nothing_is_accepted(house, write, secret, db):
    codes = write(lambda tx: second_factor.replace_recovery_codes(tx, "owner"))
    assert write(lambda tx: second_factor.turn_off(tx, "command"))
    assert not write(lambda tx: second_factor.turn_off(tx, "command"))
    assert db("SELECT * FROM installation_secrets") == db("SELECT * FROM recovery_codes") == []
    assert not accept(house, codes[0])
    assert not accept(house, code(secret))


def test_it_is_sealed_and_survives_a_new_master_key(house, write, secret, db):
    (row,) = db("SELECT ciphertext FROM installation_secrets")
    assert secret.encode() not in row["ciphertext"]
    keyring.rotate_master_key(house.database, house.vault, MasterKey.generate(), "owner")
    assert accept(house, code(secret))
