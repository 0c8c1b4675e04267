"""Codes a player logs in with: single use, bound to a token, guessed at five times, and gone after a while."""

from collections.abc import Callable
from typing import Any

import pytest

from coinslot.access import logins, throttle
from coinslot.base import clock as our_clock
from coinslot.games import erasure
from tests.servers import together


@pytest.fixture
def game_id(studio) -> int:
    return int(studio.row["id"])


@pytest.fixture
def write(installation) -> Callable[..., Any]:
    """``write(function, ...)`` calls it with a transaction in front of its arguments."""
    return lambda function, *arguments: installation.database.write(lambda tx: function(tx, *arguments))


@pytest.fixture
def begun(write, game_id) -> str:
    """A login the store began, good for ten minutes."""
    return write(logins.begin, game_id, "appcharge", 600)


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}d}"


class TestConfirming:
    def test_a_confirmed_login_lets_its_player_in(self, write, game_id, begun):
        code = write(logins.confirm, game_id, begun, "alice", 6)

        assert write(logins.use, game_id, begun, code) == logins.Outcome("alice", None)

    @pytest.mark.parametrize("digits", [4, 6])
    def test_a_code_has_all_its_digits_zeros_in_front_too(self, write, game_id, begun, digits, monkeypatch):
        drawn_from = []
        monkeypatch.setattr(logins.secrets, "randbelow", lambda end: drawn_from.append(end) or 7)

        code = write(logins.confirm, game_id, begun, "alice", digits)

        assert (code, drawn_from) == ("7".zfill(digits), [10**digits])
        assert write(logins.use, game_id, begun, "7").reason == "wrong_code"
        assert write(logins.use, game_id, begun, code).reason is None

    def test_confirming_again_ends_the_code_before(self, write, game_id, begun):
        first = write(logins.confirm, game_id, begun, "alice", 6)
        second = next(
            code for code in iter(lambda: write(logins.confirm, game_id, begun, "alice", 6), None) if code != first
        )

        assert write(logins.use, game_id, begun, first).reason == "wrong_code"
        assert write(logins.use, game_id, begun, second).reason is None

    def test_another_player_cannot_take_it_over(self, write, game_id, begun):
        code = write(logins.confirm, game_id, begun, "alice", 6)

        with pytest.raises(logins.OtherPlayerError):
            write(logins.confirm, game_id, begun, "bob", 6)

        assert write(logins.use, game_id, begun, code).player_id == "alice"

    def test_what_was_used_has_expired_or_was_never_begun_cannot_be_confirmed(self, write, game_id, begun, clock):
        linked, _, _ = write(logins.link, game_id, "appcharge", "alice", 6, 600)
        for token in ("unknown", "", "\ud800", linked):
            with pytest.raises(logins.UnknownLoginError):
                write(logins.confirm, game_id, token, "alice", 6)
        with pytest.raises(logins.UnknownLoginError):
            write(logins.confirm, game_id + 1, begun, "alice", 6)

        code = write(logins.confirm, game_id, begun, "alice", 6)
        write(logins.use, game_id, begun, code)
        with pytest.raises(logins.UsedLoginError):
            write(logins.confirm, game_id, begun, "alice", 6)

        late = write(logins.begin, game_id, "appcharge", 600)
        clock.shift(600)
        with pytest.raises(logins.ExpiredLoginError):
            write(logins.confirm, game_id, late, "alice", 6)

    def test_a_login_guessed_dead_stays_dead(self, write, game_id, begun):
        for _ in range(logins.MOST_WRONG_CODES):
            write(logins.use, game_id, begun, "000000")

        with pytest.raises(logins.UsedLoginError):
            write(logins.confirm, game_id, begun, "alice", 6)


class TestUsing:
    @pytest.fixture
    def link(self, write, game_id) -> tuple[str, str]:
        token, code, _ = write(logins.link, game_id, "appcharge", "alice", 6, 600)
        return token, code

    def test_a_code_works_once(self, write, game_id, link):
        assert write(logins.use, game_id, *link) == logins.Outcome("alice", None)
        assert write(logins.use, game_id, *link) == logins.Outcome("alice", "used")

    def test_of_many_at_once_one_gets_in(self, write, game_id, link):
        outcomes = together(*[lambda: write(logins.use, game_id, *link).reason] * 8)

        assert sorted(outcomes, key=str) == [None, *["used"] * 7]

    @pytest.mark.parametrize(("guesses", "reason"), [(4, None), (5, "too_many_codes")])
    def test_the_fifth_wrong_code_ends_the_login(self, write, game_id, link, db, guesses, reason):
        token, code = link
        wrong = [write(logins.use, game_id, token, other_than(code)).reason for _ in range(guesses)]

        assert wrong == ["wrong_code"] * guesses
        assert write(logins.use, game_id, token, code) == logins.Outcome("alice", reason)
        (kept,) = db("SELECT wrong_codes, used_at FROM logins")
        assert (kept["wrong_codes"], kept["used_at"] is None) == (guesses, reason is not None)

    def test_many_guesses_at_once_are_all_counted(self, write, game_id, link):
        token, code = link
        reasons = together(*[lambda: write(logins.use, game_id, token, other_than(code)).reason] * 8)

        assert sorted(reasons) == ["too_many_codes"] * 3 + ["wrong_code"] * 5

    def test_confirming_again_gives_no_further_guesses(self, write, game_id, begun):
        for _ in range(4):
            code = write(logins.confirm, game_id, begun, "alice", 6)
            write(logins.use, game_id, begun, other_than(code))
        code = write(logins.confirm, game_id, begun, "alice", 6)
        write(logins.use, game_id, begun, other_than(code))

        assert write(logins.use, game_id, begun, code).reason == "too_many_codes"

    def test_before_the_game_has_confirmed_no_code_is_right(self, write, game_id, begun):
        for code in ("", "000000", "None"):
            assert write(logins.use, game_id, begun, code) == logins.Outcome(None, "wrong_code")

    @pytest.mark.parametrize("change", ["0{}", "{}0", " {}", "{}\n", "{}\ud800", "", "x"])
    def test_only_the_very_code_is_right(self, write, game_id, link, change):
        token, code = link

        assert write(logins.use, game_id, token, change.format(code)).reason == "wrong_code"

    def test_a_code_belongs_to_its_token_and_a_token_to_its_game(self, write, game_id, link):
        token, code = link
        other_token, other_code = token, code
        while other_code == code:
            other_token, other_code, _ = write(logins.link, game_id, "appcharge", "bob", 6, 600)

        assert write(logins.use, game_id, "unknown", code) == logins.Outcome(None, "wrong_code")
        assert write(logins.use, game_id + 1, token, code) == logins.Outcome(None, "wrong_code")
        assert write(logins.use, game_id, other_token, code) == logins.Outcome("bob", "wrong_code")
        assert write(logins.use, game_id, token, code).player_id == "alice"

    def test_time_ends_it_to_the_second(self, write, game_id, clock):
        token, code, expires_at = write(logins.link, game_id, "appcharge", "alice", 6, 600)
        late_token, late_code, _ = write(logins.link, game_id, "appcharge", "alice", 6, 600)
        assert expires_at == our_clock.stamp(our_clock.now() + 600)

        clock.shift(599)
        assert write(logins.use, game_id, token, code).reason is None
        clock.shift(1)
        assert write(logins.use, game_id, late_token, late_code) == logins.Outcome("alice", "expired")


class TestKeeping:
    def test_neither_token_nor_code_is_kept(self, write, game_id, begun, db):
        code = write(logins.confirm, game_id, begun, "alice", 6)
        token, other_code, _ = write(logins.link, game_id, "appcharge", "bob", 6, 600)

        kept = str(db("SELECT token_hash, code_hash, player_id, kind, partner FROM logins"))

        assert begun not in kept
        assert token not in kept
        assert f"'{code}'" not in kept
        assert f"'{other_code}'" not in kept

    def test_what_ended_a_day_ago_is_carried_out_a_little_at_a_time(self, write, game_id, db, clock, monkeypatch):
        monkeypatch.setattr(logins, "MOST_PRUNED", 2)
        for _ in range(5):
            write(logins.begin, game_id, "appcharge", 600)
        clock.shift(86400 + 500)
        write(logins.begin, game_id, "appcharge", 600)
        assert len(db("SELECT id FROM logins")) == 6

        clock.shift(200)
        write(logins.begin, game_id, "appcharge", 600)
        write(logins.link, game_id, "appcharge", "alice", 6, 600)

        assert len(db("SELECT id FROM logins")) == 6 + 2 - 4

    def test_forgetting_a_player_ends_their_logins_and_nobody_elses(self, write, installation, game_id, begun, db):
        write(logins.confirm, game_id, begun, "alice", 6)
        write(logins.link, game_id, "appcharge", "bob", 6, 600)
        installation.database.write(
            lambda tx: (
                tx.execute(
                    """INSERT INTO refreshes (game_id, partner, player_id, asked_at)
                   VALUES (:game_id, 'appcharge', 'alice', :now)""",
                    {"game_id": game_id, "now": our_clock.stamp()},
                ).rowcount
            )
        )

        assert write(erasure.forget_player, game_id, "alice")

        assert [row["player_id"] for row in db("SELECT player_id FROM logins")] == ["bob"]
        assert db("SELECT * FROM refreshes") == []


class TestThrottle:
    @pytest.fixture
    def begin(self, write, game_id) -> Callable[..., None]:
        """Begin an attempt, or several."""

        def begin(key="k", times=1) -> None:
            for _ in range(times):
                write(throttle.begin, game_id, key)

        return begin

    def test_the_tenth_failure_in_a_row_was_the_last_for_a_quarter_of_an_hour(self, begin, clock):
        for _ in range(10):
            begin()
            clock.shift(60)

        with pytest.raises(throttle.ThrottledError) as refused:
            begin()
        assert refused.value.retry_after_seconds == pytest.approx(840, abs=0.01)

        clock.shift(839)
        with pytest.raises(throttle.ThrottledError):
            begin()
        clock.shift(2)
        begin()  # and nine more

    def test_who_is_refused_does_not_wait_longer_for_it(self, begin, clock):
        begin(times=10)
        for _ in range(14):
            clock.shift(60)
            with pytest.raises(throttle.ThrottledError):
                begin()

        clock.shift(61)

        begin()

    def test_a_quiet_quarter_of_an_hour_starts_anew(self, begin, clock, db):
        begin(times=9)
        clock.shift(901)

        begin(times=10)

        assert db("SELECT failures FROM throttles") == [{"failures": 10}]

    def test_success_clears_and_an_attempt_that_was_not_judged_is_taken_back(self, begin, write, game_id, db):
        begin(times=10)
        write(throttle.take_back, game_id, "k")
        begin()
        with pytest.raises(throttle.ThrottledError):
            begin()

        write(throttle.clear, game_id, "k")

        assert db("SELECT * FROM throttles") == []
        begin()
        for key in ("k", "k", "somebody"):
            write(throttle.take_back, game_id, key)
        assert db("SELECT failures FROM throttles") == [{"failures": 0}]

    def test_one_key_is_slowed_down_and_no_other(self, begin):
        begin("a", times=10)

        begin("b")

        with pytest.raises(throttle.ThrottledError):
            begin("a")

    def test_of_many_at_once_ten_may_try(self, begin):
        def is_refused() -> bool:
            try:
                begin()
            except throttle.ThrottledError:
                return True
            return False

        assert sum(together(*[is_refused] * 16)) == 6

    def test_a_clock_set_back_locks_nobody_out_for_long(self, begin, clock):
        begin(times=10)
        clock.shift(-86400)

        begin()

    def test_old_rows_are_carried_out_on_the_way(self, begin, clock, db, monkeypatch):
        monkeypatch.setattr(throttle, "MOST_PRUNED", 2)
        for number in range(5):
            begin(f"old-{number}")
        clock.shift(901)

        for number, left in enumerate([4, 3, 3]):
            begin(f"new-{number}")
            assert len(db("SELECT key FROM throttles")) == left
