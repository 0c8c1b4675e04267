"""What tests of months need: payments and orders as partners and game report them, and refunds of both."""

import dataclasses
from decimal import Decimal
from typing import Any

from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.ledger import credit, refunds, reports
from coinslot.ledger.policies import Policy
from coinslot.payments import orders, parsing, payment_queue
from coinslot.payments import store as payments
from coinslot.payments.fields import Rules
from coinslot.settlement import closing, months
from coinslot.settlement.lines import Line
from coinslot.settlement.months import Settlement

RULES = Rules(
    ("iOS", "Android", "Web", "Roblox", "Other"),
    ("MOBILE_STORE", "PC_STORE", "MOBILE_SELF_STORE", "PC_SELF_STORE"),
    {"google": ("Android", "MOBILE_STORE"), "pc": ("Web", "PC_SELF_STORE"), "web": ("Web", "MOBILE_SELF_STORE")},
)


def quarantine(tx: Any, payment_id: int, reason: str) -> None:
    """Have a payment refused until it is quarantined."""
    for _ in range(payment_queue.MOST_TRIES):
        payment_queue.refuse(tx, payment_queue.REGISTER, {payment_id: reason}, [0.0])


class Books:
    """``studio`` is the fixture of conftest.py."""

    def __init__(self, installation: Installation, studio: Any) -> None:
        self.installation = installation
        self.studio = studio

    @property
    def game(self) -> Game:
        found = self.installation.games.by_slug(self.studio.slug)
        assert found is not None
        return found

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
        **changed: Any,
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
        found = parsing.check({**row, **changed}, RULES, source, is_test=is_test)

        def store(tx: Any) -> None:
            payments.store(tx, self.game.id, found, is_registering=True)
            if is_registered:
                tx.execute(
                    "UPDATE payments SET next_try_at = '2000' WHERE transaction_id = :id AND state = 'waiting'",
                    {"id": transaction_id},
                )
                due = payment_queue.claim(tx, payment_queue.REGISTER, self.game.id, 1, is_sandbox=is_test)
                payment_queue.finish(tx, payment_queue.REGISTER, [row["id"] for row in due], is_sandbox=is_test)

        self.installation.database.write_here(store)

    def refund_payment(self, transaction_id: str, at: str = "2026-08-02T00:00:00.000000Z") -> None:
        self.installation.database.write_here(lambda tx: orders.refund_known(tx, self.game.id, transaction_id, at))

    def order(
        self,
        order_id: str,
        gross: int | None = 999,
        currency: str | None = "USD",
        at: str | None = "2026-07-10T00:00:00.000000Z",
        *,
        kind: str = "purchase",
        partner: str = "appcharge",
        player: str = "alice",
        environment: str = "live",
        reference: str | None = None,
        fingerprint: str | None = None,
        keys: tuple[tuple[str, str], ...] = (),
        known_by: tuple[tuple[str, str], ...] = (),
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
            lines=(("coins", 5),),
            fingerprint=fingerprint or order_id,
            raw_body=b"{}",
            signature="signature",
            signed_with="key/current",
            answer_status=200,
            answer_body="{}",
            environment=environment,
            money=dataclasses.replace(reports.Money(currency, gross, usd_unit="cents"), **figures),
            occurred_at=at,
            keys=keys,
            known_by=known_by,
        )
        self.installation.database.write_here(lambda tx: credit.credit(tx, wanted, reports.Rules("accept", "accept")))

    def refund_order(self, order_id: str, reason: str = "refund", at: str = "2026-07-20T00:00:00.000000Z") -> None:
        self.installation.database.write_here(
            lambda tx: refunds.note(
                tx,
                self.game.id,
                self.studio.slug,
                "appcharge",
                event_id=None,
                reason=reason,
                named=[("reference", order_id)],
                player_id=None,
                is_test=False,
                occurred_at=at,
                policy=Policy.always("revoke"),
            )
        )

    def close(self, month: str = "2026-07", **options: Any) -> Settlement:
        found, _ = closing.close(
            self.installation.database, self.game, self.installation.in_game, month, "test", **options
        )
        return found

    def lines(self, month: str = "2026-07") -> list[Line]:
        connection = self.installation.database.read()
        found = months.find_closed(connection, self.game.id, month)
        assert found is not None, f"{month} is open"
        return months.frozen_lines(connection, found.id)

    def figures(self, month: str = "2026-07") -> list[tuple[Any, ...]]:
        """Of each line that counts: what it is about, and count, gross, refunds, fee, net, share in minor units."""
        return [
            (
                each.partner,
                each.currency,
                each.distribution_type,
                each.creator,
                *(each.count, each.gross_minor, each.refunds_minor, each.fee_minor, each.net_minor, each.share_minor),
            )
            for each in self.lines(month)
            if each.section in ("counted", "orders")
        ]


def cents(text: str) -> Decimal:
    return Decimal(text)
