"""The outbox by itself: what is due, in whose hand, and what becomes of it. One clock, moved by hand; no network."""

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.outbox import attempts, deliveries, destinations, lists, redrives
from coinslot.outbox.attempts import Result
from coinslot.outbox.checks import DestinationError
from coinslot.outbox.redrives import DeliveryError
from handlers.commands.deliveries import destination
from tests.owed import Owed


@pytest.fixture
def owed(installation, studio, clock):
    return Owed(installation, studio)


def open_circuit(owed, name="game"):
    """Ten failures in a row of four deliveries, all of them waiting afterwards."""
    owed.credit(4)
    failures = 0
    while owed.state(name)["circuit_open_since"] is None:
        for claim in owed.claim(name=name):
            owed.fail(claim)
            failures += 1
            if owed.state(name)["circuit_open_since"] is not None:
                break
        else:
            owed.write(
                lambda tx: tx.execute(
                    "UPDATE deliveries SET next_attempt_at = :now WHERE state = 'waiting'",
                    {"now": coinslot_clock.stamp()},
                )
            )
    return failures


def test_a_grant_is_owed_to_every_destination_that_wants_it(owed):
    owed.destination("all")
    owed.destination("grants", events="grant.*")
    owed.destination("logins", events="player.*")
    owed.destination("gone")
    owed.destination("paused")
    owed.set_state("gone", "removed")
    owed.set_state("paused", "paused")

    owed.credit()

    rows = owed.rows("SELECT t.name FROM deliveries d JOIN destinations t ON t.id = d.destination_id ORDER BY t.name")
    assert [row["name"] for row in rows] == ["all", "grants", "paused"]
    assert len({row["webhook_id"] for row in owed.deliveries()}) == 3


def test_a_credit_that_is_rolled_back_is_owed_to_nobody(owed):
    owed.destination()

    def fails(tx):
        deliveries.enqueue(tx, owed.studio.row["id"], "grant.created", grant_id=grant_id)
        raise RuntimeError("after the fact")

    (grant_id,) = owed.credit()
    before = len(owed.deliveries())
    with pytest.raises(RuntimeError):
        owed.write(fails)
    assert len(owed.deliveries()) == before


def test_a_claim_is_a_lease_of_the_timeout_and_five_seconds(owed, clock):
    owed.destination(timeout_seconds=7)
    owed.credit()

    (claim,) = owed.claim(owner="one")
    assert claim.leased_until == coinslot_clock.now() + 12
    assert owed.claim(owner="two") == []
    clock.shift(11.9)
    assert owed.claim(owner="two") == []
    clock.shift(0.2)
    (again,) = owed.claim(owner="two")

    assert again.id == claim.id
    assert again.webhook_id == claim.webhook_id
    assert again.number == claim.number == 1
    assert [row["duration_ms"] for row in owed.attempts()] == [None, None]


def test_no_more_is_claimed_than_there_is_room_for_and_the_longest_due_first(owed, clock):
    owed.destination()
    grants = [*owed.credit(2), *owed.credit(2)]

    claims = owed.claim(room=3)

    assert [claim.grant_id for claim in claims] == grants[:3]
    assert [claim.grant_id for claim in owed.claim(room=3)] == grants[3:]


def test_an_attempt_begins_only_if_its_lease_covers_it(owed, clock):
    owed.destination(timeout_seconds=10)
    owed.credit()
    (claim,) = owed.claim()

    assert claim.is_long_enough()
    clock.shift(4)
    assert claim.is_long_enough()
    clock.shift(0.1)
    assert not claim.is_long_enough()


def test_a_claim_given_back_is_free_at_once_and_was_no_attempt(owed):
    owed.destination()
    owed.credit()
    (claim,) = owed.claim()

    owed.write(lambda tx: attempts.give_back(tx, claim))

    assert owed.attempts() == []
    assert len(owed.claim()) == 1


def test_a_claim_given_back_too_late_takes_nothing_from_the_next(owed, clock):
    owed.destination()
    owed.credit()
    (late,) = owed.claim(owner="same")
    clock.shift(16)
    (claim,) = owed.claim(owner="same")

    owed.write(lambda tx: attempts.give_back(tx, late))

    assert owed.deliveries()[0]["lease_owner"] == "same"
    assert len(owed.attempts()) == 2
    assert owed.record(claim) == "delivered"


def begin_again(owed):
    """As after a restore of a copy from before: the same ids begin again, for other deliveries."""
    owed.write(lambda tx: [tx.execute("DELETE FROM attempts"), tx.execute("DELETE FROM deliveries")])


@pytest.mark.parametrize("failure", [None, "status"])
def test_an_attempt_from_before_a_restore_says_nothing_of_the_delivery_that_has_its_id_now(owed, clock, failure):
    owed.destination()
    owed.credit()
    (stale,) = owed.claim()
    begin_again(owed)
    owed.credit()
    (claim,) = owed.claim()
    assert (claim.id, claim.attempt_id) == (stale.id, stale.attempt_id)
    assert (claim.owner, claim.leased_until) == (stale.owner, stale.leased_until)
    before = [dict(row) for row in (*owed.deliveries(), *owed.attempts(), owed.state())]

    said = owed.record(stale, failure, 200 if failure is None else 410)
    owed.write(lambda tx: attempts.give_back(tx, stale))

    assert said == "gone"
    assert [dict(row) for row in (*owed.deliveries(), *owed.attempts(), owed.state())] == before
    assert owed.fail(claim) == "waiting"


@pytest.mark.parametrize("failure", [None, "status"])
def test_an_attempt_whose_delivery_is_gone_says_nothing_of_anybody(owed, failure):
    owed.destination()
    owed.credit()
    (stale,) = owed.claim()
    begin_again(owed)

    assert owed.record(stale, failure, 410) == "gone"
    owed.write(lambda tx: attempts.give_back(tx, stale))

    assert owed.deliveries() == []
    assert (owed.state()["state"], owed.state()["failures_in_row"]) == ("active", 0)


@pytest.mark.parametrize("failure", [None, "status"])
def test_an_attempt_whose_id_is_another_deliverys_now_is_not_written_into_it(owed, failure):
    """The copy held the delivery, but not the attempt."""
    owed.destination()
    (_, second) = owed.credit(2)
    (stale, _) = owed.claim()
    owed.write(lambda tx: tx.execute("DELETE FROM attempts"))
    owed.write(lambda tx: tx.execute("UPDATE deliveries SET leased_until = NULL, lease_owner = NULL"))
    owed.write(lambda tx: tx.execute("UPDATE deliveries SET next_attempt_at = '9999' WHERE id = :id", {"id": stale.id}))
    (claim,) = owed.claim()
    assert (claim.grant_id, claim.attempt_id) == (second, stale.attempt_id)
    before = [dict(row) for row in (*owed.deliveries(), *owed.attempts(), owed.state())]

    said = owed.record(stale, failure, 200 if failure is None else 500)
    owed.write(lambda tx: attempts.give_back(tx, stale))

    assert said == "gone"
    assert [dict(row) for row in (*owed.deliveries(), *owed.attempts(), owed.state())] == before
    assert owed.record(claim) == "delivered"


def test_an_attempt_whose_id_is_a_later_one_of_its_delivery_is_not_written_into_that(owed, clock):
    owed.destination()
    owed.credit()
    (stale,) = owed.claim()
    owed.write(lambda tx: tx.execute("DELETE FROM attempts"))
    owed.write(lambda tx: tx.execute("UPDATE deliveries SET leased_until = NULL, lease_owner = NULL"))
    clock.shift(3)
    (claim,) = owed.claim()
    assert claim.attempt_id == stale.attempt_id

    assert owed.fail(stale) == "gone"
    owed.write(lambda tx: attempts.give_back(tx, stale))

    (attempt,) = owed.attempts()
    assert (attempt["failure"], attempt["duration_ms"]) == (None, None)
    assert owed.record(claim) == "delivered"


def test_success_is_recorded_with_all_its_figures(owed):
    owed.destination()
    owed.credit()
    (claim,) = owed.claim()

    assert owed.record(claim, status=204, answer=b"x" * 5000, duration_ms=12) == "delivered"

    (delivery,), (attempt,) = owed.deliveries(), owed.attempts()
    assert (delivery["state"], delivery["attempts_made"]) == ("delivered", 1)
    assert delivery["finished_at"] == coinslot_clock.stamp()
    assert (attempt["status"], attempt["failure"], attempt["duration_ms"]) == (204, None, 12)
    assert attempt["answer"] == b"x" * attempts.KEPT_ANSWER_BYTES
    assert owed.claim() == []


@pytest.mark.parametrize("owner", ["other", "same"])
def test_a_failure_recorded_after_the_lease_was_lost_changes_nothing(owed, clock, owner):
    owed.destination()
    owed.credit()
    (late,) = owed.claim(owner="same")
    clock.shift(16)
    (claim,) = owed.claim(owner=owner)
    before = dict(owed.deliveries()[0])

    assert owed.fail(late) == "waiting"

    assert dict(owed.deliveries()[0]) == before
    assert owed.state()["failures_in_row"] == 0
    assert owed.attempts()[0]["failure"] == "status"
    assert owed.record(claim) == "delivered"


def test_a_failure_after_the_lease_ran_out_counts_while_nobody_else_has_it(owed, clock):
    owed.destination()
    owed.credit()
    (late,) = owed.claim()
    clock.shift(16)

    assert owed.fail(late) == "waiting"
    assert owed.deliveries()[0]["attempts_made"] == 1


def test_a_success_counts_even_after_the_lease_was_lost(owed, clock):
    owed.destination()
    owed.credit()
    (late,) = owed.claim(owner="one")
    clock.shift(16)
    (claim,) = owed.claim(owner="two")

    assert owed.record(late) == "delivered"
    assert owed.fail(claim) == "delivered"
    assert owed.deliveries()[0]["state"] == "delivered"
    assert owed.state()["failures_in_row"] == 0


@pytest.mark.parametrize("format", ["standard", "playcamp"])
def test_the_whole_schedule_then_dead_with_the_reason(owed, clock, format):
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

    table = owed.installation.formats[format].retry_seconds
    assert len(delays) == len(table) == {"standard": 10, "playcamp": 5}[format]
    for delay, expected in zip(delays, table, strict=True):
        assert expected * 0.9 <= delay <= expected * 1.1
    (delivery,) = owed.deliveries()
    assert delivery["state"] == "dead"
    assert delivery["dead_reason"] == f"{len(table) + 1} attempts; the last: status, status 503, busy"
    assert delivery["attempts_made"] == len(owed.attempts()) == len(table) + 1


def test_the_command_offers_every_format_that_a_partner_brings(installation):
    (option,) = (each for each in destination.commands["add"].params if each.name == "format_name")

    assert list(option.type.choices) == list(installation.formats)


def test_the_tables_are_those_promised(installation):
    assert installation.formats["standard"].retry_seconds == (
        5, 60, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600,
    )  # fmt: skip
    assert installation.formats["playcamp"].retry_seconds == (10, 60, 5 * 60, 30 * 60, 2 * 3600)


def test_jitter_spreads_the_delays(owed):
    owed.destination(retry="1000")
    owed.credit(30)
    delays = []
    for claim in owed.claim(room=9):
        owed.fail(claim)
        delays.append(owed.due_in(claim.id))

    assert len(set(delays)) > 5
    assert all(899 < delay < 1101 for delay in delays)


def test_a_table_of_ones_own(owed, clock):
    owed.destination(retry="100, 1")
    owed.credit()
    for low, high in ((89, 111), (0.8, 1.2)):
        (claim,) = owed.claim()
        owed.fail(claim)
        assert low < owed.due_in(claim.id) < high
        clock.shift(high)
    (claim,) = owed.claim()
    assert owed.fail(claim) == "dead"


@pytest.mark.parametrize("retry", ["", "a", "-1", "1.5", "1,,2", "2592001", ",".join("1" * 51), "999999999"])
def test_a_table_that_cannot_be_meant_is_refused(owed, retry):
    with pytest.raises(DestinationError):
        owed.destination(retry=retry)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://h/",
        "http://",
        "http://h:99999/",
        "http://h:0/",
        "http://user:pass@h/",
        "javascript:1",
        "http://h h/",
        "file:///etc",
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(owed, url):
    with pytest.raises(DestinationError) as error:
        owed.destination(url=url)
    assert "pass@" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "A"},
        {"events": "a b"},
        {"format": "xml"},
        {"timeout_seconds": 0},
        {"timeout_seconds": 61},
        {"success": "a ||"},
    ],
)
def test_options_that_cannot_be_meant_are_refused_and_leave_nothing(owed, change):
    with pytest.raises(DestinationError):
        owed.destination(**change)
    assert owed.rows("SELECT * FROM destinations") == []


def test_retry_after_is_a_lower_bound(owed):
    owed.destination()
    owed.credit(2)
    first, second = owed.claim()

    owed.record(first, "status", 503, retry_after_seconds=3600.0)
    owed.record(second, "status", 503, retry_after_seconds=1.0)

    assert owed.due_in(first.id) == pytest.approx(3600, abs=1)
    assert 4.4 < owed.due_in(second.id) < 5.6


def test_the_schedule_is_on_the_disk(owed, clock):
    """A restart is a new connection: there is nothing else that remembers."""
    owed.destination()
    owed.credit()
    (claim,) = owed.claim(owner="before")
    owed.fail(claim)
    due = owed.deliveries()[0]["next_attempt_at"]
    owed.installation.database.close()

    assert owed.claim(owner="after") == []
    clock.shift(6)
    (again,) = owed.claim(owner="after")
    assert (again.number, again.webhook_id) == (2, claim.webhook_id)
    assert owed.claim(owner="third") == []
    assert due < coinslot_clock.stamp()


def test_a_dead_letter_blocks_nobody(owed, clock):
    owed.destination(retry="0", format="playcamp")
    owed.happen(2)
    for _ in range(2):
        (claim,) = owed.claim()
        owed.fail(claim)
    assert owed.deliveries("dead")

    (claim,) = owed.claim()
    assert owed.record(claim) == "delivered"


def test_a_reversal_waits_for_its_original_alone(owed, clock):
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


def test_a_reversal_does_not_wait_for_a_dead_original_or_one_that_was_never_owed(owed):
    (never_owed,) = owed.credit()
    owed.destination(retry="0")
    (dead,) = owed.credit()
    for _ in range(2):
        (claim,) = owed.claim()
        owed.fail(claim)
    reversals = [owed.reverse(dead), owed.reverse(never_owed)]

    assert [claim.grant_id for claim in owed.claim()] == reversals


def test_the_standard_format_keeps_no_order_between_grants(owed):
    owed.destination()
    owed.credit(5, player="alice")
    assert len(owed.claim()) == 5


def test_the_playcamp_format_is_in_order_per_player_and_players_go_in_parallel(owed, clock):
    owed.destination(format="playcamp")
    alice = owed.happen(3, player="alice")
    bob = owed.happen(2, player="bob")

    first = {claim.event_id: claim for claim in owed.claim()}
    assert set(first) == {alice[0], bob[0]}
    owed.fail(first[alice[0]])
    owed.record(first[bob[0]])
    (claim,) = owed.claim()
    assert claim.event_id == bob[1]
    clock.shift(12)
    (again,) = owed.claim()
    assert again.event_id == alice[0]
    owed.record(again)
    (claim,) = owed.claim()
    assert claim.event_id == alice[1]


def test_the_playcamp_format_gets_only_what_was_converted(owed):
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


def test_one_body_of_several_events_is_owed_to_who_wants_the_type_of_any(owed):
    owed.destination("ended", format="playcamp", events="sponsor.ended")
    owed.destination("created", format="playcamp", events="sponsor.created")
    owed.destination("neither", format="playcamp", events="playcamp.*")
    owed.destination("gone", format="playcamp")
    owed.set_state("gone", "removed")
    (event_id,) = owed.happen()
    owed.write(lambda tx: tx.execute("DELETE FROM deliveries"))
    types = ("sponsor.ended", "sponsor.created")

    count = owed.write(lambda tx: deliveries.enqueue_converted(tx, owed.studio.row["id"], types, event_id, "alice"))

    rows = owed.rows("SELECT t.name, v.* FROM deliveries v JOIN destinations t ON t.id = v.destination_id")
    assert count == 2
    assert {row["name"] for row in rows} == {"ended", "created"}
    assert {(row["event_type"], row["event_id"], row["player_id"]) for row in rows} == {
        ("sponsor.ended", event_id, "alice")
    }


def test_a_redriven_delivery_does_not_run_beside_another_of_its_player(owed):
    owed.destination(format="playcamp", retry="0")
    first, second = owed.happen(2)
    for _ in range(2):
        (claim,) = owed.claim()
        owed.fail(claim)
    (claim,) = owed.claim()
    assert claim.event_id == second

    assert owed.redrive() == 0  # the second may arrive yet
    assert owed.claim() == []
    owed.fail(claim)
    assert owed.redrive() == 1
    (claim,) = owed.claim()
    assert claim.event_id == first


def test_the_circuit_opens_after_ten_failures_in_a_row_over_three_deliveries(owed):
    owed.destination()
    assert open_circuit(owed) == 10
    state = owed.state()
    assert len(set(state["failing_deliveries"].split(","))) == 3
    assert coinslot_clock.seconds(state["next_probe_at"]) == pytest.approx(coinslot_clock.now() + 30, abs=0.01)


def test_two_deliveries_that_fail_open_no_circuit(owed, clock):
    owed.destination(retry=",".join(["1"] * 20))
    owed.credit(2)
    for _ in range(10):
        for claim in owed.claim():
            owed.fail(claim)
        clock.shift(2)
    assert owed.state()["failures_in_row"] == 20
    assert owed.state()["circuit_open_since"] is None


def test_a_success_in_between_begins_the_count_anew(owed):
    owed.destination()
    owed.credit(20)
    for _ in range(2):
        for claim in owed.claim(room=9):
            owed.fail(claim)
        (claim,) = owed.claim(room=1)
        owed.record(claim)
    assert owed.state()["circuit_open_since"] is None
    assert owed.state()["failures_in_row"] == 0


def test_an_open_circuit_spends_no_attempt_and_is_probed_by_one(owed, clock):
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


def test_probes_take_turns_so_that_one_poison_delivery_cannot_keep_a_circuit_open(owed, clock):
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


def test_a_probe_whose_process_died_is_made_again(owed, clock):
    owed.destination()
    open_circuit(owed)
    clock.shift(31)
    assert len(owed.claim(owner="dies")) == 1
    clock.shift(14)
    assert owed.claim() == []
    clock.shift(2)
    assert len(owed.claim()) == 1


def test_a_probe_that_succeeds_closes_the_circuit(owed, clock):
    owed.destination()
    open_circuit(owed)
    clock.shift(31)
    (claim,) = owed.claim()

    assert owed.record(claim) == "delivered"

    state = owed.state()
    assert (state["circuit_open_since"], state["next_probe_at"], state["failures_in_row"]) == (None, None, 0)
    clock.shift(400)
    assert len(owed.claim()) == 3


def test_retry_after_lengthens_the_rest(owed, clock):
    owed.destination()
    open_circuit(owed)
    clock.shift(31)
    (claim,) = owed.claim()
    owed.record(claim, "status", 503, retry_after_seconds=7200.0)

    assert coinslot_clock.seconds(owed.state()["next_probe_at"]) - coinslot_clock.now() == pytest.approx(7200, abs=1)


def test_what_was_in_hand_when_the_circuit_opened_costs_nothing(owed):
    owed.destination()
    owed.credit(12)
    claims = owed.claim(room=12)
    for claim in claims:
        owed.fail(claim)

    assert [row["attempts_made"] for row in owed.deliveries()] == [1] * 10 + [0] * 2


def test_is_down_says_whether_somebody_who_wants_this_is_down(owed, installation):
    owed.destination(events="grant.*")
    game_id = owed.studio.row["id"]
    connection = installation.database.read()
    assert not destinations.is_down(connection, game_id, "grant.created")
    open_circuit(owed)
    assert destinations.is_down(connection, game_id, "grant.created")
    assert not destinations.is_down(connection, game_id, "player.login")
    owed.set_state("game", "paused")
    assert not destinations.is_down(connection, game_id, "grant.created")


def test_what_is_sent_as_it_is_does_not_wait_for_a_destination_that_gets_conversions(owed, installation):
    owed.destination(format="playcamp")
    owed.happen()
    (claim,) = owed.claim()

    owed.record(claim, "status", 410)

    assert owed.state()["state"] == "paused"
    assert not destinations.is_down(installation.database.read(), owed.studio.row["id"], "grant.created")


def test_410_pauses_the_destination_and_costs_the_delivery_nothing(owed, installation):
    owed.destination()
    owed.credit(2)
    claim, other = owed.claim()

    assert owed.record(claim, "status", 410) == "waiting"

    state = owed.state()
    assert (state["state"], state["state_reason"]) == ("paused", "it answered 410 Gone")
    assert owed.deliveries()[0]["attempts_made"] == 0
    assert destinations.is_down(installation.database.read(), owed.studio.row["id"], "grant.created")
    assert owed.record(other) == "delivered"
    assert owed.claim() == []
    owed.set_state("game", "active")
    assert [each.id for each in owed.claim()] == [claim.id]


def test_410_does_not_bring_a_removed_destination_back(owed):
    owed.destination()
    owed.credit()
    (claim,) = owed.claim()
    owed.set_state("game", "removed")

    assert owed.record(claim, "status", 410) == "dead"
    assert owed.state()["state"] == "removed"


def test_a_removed_destination_leaves_dead_letters_that_stay_dead(owed):
    owed.destination()
    owed.credit(2)
    (claim,) = owed.claim(room=1)
    owed.set_state("game", "removed")

    assert {row["dead_reason"] for row in owed.deliveries("dead")} == {"the destination was removed"}
    assert owed.redrive() == 0
    assert owed.record(claim) == "delivered"  # it had arrived after all
    secret = owed.destination()
    assert secret.startswith("whsec_")
    assert owed.claim() == []
    with pytest.raises(DestinationError):
        owed.destination()


def test_a_redrive_of_one_begins_its_schedule_anew(owed):
    owed.destination(retry="0")
    owed.credit(2)
    for _ in range(4):
        owed.fail(owed.claim(room=1)[0])
    first, second = owed.deliveries("dead")

    assert owed.redrive(delivery_id=first["id"]) == 1

    (claim,) = owed.claim()
    assert (claim.id, claim.number, claim.webhook_id) == (first["id"], 1, first["webhook_id"])
    assert [row["id"] for row in owed.deliveries("dead")] == [second["id"]]
    for wrong in (first["id"], 12345):
        with pytest.raises(DeliveryError, match=str(wrong)):
            owed.redrive(delivery_id=wrong)


def test_a_redrive_of_all_or_of_a_time_range(owed, clock):
    owed.destination(retry="0")
    moments = []
    for _ in range(3):
        moments.append(coinslot_clock.stamp())
        owed.credit()
        owed.fail(owed.claim()[0])
        owed.fail(owed.claim()[0])
        clock.shift(60)
    ids = [row["id"] for row in owed.deliveries("dead")]

    assert owed.redrive(since=moments[1], until=moments[2]) == 1
    clock.shift(1)
    assert [row["id"] for row in owed.deliveries("waiting")] == [ids[1]]
    assert owed.redrive() == 2
    assert owed.redrive() == 0
    assert [claim.id for claim in owed.claim()] == [ids[1], ids[0], ids[2]]


def test_a_redrive_is_of_one_game(owed, installation):
    other = Owed(installation, type(owed.studio)(installation, "other"))
    for each in (owed, other):
        each.destination(each.studio.slug, retry="0")
        each.studio.item("coins")
        each.credit()
        for _ in range(2):
            each.fail(each.claim(name=each.studio.slug)[0])

    assert owed.redrive() == 1
    assert [row["game_id"] for row in owed.deliveries("dead")] == [other.studio.row["id"]]
    with pytest.raises(DeliveryError):
        owed.redrive(delivery_id=owed.deliveries("dead")[0]["id"])


def test_a_redrive_closes_the_circuit(owed, clock):
    owed.destination(retry=",".join(["0"] * 5))
    owed.credit()
    for _ in range(6):
        owed.fail(owed.claim()[0])
    assert owed.deliveries("dead")
    open_circuit(owed)
    assert owed.claim() == []

    assert owed.redrive() == 5  # the dead one, and four that wait while it rests

    assert owed.state()["circuit_open_since"] is None
    assert owed.deliveries("dead") == []
    assert owed.claim()


def test_what_died_while_the_destination_was_down_comes_back_with_it_once(owed, clock):
    owed.destination(retry="1")
    (grant_id,) = owed.credit()

    def dies():
        for _ in range(2):
            (claim,) = owed.claim(room=1)
            owed.fail(claim)
            clock.shift(2)
        assert owed.delivery(grant_id)["state"] == "dead"

    def comes_back():
        (other,) = owed.credit()
        claim = next(each for each in owed.claim() if each.grant_id == other)
        owed.record(claim)

    dies()
    comes_back()
    assert owed.delivery(grant_id)["state"] == "waiting"
    assert owed.delivery(grant_id)["attempts_made"] == 0
    dies()
    comes_back()
    assert owed.delivery(grant_id)["state"] == "dead"
    owed.redrive()  # a person may always, and then it may come back by itself once more
    dies()
    comes_back()
    assert owed.delivery(grant_id)["state"] == "waiting"


def test_in_a_format_with_an_order_what_was_overtaken_stays_dead_even_for_a_person(owed):
    owed.destination(format="playcamp", retry="0")
    (overtaken,) = owed.happen(player="alice")
    for _ in range(2):
        owed.fail(owed.claim()[0])
    owed.happen(player="alice")
    owed.record(owed.claim()[0])
    (first,) = owed.deliveries("dead")
    game_id = owed.studio.row["id"]

    with pytest.raises(DeliveryError, match="stays dead: a later one of its player"):
        owed.redrive(delivery_id=first["id"])
    assert owed.write(lambda tx: redrives.count_overtaken(tx, game_id)) == 1
    assert owed.redrive() == 0

    assert [row["event_id"] for row in owed.deliveries("dead")] == [overtaken]


def test_in_a_format_with_an_order_nothing_comes_back_after_what_followed_it(owed, clock):
    owed.destination(format="playcamp", retry="0")
    (overtaken,) = owed.happen(player="alice")
    (alone,) = owed.happen(player="bob")
    (on_its_way,) = owed.happen(player="carol")
    for _ in range(2):
        for claim in owed.claim():
            owed.fail(claim)
    assert len(owed.deliveries("dead")) == 3
    owed.happen(player="alice")
    owed.happen(player="carol")
    later, in_hand = owed.claim()

    owed.record(later)

    assert [row["event_id"] for row in owed.deliveries("dead")] == [overtaken, on_its_way]
    (claim,) = owed.claim()
    assert claim.event_id == alone
    assert owed.record(in_hand) == "delivered"


def test_a_delivery_begun_before_the_outage_comes_back_too(owed, clock):
    owed.destination(retry="1,1,1")
    (grant_id,) = owed.credit()
    (claim,) = owed.claim()
    owed.fail(claim)
    owed.credit()
    owed.record(owed.claim()[0])  # a success in between
    for _ in range(3):
        clock.shift(2)
        owed.fail(owed.claim()[0])
    assert owed.delivery(grant_id)["state"] == "dead"

    owed.credit()
    owed.record(owed.claim()[0])
    assert owed.delivery(grant_id)["state"] == "waiting"


def test_a_poison_delivery_among_successes_stays_dead(owed, clock):
    owed.destination(retry="1,1")
    (poison,) = owed.credit()
    for _ in range(10):
        owed.credit()
        for claim in owed.claim():
            owed.fail(claim) if claim.grant_id == poison else owed.record(claim)
        clock.shift(2)

    assert owed.delivery(poison)["state"] == "dead"
    assert len(owed.rows("SELECT * FROM attempts WHERE failure IS NOT NULL")) == 3


def test_what_died_before_the_outage_stays_dead(owed, clock):
    owed.destination(retry="1")
    (poison,) = owed.credit()
    for _ in range(2):
        owed.fail(owed.claim()[0])
        owed.credit()
        owed.record(owed.claim()[0])
        clock.shift(2)
    assert owed.delivery(poison)["state"] == "dead"
    owed.credit(2)
    first, second = owed.claim()
    owed.fail(first)
    owed.fail(second)
    owed.credit()
    owed.record(owed.claim()[0])

    assert owed.delivery(poison)["state"] == "dead"


def test_pruning_takes_what_arrived_long_ago_in_batches(owed, clock, monkeypatch):
    monkeypatch.setattr(deliveries, "PRUNED_AT_ONCE", 3)
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
    before = coinslot_clock.stamp(coinslot_clock.now() - 3600)

    assert deliveries.has_prunable(owed.installation.database.read(), before)
    assert [owed.write(lambda tx: deliveries.prune(tx, before)) for _ in range(4)] == [3, 3, 1, 0]

    assert not deliveries.has_prunable(owed.installation.database.read(), before)
    assert sorted(row["state"] for row in owed.deliveries()) == ["dead", "delivered", "waiting"]
    assert owed.delivery(waiting[0])["state"] == "waiting"
    left = {row["delivery_id"] for row in owed.attempts()}
    assert left <= {row["id"] for row in owed.deliveries()}


def test_pruning_leaves_an_original_whose_reversal_is_there(owed, clock):
    owed.destination()
    (grant_id,) = owed.credit()
    owed.record(owed.claim()[0])
    owed.reverse(grant_id)
    clock.shift(100)
    now = coinslot_clock.stamp()

    assert owed.write(lambda tx: deliveries.prune(tx, now)) == 0
    owed.record(owed.claim()[0])
    clock.shift(100)
    now = coinslot_clock.stamp()
    assert [owed.write(lambda tx: deliveries.prune(tx, now)) for _ in range(3)] == [1, 1, 0]


def test_next_due_foresees_what_can_be_claimed(owed, clock, installation):
    def moments():
        return {
            each: coinslot_clock.seconds(at) for each, at in attempts.next_due(installation.database.read()).items()
        }

    owed.destination()
    destination_id = owed.state()["id"]
    assert moments() == {}
    owed.credit()
    assert moments()[destination_id] == pytest.approx(coinslot_clock.now(), abs=0.001)
    (claim,) = owed.claim()
    assert moments() == {}
    owed.fail(claim)
    assert moments()[destination_id] - coinslot_clock.now() == pytest.approx(owed.due_in(claim.id), abs=0.001)
    owed.set_state("game", "paused")
    assert moments() == {}
    owed.set_state("game", "active")
    open_circuit(owed)
    assert moments()[destination_id] == pytest.approx(coinslot_clock.seconds(owed.state()["next_probe_at"]), abs=0.001)


@pytest.mark.parametrize("format", ["standard", "playcamp"])
def test_whatever_is_foreseen_as_due_can_be_claimed(owed, clock, installation, format):
    """Or a relay would look again and again without a pause."""
    owed.destination(format=format, retry="0,1,0")
    if format == "standard":
        grants = owed.credit(3, player="alice") + owed.credit(2, player="bob")
        owed.reverse(grants[0])
    else:
        owed.happen(4, player="alice")
        owed.happen(2, player="bob")
    for step in range(40):
        due = [at for at in attempts.next_due(installation.database.read()).values() if at <= coinslot_clock.stamp()]
        claims = owed.claim(room=2)
        assert bool(due) == bool(claims)
        for number, claim in enumerate(claims):
            owed.record(claim, *(("status", 500) if (step + number) % 3 else ()))
        clock.shift(0.4)
        if step == 20:
            owed.redrive()
    assert owed.deliveries("waiting") == []


def test_listing_tells_where_and_how_it_went(owed, installation):
    owed.destination(retry="0")
    owed.credit(2)
    first, second = owed.claim()
    owed.record(first)
    owed.record(second, "timeout")

    newest, oldest = lists.listing(installation.database.read(), owed.studio.row["id"])
    assert (oldest["destination"], oldest["last_attempt"], oldest["state"]) == ("game", "ok", "delivered")
    assert (newest["last_attempt"], newest["state"]) == ("timeout", "waiting")
    only = lists.listing(installation.database.read(), owed.studio.row["id"], state="waiting", limit=1)
    assert [row["id"] for row in only] == [newest["id"]]


def test_the_heartbeat_says_when(owed, installation, clock):
    assert deliveries.last_beat(installation.database.read()) is None
    owed.write(deliveries.beat)
    clock.shift(7)
    owed.write(deliveries.beat)
    assert deliveries.last_beat(installation.database.read()) == pytest.approx(coinslot_clock.now(), abs=0.001)


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
def test_success_rules(owed, installation, rule, status, answer, is_accepted):
    owed.destination(success=rule)
    assert destinations.opened(owed.state()).accepts(status, answer) is is_accepted


def test_the_playcamp_format_wants_exactly_200_unless_told_otherwise(owed):
    owed.destination(format="playcamp")
    assert owed.state()["success"] == "200"


@pytest.mark.parametrize("format", ["standard", "playcamp"])
def test_what_the_relay_asks_all_the_time_has_an_index(owed, clock, installation, format):
    owed.destination(format=format, retry="0")
    grants = owed.credit(3)
    owed.reverse(grants[0])
    owed.happen(3)
    destination_id = owed.state()["id"]
    asked = []

    def everything(tx):
        tx.set_trace_callback(asked.append)
        attempts.next_due(tx)
        for _ in range(3):
            for number, claim in enumerate(attempts.claim_due(tx, "me", {destination_id: 8})):
                attempts.record(tx, claim, Result("status" if number % 2 else None))
        deliveries.has_prunable(tx, coinslot_clock.stamp())
        deliveries.prune(tx, coinslot_clock.stamp())
        tx.set_trace_callback(None)

    owed.write(everything)
    for sql in {sql for sql in asked if sql.split()[0] in ("SELECT", "UPDATE", "DELETE")}:
        plan = " ".join(row["detail"] for row in owed.rows(f"EXPLAIN QUERY PLAN {sql}"))
        for table in ("d", "o", "p", "deliveries", "attempts"):
            assert f"SCAN {table} " not in f"{plan} ", (sql, plan)
        assert "TEMP B-TREE" not in plan, (sql, plan)


def test_410_says_nothing_of_a_destination_its_owner_has_paused(owed):
    owed.destination()
    owed.credit()
    (claim,) = owed.claim()
    owed.set_state("game", "paused")

    owed.record(claim, "status", 410)

    assert (owed.state()["state"], owed.state()["state_reason"]) == ("paused", None)
