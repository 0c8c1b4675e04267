"""The outbox by itself: what is due, in whose hand, and what becomes of it. One clock, moved by hand; no network."""

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.outbox import attempts, deliveries, destinations, lists, redrives
from coinslot.outbox.attempts import Result
from coinslot.outbox.checks import DestinationError
from coinslot.outbox.redrives import DeliveryError
from handlers.commands.deliveries import destination
from tests.owed import Owed

pytestmark = pytest.mark.usefixtures("clock")


def open_circuit(owed):
    """Ten failures in a row of four deliveries, all of them waiting afterwards; returns how many failures it took."""
    owed.credit(4)
    failures = 0
    while True:
        for claim in owed.claim():
            owed.fail(claim)
            failures += 1
            if owed.state()["circuit_open_since"] is not None:
                return failures
        owed.change("UPDATE deliveries SET next_attempt_at = :now WHERE state = 'waiting'", now=coinslot_clock.stamp())


def everything(owed):
    return [dict(row) for row in (*owed.deliveries(), *owed.attempts(), owed.state())]


def is_down(owed, event_type="grant.created"):
    return destinations.is_down(owed.installation.database.read(), owed.game_id, event_type)


class TestOwing:
    def test_a_grant_is_owed_to_every_destination_that_wants_it(self, owed):
        for name, events in (("all", "*"), ("grants", "grant.*"), ("logins", "player.*"), ("gone", "*"), ("idle", "*")):
            owed.destination(name, events=events)
        owed.set_state("gone", "removed")
        owed.set_state("idle", "paused")

        owed.credit()

        rows = owed.rows("SELECT t.name FROM deliveries d JOIN destinations t ON t.id = d.destination_id ORDER BY 1")
        assert [row["name"] for row in rows] == ["all", "grants", "idle"]
        assert len({row["webhook_id"] for row in owed.deliveries()}) == 3

    def test_a_credit_that_is_rolled_back_is_owed_to_nobody(self, owed):
        owed.destination()
        (grant_id,) = owed.credit()

        def fails(tx):
            deliveries.enqueue(tx, owed.game_id, "grant.created", grant_id=grant_id)
            raise RuntimeError("after the fact")

        with pytest.raises(RuntimeError):
            owed.write(fails)

        assert len(owed.deliveries()) == 1

    def test_the_playcamp_format_gets_only_what_was_converted(self, owed):
        owed.destination("theirs", format="playcamp")
        owed.destination("ours")
        (grant_id,) = owed.credit()
        owed.reverse(grant_id)
        (event_id,) = owed.happen()

        (claim,) = owed.claim(name="theirs")
        assert (claim.event_id, claim.grant_id, claim.event_type) == (event_id, None, "sponsor.created")
        assert {(each.event_id, each.event_type) for each in owed.claim(name="ours")} == {
            (None, "grant.created"),
            (event_id, "sponsor.created"),
        }

    def test_one_body_of_several_events_is_owed_to_who_wants_the_type_of_any(self, owed):
        for name, events in (("ended", "sponsor.ended"), ("created", "sponsor.created"), ("neither", "playcamp.*")):
            owed.destination(name, format="playcamp", events=events)
        owed.destination("gone", format="playcamp")
        owed.set_state("gone", "removed")
        (event_id,) = owed.happen()
        owed.change("DELETE FROM deliveries")
        types = ("sponsor.ended", "sponsor.created")

        count = owed.write(lambda tx: deliveries.enqueue_converted(tx, owed.game_id, types, event_id, "alice"))

        rows = owed.rows("SELECT t.name, v.* FROM deliveries v JOIN destinations t ON t.id = v.destination_id")
        assert count == 2
        assert {(row["name"], row["event_type"], row["event_id"], row["player_id"]) for row in rows} == {
            (name, "sponsor.ended", event_id, "alice") for name in ("ended", "created")
        }


class TestClaims:
    def test_a_claim_is_a_lease_of_the_timeout_and_five_seconds(self, owed, clock):
        owed.destination(timeout_seconds=10)
        owed.credit()

        (claim,) = owed.claim(owner="one")
        assert claim.leased_until == coinslot_clock.now() + 15
        assert owed.claim(owner="two") == []
        clock.shift(3.9)
        assert claim.is_long_enough()
        clock.shift(0.2)
        assert not claim.is_long_enough()  # an attempt begun now might end after the lease
        clock.shift(10.8)
        assert owed.claim(owner="two") == []
        clock.shift(0.2)
        (again,) = owed.claim(owner="two")

        assert (again.id, again.webhook_id) == (claim.id, claim.webhook_id)
        assert again.number == claim.number == 1
        assert [row["duration_ms"] for row in owed.attempts()] == [None, None]

    def test_no_more_is_claimed_than_there_is_room_for_and_the_longest_due_first(self, owed):
        owed.destination()
        grants = [*owed.credit(2), *owed.credit(2)]

        assert [claim.grant_id for claim in owed.claim(room=3)] == grants[:3]
        assert [claim.grant_id for claim in owed.claim(room=3)] == grants[3:]

    def test_a_claim_given_back_is_free_at_once_and_was_no_attempt(self, owed):
        claim = owed.claimed()

        owed.write(lambda tx: attempts.give_back(tx, claim))

        assert owed.attempts() == []
        assert len(owed.claim()) == 1

    def test_a_claim_given_back_too_late_takes_nothing_from_the_next(self, owed, clock):
        late = owed.claimed(owner="same")
        clock.shift(16)
        (claim,) = owed.claim(owner="same")

        owed.write(lambda tx: attempts.give_back(tx, late))

        assert owed.deliveries()[0]["lease_owner"] == "same"
        assert len(owed.attempts()) == 2
        assert owed.record(claim) == "delivered"

    @pytest.mark.parametrize(("failure", "status"), [(None, 200), ("status", 410)])
    @pytest.mark.parametrize("ids", ["gone", "of others", "attempt of another", "attempt of its own"])
    def test_an_attempt_from_before_a_restore_says_nothing_of_what_has_its_ids_now(
        self, owed, clock, ids, failure, status
    ):
        owed.destination()
        owed.credit(2)
        stale, _ = owed.claim()
        owed.change("DELETE FROM attempts")
        owed.change("UPDATE deliveries SET leased_until = NULL, lease_owner = NULL")
        if ids in ("gone", "of others"):
            owed.change("DELETE FROM deliveries")
        if ids == "of others":
            owed.credit()
        if ids == "attempt of another":
            owed.change("UPDATE deliveries SET next_attempt_at = '9999' WHERE id = :id", id=stale.id)
        if ids == "attempt of its own":
            clock.shift(3)
        claims = owed.claim(room=1)
        assert [each.attempt_id for each in claims] == ([] if ids == "gone" else [stale.attempt_id])
        before = everything(owed)

        assert owed.record(stale, failure, status) == "gone"
        owed.write(lambda tx: attempts.give_back(tx, stale))

        assert everything(owed) == before
        assert [owed.record(claim) for claim in claims] == ["delivered"] * len(claims)

    def test_the_schedule_is_on_the_disk(self, owed, clock):
        """A restart is a new connection: there is nothing else that remembers."""
        claim = owed.claimed(owner="before")
        owed.fail(claim)
        owed.installation.database.close()

        assert owed.claim(owner="after") == []
        clock.shift(6)
        (again,) = owed.claim(owner="after")
        assert (again.number, again.webhook_id) == (2, claim.webhook_id)
        assert owed.claim(owner="third") == []


class TestOutcomes:
    def test_success_is_recorded_with_all_its_figures(self, owed):
        claim = owed.claimed()

        assert owed.record(claim, status=204, answer=b"x" * 5000, duration_ms=12) == "delivered"

        (delivery,), (attempt,) = owed.deliveries(), owed.attempts()
        assert (delivery["state"], delivery["attempts_made"]) == ("delivered", 1)
        assert delivery["finished_at"] == coinslot_clock.stamp()
        assert (attempt["status"], attempt["failure"], attempt["duration_ms"]) == (204, None, 12)
        assert attempt["answer"] == b"x" * attempts.KEPT_ANSWER_BYTES
        assert owed.claim() == []

    @pytest.mark.parametrize("owner", [None, "other", "same"])
    def test_a_failure_after_the_lease_ran_out_counts_only_while_nobody_else_has_it(self, owed, clock, owner):
        late = owed.claimed(owner="same")
        clock.shift(16)
        claims = owed.claim(owner=owner) if owner else []
        before = dict(owed.deliveries()[0])

        assert owed.fail(late) == "waiting"

        assert (dict(owed.deliveries()[0]) == before) == bool(owner)
        assert owed.deliveries()[0]["attempts_made"] == owed.state()["failures_in_row"] == (0 if owner else 1)
        assert owed.attempts()[0]["failure"] == "status"
        assert [owed.record(claim) for claim in claims] == ["delivered"] * len(claims)

    def test_a_success_counts_even_after_the_lease_was_lost(self, owed, clock):
        late = owed.claimed(owner="one")
        clock.shift(16)
        (claim,) = owed.claim(owner="two")

        assert owed.record(late) == "delivered"
        assert owed.fail(claim) == "delivered"
        assert owed.deliveries()[0]["state"] == "delivered"
        assert owed.state()["failures_in_row"] == 0

    @pytest.mark.parametrize(
        ("rule", "status", "answer", "is_accepted"),
        [
            (None, 200, b"", True),
            (None, 299, b"", True),
            (None, 300, b"", False),
            ("200", 200, b"", True),
            ("200", 201, b"", False),
            ("result == 'ok'", 200, b'{"result": "ok"}', True),
            ("result == 'ok'", 201, b'{"result": "ok"}', False),
            ("result == 'ok'", 200, b'{"result": "no"}', False),
            ("result", 200, b'{"result": "true"}', False),
            ("result", 200, b'{"result": true}', True),
            ("result", 200, b"<html>", False),
            ("result", 200, b"\xff\xfe", False),
            ("result", 200, b"", False),
            ("ceil(n) == `1`", 200, b'{"n": Infinity}', False),
            ("length(n) == `1`", 200, b'{"n": 5}', False),
            ("result", 200, b"[" * 100_000, False),
            ("n == `1`", 200, b'{"n": ' + b"1" * 5000 + b"}", False),
        ],
    )
    def test_success_rules(self, owed, rule, status, answer, is_accepted):
        owed.destination(success=rule)
        assert destinations.opened(owed.state()).accepts(status, answer) is is_accepted

    def test_a_changed_rule_or_state_holds_for_that_destination_and_is_noted(self, owed):
        owed.destination()
        owed.destination("other")

        owed.write(lambda tx: destinations.set_success(tx, "demo", "game", "200", "owner"))
        owed.set_state("other", "paused")

        rows = [owed.state(name) for name in ("game", "other")]
        assert [(row["success"], row["state"]) for row in rows] == [("200", "active"), ("2xx", "paused")]
        noted = owed.rows("SELECT actor, action, subject FROM audit WHERE action LIKE 'destination.%' ORDER BY id")
        assert [tuple(row) for row in noted][2:] == [
            ("owner", "destination.success", "game 200"),
            ("test", "destination.paused", "other"),
        ]

    def test_410_pauses_the_destination_and_costs_the_delivery_nothing(self, owed):
        owed.destination()
        owed.credit(2)
        claim, other = owed.claim()

        assert owed.record(claim, "status", 410) == "waiting"

        assert (owed.state()["state"], owed.state()["state_reason"]) == ("paused", "it answered 410 Gone")
        assert owed.deliveries()[0]["attempts_made"] == 0
        assert is_down(owed)
        assert owed.record(other) == "delivered"
        assert owed.claim() == []
        owed.set_state("game", "active")
        assert [each.id for each in owed.claim()] == [claim.id]

    @pytest.mark.parametrize(("state", "left"), [("removed", "dead"), ("paused", "waiting")])
    def test_410_changes_nothing_of_what_its_owner_has_done(self, owed, state, left):
        claim = owed.claimed()
        owed.set_state("game", state)

        assert owed.record(claim, "status", 410) == left
        assert (owed.state()["state"], owed.state()["state_reason"]) == (state, None)


class TestSchedule:
    @pytest.mark.parametrize(
        ("format", "table"),
        [
            ("standard", (5, 60, 300, 1800, 7200, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)),
            ("playcamp", (10, 60, 300, 1800, 7200)),
        ],
    )
    def test_the_whole_promised_schedule_then_dead_with_the_reason(self, owed, clock, format, table):
        owed.destination(format=format)
        owed.happen()
        delays = []

        while owed.deliveries("waiting"):
            (claim,) = owed.claim()
            assert claim.number == len(delays) + 1
            owed.record(claim, "status", 503, detail="busy")
            if owed.deliveries("waiting"):
                delays.append(owed.due_in(claim.id))
                clock.shift(delays[-1] - 0.5)
                assert owed.claim() == []
                clock.shift(0.6)

        assert owed.installation.formats[format].retry_seconds == table
        assert all(each * 0.9 <= delay <= each * 1.1 for each, delay in zip(table, delays, strict=True))
        (delivery,) = owed.deliveries("dead")
        assert delivery["dead_reason"] == f"{len(table) + 1} attempts; the last: status, status 503, busy"
        assert delivery["attempts_made"] == len(owed.attempts()) == len(table) + 1

    def test_jitter_spreads_the_delays(self, owed):
        owed.destination(retry="1000")
        owed.credit(30)
        delays = []
        for claim in owed.claim(room=9):
            owed.fail(claim)
            delays.append(owed.due_in(claim.id))

        assert len(set(delays)) > 5
        assert all(899 < delay < 1101 for delay in delays)

    def test_a_table_of_ones_own(self, owed, clock):
        owed.destination(retry="100, 1")
        owed.credit()
        for low, high in ((89, 111), (0.8, 1.2)):
            (claim,) = owed.claim()
            owed.fail(claim)
            assert low < owed.due_in(claim.id) < high
            clock.shift(high)
        (claim,) = owed.claim()
        assert owed.fail(claim) == "dead"

    def test_retry_after_is_a_lower_bound(self, owed):
        owed.destination()
        owed.credit(2)
        first, second = owed.claim()

        owed.record(first, "status", 503, retry_after_seconds=3600.0)
        owed.record(second, "status", 503, retry_after_seconds=1.0)

        assert owed.due_in(first.id) == pytest.approx(3600, abs=1)
        assert 4.4 < owed.due_in(second.id) < 5.6

    @pytest.mark.parametrize(
        "options",
        [
            *({"retry": each} for each in ("", "a", "-1", "1.5", "1,,2", "2592001", ",".join("1" * 51), "999999999")),
            *({"url": each} for each in ("", "ftp://h/", "http://", "http://h:99999/", "http://h:0/", "javascript:1")),
            *({"url": each} for each in ("http://user:pass@h/", "http://h h/", "file:///etc")),
            *({"name": "A"}, {"events": "a b"}, {"format": "xml"}, {"success": "a ||"}),
            *({"timeout_seconds": 0}, {"timeout_seconds": 61}),
        ],
    )
    def test_options_that_cannot_be_meant_are_refused_and_leave_nothing(self, owed, options):
        with pytest.raises(DestinationError) as error:
            owed.destination(**options)

        assert "pass@" not in str(error.value)
        assert owed.rows("SELECT * FROM destinations") == []

    def test_the_formats_that_partners_bring_may_be_chosen_and_have_their_own_rule(self, owed):
        (option,) = (each for each in destination.commands["add"].params if each.name == "format")
        assert list(option.type.choices) == list(owed.installation.formats)

        owed.destination(format="playcamp")
        assert owed.state()["success"] == "200"


class TestOrder:
    def test_a_dead_letter_blocks_nobody(self, owed):
        owed.destination(retry="0", format="playcamp")
        owed.happen(2)
        for _ in range(2):
            owed.fail(owed.claim()[0])
        assert owed.deliveries("dead")

        assert owed.record(owed.claim()[0]) == "delivered"

    def test_a_reversal_waits_for_its_original_alone(self, owed, clock):
        owed.destination()
        original, other = owed.credit(2)
        reversal = owed.reverse(original)
        claims = {claim.grant_id: claim for claim in owed.claim()}
        assert set(claims) == {original, other}

        owed.fail(claims[original])
        assert owed.claim() == []
        clock.shift(6)
        (claim,) = owed.claim()
        assert claim.grant_id == original
        owed.record(claim)
        (claim,) = owed.claim()
        assert (claim.grant_id, claim.event_type) == (reversal, "grant.reversed")

    def test_a_reversal_does_not_wait_for_a_dead_original_or_one_that_was_never_owed(self, owed):
        (never_owed,) = owed.credit()
        owed.destination(retry="0")
        (dead,) = owed.credit()
        owed.fail_all()
        reversals = [owed.reverse(dead), owed.reverse(never_owed)]

        assert [claim.grant_id for claim in owed.claim()] == reversals

    def test_the_standard_format_keeps_no_order_between_grants(self, owed):
        owed.destination()
        owed.credit(5, player="alice")
        assert len(owed.claim()) == 5

    def test_the_playcamp_format_is_in_order_per_player_and_players_go_in_parallel(self, owed, clock):
        owed.destination(format="playcamp")
        alice = owed.happen(3, player="alice")
        bob = owed.happen(2, player="bob")

        first = {claim.event_id: claim for claim in owed.claim()}
        assert set(first) == {alice[0], bob[0]}
        owed.fail(first[alice[0]])
        owed.record(first[bob[0]])
        assert [claim.event_id for claim in owed.claim()] == [bob[1]]
        clock.shift(12)
        (again,) = owed.claim()
        assert again.event_id == alice[0]
        owed.record(again)
        assert [claim.event_id for claim in owed.claim()] == [alice[1]]

    def test_a_redriven_delivery_does_not_run_beside_another_of_its_player(self, owed):
        owed.destination(format="playcamp", retry="0")
        first, second = owed.happen(2)
        for _ in range(2):
            owed.fail(owed.claim()[0])
        (claim,) = owed.claim()
        assert claim.event_id == second

        assert owed.redrive() == 0  # the second may arrive yet
        assert owed.claim() == []
        owed.fail(claim)
        assert owed.redrive() == 1
        assert [claim.event_id for claim in owed.claim()] == [first]


class TestCircuit:
    def test_it_opens_after_ten_failures_in_a_row_over_three_deliveries(self, owed):
        owed.destination(events="grant.*")
        assert not is_down(owed)

        assert open_circuit(owed) == 10

        state = owed.state()
        assert len(set(state["failing_deliveries"].split(","))) == 3
        assert coinslot_clock.seconds(state["next_probe_at"]) == pytest.approx(coinslot_clock.now() + 30, abs=0.01)
        assert is_down(owed)
        assert not is_down(owed, "player.login")
        owed.set_state("game", "paused")
        assert not is_down(owed)

    def test_two_deliveries_that_fail_open_no_circuit(self, owed, clock):
        owed.destination(retry=",".join(["1"] * 20))
        owed.credit(2)
        for _ in range(10):
            for claim in owed.claim():
                owed.fail(claim)
            clock.shift(2)
        assert owed.state()["failures_in_row"] == 20
        assert owed.state()["circuit_open_since"] is None

    def test_a_success_in_between_begins_the_count_anew(self, owed):
        owed.destination()
        owed.credit(20)
        for _ in range(2):
            for claim in owed.claim(room=9):
                owed.fail(claim)
            owed.record(owed.claim(room=1)[0])
        assert owed.state()["circuit_open_since"] is None
        assert owed.state()["failures_in_row"] == 0

    def test_an_open_circuit_spends_no_attempt_and_is_probed_by_one(self, owed, clock):
        owed.destination()
        open_circuit(owed)
        owed.credit(3)
        made = {row["id"]: row["attempts_made"] for row in owed.deliveries()}

        assert owed.claim() == []
        rests = []
        for _ in range(12):
            until = coinslot_clock.seconds(owed.state()["next_probe_at"]) - coinslot_clock.now()
            rests.append(round(until))
            clock.shift(until - 0.1)
            assert owed.claim() == []
            clock.shift(0.2)
            (claim,) = owed.claim()
            assert owed.claim() == []
            assert owed.fail(claim) == "waiting"

        assert {row["id"]: row["attempts_made"] for row in owed.deliveries()} == made
        assert rests == sorted(rests)
        assert (rests[0], rests[-1]) == (30, 600)

    def test_probes_take_turns_so_that_one_poison_delivery_cannot_keep_it_open(self, owed, clock):
        owed.destination()
        open_circuit(owed)
        probed = []
        for _ in range(8):
            clock.shift(601)
            (claim,) = owed.claim()
            probed.append(claim.id)
            owed.fail(claim)

        assert sorted(probed[:4]) == [row["id"] for row in owed.deliveries()]
        assert probed[4:] == probed[:4]

    def test_a_probe_whose_process_died_is_made_again(self, owed, clock):
        owed.destination()
        open_circuit(owed)
        clock.shift(31)
        assert len(owed.claim(owner="dies")) == 1
        clock.shift(14)
        assert owed.claim() == []
        clock.shift(2)
        assert len(owed.claim()) == 1

    def test_a_probe_that_succeeds_closes_it(self, owed, clock):
        owed.destination()
        open_circuit(owed)
        clock.shift(31)

        assert owed.record(owed.claim()[0]) == "delivered"

        state = owed.state()
        assert (state["circuit_open_since"], state["next_probe_at"], state["failures_in_row"]) == (None, None, 0)
        clock.shift(400)
        assert len(owed.claim()) == 3

    def test_retry_after_lengthens_the_rest(self, owed, clock):
        owed.destination()
        open_circuit(owed)
        clock.shift(31)
        owed.record(owed.claim()[0], "status", 503, retry_after_seconds=7200.0)

        rest = coinslot_clock.seconds(owed.state()["next_probe_at"]) - coinslot_clock.now()
        assert rest == pytest.approx(7200, abs=1)

    def test_what_was_in_hand_when_it_opened_costs_nothing(self, owed):
        owed.destination()
        owed.credit(12)
        for claim in owed.claim(room=12):
            owed.fail(claim)

        assert [row["attempts_made"] for row in owed.deliveries()] == [1] * 10 + [0] * 2

    def test_what_is_sent_as_it_is_does_not_wait_for_a_destination_that_gets_conversions(self, owed):
        owed.destination(format="playcamp")
        owed.happen()

        owed.record(owed.claim()[0], "status", 410)

        assert owed.state()["state"] == "paused"
        assert not is_down(owed)


class TestRedrives:
    def test_a_removed_destination_leaves_dead_letters_that_stay_dead(self, owed):
        owed.destination()
        owed.credit(2)
        (claim,) = owed.claim(room=1)
        owed.set_state("game", "removed")

        assert {row["dead_reason"] for row in owed.deliveries("dead")} == {"the destination was removed"}
        assert owed.redrive() == 0
        assert owed.record(claim) == "delivered"  # it had arrived after all
        assert owed.destination().startswith("whsec_")
        assert owed.claim() == []
        with pytest.raises(DestinationError):
            owed.destination()

    def test_a_redrive_of_one_begins_its_schedule_anew(self, owed):
        owed.destination(retry="0")
        owed.credit(2)
        owed.fail_all()
        first, second = owed.deliveries("dead")

        assert owed.redrive(delivery_id=first["id"]) == 1

        (claim,) = owed.claim()
        assert (claim.id, claim.number, claim.webhook_id) == (first["id"], 1, first["webhook_id"])
        assert [row["id"] for row in owed.deliveries("dead")] == [second["id"]]
        for wrong in (first["id"], 12345):
            with pytest.raises(DeliveryError, match=str(wrong)):
                owed.redrive(delivery_id=wrong)

    def test_a_redrive_of_all_or_of_a_time_range(self, owed, clock):
        owed.destination(retry="0")
        moments = []
        for _ in range(3):
            moments.append(coinslot_clock.stamp())
            clock.shift(1)
            owed.credit()
            owed.fail_all()
            clock.shift(60)
        ids = [row["id"] for row in owed.deliveries("dead")]

        assert owed.redrive(since=moments[1], until=moments[2]) == 1
        clock.shift(1)
        assert [row["id"] for row in owed.deliveries("waiting")] == [ids[1]]
        assert owed.redrive() == 2
        assert owed.redrive() == 0
        assert [claim.id for claim in owed.claim()] == [ids[1], ids[0], ids[2]]

    def test_a_redrive_is_of_one_game(self, owed, installation):
        other = Owed(installation, type(owed.studio)(installation, "other"))
        for each in (owed, other):
            each.destination(each.studio.slug, retry="0")
            each.studio.item("coins")
            each.credit()
            each.fail_all(each.studio.slug)

        assert owed.redrive() == 1
        assert [row["game_id"] for row in owed.deliveries("dead")] == [other.game_id]
        with pytest.raises(DeliveryError):
            owed.redrive(delivery_id=owed.deliveries("dead")[0]["id"])

    def test_a_redrive_closes_the_circuit(self, owed):
        owed.destination(retry=",".join(["0"] * 5))
        owed.credit()
        owed.fail_all()
        assert owed.deliveries("dead")
        open_circuit(owed)
        assert owed.claim() == []

        assert owed.redrive() == 5  # the dead one, and four that wait while it rests

        assert owed.state()["circuit_open_since"] is None
        assert owed.deliveries("dead") == []
        assert owed.claim()

    def test_what_died_while_the_destination_was_down_comes_back_with_it_once(self, owed, clock):
        owed.destination(retry="1")
        (grant_id,) = owed.credit()

        def dies_and_another_arrives():
            for _ in range(2):
                owed.fail(owed.claim(room=1)[0])
                clock.shift(2)
            assert owed.delivery(grant_id)["state"] == "dead"
            (other,) = owed.credit()
            owed.record(next(each for each in owed.claim() if each.grant_id == other))
            return owed.delivery(grant_id)["state"]

        assert dies_and_another_arrives() == "waiting"
        assert owed.delivery(grant_id)["attempts_made"] == 0
        assert dies_and_another_arrives() == "dead"
        owed.redrive()  # a person may always, and then it may come back by itself once more
        assert dies_and_another_arrives() == "waiting"

    def test_in_a_format_with_an_order_what_was_overtaken_stays_dead_even_for_a_person(self, owed):
        owed.destination(format="playcamp", retry="0")
        (overtaken,) = owed.happen()
        owed.fail_all()
        owed.happen()
        owed.record(owed.claim()[0])
        (first,) = owed.deliveries("dead")

        with pytest.raises(DeliveryError, match="stays dead: a later one of its player"):
            owed.redrive(delivery_id=first["id"])
        assert owed.write(lambda tx: redrives.count_overtaken(tx, owed.game_id)) == 1
        assert owed.redrive() == 0

        assert [row["event_id"] for row in owed.deliveries("dead")] == [overtaken]

    def test_in_a_format_with_an_order_nothing_comes_back_after_what_followed_it(self, owed):
        owed.destination(format="playcamp", retry="0")
        overtaken, alone, on_its_way = (owed.happen(player=each)[0] for each in ("alice", "bob", "carol"))
        owed.fail_all()
        assert len(owed.deliveries("dead")) == 3
        owed.happen(player="alice")
        owed.happen(player="carol")
        later, in_hand = owed.claim()

        owed.record(later)

        assert [row["event_id"] for row in owed.deliveries("dead")] == [overtaken, on_its_way]
        assert [claim.event_id for claim in owed.claim()] == [alone]
        assert owed.record(in_hand) == "delivered"

    def test_a_delivery_begun_before_the_outage_comes_back_too(self, owed, clock):
        owed.destination(retry="1,1,1")
        (grant_id,) = owed.credit()
        owed.fail(owed.claim()[0])
        owed.credit()
        owed.record(owed.claim()[0])  # a success in between
        for _ in range(3):
            clock.shift(2)
            owed.fail(owed.claim()[0])
        assert owed.delivery(grant_id)["state"] == "dead"

        owed.credit()
        owed.record(owed.claim()[0])
        assert owed.delivery(grant_id)["state"] == "waiting"

    def test_a_poison_delivery_among_successes_stays_dead_after_an_outage_too(self, owed, clock):
        owed.destination(retry="1,1")
        (poison,) = owed.credit()
        for _ in range(10):
            owed.credit()
            for claim in owed.claim():
                owed.fail(claim) if claim.grant_id == poison else owed.record(claim)
            clock.shift(2)
        assert len(owed.rows("SELECT * FROM attempts WHERE failure IS NOT NULL")) == 3
        owed.credit(2)
        for claim in owed.claim():
            owed.fail(claim)

        owed.credit()
        owed.record(owed.claim()[0])

        assert owed.delivery(poison)["state"] == "dead"


class TestPruning:
    def test_it_takes_what_arrived_long_ago(self, owed, clock):
        owed.destination(retry="1")
        owed.credit(8)
        owed.fail(owed.claim(room=1)[0])
        for claim in owed.claim(room=7):
            owed.record(claim)
        clock.shift(2)
        owed.fail(owed.claim()[0])
        waiting = owed.credit()
        clock.shift(86400)
        recent = owed.credit()
        owed.record(next(each for each in owed.claim() if each.grant_id == recent[0]))

        assert [len(prune(owed, 3600, most=3)) for _ in range(4)] == [3, 3, 1, 0]

        assert sorted(row["state"] for row in owed.deliveries()) == ["dead", "delivered", "waiting"]
        assert owed.delivery(waiting[0])["state"] == "waiting"
        assert {row["delivery_id"] for row in owed.attempts()} <= {row["id"] for row in owed.deliveries()}

    def test_it_leaves_an_original_whose_reversal_is_there(self, owed, clock):
        owed.destination()
        (grant_id,) = owed.credit()
        owed.record(owed.claim()[0])
        owed.reverse(grant_id)

        clock.shift(100)
        assert prune(owed) == []
        owed.record(owed.claim()[0])
        clock.shift(100)
        assert [len(prune(owed)) for _ in range(3)] == [1, 1, 0]

    def test_what_changed_since_it_was_found_stays(self, owed, clock):
        owed.destination()
        (grant_id,) = owed.credit()
        owed.record(owed.claim()[0])
        clock.shift(100)
        now = coinslot_clock.stamp()
        (found,) = deliveries.prunable(owed.installation.database.read(), owed.game_id, now, 10)

        owed.reverse(grant_id)

        assert not owed.write(lambda tx: deliveries.prune(tx, found, now))
        assert owed.delivery(grant_id)["state"] == "delivered"


def prune(owed, seconds=0, most=100):
    """Delete what arrived more than so many seconds ago; returns the ids."""
    before = coinslot_clock.stamp(coinslot_clock.now() - seconds)
    found = deliveries.prunable(owed.installation.database.read(), owed.game_id, before, most)
    return [each for each in found if owed.write(lambda tx: deliveries.prune(tx, each, before))]  # noqa: B023


class TestLooking:
    def test_next_due_foresees_what_can_be_claimed(self, owed):
        def seconds_left():
            (found,) = attempts.next_due(owed.installation.database.read()).values() or (None,)
            return None if found is None else coinslot_clock.seconds(found) - coinslot_clock.now()

        owed.destination()
        assert seconds_left() is None
        owed.credit()
        assert seconds_left() == pytest.approx(0, abs=0.001)
        (claim,) = owed.claim()
        assert seconds_left() is None
        owed.fail(claim)
        assert seconds_left() == pytest.approx(owed.due_in(claim.id), abs=0.001)
        owed.set_state("game", "paused")
        assert seconds_left() is None
        owed.set_state("game", "active")
        open_circuit(owed)
        assert seconds_left() == pytest.approx(30, abs=0.001)

    @pytest.mark.parametrize("format", ["standard", "playcamp"])
    def test_whatever_is_foreseen_as_due_can_be_claimed(self, owed, clock, format):
        """Or a relay would look again and again without a pause."""
        owed.destination(format=format, retry="0,1,0")
        if format == "standard":
            grants = owed.credit(3, player="alice") + owed.credit(2, player="bob")
            owed.reverse(grants[0])
        else:
            owed.happen(4, player="alice")
            owed.happen(2, player="bob")
        for step in range(40):
            due = attempts.next_due(owed.installation.database.read()).values()
            claims = owed.claim(room=2)
            assert any(at <= coinslot_clock.stamp() for at in due) == bool(claims)
            for number, claim in enumerate(claims):
                owed.record(claim, *(("status", 500) if (step + number) % 3 else ()))
            clock.shift(0.4)
            if step == 20:
                owed.redrive()
        assert owed.deliveries("waiting") == []

    def test_listing_tells_where_and_how_it_went(self, owed):
        owed.destination(retry="0")
        owed.credit(2)
        first, second = owed.claim()
        owed.record(first)
        owed.record(second, "timeout")
        connection = owed.installation.database.read()

        newest, oldest = lists.listing(connection, owed.game_id)
        assert (oldest["destination"], oldest["last_attempt"], oldest["state"]) == ("game", "ok", "delivered")
        assert (newest["last_attempt"], newest["state"]) == ("timeout", "waiting")
        only = lists.listing(connection, owed.game_id, state="waiting", limit=1)
        assert [row["id"] for row in only] == [newest["id"]]

    def test_the_heartbeat_says_when(self, owed, clock):
        connection = owed.installation.database.read()
        assert deliveries.last_beat(connection) is None
        owed.write(deliveries.beat)
        clock.shift(7)
        owed.write(deliveries.beat)
        assert deliveries.last_beat(connection) == pytest.approx(coinslot_clock.now(), abs=0.001)

    @pytest.mark.parametrize("format", ["standard", "playcamp"])
    def test_what_the_relay_asks_all_the_time_has_an_index(self, owed, format):
        owed.destination(format=format, retry="0")
        owed.reverse(owed.credit(3)[0])
        owed.happen(3)
        destination_id = owed.state()["id"]
        asked = []

        def ask(tx):
            tx.set_trace_callback(asked.append)
            attempts.next_due(tx)
            for _ in range(3):
                for number, claim in enumerate(attempts.claim_due(tx, "me", {destination_id: 8})):
                    attempts.record(tx, claim, Result("status" if number % 2 else None))
            for each in deliveries.prunable(tx, owed.game_id, coinslot_clock.stamp(), 10):
                deliveries.prune(tx, each, coinslot_clock.stamp())
            tx.set_trace_callback(None)

        owed.write(ask)
        for sql in {sql for sql in asked if sql.split()[0] in ("SELECT", "UPDATE", "DELETE")}:
            plan = " ".join(row["detail"] for row in owed.rows(f"EXPLAIN QUERY PLAN {sql}"))
            for table in ("d", "o", "p", "deliveries", "attempts"):
                assert f"SCAN {table} " not in f"{plan} ", (sql, plan)
            assert "TEMP B-TREE" not in plan, (sql, plan)
