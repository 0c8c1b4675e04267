"""What every partner that credits must pass, whatever its dialect. A partner's test file says how it signs and answers.

Subclass with ``send``, ``accepted`` and ``refused`` filled in; pytest collects the inherited tests there.
"""

from collections.abc import Callable
from typing import Any

import pytest


class PartnerCases:
    """``send`` posts one credit of 1 coin to alice under a given id and answers with Flask's response."""

    def send(self, client: Any, studio: Any, **how: Any) -> Any:
        """``id``, ``key``, ``player``, ``items`` (sku list), ``spoil`` (one byte), ``unsigned``, ``age`` in seconds."""
        raise NotImplementedError

    def is_accepted(self, answer: Any) -> bool:
        raise NotImplementedError

    def is_forbidden(self, answer: Any) -> bool:
        raise NotImplementedError

    def is_refused(self, answer: Any) -> bool:
        raise NotImplementedError

    secret = ""

    def test_a_good_signature_credits(self, client, studio, feed):
        answer = self.send(client, studio)

        assert self.is_accepted(answer)
        assert [line for grant in feed() for line in grant["items"]] == [{"sku": "coins", "quantity": 1}]

    def test_a_wrong_key_credits_nothing(self, client, studio, feed):
        assert self.is_forbidden(self.send(client, studio, key="another-key"))
        assert feed() == []

    def test_a_missing_signature_credits_nothing(self, client, studio, feed):
        assert self.is_forbidden(self.send(client, studio, unsigned=True))
        assert feed() == []

    def test_one_changed_byte_credits_nothing(self, client, studio, feed):
        assert self.is_forbidden(self.send(client, studio, spoil=True))
        assert feed() == []

    @pytest.mark.parametrize("age", [301, -301, 3600])
    def test_a_stale_signature_credits_nothing(self, client, studio, feed, clock, age):
        assert self.is_forbidden(self.send(client, studio, age=age))
        assert feed() == []

    def test_the_previous_secret_is_good_until_it_is_retired(self, client, studio, feed):
        old = self.send.__self__.old_key  # type: ignore[attr-defined]
        studio.rotate(self.secret, "the-new-key-000000")

        assert self.is_accepted(self.send(client, studio, id="by-old", key=old))
        assert self.is_accepted(self.send(client, studio, id="by-new", key="the-new-key-000000"))
        studio.retire(self.secret)
        assert self.is_forbidden(self.send(client, studio, id="by-old-again", key=old))
        assert self.is_accepted(self.send(client, studio, id="by-new-again", key="the-new-key-000000"))
        assert len(feed()) == 3

    def test_a_duplicate_gets_the_first_answer_and_credits_once(self, client, studio, feed):
        first = self.send(client, studio)
        again = self.send(client, studio)

        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert self.is_accepted(again)
        assert len(feed()) == 1

    @pytest.mark.parametrize("changed", [{"items": ["coins", "coins"]}, {"items": ["gems"]}, {"player": "bob"}])
    def test_the_same_id_with_other_content_credits_nobody_and_is_kept(self, client, studio, feed, db, changed):
        self.send(client, studio)

        assert self.is_refused(self.send(client, studio, **changed))
        assert self.is_refused(self.send(client, studio, **changed))
        assert len(feed()) == 1
        assert [row["seen"] for row in db("SELECT seen FROM conflicts")] == [2]
        assert self.is_accepted(self.send(client, studio))  # the genuine report is still answered as before

    def test_a_failure_halfway_leaves_nothing_and_the_retry_credits(self, client, studio, feed, db, installation):
        installation.database.write_here(
            lambda tx: tx.execute(
                "CREATE TRIGGER broken BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'disk on fire'); END"
            )
        )
        answer = self.send(client, studio)
        assert answer.status_code >= 500
        assert "disk on fire" not in answer.text
        for table in ("transactions", "transaction_keys", "grants", "entries"):
            assert db(f"SELECT * FROM {table}") == []
        assert db("SELECT * FROM counters WHERE name <> 'called'") == []

        installation.database.write_here(lambda tx: tx.execute("DROP TRIGGER broken"))
        assert self.is_accepted(self.send(client, studio))
        assert len(feed()) == 1

    def test_a_refused_credit_can_succeed_once_the_studio_has_mended_it(self, client, studio, feed):
        assert self.is_refused(self.send(client, studio, player="mallory"))
        assert self.is_refused(self.send(client, studio, player="mallory", items=["swords"]))
        studio.player("mallory")
        assert self.is_refused(self.send(client, studio, player="mallory", items=["swords"]))
        studio.item("swords")

        assert self.is_accepted(self.send(client, studio, player="mallory", items=["swords"]))
        assert len(feed()) == 1

    def test_a_refusal_is_kept_for_the_owner_sealed_and_bounded(self, client, studio, installation, db):
        for _ in range(3):
            self.send(client, studio, key="another-key")
        installation.observations.flush()

        rows = db("SELECT * FROM refusals")
        assert [row["reason"] for row in rows] == ["signature"] * 3
        assert all(b"coins" not in row["ciphertext"] for row in rows)
        assert db("SELECT * FROM transactions") == []

    def test_an_unknown_game_and_one_without_keys_look_alike(self, client, studio, installation):
        bare = type(studio)(installation, "bare")
        unknown = self.send(client, studio, game="nowhere")
        unconfigured = self.send(client, studio, game=bare.slug)

        assert unknown.status_code == unconfigured.status_code == 404
        assert unknown.data == unconfigured.data

    def test_a_caller_outside_the_allowlist_is_kept_out(self, client, studio, feed):
        studio.config(f"allowlist.{self.secret.split('.')[0]}", "192.0.2.0/24, 2001:db8::/32")
        assert self.send(client, studio).status_code == 403
        assert self.send(client, studio, address="192.0.2.7").status_code != 403
        assert self.send(client, studio, address="::ffff:192.0.2.8").status_code != 403
        assert self.send(client, studio, address="2001:db8::1").status_code != 403
        assert self.send(client, studio, forwarded="192.0.2.7").status_code == 403
        assert len(feed()) == 1

    @pytest.mark.parametrize("way", ["players", "items"])
    def test_unknown_ones_are_let_in_where_the_game_says_so(self, client, studio, feed, way):
        studio.config(*{"players": ("players.unknown", "create"), "items": ("items.unknown", "accept")}[way])
        changed = {"players": {"player": "mallory"}, "items": {"items": ["swords"]}}[way]

        assert self.is_accepted(self.send(client, studio, **changed))
        assert len(feed()) == 1

    def test_no_secret_and_no_signature_reaches_the_log(self, client, studio, installation, capfd, caplog):
        self.send(client, studio)
        self.send(client, studio, key="another-key", id="x")
        installation.observations.flush()

        logged = capfd.readouterr().err + caplog.text
        assert logged
        for hidden in (self.secret_value, "another-key", studio.token, "alice@example.com"):
            assert hidden not in logged
        assert self.last_signature not in logged

    def test_test_traffic_is_fed_marked_and_never_counts(self, client, studio, feed):
        assert self.is_accepted(self.send(client, studio, id="t-1", player="coinslot-test"))
        assert self.is_accepted(self.send(client, studio, id="t-2", items=["coinslot-test"]))

        assert [grant["is_test"] for grant in feed()] == [True, True]
        answer = client.get("/game/v1/players/alice/granted", headers={"Authorization": f"Bearer {studio.token}"})
        assert answer.json == {"player_id": "alice", "granted": {}}

    secret_value = ""
    last_signature = ""
    lookup_server: Callable[..., Any]
