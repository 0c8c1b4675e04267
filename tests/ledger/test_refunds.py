"""Refunds, lost disputes and won ones, in whatever order they come: no HTTP, a connection is all it takes."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinslot.base import clock
from coinslot.games import erasure
from coinslot.ledger import chain, events, grants, packing, policies, refunds, reports
from coinslot.ledger import credit as ledger
from coinslot.ledger.policies import Policy
from tests import databases
from tests.ledger.test_credit import report_of
from tests.owed import Owed

REVOKE = Policy.always("revoke")


class Desk:
    """Reports and facts as a partner sends them, written one by one."""

    def __init__(self, installation, studio):
        self.installation = installation
        self.studio = studio
        self.game_id = studio.row["id"]
        self.numbers = itertools.count(1)

    def write(self, function):
        return self.installation.database.write_here(function)

    def wanted(self, **changed):
        known_by = (("payment", "pay-1"), ("external", "ext-1"))
        own = {"external_id": "o-1", "reference": "o-1", "lines": (("coins", 1000), ("gems", 5))}
        own |= {"keys": (("purchase", "pr-1"), *known_by), "known_by": known_by}
        return reports.Credit(**{**report_of(self.studio), **own, **changed})

    def credit(self, **changed):
        return self.write(lambda tx: ledger.credit(tx, self.wanted(**changed), reports.Rules()))

    def fact(self, reason, *named, **how):
        return self.write(lambda tx: self.fact_in(tx, reason, *named, **how))

    def fact_in(
        self,
        tx,
        reason,
        *names,
        policy=REVOKE,
        is_test=False,
        at=None,
        raw_body=b"event",
        player=None,
        named=None,
        amount=None,
    ):
        event_id = events.record(
            tx,
            game_id=self.game_id,
            partner="somebody",
            type=f"somebody.{reason}",
            dedupe_key=f"e-{next(self.numbers)}",
            data={},
            raw_body=raw_body,
            environment="live",
            is_test=is_test,
            player_id=player,
        )
        return refunds.note(
            tx,
            self.game_id,
            self.studio.slug,
            "somebody",
            event_id=event_id,
            reason=reason,
            named=(names or (("reference", "o-1"),)) if named is None else named,
            player_id=player,
            is_test=is_test,
            occurred_at=None if at is None else clock.stamp(at),
            policy=policy,
            amount=amount,
        )

    def reverse(self, external_id="o-1", policy=REVOKE):
        def make(tx):
            row = tx.execute("SELECT * FROM transactions WHERE external_id = :id", {"id": external_id}).fetchone()
            return refunds.reverse(tx, row, policy, "asked by phone")

        return self.write(make)

    def granted(self, player="alice"):
        sums = grants.granted(self.installation.database.read(), self.game_id, player)
        return {sku: quantity for sku, quantity in sums.items() if quantity}

    def feed(self):
        return grants.feed(self.installation.database.read(), self.game_id, 0, 1000)[0]

    def outcomes(self):
        rows = self.installation.database.read().execute("SELECT reason, outcome FROM refunds ORDER BY id")
        return [(row["reason"], row["outcome"]) for row in rows]

    def is_whole(self):
        return list(chain.verify(self.installation.database.read())) == []


@pytest.fixture
def desk(installation, studio):
    return Desk(installation, studio)


def test_a_refund_reverses_its_purchase_once(desk, db):
    desk.credit()

    assert desk.fact("refund") == "reversed"
    assert desk.fact("refund") == "repeated"
    assert desk.fact("chargeback") == "repeated"

    purchase, reversal = desk.feed()
    assert reversal == {
        "id": 2,
        "transaction_id": purchase["transaction_id"],
        "partner": "somebody",
        "external_id": "o-1",
        "kind": "reversal",
        "player_id": "alice",
        "items": [{"sku": "coins", "quantity": -1000}, {"sku": "gems", "quantity": -5}],
        "reverses": purchase["id"],
        "policy": "revoke",
        "is_test": False,
        "created_at": reversal["created_at"],
    }
    assert desk.granted() == {}
    assert [row["reason"] for row in db("SELECT reason FROM grants ORDER BY id")] == [None, "refund"]
    assert [row["grant_id"] for row in db("SELECT grant_id FROM refunds")] == [2, None, None]
    counted = {(row["name"], row["label"]): row["value"] for row in db("SELECT * FROM counters")}
    assert counted == {("credited", ""): 1, ("reversed", ""): 1, ("item", "coins"): 1, ("item", "gems"): 1}
    assert desk.is_whole()


@pytest.mark.parametrize(
    ("facts", "counted"),
    [
        (("refund",), {"refunded": 999}),
        (("refund", "refund"), {"refunded": 999}),
        (("chargeback", "refund"), {"refunded": 999}),
        (("chargeback", "reinstated"), {"refunded": 999, "returned": 999}),
        (("chargeback", "reinstated", "refund"), {"refunded": 1998, "returned": 999}),
    ],
)
@pytest.mark.parametrize("policy", ["on", "off"])
def test_money_that_went_back_is_counted_once(desk, db, facts, counted, policy):
    desk.credit(money=reports.Money(currency="USD", gross_minor=999))

    for fact in facts:
        desk.fact(fact, policy=REVOKE if policy == "on" else policies.Policy.of({}))

    found = db("SELECT name, value FROM counters WHERE name IN ('refunded', 'returned') AND label = 'USD'")
    assert {row["name"]: row["value"] for row in found} == counted


@pytest.mark.parametrize(
    ("money", "amount", "noted"),
    [
        (("USD", 999), "9.98", "9.98 of 9.99 USD"),
        (("USD", 999), "9.99", None),
        (("USD", 999), "998", "998 of 9.99 USD"),  # partners do not say the unit: a whole number may be cents
        (("USD", 999), "999", None),
        (("USD", 999), "1000", None),
        (("JPY", 1480), "1479", "1,479 of 1,480 JPY"),
        (("USD", None), "1", None),
        ((None, 999), "1", None),
    ],
)
def test_a_refund_of_less_than_was_paid_is_noted_for_a_person(desk, db, money, amount, noted):
    desk.credit(money=reports.Money(*money))

    assert desk.fact("refund", amount=amount) == "reversed"

    found = db("SELECT subject, detail FROM notices WHERE kind = 'partial_refund'")
    assert [(row["subject"], row["detail"]) for row in found] == ([] if noted is None else [("o-1", noted)])


def test_quantities_are_exact_and_nothing_stays_nothing(desk):
    desk.credit(lines=(("coins", 10**40 - 1), ("gems", 0)))

    desk.fact("refund")

    assert desk.feed()[1]["items"] == [{"sku": "coins", "quantity": 1 - 10**40}, {"sku": "gems", "quantity": 0}]
    assert desk.granted() == {}


class TestPolicy:
    def test_the_item_s_own_counts_before_the_reason_s_and_that_before_the_default_row(self):
        policy = Policy.of(
            {
                "refunds.revoke": "on",
                "refunds.refund": "",
                "refunds.chargeback": "revoke_negative",
                "refunds.chargeback.hats.red": "flag",
                "refunds.refund.hats.red": "ignore",
            }
        )

        skus = ("coins", "hats.red", None)
        assert [policy.for_line("refund", sku) for sku in skus] == ["revoke", "ignore", "revoke"]
        assert [policy.for_line("chargeback", sku) for sku in skus] == ["revoke_negative", "flag", "revoke_negative"]
        assert Policy.of({}).for_line("refund", "coins") == "ignore"
        assert Policy.of({"refunds.revoke": "off"}).for_line("chargeback") == "ignore"

    def test_a_line_that_is_asked_for_more_than_the_mildest_says_so(self, desk):
        desk.studio.item("hats")
        desk.credit(lines=(("coins", 1000), ("gems", 5), ("hats", 1)))
        policy = Policy.of(
            {"refunds.revoke": "on", "refunds.refund.gems": "revoke_negative", "refunds.refund.hats": "flag"}
        )

        desk.fact("refund", policy=policy)

        assert desk.feed()[1]["policy"] == "flag"
        assert desk.feed()[1]["items"] == [
            {"sku": "coins", "quantity": -1000, "policy": "revoke"},
            {"sku": "gems", "quantity": -5, "policy": "revoke_negative"},
            {"sku": "hats", "quantity": -1},
        ]

    def test_a_purchase_of_nothing_goes_by_the_reason_s_policy(self, desk):
        desk.credit(lines=())
        desk.credit(lines=(), external_id="o-2", reference="o-2", keys=(), known_by=())

        assert desk.fact("refund", policy=Policy.of({"refunds.refund.coins": "revoke"})) == "ignored"
        assert desk.fact("refund", policy=Policy.of({"refunds.refund": "flag"})) == "reversed"
        assert desk.feed()[2]["items"] == []
        assert desk.feed()[2]["policy"] == "flag"

    def test_what_waited_goes_by_the_policy_of_the_day_it_is_applied(self, desk, studio):
        desk.fact("refund", policy=Policy.of({}))
        studio.config("refunds.refund", "revoke_negative")

        desk.credit()

        assert [grant["policy"] for grant in desk.feed()] == [None, "revoke_negative"]


NAMES = [("reference", "o-1"), ("payment", "pay-1"), ("purchase", "pr-1"), ("external", "ext-1")]


class TestMatching:
    @pytest.mark.parametrize("name", NAMES, ids=lambda name: name[0])
    def test_a_refund_before_its_order_waits_and_is_applied_with_the_credit(self, desk, studio, db, name):
        studio.config("refunds.revoke", "on")
        assert desk.fact("refund", name, ("payment", "no such")) == "waiting"
        desk.credit(external_id="o-2", reference="o-2", keys=(("payment", "pay-2"),), known_by=())
        assert desk.outcomes() == [("refund", "waiting")]

        assert desk.credit().is_new

        assert [(grant["external_id"], grant["kind"]) for grant in desk.feed()] == [
            ("o-2", "purchase"),
            ("o-1", "purchase"),
            ("o-1", "reversal"),
        ]
        (row,) = db("SELECT * FROM refunds")
        assert (row["outcome"], row["grant_id"], row["transaction_id"]) == ("reversed", 3, 2)
        assert row["settled_at"] is not None
        assert db("SELECT * FROM refund_keys") == []
        assert desk.fact("refund", name) == "repeated"

    @pytest.mark.parametrize("name", [("payment", "pay-1"), ("reference", "o-1")])
    def test_an_order_stored_by_a_fallback_id_is_found_by_that_and_by_the_proper_id_it_took_later(self, desk, name):
        keys = (("payment", "pay-1"),)
        desk.credit(external_id="payment:pay-1", reference="pay-1", keys=keys, known_by=keys)
        if name[0] == "reference":
            assert not desk.credit(keys=keys, known_by=keys).is_new

        assert desk.fact("refund", name) == "reversed"

    @pytest.mark.parametrize("name", [("reference", "o-1"), ("purchase", "pr-1")], ids=lambda name: name[0])
    def test_a_repeated_report_that_brings_the_id_brings_the_refund(self, desk, studio, name):
        studio.config("refunds.revoke", "on")
        keys = (("payment", "pay-1"),)
        desk.credit(external_id="payment:pay-1", reference="pay-1", keys=keys, known_by=keys)
        assert desk.fact("refund", name) == "waiting"

        assert not desk.credit().is_new

        assert desk.outcomes() == [("refund", "reversed")]
        assert desk.granted() == {}

    def test_a_repeat_by_a_fallback_id_brings_what_waits_for_its_other_ids(self, desk, studio):
        studio.config("refunds.revoke", "on")
        desk.credit(keys=(("payment", "pay-1"),))
        assert desk.fact("refund", ("purchase", "pr-9")) == "waiting"

        desk.credit(external_id="payment:pay-1", reference="pay-1", keys=(("purchase", "pr-9"), ("payment", "pay-1")))

        assert desk.outcomes() == [("refund", "reversed")]

    @pytest.mark.parametrize(("player", "outcome"), [("alice", "reversed"), (None, "reversed"), ("bob", "ambiguous")])
    @pytest.mark.parametrize("is_early", [True, False])
    def test_an_id_that_purchases_may_share_takes_nothing_from_somebody_else(self, desk, player, outcome, is_early):
        named = (("reference", "o-9"), ("payment", "pay-1"))
        if is_early:
            desk.studio.config("refunds.revoke", "on")
            assert desk.fact("refund", *named, player=player) == "waiting"
            desk.credit()
        else:
            desk.credit()
            assert desk.fact("refund", *named, player=player) == outcome

        assert desk.outcomes() == [("refund", outcome)]
        assert desk.granted() == ({} if outcome == "reversed" else {"coins": 1000, "gems": 5})

    @pytest.mark.parametrize("named", [[("payment", "pay-1")], [("purchase", "pr-1"), ("purchase", "pr-2")], []])
    def test_what_names_several_purchases_or_none_is_left_to_a_person(self, desk, db, named):
        desk.credit(keys=(("payment", "pay-1"), ("purchase", "pr-1")))
        desk.credit(external_id="o-2", reference="o-2", keys=(("payment", "pay-1"), ("purchase", "pr-2")))

        assert desk.fact("refund", named=named) == "ambiguous"
        assert [grant["kind"] for grant in desk.feed()] == ["purchase", "purchase"]
        assert [row["transaction_id"] for row in db("SELECT transaction_id FROM refunds")] == [None]
        assert db("SELECT * FROM refund_keys") == []

    @pytest.mark.parametrize("other", [("reference", "o-2"), ("purchase", "pr-2")])
    def test_the_order_s_own_id_counts_first_and_then_most_of_the_others(self, desk, other):
        desk.credit(keys=(("payment", "pay-1"), ("purchase", "pr-1")))
        desk.credit(external_id="o-2", reference="o-2", keys=(("payment", "pay-1"), ("purchase", "pr-2")))

        assert desk.fact("refund", ("payment", "pay-1"), other) == "reversed"
        assert [(grant["external_id"], grant["kind"]) for grant in desk.feed()][2:] == [("o-2", "reversal")]

    def test_other_games_and_partners_are_other_purchases(self, desk, installation, studio):
        desk.credit(partner="another")
        other = type(studio)(installation, "other")
        other.player("alice")
        other.item("coins", "gems")
        desk.credit(game_id=other.row["id"], game_slug="other")

        assert desk.fact("refund", *NAMES) == "waiting"

    def test_a_credit_that_is_refused_leaves_the_refund_waiting(self, desk, studio):
        studio.config("refunds.revoke", "on")
        desk.fact("refund")
        with pytest.raises(reports.RefusedError, match="unknown_player"):
            desk.credit(player_id="mallory")
        assert desk.outcomes() == [("refund", "waiting")]

        studio.player("mallory")
        desk.credit(player_id="mallory")

        assert desk.outcomes() == [("refund", "reversed")]
        assert desk.granted("mallory") == {}

    def test_a_credit_asks_for_waiting_refunds_in_the_statement_it_makes_anyway(self, desk):
        def statements(external_id):
            seen = []

            def make(tx):
                wanted = desk.wanted(external_id=external_id, reference=external_id, keys=(), known_by=())
                ledger.credit(databases.Noting(tx, seen), wanted, reports.Rules())

            desk.write(make)
            return seen

        before = statements("o-7")
        assert not any("refund_keys" in each for each in before)
        desk.fact("refund", ("payment", "somebody else's"))
        assert len(statements("o-8")) == len(before) + 1

    @pytest.mark.parametrize("is_test", [True, False])
    def test_a_test_purchase_is_reversed_as_a_test(self, desk, db, is_test):
        desk.credit(environment="sandbox")

        assert desk.fact("refund", is_test=is_test) == "reversed"
        assert [grant["is_test"] for grant in desk.feed()] == [True, True]
        assert {row["name"] for row in db("SELECT name FROM counters")} == {"credited.test", "reversed.test"}


KEPT, TAKEN = {"coins": 1000, "gems": 5}, {}
REFUNDS_IGNORED = Policy.of({"refunds.chargeback": "revoke", "refunds.refund": "ignore"})
COINS_IGNORED = Policy({"refund": "revoke", "chargeback": "revoke"}, {("chargeback", "coins"): "ignore"})


@pytest.mark.parametrize("is_early", [False, True], ids=["after", "before"])
@pytest.mark.parametrize(
    ("facts", "outcomes", "granted"),
    [
        ("chargeback@100.9 reinstated@100", "reversed restored", KEPT),  # of one second
        ("reinstated@200 chargeback@100", "repeated repeated", KEPT),  # won before lost
        ("reinstated@200 chargeback@201", "repeated reversed", TAKEN),  # another dispute
        ("chargeback@100 reinstated@200 chargeback@100", "reversed restored repeated", KEPT),  # the loss, late
        # The win of an older dispute, late:
        ("chargeback@100 reinstated@200 chargeback@300 reinstated@200", "reversed restored reversed repeated", TAKEN),
        # Without a time, as they come:
        ("reinstated chargeback reinstated chargeback", "repeated reversed restored reversed", TAKEN),
        ("refund reinstated", "reversed repeated", TAKEN),  # winning undoes no refund
        ("chargeback refund reinstated", "reversed repeated repeated", TAKEN),  # nor one after a loss
        ("chargeback@100 reinstated@200 refund@300 refund@300", "reversed restored reversed repeated", TAKEN),
        ("chargeback test:reinstated", "reversed test", TAKEN),
        ("test:refund test:chargeback refund", "test test reversed", TAKEN),
    ],
)
def test_what_facts_in_any_order_come_to(desk, studio, facts, outcomes, granted, is_early):
    """Each is applied as it comes, or with the credit that it waited for."""
    studio.config("refunds.revoke", "on")
    if not is_early:
        desk.credit()
    for fact in facts.split():
        reason, _, at = fact.removeprefix("test:").partition("@")
        desk.fact(reason, at=float(at) if at else None, is_test=fact.startswith("test:"))
    if is_early:
        desk.credit()

    assert [outcome for _, outcome in desk.outcomes()] == outcomes.split()
    assert desk.granted() == granted
    assert desk.is_whole()


class TestDisputes:
    @pytest.mark.parametrize(
        ("facts", "policy", "items"),
        [
            ("chargeback", COINS_IGNORED, [("gems", -5)]),
            ("chargeback reinstated", COINS_IGNORED, [("gems", 5)]),
            ("chargeback reinstated refund", COINS_IGNORED, [("coins", -1000), ("gems", -5)]),
            ("chargeback refund reinstated", REFUNDS_IGNORED, [("coins", 1000), ("gems", 5)]),
        ],
    )
    def test_only_what_was_taken_is_given_back_and_a_refund_takes_all(self, desk, facts, policy, items):
        desk.credit()
        for at, reason in enumerate(facts.split()):
            desk.fact(reason, at=100.0 + at, policy=policy)

        assert [(line["sku"], line["quantity"]) for line in desk.feed()[-1]["items"]] == items
        assert desk.is_whole()

    def test_a_purchase_given_back_can_be_lost_and_refunded_again_and_each_names_what_it_reverses(self, desk):
        policy = Policy({"refund": "revoke", "chargeback": "flag"}, {("chargeback", "gems"): "revoke_negative"})
        desk.credit(kind="bonus")
        for at in (100, 300):
            desk.fact("chargeback", at=at, policy=policy)
            desk.fact("reinstated", at=at + 100, policy=policy)
        desk.fact("refund", policy=policy)

        feed = desk.feed()
        assert [(grant["kind"], grant["reverses"], grant["policy"]) for grant in feed] == [
            ("bonus", None, None),
            ("reversal", 1, "flag"),
            ("adjustment", 2, "flag"),
            ("reversal", 3, "flag"),
            ("adjustment", 4, "flag"),
            ("reversal", 5, "revoke"),
        ]
        assert [line.get("policy") for line in feed[2]["items"]] == [None, "revoke_negative"]
        assert len({(grant["transaction_id"], grant["kind"]) for grant in feed}) == 6
        assert desk.granted() == {}
        assert desk.is_whole()

    def test_won_after_lost_gives_back_what_was_taken(self, desk, db):
        desk.credit(money=reports.Money("USD", 999), session_metadata='{"shard": 3}')
        desk.fact("chargeback", at=100)

        assert desk.fact("reinstated", at=200) == "restored"

        purchase, reversal, adjustment = desk.feed()
        assert adjustment == {
            **purchase,
            "id": 3,
            "kind": "adjustment",
            "transaction_id": ledger.public_id("demo", "somebody", "restore:o-1:1"),
            "reverses": reversal["id"],
            "policy": "revoke",
            "created_at": adjustment["created_at"],
        }
        assert reversal["transaction_id"] == purchase["transaction_id"] != adjustment["transaction_id"]
        assert desk.granted() == {"coins": 1000, "gems": 5}
        (row,) = db("SELECT * FROM transactions WHERE kind = 'adjustment'")
        assert (row["external_id"], row["reference"]) == ("restore:o-1:1", "o-1")
        assert (row["currency"], row["gross_minor"], row["session_metadata"]) == (None, None, None)
        assert (packing.body(row["raw_body"]), row["occurred_at"]) == (b"event", clock.stamp(200))
        assert desk.is_whole()

    def test_an_order_of_the_adjustment_s_name_is_not_mistaken_for_it(self, desk):
        desk.credit()
        desk.credit(external_id="restore:o-1:1", reference="restore:o-1:1", keys=(), known_by=())
        desk.fact("chargeback")

        assert desk.fact("reinstated") == "restored"
        assert desk.fact("refund", ("reference", "restore:o-1:2")) == "waiting"  # that is no purchase
        assert desk.is_whole()


class TestByHand:
    def test_what_was_given_back_is_reversed_by_hand_too(self, desk):
        desk.credit()
        desk.fact("chargeback")
        desk.fact("reinstated")

        assert desk.reverse() == 4
        assert desk.granted() == {}

    def test_a_person_reverses_on_the_same_mechanism(self, desk, db):
        desk.credit()

        assert desk.reverse(policy=Policy.always("ignore")) is None
        assert desk.outcomes() == []
        assert desk.reverse(policy=Policy.always("flag")) == 2
        assert desk.reverse() is None
        assert desk.fact("refund") == "repeated"
        assert desk.fact("reinstated") == "repeated"

        (row,) = db("SELECT policy, reason FROM grants WHERE id = 2")
        assert row == {"policy": "flag", "reason": "asked by phone"}
        assert db("SELECT event_id, outcome, grant_id FROM refunds ORDER BY id LIMIT 1") == [
            {"event_id": None, "outcome": "reversed", "grant_id": 2}
        ]


def test_a_forgotten_player_s_purchase_is_reversed_and_restored_all_the_same(desk, db):
    desk.credit()
    desk.write(lambda tx: erasure.forget_player(tx, desk.game_id, "alice"))

    assert desk.fact("chargeback", raw_body=None) == "reversed"
    assert desk.fact("reinstated", raw_body=None) == "restored"
    assert desk.granted() == {"coins": 1000, "gems": 5}
    assert desk.is_whole()

    desk.fact("chargeback", raw_body=b"alice@example.com")
    desk.fact("reinstated", raw_body=b"alice@example.com")
    desk.write(lambda tx: erasure.forget_player(tx, desk.game_id, "alice"))
    assert {row["raw_body"] for row in db("SELECT raw_body FROM transactions")} == {None}
    assert {row["raw_body"] for row in db("SELECT raw_body FROM events")} == {None}  # those that named no player too
    assert desk.is_whole()


def test_the_game_is_told_of_each_once_and_in_an_order_that_can_be_applied(installation, studio, desk, db):
    owed = Owed(installation, studio)
    owed.destination(events="grant.*")
    owed.destination("logins", events="player.*")
    desk.credit()

    for reason, at in (("chargeback", 1), ("chargeback", 1), ("reinstated", 2), ("refund", 3)):
        desk.fact(reason, at=at)

    rows = db("SELECT event_type, grant_id, waits_for, player_id FROM deliveries ORDER BY id")
    assert [(row["event_type"], row["grant_id"], row["waits_for"]) for row in rows] == [
        ("grant.created", 1, None),
        ("grant.reversed", 2, 1),
        ("grant.created", 3, None),
        ("grant.reversed", 4, 3),
    ]
    assert {row["player_id"] for row in rows} == {"alice"}
    assert {claim.grant_id for claim in owed.claim()} == {1, 3}
    assert installation.formats["playcamp"].keeps_order  # formats with an order see to the rest


STEPS = ("report", "report", "refund", "refund", "chargeback", "chargeback", "reinstated", "reinstated")
AT = {"refund": 50, "chargeback": 100, "reinstated": 200}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(STEPS), max_size=9).map(lambda steps: ["report", *steps]).flatmap(st.permutations))
def test_the_order_of_reports_makes_no_difference(installation, studio, desk, steps):
    """A refund is for good; a lost dispute counts until it is won; a report credits once."""
    found = {}

    def play(tx):
        tx.execute(
            """INSERT INTO settings (game_id, key, value, updated_at) VALUES (:id, 'refunds.revoke', 'on', 'now')
               ON CONFLICT (game_id, key) DO NOTHING""",
            {"id": desk.game_id},
        )
        for step in steps:
            if step == "report":
                ledger.credit(tx, desk.wanted(), reports.Rules())
            else:
                desk.fact_in(tx, step, ("payment", "pay-1"), at=AT[step])
            sums = grants.granted(tx, desk.game_id, "alice")
            assert sums.get("coins", 0) in (0, 1000)
        found["granted"] = sums
        found["wrong"] = list(chain.verify(tx))
        found["waiting"] = tx.execute("SELECT count(*) FROM refund_keys").fetchone()[0]
        raise KeyboardInterrupt  # roll everything back for the next example

    with pytest.raises(KeyboardInterrupt):
        desk.write(play)

    is_taken = "refund" in steps or ("chargeback" in steps and "reinstated" not in steps)
    assert found == {
        "granted": {"coins": 0, "gems": 0} if is_taken else {"coins": 1000, "gems": 5},
        "wrong": [],
        "waiting": 0,
    }
