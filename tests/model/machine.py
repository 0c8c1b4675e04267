"""Everything that partners, the game and the owner do, in any order, by HTTP and by commands, held against the model.

What Hypothesis draws for a step never depends on what the server did before, so that every example can be repeated.
"""

import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from tests.model.calls import (
    GAME,
    OK,
    PARTNERS,
    PLAYERS,
    REFUSED,
    SECRETS,
    UNPROVED,
    Call,
    MoneyBack,
    Purchase,
    boost,
    report,
)
from tests.model.checks import Checks
from tests.model.model import Model, new
from tests.model.steps import step
from tests.model.world import World
from tests.servers import Answer, together

REGISTERED = PLAYERS[:3]
ITEMS = ("coins", "gems", "hats")
REGISTERED_ITEMS = ITEMS[:2]
SHOPS = ("appcharge", "xsolla")  # whose orders are refunded
BOUGHT = (
    (("coins", 1),),
    (("coins", 2), ("gems", 1)),
    (("gems", 3),),
    (("coins", 1), ("gems", 2)),
    (("hats", 1),),
)
SOON_MS = 120  # a call takes a few milliseconds; with several at once, so long at most

reasons = st.sampled_from(("refund", "chargeback", "chargeback", "reinstated", "reinstated"))
picks = st.integers(0, 255)  # one of what there is by then
yes_or_no = st.booleans()
six = st.lists(yes_or_no, min_size=6, max_size=6)


class Machine(RuleBasedStateMachine):
    """One installation per example, in a folder of its own; it ends with the slow checks."""

    counts: Counter[str] = Counter()  # what all examples of this process did

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="coinslot-model-"))
        self.model: Model = new(REGISTERED, REGISTERED_ITEMS)
        self.backup: Model = self.model
        self.backup_file = self.folder / "yesterday.db"
        self.bought: list[Purchase] = []  # whatever came of it
        self.payments: dict[int, tuple[str, str, int]] = {}  # of the game itself: player, month, cents
        self.disputed: list[Purchase] = []  # the last of which money went back
        self.seconds = 0
        self.steps: list[str] = []
        self.world = World(self.folder, self.model)
        self.checks = Checks(self.world)
        today = datetime.now(UTC).date().replace(day=1)
        self.months = [f"{_months_before(today, count):%Y-%m}" for count in (2, 1, 0)]

    @initialize()
    def start(self) -> None:
        """There is a backup from the first moment on, and something was bought after it."""
        self.world.__enter__()
        self.back_up()
        for partner in PARTNERS:
            self.report(self.buy(partner=partner, player="ann", items=BOUGHT[1], cents=999, month=0))

    def teardown(self) -> None:
        try:
            if (failure := sys.exception()) is not None:
                self.tell(failure)
                return
            self.steps.append("the checks at the end")
            self.checks.end(self.model, self.months)
            self.counts["examples"] += 1
        except BaseException as error:
            self.tell(error)
            raise
        finally:
            self.counts["steps"] += len(self.steps)
            self.end()

    def end(self) -> None:
        """Leave nothing behind."""
        self.world.__exit__()
        shutil.rmtree(self.folder)

    def tell(self, failure: BaseException) -> None:
        """Print the steps that led here. Hypothesis tries them again before it prints anything."""
        print("\n".join(self.steps), self.world.server.log[-2000:], sep="\n", file=sys.stderr)
        traceback.print_exception(failure)

    # What partners do

    @step(
        partner=st.sampled_from(PARTNERS),
        player=st.sampled_from((*REGISTERED, *PLAYERS)),
        items=st.sampled_from(BOUGHT),
        cents=st.sampled_from((999, 99, 0)),
        month=st.sampled_from((0, 1)),
        by_payment=yes_or_no,
    )
    def award(self, by_payment: bool, **about: Any) -> None:
        self.report(self.buy(**about).told_by(by_payment))

    @step(pick=picks, by_payment=yes_or_no, times=st.sampled_from((1, 1, 2)))
    def report_again(self, pick: int, by_payment: bool, times: int) -> None:
        """Retries of what was credited, refused, or lost with a restore; also by another id of the same purchase."""
        for bought in self.picked(pick):
            for _ in range(times):
                self.report(bought.told_by(by_payment))

    @step(pick=picks, is_new=yes_or_no, partner=st.sampled_from(PARTNERS), ways=six)
    def report_at_once(self, pick: int, is_new: bool, partner: str, ways: list[bool]) -> None:
        if is_new:
            self.buy(partner=partner, player="ann", items=BOUGHT[1], cents=999, month=0)
        for bought in [self.bought[-1]] if is_new else self.picked(pick):
            told = [bought.told_by(way) for way in ways]
            self.take(told, self.send_together(told))

    @step(pick=picks, by_payment=yes_or_no)
    def report_otherwise(self, pick: int, by_payment: bool) -> None:
        for bought in self.picked(pick):
            if bought.key in self.model.credits:
                self.report(bought.otherwise().told_by(by_payment))

    @step(partner=st.sampled_from(PARTNERS), player=st.sampled_from(REGISTERED))
    def report_both_ways_at_once(self, partner: str, player: str) -> None:
        """The first one counts, whichever that is."""
        bought = self.buy(partner=partner, player=player, items=BOUGHT[0], cents=999, month=1)
        told = [bought, bought.otherwise()] * 3
        answers = self.send_together(told)
        first = self.checks.content_of(bought) or bought
        pairs = sorted(zip(told, answers, strict=True), key=lambda pair: pair[0].content != first.content)
        self.take([each for each, _ in pairs], [answer for _, answer in pairs])

    @step(
        pick=picks,
        is_same=yes_or_no,
        facts=st.lists(st.tuples(reasons, st.sampled_from((0, 0, 0, 3))), min_size=1, max_size=4),
        names=st.sampled_from(("own", "other", "both")),
        times=st.sampled_from((1, 1, 2, 6)),
    )
    def money_back(self, pick: int, is_same: bool, facts: list[tuple[str, int]], names: str, times: int) -> None:
        """Refunds and disputes, lost and won, late and repeated; also of what was never credited.

        ``facts`` are reasons, each with how many seconds earlier it happened than it should have. ``is_same``: they are
        about the order of the last ones.
        """
        for bought in self.disputed if is_same and self.disputed else self.picked(pick, SHOPS):
            self.disputed = [bought]
            for reason, earlier in facts:
                self.give_back(self.fact(bought, reason, names, earlier), times)
        self.check()

    @step(player=st.sampled_from(PLAYERS), creator=st.sampled_from(("AAA11", "BBB22")))
    def boost(self, player: str, creator: str) -> None:
        self.seconds += 2
        answer = self.world.send(boost(player, creator, self.seconds, self.key("playcamp")))
        assert answer is not None
        assert answer.status == OK["playcamp"], answer
        self.model.boosts[player] = creator
        self.check()

    @step(partner=st.sampled_from(PARTNERS), is_previous=yes_or_no, pick=picks)
    def sign_with_another_key(self, partner: str, is_previous: bool, pick: int) -> None:
        """The key before is good until it is retired; any other proves nothing, and leaves nothing."""
        for bought in self.picked(pick, (partner,)):
            keys = self.model.keys[partner]
            if is_previous and len(keys) > 1:
                self.report(bought, keys[1])
                continue
            answer = self.world.send(report(bought, f"{partner}-key-of-nobody"))
            assert answer is not None
            assert answer.status == UNPROVED[partner], answer
        self.check()

    # What the game does

    @step(is_up=yes_or_no)
    def turn_game(self, is_up: bool) -> None:
        self.world.game.is_up = is_up

    @step(player=st.sampled_from(PLAYERS))
    def register_player(self, player: str) -> None:
        assert self.world.ask(f"players/{player}", "PUT", {}).status in (200, 201)
        self.model.players.add(player)

    @step(sku=st.sampled_from(ITEMS))
    def register_item(self, sku: str) -> None:
        assert self.world.ask(f"items/{sku}", "PUT", {}).status in (200, 201)
        self.model.items.add(sku)

    @step(player=st.sampled_from(PLAYERS))
    def forget_player(self, player: str) -> None:
        is_known = player in self.model.players
        status = self.world.ask(f"players/{player}", "DELETE").status
        assert status == 204 or (status == 404 and not is_known), status
        self.model.forget(player)
        self.check()

    @step(
        number=st.integers(0, 5),
        player=st.sampled_from(PLAYERS),
        month=st.sampled_from((0, 1)),
        is_refunded=yes_or_no,
        times=st.sampled_from((1, 3)),
    )
    def push_payment(self, number: int, player: str, month: int, is_refunded: bool, times: int) -> None:
        """What was paid in the game itself, now or a while ago; the first push says what it is."""
        paid = self.payments.setdefault(number, (player, self.months[month], 101 + number))
        player, name, cents = paid
        row = {"transactionId": f"GP-{number}", "userId": player, "productId": "gem_100", "market": "google"}
        row |= {"amount": f"{cents / 100:.2f}", "currency": "USD", "purchasedAt": f"{name}-05T00:00:00Z"}
        row |= {"status": "refunded", "refunded_at": f"{name}-06T00:00:00Z"} if is_refunded else {"status": "paid"}
        push = partial(self.world.ask, "payments", "POST", {"payments": [row]})
        for answer in together(*[push] * times):
            assert answer.status == 200, answer
        self.model.pay(number, name, cents, is_refunded)

    @step()
    def acknowledge(self) -> None:
        if self.checks.newest:
            assert self.world.ask("grants/ack", "POST", {"through": self.checks.newest}).status == 200

    # What the owner does

    @step()
    def redeliver(self) -> None:
        self.world.flask("delivery", "redrive", GAME, "--all")

    @step()
    def settle(self) -> None:
        self.checks.deliveries_settle()

    @step(partner=st.sampled_from(PARTNERS))
    def rotate_key(self, partner: str) -> None:
        """The key before stays good; where it was never used, and so was mistyped, the one before that does."""
        self.seconds += 1
        key = f"{partner}-key-{self.seconds}"
        said = self.world.flask("secret", "rotate", GAME, SECRETS[partner], said=key)
        before, *previous = self.model.keys[partner]
        is_mistyped = "was never used" in said
        # The time of a use is written a moment later, so that a key which was just used may be taken for mistyped.
        if not previous or before not in self.model.used:
            assert is_mistyped == bool(previous), said
        self.model.keys[partner] = [key, *previous] if is_mistyped else [key, before]

    @step(partner=st.sampled_from(PARTNERS))
    def retire_key(self, partner: str) -> None:
        if len(self.model.keys[partner]) > 1:
            self.world.flask("secret", "retire", GAME, SECRETS[partner])
            retired = self.model.keys[partner].pop()
            for bought in self.picked(0, (partner,)):
                answer = self.world.send(report(bought, retired))
                assert answer is not None
                assert answer.status == UNPROVED[partner], answer
            self.check()

    @step()
    def rotate_master_key(self) -> None:
        self.world.rotate_master_key()

    @step(which=st.sampled_from((0, 1)))
    def close_month(self, which: int) -> None:
        self.checks.close(self.model, self.months[which])

    @step()
    def back_up(self) -> None:
        self.backup_file.unlink(missing_ok=True)
        self.world.flask("backup", str(self.backup_file))
        self.backup = deepcopy(self.model)

    @step(is_up=yes_or_no, are_reported_again=yes_or_no)
    def restore(self, is_up: bool, are_reported_again: bool) -> None:
        """Yesterday's backup, with the server up or not; partners may report again what was lost with it."""
        self.counts["restores"] += 1
        if not is_up:
            self.world.server.stop()
        self.world.flask("restore", str(self.backup_file))
        if not is_up:
            self.world.server.start()
        lost = [credit.first for credit in self.model.credits.values() if credit.first.key not in self.backup.credits]
        self.model = self.model.restored(deepcopy(self.backup))
        self.check()
        for bought in lost if are_reported_again else ():
            self.report(bought)

    @step()
    def restart(self) -> None:
        self.world.restart()
        self.check()

    @step(
        partners=st.lists(st.sampled_from(PARTNERS), min_size=1, max_size=4),
        player=st.sampled_from(PLAYERS),
        after_ms=st.integers(0, SOON_MS),
        is_all=yes_or_no,
        is_retried=yes_or_no,
        pick=picks,
        reason=reasons,
    )
    def crash(
        self, partners: list[str], player: str, after_ms: int, is_all: bool, is_retried: bool, pick: int, reason: str
    ) -> None:
        """Each purchase is reported twice, and money of an older one goes back, while server or worker is killed.

        What was answered holds. What was not may be credited or not: the partner tries again, or has given up, and
        then the feed says which it is. Reports of refunds and disputes are always tried again.
        """
        self.counts["kills"] += 1
        facts = [self.fact(each, reason, "both") for each in self.picked(pick, SHOPS)]
        cut_off = [partial(self.world.send, each.call(self.key(each.bought.partner))) for each in facts]
        told = [self.buy(partner=each, player=player, items=BOUGHT[1], cents=99, month=0) for each in partners] * 2
        answers = self.send_together(told, *cut_off, partial(self.world.kill, after_ms / 1000, is_all))
        self.world.recover()
        for fact in facts:
            self.give_back(fact)
        for bought, answer in zip(told, answers, strict=True):
            if answer is None and is_retried:
                self.report(bought, is_checked=False)
            elif answer is not None:
                self.take_one(bought, answer)
        for bought, answer in zip(told, answers, strict=True):
            if answer is None and not is_retried:
                self.checks.learn(self.model, bought)
        self.check()

    # How it is done

    def buy(self, partner: str, player: str, items: Sequence[tuple[str, int]], cents: int, month: int) -> Purchase:
        """Something new, which nobody has reported yet."""
        is_shop = partner in SHOPS
        about = {"cents": cents, "month": self.months[month]} if is_shop else {}
        bought = Purchase(partner, len(self.bought), player, tuple(items), **about)
        self.bought.append(bought)
        self.checks.know(bought)
        return bought

    def fact(self, bought: Purchase, reason: str, names: str, earlier: int = 0) -> MoneyBack:
        """What happened to the money of a purchase just now, or some seconds earlier."""
        self.seconds += 2
        at = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) + self.seconds - earlier
        if bought.partner == "xsolla":  # it reports refunds alone, and some are chargebacks
            return MoneyBack(bought, "chargeback" if reason == "chargeback" else "refund", at, "both")
        return MoneyBack(bought, reason, at, names)

    def give_back(self, fact: MoneyBack, times: int = 1) -> None:
        """Report it so often at once."""
        call = fact.call(self.key(fact.bought.partner))
        for answer in together(*[partial(self.world.send, call)] * times):
            assert answer is not None
            assert answer.status == OK[fact.bought.partner], answer
        self.model.money_back(fact)

    def picked(self, pick: int, partners: Sequence[str] = PARTNERS) -> list[Purchase]:
        """One of the purchases so far, if there is any."""
        some = [each for each in self.bought if each.partner in partners]
        return [some[pick % len(some)]] if some else []

    def key(self, partner: str) -> str:
        """What to sign with."""
        self.model.used.add(self.model.keys[partner][0])
        return self.model.keys[partner][0]

    def call(self, bought: Purchase) -> Call:
        return report(bought, self.key(bought.partner))

    def report(self, bought: Purchase, key: str | None = None, *, is_checked: bool = True) -> None:
        answer = self.world.send(report(bought, key or self.key(bought.partner)))
        assert answer is not None, f"no answer to {bought}"
        self.take_one(bought, answer)
        if is_checked:
            self.check()

    def send_together(self, told: Sequence[Purchase], *others: Any) -> list[Answer | None]:
        calls = [self.call(each) for each in told]
        self.counts["calls at once"] += len(calls)
        return together(*[partial(self.world.send, call) for call in calls], *others)[: len(calls)]

    def take(self, told: Sequence[Purchase], answers: Sequence[Answer | None]) -> None:
        for bought, answer in zip(told, answers, strict=True):
            assert answer is not None, f"no answer to {bought}"
            self.take_one(bought, answer)
        self.check()

    def take_one(self, bought: Purchase, answer: Answer) -> None:
        """Hold an answer against what the model says, and a repeat's against the first one."""
        self.counts["reports answered"] += 1
        outcome = self.model.report(bought)
        expected = (OK if outcome == "credited" else REFUSED)[bought.partner]
        assert answer.status == expected, f"{bought} should be {outcome}: {answer}"
        if outcome == "credited":
            credit = self.model.credits[bought.key]
            credit.answer = credit.answer or answer.body
            assert answer.body == credit.answer, f"a repeat of {bought} was answered otherwise"

    def check(self) -> None:
        self.counts["checks"] += 1
        self.checks.now(self.model)


def _months_before(day: date, count: int) -> date:
    for _ in range(count):
        day = (day - timedelta(days=1)).replace(day=1)
    return day
