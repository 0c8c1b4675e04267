"""Secrets at rest: sealed, bound to their place, rotated without a moment in which they cannot be read."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import create_app
from coinslot.access import keyring
from coinslot.access.vault import MasterKey, Sealed, Vault, VaultError
from coinslot.games import games
from tests import databases


def test_a_fresh_installation_gets_a_key_of_its_own(installation, db):
    key = installation.vault.path
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(key.read_text())) == 32
    assert db("SELECT value FROM installation WHERE name = 'vault.key_id'") == [
        {"value": installation.vault.current(installation.database.read()).id}
    ]


def test_no_plaintext_in_the_files_the_reprs_or_the_errors(installation, studio):
    secret = "a-very-secret-value-0123456789"
    studio.secret("appcharge.main_key", secret)
    game = installation.games.by_slug("demo")

    assert game.keys("appcharge.main_key")[0].value == secret.encode()
    assert secret not in repr(game)
    assert secret not in repr(game.keys("appcharge.main_key"))
    installation.database.close()
    for path in installation.settings.home.iterdir():
        assert secret.encode() not in path.read_bytes(), path


def test_a_sealed_value_opens_only_in_its_place(installation, studio):
    installation.database.write_here(
        lambda tx: tx.execute(
            """UPDATE secrets SET ciphertext = (SELECT ciphertext FROM secrets WHERE name = 'playtem.secret'),
                   nonce = :nonce WHERE name = 'appcharge.main_key'""",
            {"nonce": bytes(12)},
        )
    )
    installation.database.write_here(lambda tx: games.revision.touch(tx, studio.row["id"]))
    with pytest.raises(VaultError, match="changed"):
        installation.games.by_slug("demo")


@given(plaintext=st.binary(max_size=100), flip=st.integers(0, 10_000), other=st.text(max_size=10))
def test_any_changed_bit_and_any_other_purpose_is_refused(plaintext, flip, other):
    key = MasterKey.generate()
    sealed = key.seal("purpose", plaintext)
    assert key.unseal("purpose", sealed) == plaintext

    changed = bytearray(sealed.ciphertext)
    position, bit = divmod(flip % (len(changed) * 8), 8)
    changed[position] ^= 1 << bit
    with pytest.raises(VaultError):
        key.unseal("purpose", Sealed(bytes(changed), sealed.nonce, sealed.key_id))
    if other != "purpose":
        with pytest.raises(VaultError):
            key.unseal(other, sealed)


def test_nonces_never_repeat(installation, studio, db):
    for number in range(50):
        studio.secret("game.lookup_key", f"value-{number}")
    key = MasterKey.generate()
    nonces = [key.seal("p", b"same").nonce for _ in range(10_000)]
    nonces += [row["nonce"] for row in db("SELECT nonce FROM secrets")]
    assert len(set(nonces)) == len(nonces)


@pytest.mark.parametrize("text", ["", "short", "é", base64.b64encode(bytes(31)).decode(), "*" * 44])
def test_a_malformed_master_key_is_refused_by_name_and_not_shown(tmp_path, text):
    environment = {**databases.environment(tmp_path / "home"), "COINSLOT_MASTER_KEY": text}
    with pytest.raises((VaultError, ValueError), match="COINSLOT_MASTER_KEY") as error:
        create_app(environment).extensions["coinslot"].prepare()
    assert not text or text not in str(error.value)


def test_the_environments_key_is_used_instead_of_the_file(tmp_path):
    text = base64.b64encode(os.urandom(32)).decode()
    environment = {**databases.environment(tmp_path / "home"), "COINSLOT_MASTER_KEY": text}
    installation = create_app(environment).extensions["coinslot"]
    installation.prepare()
    assert not installation.vault.path.exists()
    assert text not in repr(installation.settings)
    assert text not in repr(vars(installation.vault)["_keys"])

    other = create_app(databases.environment(tmp_path / "home")).extensions["coinslot"]
    with pytest.raises(VaultError, match="no master key"):
        other.prepare()


def test_with_two_keys_in_the_environment_either_opens(tmp_path):
    keys = [MasterKey.generate() for _ in range(2)]
    environment = databases.environment(tmp_path / "home")

    def ids(*given):
        found = create_app({**environment, "COINSLOT_MASTER_KEY": " ".join(key.text() for key in given)})
        installation = found.extensions["coinslot"]
        installation.prepare()
        return installation.vault.current(installation.database.read()).id

    assert ids(*keys) == keys[0].id  # a new database takes the first
    assert ids(*reversed(keys)) == keys[0].id
    with pytest.raises(VaultError, match="does not hold"):
        ids(keys[1], MasterKey.generate())
    with pytest.raises(VaultError, match="COINSLOT_MASTER_KEY does not hold"):
        create_app({**environment, "COINSLOT_MASTER_KEY": f"{keys[0].text()} x"}).extensions["coinslot"].prepare()


def test_a_key_is_known_by_the_same_id_for_ever():
    assert MasterKey(bytes(range(32))).id == "510c142dc408c82e"


def test_a_database_under_another_key_is_not_served(installation, studio):
    installation.vault.path.unlink(missing_ok=True)
    with pytest.raises(VaultError, match="does not hold"):
        fresh(installation, COINSLOT_MASTER_KEY=MasterKey.generate().text())


def fresh(installation, **changed):
    """Another process on the same home."""
    other = create_app({**databases.environment(installation.settings.home), **changed}).extensions["coinslot"]
    other.prepare()
    return other


class TestRotation:
    def rotate(self, installation):
        new = MasterKey.generate()
        return installation.vault.rotate(installation.database, keyring.reseal, new), new

    def opened(self, installation):
        return {
            name: [value.value for value in values]
            for name, values in installation.games.by_slug("demo").secrets.items()
        }

    def test_everything_is_under_the_new_key_and_the_old_file_is_kept(self, installation, studio, db, post_order):
        studio.rotate("appcharge.main_key", "next-key-0123456789")
        post_order(b"{}")
        post_order(b"{}", headers={"signature": "x"})
        installation.observations.flush()
        before = self.opened(installation)
        old = installation.vault.current(installation.database.read())

        count, new = self.rotate(installation)

        assert count == 4 + 2  # one of the secrets has a previous value; one call was no order, one was not signed
        assert {row["key_id"] for row in db("SELECT key_id FROM secrets UNION SELECT key_id FROM refusals")} == {new.id}
        assert [key.id for key in installation.vault.put_aside()] == [old.id]
        assert self.opened(fresh(installation)) == before
        assert installation.vault.path.stat().st_mode & 0o777 == 0o600

    def test_a_running_process_follows_without_a_restart(self, installation, studio, post_order):
        other = fresh(installation)
        assert self.opened(other)
        self.rotate(installation)
        studio.rotate("appcharge.main_key", "next-key-0123456789")
        assert self.opened(other)["appcharge.main_key"][0] == b"next-key-0123456789"
        sealed = other.vault.seal(other.database.read(), "p", b"x")
        assert sealed.key_id == installation.vault.current(installation.database.read()).id

    def test_a_crash_before_the_commit_leaves_the_old_key_in_force(self, installation, studio):
        before = self.opened(installation)

        def crash(tx, old, new):
            keyring.reseal(tx, old, new)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            installation.vault.rotate(installation.database, crash, MasterKey.generate())
        assert installation.vault.next_path.exists()
        other = fresh(installation)
        assert self.opened(other) == before
        self.rotate(other)
        assert not other.vault.next_path.exists()

    def test_a_crash_after_the_commit_leaves_the_new_key_readable(self, installation, studio, monkeypatch):
        before = self.opened(installation)
        with monkeypatch.context() as patch:
            # The process ends between the commit and the renaming.
            patch.setattr(Vault, "_tidy_key_files", lambda *_: None)
            self.rotate(installation)
        assert installation.vault.next_path.exists()

        other = fresh(installation)
        assert self.opened(other) == before
        self.rotate(other)
        assert not other.vault.next_path.exists()
        assert self.opened(fresh(installation)) == before
