"""Guessing passwords, codes and tokens: how often one may, who can be locked out by it, and what guessing tells."""

import json
import re
import statistics
import time
from threading import Thread

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import logins, owner, people, second_factor, throttle
from handlers.dashboard.account import login
from tests import databases
from tests.appcharge_calls import body, path
from tests.conftest import appcharge_headers

PASSWORD = "the owner's own password"


@pytest.fixture
def hashed(installation):
    """The owner has a password, and so has a person of support."""
    digest = generate_password_hash(PASSWORD)

    def set_up(tx):
        owner.set_password(tx, digest, "test")
        people.accept(tx, people.invite(tx, "Sam", "support", "test"), digest)

    installation.database.write_here(set_up)


@pytest.fixture
def sign_in(app, hashed):
    """A function that tries to sign in, from an address, in a browser of its own."""

    def attempt(password="a wrong password", name="owner", address="203.0.113.1"):
        client = app.test_client()
        client.environ_base["REMOTE_ADDR"] = address
        page = client.get("/login").text
        (token,) = re.findall(r'name="form_token" value="([^"]+)"', page)
        return client.post("/login", data={"form_token": token, "password": password, "name": name})

    return attempt


def at_once(*calls):
    threads = [Thread(target=call) for call in calls]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


class TestPassword:
    def test_strangers_at_any_number_of_addresses_do_not_lock_the_owner_out(self, sign_in):
        for number in range(15):
            assert sign_in(address=f"198.51.100.{number}").status_code == 403

        assert sign_in(PASSWORD).status_code == 303

    def test_a_stranger_at_the_owners_own_address_holds_them_up_for_a_quarter_of_an_hour(self, sign_in, clock):
        for _ in range(10):
            sign_in()
        assert sign_in(PASSWORD).status_code == 429
        assert sign_in(PASSWORD, address="203.0.113.2").status_code == 303

        for _ in range(5):  # whoever goes on trying while it lasts does not make it longer
            clock.shift(150)
            assert sign_in().status_code == 429
        clock.shift(151)
        assert sign_in(PASSWORD).status_code == 303

    def test_of_many_guesses_at_once_from_one_address_ten_are_judged(self, sign_in, db):
        answered = []
        at_once(*[lambda: answered.append(sign_in().status_code)] * 25)

        assert set(answered) <= {403, 429, 503}
        assert answered.count(403) <= 10
        assert max(row["failures"] for row in db("SELECT failures FROM throttles")) <= 10

    def test_strangers_at_many_addresses_get_two_threads_and_no_count(self, sign_in, db):
        with login.judging, login.judging:
            answer = sign_in()

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert {row["failures"] for row in db("SELECT failures FROM throttles")} == {0}
        assert sign_in(PASSWORD).status_code == 303

    def test_neither_answer_nor_count_says_whose_name_it_is(self, sign_in, clock):
        told = {name: sign_in(name=name, address="198.51.100.1") for name in ("owner", "Sam", "nobody")}
        assert len({(answer.status_code, re.sub(r'value="[^"]*"', "", answer.text)) for answer in told.values()}) == 1

        # Somebody who may sign in clears the count of their address, and can guess on at other names, ten times each.
        for name in ("owner", "nobody"):
            tried = []
            for _ in range(11):
                tried.append(sign_in(name=name, address="198.51.100.2").status_code)
                sign_in(PASSWORD, "Sam", "198.51.100.2")
            assert tried == [403] * 10 + [429], name

    @pytest.mark.long
    def test_a_name_of_nobody_takes_as_long_as_one_of_somebody(self, sign_in):
        def seconds(name, number):
            begun = time.process_time()
            sign_in(name=name, address=f"2001:db8:{number:x}::1")
            return time.process_time() - begun

        seconds("nobody", 0)  # makes the hash that nobody has
        pairs = [(seconds("owner", 2 * n + 1), seconds("nobody", 2 * n + 2)) for n in range(9)]
        ratio = statistics.median(known / unknown for known, unknown in pairs)

        assert 0.8 < ratio < 1.25


class TestSecondFactor:
    def test_a_thief_of_the_password_gets_ten_codes_a_quarter_of_an_hour_however_many_at_once(
        self, app, installation, hashed, sign_in, clock, db
    ):
        person = people.named(installation.database.read(), "owner")

        def switch_on(tx):
            second_factor.offer(tx, installation.vault, person)
            secret = second_factor.offered(tx, installation.vault, person)
            return second_factor.confirm(tx, installation.vault, person, code_of(secret))

        recovery = installation.database.write_here(switch_on)
        browser = app.test_client()
        browser.environ_base["REMOTE_ADDR"] = "198.51.100.7"

        def form(address, **values):
            (token,) = re.findall(r'name="form_token" value="([^"]+)"', browser.get(address).text)
            return browser.post(address, data={"form_token": token, **values})

        assert form("/login", password=PASSWORD, name="owner").location == "/login/code"
        (token,) = re.findall(r'name="form_token" value="([^"]+)"', browser.get("/login/code").text)
        answered = []
        at_once(
            *[
                lambda: answered.append(
                    browser.post("/login/code", data={"form_token": token, "code": "000000"}).status_code
                )
            ]
            * 20
        )
        assert sorted(answered) == [403] * 10 + [429] * 10

        clock.shift(901)  # the owner is held up, and gets in after that
        assert form("/login", password=PASSWORD, name="owner").location == "/login/code"
        assert form("/login/code", code=recovery[0]).status_code == 303
        assert db("SELECT count(*) AS n FROM sessions") == [{"n": 1}]


def code_of(secret):
    import pyotp

    from coinslot.base import clock

    return pyotp.TOTP(secret).generate_otp(int(clock.now()) // second_factor.STEP_SECONDS)


@pytest.mark.parametrize("address", ["/setup", "/invitation"])
def test_links_are_too_long_to_guess_and_a_wrong_one_costs_no_write(app, installation, client, db, address):
    installation.new_setup_link(base="")
    with databases.nothing_written(installation):
        for token in ("", "a", "a.b.c", "\x00", "é" * 50, "x" * 2000, "e30.e30.e30", "." * 3000):
            assert client.get(address, query_string={"token": token}).status_code in (403, 410)
            form = {"token": token, "password": "a long enough one", "slug": "demo"}
            assert client.post(address, data=form).status_code in (403, 410)

    assert db("SELECT 1 FROM people WHERE password_hash IS NOT NULL") == []


def test_tokens_are_long_and_random(installation, studio):
    """At a billion guesses a second, none of these is found while the sun shines."""

    def make(tx):
        return [
            people.invite(tx, "Sam", "support", "test"),
            logins.begin(tx, studio.row["id"], "appcharge", 600),
            owner.setup_nonce(tx),
        ]

    for token in (studio.token.partition("_")[2], *installation.database.write_here(make)):
        assert len(token) >= 22  # 128 bits in 64 characters of an alphabet


def test_wrong_api_tokens_write_nothing_and_stop_no_right_one(client, studio, installation):
    with databases.nothing_written(installation):
        for number in range(50):
            wrong = f"{studio.token[:-4]}{number:04d}"
            assert client.get("/game/v1/items", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401

    assert client.get("/game/v1/items", headers={"Authorization": f"Bearer {studio.token}"}).status_code == 200


def test_codes_of_the_store_end_after_five_and_a_players_after_ten(client, studio, installation, db):
    """Whoever guesses at the code of a login ends that login; of the next ones they get ten guesses together."""
    studio.config("appcharge.store_url", "https://store.example.com")

    def begin(tx):
        return logins.link(tx, studio.row["id"], "appcharge", "alice", 4, 600)

    judged = []
    for _ in range(4):
        token, code, _ = installation.database.write_here(begin)
        for _ in range(6):
            wrong = f"{(int(code) + 1) % 10_000:04d}"
            login = {"authMethod": "otp", "otp": {"playerCode": wrong, "accessToken": token}}
            sent = body("auth", **login)
            answer = client.post(path("auth"), data=sent, headers=appcharge_headers(sent))
            assert (answer.status_code, answer.json["status"]) == (200, "invalid")
            judged.append(json.loads(db("SELECT data FROM events ORDER BY id DESC LIMIT 1")[0]["data"])["reason"])

    assert judged.count("wrong_code") == 10
    assert throttle.MOST_FAILURES == 10
