"""Who may sign in: names, invitations, removals, and what a restore makes of them."""

import pytest

from coinslot.access import keyring, owner, people, second_factor, sessions
from coinslot.access.people import PersonError
from coinslot.access.vault import MasterKey
from coinslot.operations import backup, restore


@pytest.fixture
def write(installation):
    return installation.database.write_here


def invite(write, name="Anna", role="support"):
    return write(lambda tx: people.invite(tx, name, role, "command"))


def join(write, name="Anna", role="support"):
    token = invite(write, name, role)
    return write(lambda tx: people.accept(tx, token, f"hash of {name}"))


def test_an_invitation_is_good_once(write, db):
    token = invite(write)
    assert token not in str(db("SELECT * FROM people")) + str(db("SELECT * FROM audit"))
    assert write(lambda tx: people.accept(tx, token, "first")).name == "Anna"
    assert write(lambda tx: people.accept(tx, token, "second")) is None
    assert db("SELECT password_hash FROM people") == [{"password_hash": "first"}]
    assert [(row["actor"], row["action"], row["subject"]) for row in db("SELECT * FROM audit")] == [
        ("command", "person.invite", "Anna, for support"),
        ("Anna", "person.accept", "support"),
    ]


def test_an_invitation_is_good_for_a_day(write, clock, installation):
    token = invite(write)
    clock.shift(86399)
    assert people.invited(installation.database.read(), token).name == "Anna"
    clock.shift(1)
    assert people.invited(installation.database.read(), token) is None
    assert write(lambda tx: people.accept(tx, token, "hash")) is None


def test_a_second_invitation_ends_the_first_and_changes_the_role(write, installation):
    first, second = invite(write), invite(write, "anna", "owner")
    connection = installation.database.read()
    assert people.invited(connection, first) is None
    assert people.invited(connection, second).role == "owner"
    write(lambda tx: people.accept(tx, second, "hash"))
    with pytest.raises(PersonError, match="already"):
        invite(write, "ANNA")


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\nb", "\u200b", "Command", "game", "server", "job", "Owner"])
def test_nobody_may_have_a_name_that_is_none_or_says_somebody_else(write, name, db):
    with pytest.raises(PersonError):
        invite(write, name)
    assert db("SELECT * FROM people") == []


def test_a_name_is_found_in_any_spelling(write, installation):
    join(write, "Zoë Müller")
    connection = installation.database.read()
    for spelling in ("zoë müller", "ZOE MULLER", " zoe\u0308 mu\u0308ller "):
        assert people.named(connection, spelling).name == "Zoë Müller"
    assert people.by_name(connection, "zoe") is None


def test_no_name_means_the_only_person_or_else_the_first_owner(write, installation):
    def meant(name):
        row = people.meant(installation.database.read(), name)
        return None if row is None else row["name"]

    assert meant("") is None
    join(write)
    assert meant("") == "Anna"
    write(lambda tx: owner.set_password(tx, "hash", "command"))
    assert (meant(""), meant("  "), meant("anna"), meant("nobody")) == ("owner", "owner", "Anna", None)


def test_removed_nothing_of_a_person_is_left_and_the_last_owner_stays(write, installation, db):
    write(lambda tx: owner.set_password(tx, "hash", "command"))
    anna = join(write)
    write(lambda tx: second_factor.offer(tx, installation.vault, anna))
    token = write(lambda tx: sessions.begin(tx, anna.id, "192.0.2.1", "agent"))
    write(lambda tx: people.remove(tx, people.named(tx, "anna"), "owner"))
    assert sessions.find(installation.database.read(), token) is None
    assert [row["name"] for row in db("SELECT name FROM people")] == ["owner"]
    assert db("SELECT * FROM sessions") == db("SELECT * FROM installation_secrets") == []
    with pytest.raises(PersonError, match="only owner"):
        write(lambda tx: people.remove(tx, people.named(tx, "owner"), "command"))
    join(write, "Ben", "owner")
    write(lambda tx: people.remove(tx, people.named(tx, "owner"), "Ben"))
    assert [row["name"] for row in db("SELECT name FROM people")] == ["Ben"]


def test_an_invited_owner_is_nobody_who_could_stay(write):
    write(lambda tx: owner.set_password(tx, "hash", "command"))
    invite(write, "Ben", "owner")
    with pytest.raises(PersonError, match="only owner"):
        write(lambda tx: people.remove(tx, people.named(tx, "owner"), "command"))
    write(lambda tx: people.remove(tx, people.named(tx, "Ben"), "command"))


def test_the_second_factors_of_two_are_apart_and_survive_a_new_master_key(write, installation, clock):
    vault, found = installation.vault, {}
    for person in (join(write), join(write, "Ben")):
        write(lambda tx, person=person: second_factor.offer(tx, vault, person))
        found[person] = second_factor.offered(installation.database.read(), vault, person)
    keyring.rotate_master_key(installation.database, vault, MasterKey.generate(), "owner")
    anna, ben = found
    assert second_factor.offered(installation.database.read(), vault, anna) == found[anna]
    code = second_factor.pyotp.TOTP(found[anna]).now()
    assert write(lambda tx: second_factor.confirm(tx, vault, ben, code)) is None
    codes = write(lambda tx: second_factor.confirm(tx, vault, anna, code))
    assert not second_factor.is_on(installation.database.read(), ben)
    assert not write(lambda tx: second_factor.accept(tx, vault, ben, codes[0]))
    assert write(lambda tx: second_factor.accept(tx, vault, anna, codes[0]))
    assert write(lambda tx: second_factor.turn_off(tx, anna, "command"))


def test_a_restore_brings_nobody_back_who_was_removed_and_ends_invitations(
    write, installation, studio, tmp_path, clock
):
    write(lambda tx: owner.set_password(tx, "hash", "command"))
    join(write)
    join(write, "Ben")
    open_link = invite(write, "Carla")
    write(lambda tx: second_factor.offer(tx, installation.vault, people.named(tx, "Anna")))
    copy = tmp_path / "copy.db"
    backup.backup(installation.database, copy)
    clock.shift(60)
    write(lambda tx: people.remove(tx, people.named(tx, "Anna"), "command"))
    write(lambda tx: people.remove(tx, people.named(tx, "Ben"), "command"))
    clock.shift(60)
    join(write, "Ben")  # who came back
    later = tmp_path / "later.db"
    backup.backup(installation.database, later)

    def names():
        return [row["name"] for row in people.every(installation.database.read())]

    restore.restore(installation.database, installation.vault, later)
    assert names() == ["owner", "Carla", "Ben"]
    restore.restore(installation.database, installation.vault, copy)
    assert names() == ["owner", "Carla"]
    restore.restore(installation.database, installation.vault, copy)  # what was noted is not lost by the first
    assert names() == ["owner", "Carla"]
    connection = installation.database.read()
    assert people.invited(connection, open_link) is None
    assert connection.execute("SELECT name FROM installation_secrets WHERE name LIKE 'totp%'").fetchall() == []
