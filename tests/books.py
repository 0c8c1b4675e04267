"""What tests of months need: payments and orders as partners and game report them, refunds of both, and closing."""

import dataclasses
from collections.abc import Callable
from typing import Any

from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.ledger import credit, events, refunds, reports
from coinslot.ledger.policies import Policy
from coinslot.payments import orders, parsing, payment_queue
from coinslot.payments import store as payments
from coinslot.payments.fields import Rules
from coinslot.settlement import closing, months
from coinslot.settlement.lines import Line
from coinslot.settlement.months import Settlement, Step
from coinslot.store.db import Connection

RULES = Rules(
    ("iOS", "Android", "Web", "Roblox", "Other"),
    ("MOBILE_STORE", "PC_STORE", "MOBILE_SELF_STORE", "PC_SELF_STORE"),
    {"google": ("Android", "MOBILE_STORE"), "pc": ("Web", "PC_SELF_STORE"), "web": ("Web", "MOBILE_SELF_STORE")},
)


def quarantine(tx: Connection, payment_id: int, reason: str) -> None:
    """Have a payment refused until it is quarantined."""
    for _ in range(payment_queue.MOST_TRIES):
        payment_queue.refuse(tx, payment_queue.REGISTER, {payment_id: reason}, [0.0])


def stamp(at: str) -> str:
    """A stamp of ``2026-07-20``, ``2026-07-20T10`` and so on."""
    return at + "2000-01-01T00:00:00.000000Z"[len(at) :]


class Books:
    """What happens to the purchases of a game, and its months. ``studio`` is the fixture of conftest.py.

    Times may be short, as in :func:`stamp`.
    """

    def __init__(self, installation: Installation, studio: Any) -> None:
        self.installation = installation
        self.studio = studio

    @property
    def game(self) -> Game:
        found = self.installation.games.by_slug(self.studio.slug)
        assert found is not None
        return found

    @property
    def connection(self) -> Connection:
        return self.installation.database.read()

    def write(self, function: Callable[[Connection], Any]) -> Any:
        return self.installation.database.write_here(function)

    def pay(
        self,
        transaction_id: str,
        amount: str = "9900",
        currency: str = "KRW",
        market: str = "google",
        at: str = "2026-07-10T00:00:00Z",
        player: str = "alice",
        *,
        is_registered: bool = True,
        is_refunded: bool = False,
        is_test: bool = False,
        source: str = "push",
    ) -> None:
        row = {
            "transactionId": transaction_id,
            "userId": player,
            "productId": "gems",
            "amount": amount,
            "currency": currency,
            "market": market,
            "purchasedAt": at,
            "status": "refunded" if is_refunded else "paid",
        }
        found = parsing.check(row, RULES, source, is_test=is_test)

        def store(tx: Connection) -> None:
            payments.store(tx, self.game.id, found, is_registering=True)
            if is_registered:
                tx.execute(
                    "UPDATE payments SET next_try_at = '2000' WHERE transaction_id = :id AND state = 'waiting'",
                    {"id": transaction_id},
                )
                due = payment_queue.claim(tx, payment_queue.REGISTER, self.game.id, 1, is_sandbox=is_test)
                payment_queue.finish(tx, payment_queue.REGISTER, [row["id"] for row in due], is_sandbox=is_test)

        self.write(store)

    def refund_payment(self, transaction_id: str, at: str = "2026-08-02") -> None:
        self.write(lambda tx: orders.refund_known(tx, self.game.id, transaction_id, stamp(at)))

    def order(
        self,
        order_id: str,
        gross: int | None = 999,
        currency: str | None = "USD",
        at: str | None = "2026-07-10",
        *,
        kind: str = "purchase",
        partner: str = "appcharge",
        player: str = "alice",
        environment: str = "live",
        reference: str | None = None,
        fingerprint: str | None = None,
        keys: tuple[tuple[str, str], ...] = (),
        known_by: tuple[tuple[str, str], ...] = (),
        lines: tuple[tuple[str, int], ...] = (("coins", 5),),
        **figures: Any,
    ) -> None:
        wanted = reports.Credit(
            game_id=self.game.id,
            game_slug=self.studio.slug,
            partner=partner,
            external_id=order_id,
            reference=reference or order_id,
            kind=kind,
            player_id=player,
            lines=lines,
            fingerprint=fingerprint or order_id,
            raw_body=b"{}",
            signature="signature",
            signed_with="key/current",
            answer_status=200,
            answer_body="{}",
            environment=environment,
            money=dataclasses.replace(reports.Money(currency, gross, usd_unit="cents"), **figures),
            occurred_at=at and stamp(at),
            keys=keys,
            known_by=known_by,
        )
        self.write(lambda tx: credit.credit(tx, wanted, reports.Rules("accept", "accept")))

    def refund_order(self, order_id: str, reason: str = "refund", at: str | None = "2026-07-20") -> None:
        self.write(
            lambda tx: refunds.note(
                *(tx, self.game.id, self.studio.slug, "appcharge"),
                event_id=None,
                reason=reason,
                named=[("reference", order_id)],
                player_id=None,
                is_test=False,
                occurred_at=at and stamp(at),
                policy=Policy.always("revoke"),
            )
        )

    def event(self, kind: str, data: dict[str, Any], **about: Any) -> None:
        """An event of PlayCamp."""
        common = {"raw_body": None, "environment": "live", "is_test": False, "dedupe_key": f"{kind}{data}{about}"}
        game_id = self.game.id
        self.write(
            lambda tx: events.record(tx, game_id=game_id, partner="playcamp", type=kind, data=data, **common, **about)
        )

    def boost(self, player: str, creator: str, at: str, *, is_end: bool = False) -> None:
        kind, data = "sponsor.ended" if is_end else "sponsor.created", {"campaign_id": "camp_1", "creator_key": creator}
        self.event(kind, data, player_id=player, occurred_at=stamp(at))

    def close(self, month: str = "2026-07", **options: Any) -> Settlement:
        database, in_game = self.installation.database, self.installation.in_game
        return closing.close(database, self.game, in_game, month, "test", **options)[0]

    def reopen(self, month: str = "2026-07", note: str = "why") -> None:
        game_id = self.game.id
        self.write(lambda tx: closing.reopen(tx, game_id, month, "test", note))

    def state(self, month: str = "2026-07") -> str:
        found = months.find_closed(self.connection, self.game.id, month)
        return "open" if found is None else found.state

    def steps(self, month: str = "2026-07") -> list[Step]:
        return months.steps(self.connection, self.game.id, month)

    def month_list(self) -> list[tuple[str, str]]:
        """Names and states of the months, the newest first."""
        return [(each.month.name, each.state) for each in months.month_list(self.connection, self.game)]

    def lines(self, *names: str) -> list[Line]:
        """The frozen lines of months; of 2026-07 if none is named."""
        found = [months.closed_month(self.connection, self.game.id, name) for name in names or ("2026-07",)]
        return [line for each in found for line in months.frozen_lines(self.connection, each.id)]

    def columns(self, names: str, *months: str) -> list[tuple[Any, ...]]:
        """These fields of the lines of months."""
        return [tuple(getattr(line, name) for name in names.split()) for line in self.lines(*months)]

    def figures(self, month: str = "2026-07") -> list[tuple[Any, ...]]:
        """Of each line that counts: what it is about, and count, gross, refunds, fee, net, share in minor units."""
        names = "section partner currency distribution_type creator count gross_minor refunds_minor fee_minor net_minor"
        rows = self.columns(f"{names} share_minor", month)
        return [tuple(row) for section, *row in rows if section in ("counted", "orders")]
