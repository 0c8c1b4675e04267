"""Sixty days of a demo: who buys what and when, what is given back, what goes wrong and what is mended."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from coinslot.base import clock
from coinslot.operations import asides
from coinslot.settlement import closing
from handlers.commands.demo.stage import ACTOR, STRANGERS_ADDRESS, Stage
from handlers.commands.demo.studio import API, CREATORS, KINGDOMS, MINER, PACKS, Pack, Person
from handlers.kit import demo_world
from handlers.kit.alerting import watch_and_send

DAYS, FEWEST_DAYS = 60, 10
DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
STATISTICS_GONE_DAYS = 6  # before now
OUTAGE_DAYS, OUTAGE_HOURS = 19, 2.5
MISSING = 5  # place of the payment that a report lacks


class Life:
    """Plans everything on a stage, from some days before ``now`` to ``now``."""

    def __init__(self, stage: Stage, random: Random, now: float, days: int, who: dict[str, list[Person]]) -> None:
        self.stage, self.random, self.now, self.days, self.who = stage, random, now, days, who
        self.begins = now - now % DAY - (days - 1) * DAY
        self.number = 4000  # of the newest order
        self.reported: list[dict[str, str]] = []  # by the partner of in-game payments: its figures

    def plan(self) -> None:
        for slug in (MINER, KINGDOMS):
            for number, person in enumerate(self.who[slug]):
                self._at(self.begins + MINUTE + number * 20, partial(self._register, slug, person))
        for day in range(self.days):
            midnight = self.begins + day * DAY
            is_weekend = int(midnight // DAY) % 7 in (2, 3)  # 1970-01-01 was a Thursday
            for slug, least, most in ((MINER, 9, 15), (KINGDOMS, 4, 8)):
                count = self.random.randint(least, most) * (1 + day / 90) * (1.5 if is_weekend else 1)
                for _ in range(round(count)):
                    self._order(slug, self._evening(midnight))
            for _ in range(self.random.randint(1, 4)):
                self._xsolla(self._evening(midnight))
            for _ in range(self.random.randint(2, 6)):
                self._reward(self._evening(midnight))
            for hour in (3, 9, 15, 21):
                self._at(midnight + hour * HOUR + 7 * MINUTE, self._read_feed)
                self._at(midnight + hour * HOUR + 8 * MINUTE, partial(watch_and_send, self.stage.installation))
        self._creators()
        self._troubles()
        self._months()
        self._at(self.now - MINUTE, self._read_feed)

    # What happens every day

    def _register(self, slug: str, person: Person) -> None:
        profile = {"name": person.name, "country": person.country, "segments": ["payers"]}
        self.stage.game(slug, "PUT", f"/players/{person.player_id}", profile, expect=201)

    def _order(self, slug: str, at: float) -> None:
        """A purchase in the web store: often a login before it, sometimes a retry or a refund after it."""
        random = self.random
        person, pack = self._buyer(slug), random.choices(PACKS[slug], (8, 5, 3, 1)[: len(PACKS[slug])])[0]
        order = self._document(person, pack)
        if random.random() < 0.3:
            login = {"authMethod": "userToken", "token": person.player_id, "appId": "NA"}
            self._at(at - 4 * MINUTE, partial(self._appcharge, slug, "auth", login))
            self._at(at - 3 * MINUTE, partial(self._appcharge, slug, "players", {"playerId": person.player_id}))
        self._at(at, partial(self._appcharge, slug, "orders", order))
        if random.random() < 0.05:
            self._at(at + 20, partial(self._appcharge, slug, "orders", order))
        if random.random() < 0.04:
            is_lost = random.random() < 0.25
            later = at + random.uniform(0.2, 9 if is_lost else 3) * DAY
            names = ("order.dispute.opened", "order.dispute.lost") if is_lost else ("order.refunded",)
            for number, name in enumerate(names):
                self._at(later + number * 2 * DAY, partial(self._order_event, slug, order, name))

    def _document(self, person: Person, pack: Pack) -> dict[str, Any]:
        self.number += self.random.randint(1, 3)
        price = pack.prices[person.currency]
        in_cents = pack.prices["USD"]
        return {
            "orderId": f"68f0{self.number:06x}a3e1c9",
            "purchaseId": f"pr_{self.number:06x}",
            "appChargePaymentId": f"pay_{self.number:06x}",
            "playerId": person.player_id,
            "playerEmail": f"{person.name.lower()}@mail.example",
            "bundleName": pack.name,
            "sku": pack.sku,
            "products": [{"amount": amount, "sku": sku} for sku, amount in pack.lines],
            "priceInCents": price,
            "currency": person.currency,
            "subTotal": price - price // 6,
            "tax": price // 6,
            "priceInDollar": in_cents,
            "taxInDollar": in_cents // 6,
            "estimatedAppchargeFee": in_cents // 20,
            "estimatedPublisherNetAmount": in_cents - in_cents // 6 - in_cents // 20,
            "action": "purchase",
            "actionStatus": "completed",
            "awardFlow": "auto",
        }

    def _appcharge(self, slug: str, endpoint: str, content: dict[str, Any], expect: int = 200) -> None:
        if endpoint == "orders":
            content = {**content, "purchaseDateAndTimeUtc": clock.stamp(clock.now() - 3)[:23] + "Z"}
        self.stage.partner(slug, "appcharge", endpoint, content, expect=expect)

    def _order_event(self, slug: str, order: dict[str, Any], name: str) -> None:
        event = {
            "eventName": name,
            "eventId": f"ev_{order['orderId']}_{name[-4:]}",
            "timestamp": int(clock.now() * 1000),
            "customer": {"id": order["playerId"]},
            "order": {"orderId": order["orderId"]},
            "result": "success",
        }
        self._appcharge(slug, "events", event)

    def _xsolla(self, at: float) -> None:
        person, pack = self._buyer(MINER), self.random.choice(PACKS[MINER][:3])
        currency = "EUR" if person.currency == "EUR" else "USD"
        self.number += 1
        price = f"{pack.prices[currency] / 100:.2f}"
        user = {"external_id": person.player_id, "country": person.country}
        purchase = {
            "notification_type": "order_paid",
            "items": [
                {"sku": sku, "type": "virtual_good", "quantity": amount, "amount": price} for sku, amount in pack.lines
            ],
            "order": {
                "id": 7_000_000 + self.number,
                "mode": "default",
                "currency_type": "real",
                "currency": currency,
                "amount": price,
                "status": "paid",
                "invoice_id": f"{880_000_000 + self.number}",
            },
            "user": user,
            "billing": {"transaction": {"payment_date": clock.stamp(at)}},
        }
        validation = {"notification_type": "user_validation", "user": {"id": person.player_id}}
        self._at(at - 2 * MINUTE, partial(self._notify, validation))
        self._at(at, partial(self._notify, purchase))

    def _notify(self, content: dict[str, Any], expect: int = 204) -> None:
        self.stage.partner(MINER, "xsolla", "webhook", content, expect=expect)

    def _reward(self, at: float) -> None:
        slug = self.random.choice((MINER, KINGDOMS, KINGDOMS))
        self.number += 1
        content = {
            "UserId": self._buyer(slug).player_id,
            "Items": [self.random.choice(("fuel", "fuel", "crystals") if slug == MINER else ("gold", "gold", "gems"))],
            "TransactionId": f"pt-{self.number}",
        }
        self._at(at, partial(self.stage.partner, slug, "playtem", "credit", content))

    def _read_feed(self) -> None:
        """The server of Tiny Kingdoms has no destination: it reads its feed, and says so."""
        after = 0 if self._read_through is None else self._read_through
        page = self.stage.game(KINGDOMS, "GET", f"/grants?after={after}&limit=1000")
        if page["grants"]:
            self._read_through = page["next_after"]
            self.stage.game(KINGDOMS, "POST", "/grants/ack", {"through": page["next_after"]})

    _read_through: int | None = None

    # Creators and the game's own payments

    def _creators(self) -> None:
        supporters = self.who[MINER][:22]
        for number, person in enumerate(supporters):
            creator = CREATORS[number % len(CREATORS)]
            at = self.begins + DAY + self.random.uniform(0, self.days - 2) * DAY
            data = {"userId": person.player_id, "campaignId": "autumn-expedition", "creatorKey": creator}
            self._at(at, partial(self._entry, person))
            self._at(at + MINUTE, partial(self._sponsor, "sponsor.created", data))
            if number % 9 == 8:
                self._at(at + 12 * DAY, partial(self._sponsor, "sponsor.ended", data))
            for payment in range(self.random.randint(2, 7)):
                self._payment(person, at + (payment + self.random.random()) * 3 * DAY)

    def _entry(self, person: Person) -> None:
        self.stage.partner(MINER, "playcamp", "sponsor", {"user": person.player_id}, expect=302)

    def _sponsor(self, event: str, data: dict[str, Any]) -> None:
        content = {"event": event, "timestamp": f"{clock.stamp()[:23]}Z", "data": data}
        self.stage.partner(MINER, "playcamp", "webhook", content)

    def _payment(self, person: Person, at: float) -> None:
        pack, number = self.random.choice(PACKS[MINER][:3]), self._next()
        minor = pack.prices[person.currency]
        payment = {
            "transactionId": f"GPA.{3300 + number // 1000}-{number:06}",
            "userId": person.player_id,
            "productId": pack.sku,
            "productName": pack.name,
            "amount": str(minor) if person.currency in ("KRW", "JPY") else f"{minor / 100:.2f}",
            "currency": person.currency,
            "market": self.random.choice(("google", "google", "apple")),
        }
        self._at(at, partial(self._push, payment, at))
        self.reported.append(
            {
                "transactionId": payment["transactionId"],
                "amount": payment["amount"],
                "currency": payment["currency"],
                "status": "COMPLETED",
                "purchasedAt": clock.stamp(at),
            }
        )
        if self.random.random() < 0.05:
            refund = {"status": "refunded", "refunded_at": clock.stamp(at + 2 * DAY)}
            self._at(at + 2 * DAY, partial(self._push, payment | refund, at))
            self.reported[-1]["status"] = "REFUNDED"
        elif self.random.random() < 0.02:
            odd = payment | {"transactionId": f"GLX-{number}", "market": "galaxy"}
            self._at(at + HOUR, partial(self._push, odd, at))

    def _push(self, payment: dict[str, Any], at: float) -> None:
        self.stage.game(MINER, "POST", "/payments", {"payments": [payment | {"purchasedAt": clock.stamp(at)}]})

    # What goes wrong, and is mended or not

    def _troubles(self) -> None:
        now, miner = self.now, self.who[MINER]
        gone, outage = now - STATISTICS_GONE_DAYS * DAY, now - OUTAGE_DAYS * DAY
        demo_world.down |= {
            demo_world.GONE: [(gone, float("inf"))],
            API: [(outage, outage + OUTAGE_HOURS * HOUR)],
        }
        stranger = Person("s2077", "Kofi", "US", "USD")
        standing = self._document(stranger, PACKS[MINER][2])
        for back in (31 * HOUR, 30 * HOUR, 22 * HOUR):
            self._at(now - back, partial(self._appcharge, MINER, "orders", standing, 400))
        newcomer = Person("s1999", "Wanjiru", "GB", "GBP")
        mended = self._document(newcomer, PACKS[MINER][1])
        self._at(now - 8 * DAY, partial(self._appcharge, MINER, "orders", mended, 400))
        self._at(now - 8 * DAY + 2 * HOUR, partial(self._register, MINER, newcomer))
        self._at(now - 8 * DAY + 2.5 * HOUR, partial(self._appcharge, MINER, "orders", mended))
        unknown = self._document(miner[3], Pack("early-bird", "Early Bird", PACKS[MINER][0].prices, (("egg", 1),)))
        self._at(now - 15 * DAY, partial(self._appcharge, MINER, "orders", unknown, 400))
        self._at(now - 14.8 * DAY, self._set_aside)
        twice = self._document(miner[5], PACKS[MINER][0])
        self._at(now - 5 * DAY, partial(self._appcharge, MINER, "orders", twice))
        dearer = twice | {"priceInCents": 2 * twice["priceInCents"]}
        self._at(now - 5 * DAY + HOUR, partial(self._appcharge, MINER, "orders", dearer, 400))
        for back in (50 * HOUR, 9 * HOUR):
            forged = {"signature": f"t={int((now - back) * 1000)},v1={'0' * 64}"}
            order = self._document(miner[1], PACKS[MINER][3])
            call = partial(
                self.stage.partner, MINER, "appcharge", "orders", order, expect=401, address=STRANGERS_ADDRESS, **forged
            )
            self._at(now - back, call)

    def _set_aside(self) -> None:
        key, note = f"refused:{MINER}:appcharge.orders:unknown_item", "A test of the store's staff. The money is back."
        self.stage.installation.database.write_here(lambda tx: asides.add(tx, key, note, ACTOR))

    def _months(self) -> None:
        """The month before this one is closed on its third day."""
        third = _month_begins(self.now) + 2 * DAY + 9 * HOUR
        last = self.now - 2 * HOUR
        at = third if self.begins < third < last else last
        self._at(at, self._close)
        self._at(at + HOUR, self._compare)

    def _close(self) -> None:
        installation = self.stage.installation
        name = clock.stamp(_month_begins(clock.now()) - DAY)[:7]
        for slug in (MINER, KINGDOMS):
            game = installation.games.by_slug(slug)
            assert game is not None
            closing.close(installation.database, game, installation.in_game, name, ACTOR)

    def _compare(self) -> None:
        """The partner lacks one payment and has another at a lower amount."""
        month = clock.stamp(_month_begins(clock.now()) - DAY)[:7]
        rows = [dict(each) for each in self.reported if each["purchasedAt"].startswith(month)]
        if len(rows) > MISSING:
            rows[0]["amount"] = "1.99"
            del rows[MISSING]
            self.stage.compare(MINER, month, "playcamp", rows)

    # The small things

    def _at(self, at: float, act: Callable[[], object]) -> None:
        if self.begins < at < self.now:
            self.stage.plan(at, act)

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _buyer(self, slug: str) -> Person:
        """The first buy most."""
        known = self.who[slug]
        return known[min(int(self.random.expovariate(4 / len(known))), len(known) - 1)]

    def _evening(self, midnight: float) -> float:
        """A moment of that day, of the evening more often than of the night."""
        return midnight + self.random.triangular(0.02, 0.995, 0.8) * DAY


def _month_begins(now: float) -> float:
    return clock.seconds(f"{clock.stamp(now)[:7]}-01T00:00:00.000000Z")
