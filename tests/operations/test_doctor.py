"""``flask doctor``: what it calls ok, a warning and WRONG, in whatever state it finds the installation."""

import os
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import create_app
from coinslot.access import key_copy, keyring, owner
from coinslot.access.vault import MasterKey
from coinslot.base import clock
from coinslot.games import games, registry
from coinslot.installation import Installation
from coinslot.ledger import credit as ledger
from coinslot.ledger import reports
from coinslot.operations import backup, doctor, restore
from coinslot.operations.observations import Refusal
from coinslot.outbox import destinations
from coinslot.store.db import Row
from handlers.commands import troubles
from tests import databases
from tests.conftest import use_key
from tests.fakes.http import FakeServer
from tests.owed import a_credit

SECRET = "a-secret-of-the-doctor-tests"


class Patient:
    """One installation and what the doctor says of it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.app = create_app(
            {**databases.environment(home), "COINSLOT_PUBLIC_URL": "http://127.0.0.1:1", **environment}
        )
        self.installation: Installation = self.app.extensions["coinslot"]

    def write(self, function) -> None:
        self.installation.database.write_here(function)

    def game(self) -> Row:
        return games.find(self.installation.database.read(), "demo")

    def config(self, key: str, value: str) -> None:
        self.write(lambda tx: games.set_setting(tx, self.installation.catalogue, "demo", key, value, "test"))

    def secret(self, name: str, value: str = SECRET) -> None:
        self.write(lambda tx: keyring.put(tx, self.installation.vault, self.game(), name, value, "test"))

    def refuse(self, reason: str, game_id: int | None = 1, endpoint: str = "orders", at: float | None = None) -> None:
        stamp = clock.stamp(time.time() if at is None else at)
        refusal = Refusal(game_id, "demo", "appcharge", endpoint, reason, 401, "::1", 1, {}, stamp)
        self.installation.observations.refused(refusal)
        self.installation.observations.flush()

    def examine(self) -> tuple[list[str], int]:
        """The lines, and the exit code; no traceback and no secret among them."""
        result = self.app.test_cli_runner().invoke(troubles.doctor_command, [])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert SECRET not in result.output
        lines = result.output.splitlines()
        assert all(line.startswith(("ok ", "note ", "look ", "wrong ")) for line in lines), lines
        assert result.exit_code == any(line.startswith("wrong") for line in lines)
        lines = [line for line in lines if not any(words in line for words in databases.ALWAYS_WRONG)]
        return lines, int(any(line.startswith("wrong") for line in lines))

    def lines(self, level: str) -> list[str]:
        return [line.removeprefix(level).strip() for line in self.examine()[0] if line.startswith(level)]

    def says(self, level: str, words: str) -> bool:
        return any(words in line for line in self.lines(level))


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    """A healthy one: a password, a game with Appcharge and Playtem, a player and an item."""
    patient = Patient(tmp_path / "home")
    patient.installation.prepare()
    patient.write(lambda tx: games.add(tx, "demo", "Demo", "test"))
    patient.write(lambda tx: owner.set_password(tx, "hash", "test"))
    patient.write(lambda tx: registry.put_player(tx, 1, "alice", {}))
    patient.write(lambda tx: registry.put_item(tx, 1, "coins", None))
    for name in ("appcharge.main_key", "appcharge.publisher_token", "playtem.secret"):
        patient.secret(name)
    patient.config("playtem.app_id", "1")
    for partner in ("appcharge", "playtem"):
        patient.config(f"allowlist.{partner}", "10.0.0.0/8")
    installation = patient.installation
    key_copy.check(installation.database, installation.vault, installation.vault.candidates()[0])
    yield patient
    patient.installation.observations.flush()
    patient.installation.database.close()


def credit(patient: Patient, order_id: str = "first") -> None:
    patient.write(lambda tx: ledger.credit(tx, a_credit(1, order_id, money=reports.Money("USD", 100)), reports.Rules()))


@pytest.fixture
def later() -> Iterator[Callable[[float], None]]:
    """Moves the clock: that of the file system stays."""
    began = time.time()
    with databases.travel(began, tick=True) as traveller:
        yield lambda seconds: traveller.move_to(began + seconds)


def test_healthy_installation_exits_0(patient):
    credit(patient, "first")

    lines, exit_code = patient.examine()

    assert exit_code == 0, lines
    (look,) = [line for line in lines if line.startswith("look")]
    assert "/healthz" in look  # no server is running
    assert lines == sorted(lines, key=lambda line: ("wrong", "look", "note", "ok").index(line.split()[0]))
    engines = ("timeline", "is valid") if databases.IS_POSTGRES else ("quick_check", "journal mode wal")
    for words in (*engines, "master key", "hash chain", "free on the disk", "the clock says"):
        assert any(line.startswith("ok") and words in line for line in lines), words
    for partner in ("Appcharge", "Playtem"):
        assert f"ok     game demo: {partner} is configured" in lines


def test_nothing_is_made_where_nothing_is(tmp_path):
    patient = Patient(tmp_path / "home")

    assert patient.says("wrong", "does not exist")
    assert patient.says("wrong", "There is no database")
    assert patient.says("wrong", "there is no master key")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        (lambda path: path.unlink(), "There is no database"),
        (lambda path: path.write_bytes(b""), "coinslot.db"),
        (lambda path: path.write_bytes(b"spoilt" * 1000), "coinslot.db"),
        (lambda path: path.write_bytes(path.read_bytes()[: -8 * 4096] + os.urandom(8 * 4096)), "damaged"),
        (lambda path: databases.change(path, "PRAGMA user_version = 999"), "newer"),
        (lambda path: databases.change(path, "PRAGMA user_version = 0"), "older"),
    ],
)
def test_database_that_cannot_be_used(patient, spoil, wrong):
    for number in range(100):
        credit(patient, f"order {number}")
    patient.installation.database.close()
    path = patient.installation.database.path
    spoil(path)
    was_there = path.exists()

    assert patient.says("wrong", wrong)
    assert patient.says("ok", "master key")
    assert path.exists() == was_there


@pytest.mark.parametrize("text", ["not Base64!", "c2hvcnQ=", ""])
def test_malformed_key_file(patient, text):
    (patient.home / "master.key").write_text(text)

    assert patient.says("wrong", "does not hold the Base64 of 32 bytes")
    assert patient.says("ok", "hash chain")


def test_malformed_key_variable(patient):
    other = Patient(patient.home, COINSLOT_MASTER_KEY="A" * 20)

    assert other.says("wrong", "COINSLOT_MASTER_KEY does not hold")
    assert not other.says("wrong", "A" * 20)


def test_wrong_key(patient):
    wrong = MasterKey.generate()
    other = Patient(patient.home, COINSLOT_MASTER_KEY=wrong.text())

    needed = patient.installation.vault.candidates()[0].id
    assert other.says("wrong", f"The database is under master key {needed}, but COINSLOT_MASTER_KEY holds {wrong.id}")
    assert not other.says("", wrong.text())


def test_secret_that_does_not_open(patient):
    patient.write(lambda tx: tx.execute("UPDATE secrets SET ciphertext = x'00' WHERE name = 'playtem.secret'"))
    patient.config("playtem.app_id", "2")  # so that no process serves the copy it has opened

    assert patient.says("wrong", "secret/demo/playtem.secret")


def test_leftover_of_a_key_rotation(patient):
    path = patient.home / "master.key.next"
    path.write_text(MasterKey.generate().text())
    path.chmod(0o600)

    assert patient.says("look", "master.key.next")


def test_open_permissions(patient):
    patient.home.chmod(0o755)
    for name in ("coinslot.db", "master.key"):
        (patient.home / name).chmod(0o644)

    wrong = patient.lines("wrong")

    assert [line for line in wrong if "chmod 0700" in line]
    assert len([line for line in wrong if "chmod 0600" in line]) >= 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_file_of_another_user(patient):
    os.chown(patient.home / "master.key", 4321, 4321)

    assert patient.says("wrong", "belongs to user 4321")


def test_changed_ledger(patient):
    for number in range(8):
        credit(patient, f"order {number}")

    databases.change_guarded(patient.installation, "UPDATE transactions SET gross_minor = 1")

    wrong = patient.lines("wrong")
    assert len(wrong) == doctor.SENTENCES + 1
    assert "was changed" in wrong[0]
    assert any("And 3 more" in line for line in wrong)


def test_full_disk(patient, monkeypatch):
    usage = namedtuple("usage", "total used free")  # what the kernel would say
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1, 1, 1_000_000))
    assert patient.says("wrong", "credits are about to fail")

    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1, 1, 500_000_000))
    assert patient.says("look", "free on the disk")


def test_clock_that_is_wrong(patient, later):
    credit(patient)
    later(-3600)
    assert patient.says("wrong", "earlier than the newest transaction")
    later(1000 - time.time())
    assert patient.says("wrong", "1970")


def test_calls_that_prove_nothing_are_a_trouble_for_a_day_one_per_partner_and_reason(patient, later):
    for _ in range(3):
        patient.refuse("signature")
    patient.refuse("encryption")
    patient.refuse("unknown_game", game_id=None)  # a stranger's noise

    found = [line for line in patient.lines("wrong") if "refused in 24 hours" in line]
    assert [line[:62] for line in found] == [
        "game demo: 1 call of Appcharge was refused in 24 hours: it cou",
        "game demo: 3 calls of Appcharge were refused in 24 hours: thei",
    ]

    patient.installation.observations.called(1, "appcharge", "orders", remote_address="::1")
    patient.installation.observations.flush()
    assert patient.says("wrong", "1 call of Appcharge was refused in 24 hours: it named no game")  # from a known caller
    later(25 * 3600)
    assert not [line for line in patient.examine()[0] if "refused in 24 hours" in line]


def test_calls_from_strangers_only_want_a_look_while_others_prove_themselves(patient, later):
    patient.refuse("signature")
    assert patient.says("wrong", "1 call of Appcharge was refused")
    later(1)

    patient.installation.observations.called(1, "appcharge", "orders", remote_address="192.0.2.1")
    patient.installation.observations.flush()

    assert patient.says("look", "1 call of Appcharge was refused")
    assert not patient.says("wrong", "1 call of Appcharge was refused")


def test_no_password_and_no_game(tmp_path):
    patient = Patient(tmp_path / "home")
    patient.installation.prepare()

    assert patient.says("look", "No password is set")
    assert patient.says("look", "There is no game")
    patient.installation.database.close()


@pytest.mark.parametrize(
    ("environment", "level", "words"),
    [
        ({"COINSLOT_PUBLIC_URL": "http://shop.invalid"}, "wrong", "is not https"),
        ({"COINSLOT_PUBLIC_URL": "http://["}, "wrong", "Public url"),
        ({"COINSLOT_PUBLIC_URL": "https://shop.invalid"}, "look", "COINSLOT_TRUSTED_PROXIES is 0"),
        (
            {"COINSLOT_BIND": "unix:/run/coinslot.sock"},
            "wrong",
            "at a Unix socket (COINSLOT_BIND) only a proxy can say",
        ),
        ({"COINSLOT_BIND": "unix:/run/coinslot.sock", "COINSLOT_TRUSTED_PROXIES": "1"}, "ok", "this machine alone"),
        (
            {"COINSLOT_PUBLIC_URL": "https://shop.invalid", "COINSLOT_TRUSTED_PROXIES": "1"},
            "look",
            "does not answer from here",
        ),
    ],
)
def test_public_address(patient, environment, level, words):
    other = Patient(patient.home, **environment)
    assert other.says(level, words)
    assert other.says("look", "TRUSTED_PROXIES") == ("PROXIES is 0" in words)


@pytest.mark.parametrize(("status", "level"), [(200, "ok"), (404, "look")])
def test_public_address_that_answers(patient, status, level):
    with FakeServer(lambda request: (status if request.path == "/healthz" else 500, {})) as server:
        assert Patient(patient.home, COINSLOT_PUBLIC_URL=server.url).says(level, "/healthz answers")


def test_partner_that_was_begun_and_cannot_answer(patient):
    patient.write(lambda tx: tx.execute("DELETE FROM secrets WHERE name = 'appcharge.publisher_token'"))
    patient.config("appcharge.tolerance_seconds", "60")

    assert patient.says("wrong", "appcharge.publisher_token is not set")


def test_partner_that_is_not_configured(patient):
    patient.write(lambda tx: tx.execute("DELETE FROM secrets WHERE name = 'playtem.secret'"))
    patient.config("playtem.app_id", "2")

    lines, exit_code = patient.examine()

    assert exit_code == 0
    assert any(line.startswith("ok") and "Playtem is not configured" in line for line in lines)


def test_partner_that_answers_and_still_lacks_something(patient):
    patient.write(lambda tx: tx.execute("DELETE FROM settings WHERE key = 'playtem.app_id'"))
    patient.config("allowlist.playtem", "")

    lines, exit_code = patient.examine()

    assert exit_code == 0
    assert any(line.startswith("note") and "playtem.app_id is not set" in line for line in lines)
    assert any(line.startswith("note") and "allowlist.playtem is empty" in line for line in lines)


def test_lookup_without_an_address(patient):
    patient.config("players.unknown", "lookup")

    assert patient.says("wrong", "players.lookup_url is not set")


def test_nobody_and_nothing_registered(patient):
    patient.write(lambda tx: tx.execute("DELETE FROM players"))
    patient.write(lambda tx: tx.execute("DELETE FROM items"))
    assert patient.says("look", "No player is registered")
    assert patient.says("look", "No item is registered")

    patient.config("players.unknown", "create")
    patient.config("items.unknown", "accept")
    assert not patient.says("look", "is registered")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            """INSERT INTO conflicts (game_id, partner, transaction_id, external_id, player_id, fingerprint, seen,
                                      first_at, last_at)
               VALUES (1, 'appcharge', 1, 'first', 'alice', 'other', 1, :now, :now)""",
            "game demo: 1 call named a known transaction with other content. The first one counts, and nothing more "
            "was credited. Judge: /games/demo/conflicts",
        ),
        (
            "UPDATE deliveries SET next_attempt_at = :long_ago",
            "game demo: 1 delivery has been due for over an hour. At stake: 1.00 USD. See what they wait for: "
            "/games/demo/deliveries?state=waiting",
        ),
        (
            "UPDATE destinations SET state = 'paused'",
            "game demo: server is paused. Its deliveries wait. Resume it: /games/demo/deliveries",
        ),
        (
            """INSERT INTO schedules (game_id, name, due_at, asked, failures, last_error)
               VALUES (1, 'appcharge.refresh', :now, 1, 1, 'Appcharge answered 401')""",
            "game demo: The job “Update players at Appcharge” has failed once: Appcharge answered 401 Look: "
            "/games/demo/integration/appcharge",
        ),
        (
            "INSERT INTO schedules (game_id, name, due_at, asked) VALUES (1, 'appcharge.refresh', :long_ago, 1)",
            "game demo: The job “Update players at Appcharge” has been due for over an hour. Is a relay running? Look: "
            "/games/demo/integration/appcharge",
        ),
    ],
)
def test_troubles_are_said_as_the_overview_says_them(patient, statement, words):
    patient.write(
        lambda tx: tx.execute(
            """INSERT INTO destinations (game_id, name, url, created_at, updated_at)
               VALUES (1, 'server', 'http://127.0.0.1:1', '', '')"""
        )
    )
    credit(patient)
    assert words not in [*patient.lines("look"), *patient.lines("wrong"), *patient.lines("note")]

    moments = {"now": clock.stamp(), "long_ago": clock.stamp(clock.now() - 3700)}
    patient.write(lambda tx: tx.execute(statement, moments))

    assert words in [*patient.lines("look"), *patient.lines("wrong"), *patient.lines("note")]


def test_looking_changes_nothing(patient):
    credit(patient, "first")
    before = databases.content(patient.installation)

    patient.examine()

    assert databases.content(patient.installation) == before


def test_restored_installation_is_healthy(patient, tmp_path):
    credit(patient, "first")
    backup.backup(patient.installation.database, tmp_path / "copy.db")
    restore.restore(patient.installation.database, patient.installation.vault, tmp_path / "copy.db")

    assert patient.examine()[1] == 0


DAY = 86400


class TestKeys:
    def set_ago(self, patient: Patient, slot: str, days: float, name: str = "appcharge.main_key") -> None:
        patient.write(
            lambda tx: tx.execute(
                "UPDATE secrets SET created_at = :at WHERE name = :name AND slot = :slot",
                {"at": clock.stamp(time.time() - days * DAY), "name": name, "slot": slot},
            )
        )

    def test_a_key_older_than_a_year_is_due_to_be_rotated(self, patient):
        self.set_ago(patient, "current", 364)
        assert not patient.says("look", "days old")

        self.set_ago(patient, "current", 400)
        self.set_ago(patient, "current", 500, "playtem.secret")

        warnings = patient.lines("look")
        assert (
            "game demo: appcharge.main_key is 400 days old; keys are rotated yearly. "
            "flask secret rotate demo appcharge.main_key Rotate it: /games/demo/integration/appcharge" in warnings
        )
        assert any("playtem.secret is 500 days old" in line for line in warnings)
        assert patient.examine()[1] == 0

    def test_a_destinations_secret_has_a_command_of_its_own(self, patient):
        patient.write(
            lambda tx: destinations.add(
                tx, patient.installation.vault, "demo", "main", "http://127.0.0.1:9/", actor="test"
            )
        )
        self.set_ago(patient, "current", 366, "destination.main")

        assert patient.says("look", "flask destination rotate demo main")

    def test_a_replaced_token_is_a_note_and_after_a_week_a_warning(self, patient):
        assert not patient.says("note", "flask game token")
        patient.write(lambda tx: games.replace_token(tx, "demo", "test"))
        assert patient.says("note", "flask game token demo --retire")

        long_ago = clock.stamp(clock.now() - 8 * 86400)
        patient.write(lambda tx: tx.execute("UPDATE replaced_tokens SET replaced_at = :at", {"at": long_ago}))
        assert patient.says("look", "flask game token demo --retire")

        patient.write(lambda tx: games.retire_tokens(tx, "demo", "test"))
        assert not patient.says("look", "flask game token")

    @pytest.mark.parametrize(
        ("days", "current_used", "previous_used", "words"),
        [
            (6, None, None, None),
            (
                *(20, 0.1, 8),
                "main_key was rotated 20 days ago, the new value is in use and the previous one has not been used "
                "for 7 days: it is safe to retire it. flask secret retire demo appcharge.main_key",
            ),
            (20, 0.1, 30, "it is safe to retire it"),  # it was used last before the rotation
            (20, 0.1, 1, "its previous value was still used on"),
            (20, None, None, "was rotated 20 days ago and its previous value is still valid"),
        ],
    )
    def test_a_rotation_that_is_not_ended_says_whether_the_previous_value_is_still_used(
        self, patient, days, current_used, previous_used, words
    ):
        vault, name = patient.installation.vault, "appcharge.main_key"
        patient.write(lambda tx: keyring.rotate(tx, vault, patient.game(), name, "newer", "test"))
        self.set_ago(patient, "current", days)
        for slot, used in (("current", current_used), ("previous", previous_used)):
            if used is not None:
                at = clock.stamp(time.time() - used * DAY)
                patient.write(lambda tx, slot=slot, at=at: use_key(tx, name, slot, at))

        warnings = [line for line in patient.lines("look") if "main_key" in line]

        assert [words is not None and words in line for line in warnings] == [True] * (words is not None)
        patient.write(lambda tx: keyring.retire(tx, patient.game(), name, "test"))
        assert not patient.says("look", "was rotated")


class TestAppchargesIntegrationPage:
    FIELDS = ("Order Reporting", "Authentication Webhook", "Player Info Sync URL", "Events Webhook", "OTP Generation")

    def test_every_address_that_was_never_called_is_noted_in_one_line(self, patient):
        (note,) = [line for line in patient.lines("note") if line.startswith("game demo: Appcharge")]

        assert all(f"no call has come to {field}" in note for field in self.FIELDS)
        assert patient.examine()[1] == 0

    def test_an_address_that_was_called_is_not_noted(self, patient):
        for endpoint in ("orders", "events"):
            patient.installation.observations.called(1, "appcharge", endpoint)
        patient.installation.observations.called(1, "playtem", "auth")
        patient.installation.observations.flush()

        notes = patient.lines("note")

        unset = [field for field in self.FIELDS if any(field in line for line in notes)]
        assert unset == ["Authentication Webhook", "Player Info Sync URL", "OTP Generation"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("appcharge.secondary_key", None),
            ("appcharge.checkout_public_key", None),
            ("appcharge.events_secret", None),
            ("appcharge.deep_link", "demo://login?token={token}"),
            ("appcharge.store_url", "https://store.example.com"),
            ("appcharge.project_id", "1234"),
            ("appcharge.google_client_id", "id"),
        ],
    )
    def test_keys_and_settings_one_can_do_without_are_noted_until_they_are_set(self, patient, name, value):
        assert patient.says("note", f"{name} is not set (")

        if value is None:
            patient.secret(name)
        else:
            patient.config(name, value)

        assert not patient.says("note", name)

    def test_ids_of_login_methods_are_noted_only_for_the_methods_allowed(self, patient):
        assert patient.says("note", "appcharge.facebook_app_id and appcharge.facebook_secret are not set")
        patient.config("appcharge.facebook_app_id", "1")
        assert patient.says("note", "appcharge.facebook_secret is not set (needed only for logins with Facebook)")

        patient.config("appcharge.logins", "userToken,apple")

        assert not patient.says("note", "Facebook")
        assert not patient.says("note", "Google")
        assert patient.says("note", "appcharge.apple_client_id and appcharge.apple_secret are not set")

    def test_a_game_without_appcharge_hears_nothing_of_it(self, patient):
        patient.write(lambda tx: tx.execute("DELETE FROM secrets WHERE name LIKE 'appcharge.%'"))
        patient.config("appcharge.tolerance_seconds", "60")

        assert not patient.says("note", "Appcharge")

    def test_encrypted_payloads_want_keys_of_their_lengths(self, patient):
        patient.config("appcharge.payload", "aes")
        assert patient.says("wrong", "appcharge.secondary_key is not set, so Appcharge's calls are answered 404")
        assert patient.says("wrong", "appcharge.main_key has not the 32 characters")

        patient.secret("appcharge.main_key", "k" * 32)
        patient.secret("appcharge.secondary_key", "k" * 17)
        wrong = patient.lines("wrong")
        assert [line for line in wrong if "appcharge" in line] == [
            "game demo: Appcharge: appcharge.secondary_key has not the 16 characters that encrypted payloads want, so "
            "they cannot be read. Look: /games/demo/integration/appcharge"
        ]

        patient.secret("appcharge.secondary_key", "k" * 16)
        assert patient.examine()[1] == 0
        assert patient.says("look", "has no replay protection")
        patient.config("appcharge.payload", "json")
        assert not patient.says("look", "replay")

    def test_lengths_are_counted_in_bytes_of_the_current_value(self, patient):
        patient.config("appcharge.payload", "aes")
        patient.secret("appcharge.secondary_key", "k" * 16)
        patient.secret("appcharge.main_key", "é" * 32)
        assert patient.says("wrong", "appcharge.main_key")

        patient.secret("appcharge.main_key", "é" * 16)
        assert not patient.says("wrong", "appcharge.main_key")
