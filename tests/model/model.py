"""What Coinslot promises, as a few dictionaries. The test expects what this says; it imports nothing of the product.

It knows who is registered, what was credited and what of it was taken back, which proved calls were refused, and what
the months should come to. ``deepcopy`` of it is what a backup holds.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.model.calls import SECRETS, MoneyBack, Purchase

Sums = dict[tuple[str, str], tuple[int, int, int]]  # month, partner -> count, gross and refunds in cents


@dataclass
class Credit:
    """A purchase that was credited once: the report that did it, and every fact about its money since."""

    first: Purchase
    known: set[str]  # ids by which reports have named it
    facts: list[tuple[str, int, str]] = field(default_factory=list)  # reason, when, what came of it
    grants: list[tuple[str, int]] = field(default_factory=list)  # kind, and +1 or -1 times the items
    taken_by: tuple[str, int] | None = None  # the fact whose reversal stands
    answer: bytes | None = None  # the first one

    def apply(self, reason: str, at: int) -> None:
        """Once per purchase: a refund or a lost dispute takes back, a won dispute gives back what a lost one took."""
        outcome = "nothing"
        if reason == "reinstated":
            is_ours = self.taken_by is not None and self.taken_by[0] == "chargeback" and self.taken_by[1] <= at
            if is_ours and not any(said == "refund" for said, _, _ in self.facts):
                outcome, self.taken_by = "given back", None
                self.grants.append(("adjustment", 1))
        elif self.taken_by is None and not (reason == "chargeback" and self._is_won_since(at)):
            outcome, self.taken_by = "taken", (reason, at)
            self.grants.append(("reversal", -1))
        self.facts.append((reason, at, outcome))

    def _is_won_since(self, at: int) -> bool:
        return any(said == "reinstated" and when >= at for said, when, _ in self.facts)

    @property
    def is_refunded(self) -> bool:
        """As the books say it: a refund stands, a lost dispute stands unless it was won then or later."""
        return any(
            said == "refund" or (said == "chargeback" and not self._is_won_since(at)) for said, at, _ in self.facts
        )

    @property
    def balance(self) -> int:
        """0 or 1 times its items."""
        return sum(sign for _, sign in self.grants)


@dataclass
class Model:
    players: set[str]
    items: set[str]
    keys: dict[str, list[str]]  # partner -> current key, and the one before where that is still valid
    used: set[str] = field(default_factory=set)  # keys with which something was signed
    credits: dict[tuple[str, int], Credit] = field(default_factory=dict)
    waiting: list[MoneyBack] = field(default_factory=list)  # of purchases that nobody has reported yet
    events: set[tuple[object, ...]] = field(default_factory=set)  # facts that were stored
    refused: dict[tuple[str, int], set[str]] = field(default_factory=dict)  # open: purchase -> ids that it was named by
    refused_players: dict[tuple[str, int], str] = field(default_factory=dict)
    conflicts: set[tuple[object, ...]] = field(default_factory=set)
    boosts: dict[str, str] = field(default_factory=dict)  # player -> creator
    forgotten: dict[str, int] = field(default_factory=dict)  # player -> the last time
    payments: dict[int, tuple[str, int, bool]] = field(default_factory=dict)  # month, cents, whether refunded since
    closed: dict[str, str] = field(default_factory=dict)  # month -> its statement
    time: int = 0  # counts what is forgotten; a restore does not turn it back

    # What partners do

    def report(self, bought: Purchase) -> str:
        """What becomes of a report: ``credited`` (now or before), ``conflict`` or ``refused``."""
        known = self.credits.get(bought.key)
        if known is not None and known.first.content != bought.content:
            self.conflicts.add((*bought.key, bought.reported_id, bought.content))
            return "conflict"
        if known is None and not self.would_credit(bought):
            self.refused.setdefault(bought.key, set()).update(names(bought))
            self.refused_players[bought.key] = bought.player
            return "refused"
        if known is None:
            known = self.credits[bought.key] = Credit(bought, set(), grants=[(bought.kind, 1)])
        known.known |= names(bought)
        self._end_refusal(bought.key)
        for fact in [each for each in self.waiting if each.bought.key == bought.key and each.ids & known.known]:
            self.waiting.remove(fact)
            known.apply(fact.reason, fact.at)
        return "credited"

    def would_credit(self, bought: Purchase) -> bool:
        """PlayCamp's rewards need no registered player and item."""
        return bought.partner == "playcamp" or (
            bought.player in self.players and {sku for sku, _ in bought.items} <= self.items
        )

    def money_back(self, fact: MoneyBack) -> None:
        """A fact counts once. One about a purchase that is not known by these ids waits for it."""
        if fact.event_key in self.events:
            return
        self.events.add(fact.event_key)
        known = self.credits.get(fact.bought.key)
        if known is not None and fact.ids & known.known:
            known.apply(fact.reason, fact.at)
            return
        self.waiting.append(fact)
        if fact.reason != "reinstated" and fact.ids & self.refused.get(fact.bought.key, set()):
            self._end_refusal(fact.bought.key)

    def pay(self, number: int, month: str, cents: int, is_refunded: bool) -> None:
        """In the game itself: a payment counts once, and what was refunded stays so."""
        was_refunded = number in self.payments and self.payments[number][2]
        self.payments[number] = (month, cents, is_refunded or was_refunded)

    # What the owner does

    def forget(self, player: str) -> None:
        """The person goes, the sums stay. What was refused for them can never be mended."""
        self.time += 1
        self.forgotten[player] = self.time
        self._forget(player)

    def _forget(self, player: str) -> None:
        self.players.discard(player)
        self.boosts.pop(player, None)
        for key in [key for key, named in self.refused_players.items() if named == player]:
            self._end_refusal(key)

    def restored(self, backup: "Model") -> "Model":
        """Everything is as it was in the backup, but who was forgotten since is forgotten again."""
        for player, time in self.forgotten.items():
            if backup.forgotten.get(player) != time:
                backup._forget(player)
        backup.forgotten, backup.time = dict(self.forgotten), self.time
        return backup

    def _end_refusal(self, key: tuple[str, int]) -> None:
        self.refused.pop(key, None)
        self.refused_players.pop(key, None)

    # What must be true

    def balances(self, player: str) -> dict[str, int]:
        """What a player was granted less what was taken back, by item; items that came to nothing left out."""
        sums: dict[str, int] = defaultdict(int)
        for credit in self.credits.values():
            for sku, quantity in credit.first.items if credit.first.player == player else ():
                sums[sku] += quantity * credit.balance
        return {sku: total for sku, total in sums.items() if total}

    def sums(self, months: Iterable[str]) -> Sums:
        """What the statements say of what was paid for in these months; a month without anything is left out."""
        paid = [
            (each.first.month, each.first.partner, each.first.cents, each.is_refunded)
            for each in self.credits.values()
            if each.first.cents
        ]
        paid += [(month, "playcamp", cents, is_refunded) for month, cents, is_refunded in self.payments.values()]
        found: Sums = {}
        for month, partner, cents, is_refunded in paid:
            if month in months:
                count, gross, refunds = found.get((month, partner), (0, 0, 0))
                found[month, partner] = (count + 1, gross + cents, refunds + cents * is_refunded)
        return found


def names(bought: Purchase) -> set[str]:
    """The ids that a report names its purchase by."""
    own = set() if bought.by_payment else {f"own:{bought.own_id}"}
    return own | ({f"other:{bought.other_id}"} if bought.other_id else set())


def new(players: Iterable[str], items: Iterable[str]) -> Model:
    return Model(set(players), set(items), {partner: [f"{partner}-key-0"] for partner in SECRETS})
