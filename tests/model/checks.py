"""What is true after every step, and what is true once everything has settled."""

import csv
import io
import json
from collections import defaultdict
from typing import Any

from tests.model.calls import GAME, PLAYERS, SECRETS, Purchase
from tests.model.model import Model, Sums
from tests.model.world import World


class Checks:
    """Remembers what a game would: every id that it has read, in whatever state of the ledger."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._keys: dict[tuple[str, str], tuple[str, int]] = {}  # partner and any id -> which purchase
        self._said: dict[str, dict[int, Any]] = {"grants": {}, "events": {}}  # feed -> id -> what it said
        self._bought: dict[tuple[str, int], Purchase] = {}

    def know(self, bought: Purchase) -> None:
        self._bought[bought.key] = bought
        for each in (bought.own_id, bought.other_id):
            self._keys[bought.partner, each] = bought.key

    @property
    def newest(self) -> int:
        return max(self._said["grants"], default=0)

    # After every step

    def now(self, model: Model) -> None:
        self._grants_are_those_of(model)
        self._events_are_those_of(model)
        self._balances_are_those_of(model)
        self._refusals_are_those_of(model)
        self._deliveries_are_true()

    def _read(self, feed: str) -> list[dict[str, Any]]:
        """A feed, whole. Ids increase; an id never changes its meaning; a new one is above all that were ever read."""
        found, said = self._world.feed(feed), self._said[feed]
        ids = [each["id"] for each in found]
        assert ids == sorted(set(ids)), f"{feed} are out of order: {ids}"
        highest = max(said, default=0)
        for each in found:
            if each["id"] in said:
                assert said[each["id"]] == each, f"{feed}: id {each['id']} has changed its meaning"
            else:
                assert each["id"] > highest, f"{feed}: id {each['id']} is new, and {highest} was read before"
                said[each["id"]] = each
        return found

    def _grants_are_those_of(self, model: Model) -> None:
        """Each purchase was granted 0 times or once, and what undoes that follows in its order."""
        found: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
        roots: dict[int, tuple[str, int]] = {}  # grant -> purchase
        identities = set()
        for grant in self._read("grants"):
            if grant["reverses"] is None:
                key = self._keys[grant["partner"], grant["external_id"]]
                assert key not in found, f"{key} was granted twice"
            else:
                key = roots[grant["reverses"]]
            roots[grant["id"]] = key
            credit = model.credits.get(key)
            assert credit is not None, f"{key} was granted, and nobody was told so: {grant}"
            lines = {line["sku"]: line["quantity"] for line in grant["items"]}
            bought = dict(credit.first.items)
            sign = 1 if lines == bought else -1 if lines == {sku: -each for sku, each in bought.items()} else 0
            assert grant["player_id"] == credit.first.player, grant
            found[key].append((grant["kind"], sign))
            identity = (grant["transaction_id"], grant["kind"])
            assert identity not in identities, f"a game would take two grants for one: {grant}"
            identities.add(identity)
            if key[0] == "appcharge" and grant["reverses"] is None and credit.answer is not None:
                assert json.loads(credit.answer)["publisherPurchaseId"] == grant["transaction_id"]
        expected = {key: credit.grants for key, credit in model.credits.items()}
        assert found == expected, _differences(found, expected)

    def content_of(self, bought: Purchase) -> Purchase | None:
        """How the feed says that a purchase was credited; None where it was not."""
        for grant in self._world.feed("grants"):
            key = self._keys.get((grant["partner"], grant["external_id"]))
            if key == bought.key and grant["reverses"] is None:
                items = {line["sku"]: line["quantity"] for line in grant["items"]}
                for each in (bought, bought.otherwise()):
                    if dict(each.items) == items:
                        return each
        return None

    def learn(self, model: Model, bought: Purchase) -> None:
        """Nobody knows what became of a report: the feed and the refused calls say it."""
        if bought.key in model.credits:
            return
        if self.content_of(bought) is not None:
            assert model.report(bought) == "credited"
        elif bought.key in self._refused():
            assert model.report(bought) == "refused"

    def _events_are_those_of(self, model: Model) -> None:
        shops = [each for each in self._read("events") if each["partner"] in ("appcharge", "xsolla")]
        assert len(shops) == len(model.events), f"{len(shops)} events for {model.events}"

    def _balances_are_those_of(self, model: Model) -> None:
        """A player who was forgotten has a balance too."""
        for player in PLAYERS:
            answer = self._world.ask(f"players/{player}/granted")
            granted = {sku: total for sku, total in answer.json["granted"].items() if total}
            assert granted == model.balances(player), f"{player}: {granted}, not {model.balances(player)}"
            is_known = self._world.ask(f"players/{player}").status == 200
            assert is_known == (player in model.players), f"{player} is {'' if is_known else 'not '}in the registry"

    def _refused(self) -> dict[tuple[str, int], str | None]:
        rows = self._world.rows("SELECT partner, reference, player_id FROM refusals WHERE state = 'open'")
        return {self._keys[row["partner"], row["reference"]]: row["player_id"] for row in rows}

    def _refusals_are_those_of(self, model: Model) -> None:
        """Each proved order that nobody was credited for is kept, and so is each report with other content."""
        refused = self._refused()
        assert refused == model.refused_players, f"refused: {refused}, not {model.refused_players}"
        rows = self._world.rows("SELECT partner, external_id, fingerprint FROM conflicts")
        found = sorted((row["partner"], row["external_id"].rpartition(":")[2]) for row in rows)
        expected = sorted((partner, external_id) for partner, _, external_id, _ in model.conflicts)
        assert found == expected, f"conflicts: {found}, not {expected}"

    def _deliveries_are_true(self) -> None:
        """What is said to be delivered has arrived, as the feed says it, and each grant is owed to the game once."""
        game = self._world.game
        assert not game.wrong, game.wrong
        owed = set()
        for row in self._world.deliveries():
            assert row["grant_id"] not in owed, f"grant {row['grant_id']} is owed twice"
            owed.add(row["grant_id"])
            if row["state"] == "delivered":
                assert row["webhook_id"] in game.taken, f"grant {row['grant_id']} is delivered, and never arrived"
        current = self._current()
        assert owed == set(current), f"owed {sorted(owed)}, granted {sorted(current)}"
        with game.mutex:
            taken = list(game.taken.items())
        carriers: dict[int, str] = {}
        for webhook_id, data in taken:
            if "items" not in data or "external_id" not in data or "kind" not in data:
                continue  # an event
            known = self._said["grants"].get(data["id"])
            if known is not None:
                assert data == known, f"delivered {data}, not {known}"
            assert carriers.setdefault(data["id"], webhook_id) == webhook_id, f"grant {data['id']} has two webhook ids"

    def _current(self) -> list[int]:
        return [row["id"] for row in self._world.rows("SELECT id FROM grants")]

    # Once everything has settled

    def deliveries_settle(self) -> None:
        """Every grant there is has arrived."""
        self._world.settle()
        self._deliveries_are_true()
        with self._world.game.mutex:
            arrived = {data["id"] for data in self._world.game.taken.values() if "kind" in data}
        missing = set(self._current()) - arrived
        assert not missing, f"grants {sorted(missing)} never arrived"

    def close(self, model: Model, month: str, *options: str) -> None:
        """A closed month stays as it is, to the byte."""
        self._world.flask("settlement", "close", GAME, month, *options)
        model.closed.setdefault(month, self._statement(month))

    def _statement(self, month: str) -> str:
        return self._world.flask("settlement", "export", GAME, month)

    def end(self, model: Model, months: list[str]) -> None:
        """All the slow checks. Afterwards everything is settled and every month is closed."""
        self.now(model)
        self.deliveries_settle()
        self._troubles_name(model)
        for player in PLAYERS:
            sponsors = self._world.ask(f"players/{player}/sponsors").json["sponsors"]
            creators = [each["creator_key"] for each in sponsors]
            assert creators == ([model.boosts[player]] if player in model.boosts else []), f"{player}: {creators}"
        for month, before in model.closed.items():
            assert self._statement(month) == before, f"{month} was closed, and has changed"
        for month in months:
            self.close(model, month, "--early")
        found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        for month in months:
            for row in csv.DictReader(io.StringIO(model.closed[month])):
                sums = found[row["month"], row["partner"]]
                sums[0] += int(row["count"])
                sums[1] += round(float(row["gross"]) * 100)
                sums[2] += round(float(row["refunds"]) * 100)
        stated: Sums = {key: (sums[0], sums[1], sums[2]) for key, sums in found.items() if any(sums)}
        assert stated == model.sums(months), f"months: {stated}, not {model.sums(months)}"
        self._world.flask("proof")

    def _troubles_name(self, model: Model) -> None:
        troubles = json.loads(self._world.flask("trouble", "list", "--json"))
        said = "\n".join(f"{each['key']} {each['count']} {each['sentence']}" for each in troubles)
        for partner in SECRETS:
            refused = sum(key[0] == partner for key in model.refused)
            counted = sum(each["count"] for each in troubles if each["key"].startswith(f"refused:{GAME}:{partner}."))
            assert refused == counted, f"{refused} refused calls of {partner}, and these troubles:\n{said}"


def _differences(found: Any, expected: Any) -> str:
    keys = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
    return "\n".join(f"{key}: the feed has {found.get(key)}, and should have {expected.get(key)}" for key in keys)
