"""What a store is told of a player: all that the game pushed, after the game was told what of it is wrong."""

import dataclasses
import json

import pytest

from coinslot.games.games import GameError
from coinslot.games.registry import RESERVED_ID
from tests.conftest import MAIN_KEY, TOKEN, appcharge_headers
from tests.fakes.http import FakeServer

SOON = 1_790_000_000_000
INVALID = {"version": 2, "status": "invalid", "sessionMetadata": {}}
VALID = {"version": 2, "status": "valid", "sessionMetadata": {}, "offers": []}

# Everything that version 2 knows, written by hand after the documentation's field tables.
OFFER = {
    "publisherOfferId": "rolling",
    "productsSequence": [
        {
            "index": 1,
            "products": [
                {
                    "publisherProductId": "coins",
                    "quantity": 10**24 - 1,
                    "priority": "Main",
                    "traits": [{"assetId": "spark", "text": "shiny"}],
                    "rarityProductInfo": {
                        "stars": 5,
                        "tooltip": [
                            {"sectionName": "Inside", "products": [{"publisherProductId": "gems", "text": "5-10"}]}
                        ],
                    },
                    "badgeText": "Best",
                },
                {
                    "publisherProductId": "gems",
                    "quantity": 0,
                    "priority": "Sub",
                    "rarityProductInfo": {"tooltip": {"tooltipText": "Rare\nindeed", "rarityText": "1 %"}},
                },
            ],
            "productSale": {"amountBeforeSale": 10, "sale": 2, "type": "multiplier"},
            "priceDiscount": {"discount": 20, "type": "percentage", "priceBeforeDiscount": 999},
            "badges": [{"publisherBadgeId": "new", "position": "left", "ribbonTextOverride": "Neu 🦊"}],
            "progressBarPoints": [{"publisherBarId": "bar", "points": 10}],
            "playerAvailability": {"total": 5, "remaining": 3},
        },
        {"index": 2, "products": []},
    ],
    "endsIn": SOON,
    "offerDescriptionOverride": "For you",
    "offerDesignOverride": {
        "offerDesignSubtitleTextOverride": "Today only",
        "offerDesignId": "design",
        "offerBackgroundImageOverride": "https://cdn.example.com:8443/a/b.png?v=1#x",
    },
    "productSale": {"sale": 50, "type": "percentage"},
    "priceDiscount": {"discount": 100, "type": "percentage"},
    "badges": [],
    "dynamicOfferUi": {
        "badges": [{"publisherBadgeId": "old", "position": "center"}],
        "salePercentage": 12.5,
        "amountBeforeSale": 10,
        "salePercentageDisplayType": "percentage",
        "offerDesignId": "design",
    },
}
PROFILE = {
    "session_metadata": {"shard": 3, "deep": {"list": [1, None, {"x": 1.5}], "big": 10**30}},
    "segments": ["vip", "whale"],
    "balances": [{"publisherProductId": "gems", "quantity": 10**24 - 1}],
    "offers": [OFFER],
    "attributes": {"abTest": "B", "level": 7, "ratio": 0.5, "new": False},
    "store_theme": {
        "bgImageMobile": "m",
        "bgImageDesktop": "d",
        "logo": "l",
        "profileFrameImage": "f",
        "bannerImage": "b",
        "playerLevelImage": "p",
    },
    "logo": "logo",
    "profile_frame_id": "frame",
    "player_level_name": "gold",
    "banner_external_id": "banner",
    "player_level": {"assetId": "level", "text": "10 %", "endsIn": SOON},
    "player_level_banners": [
        {"assetId": "asset", "designId": "design", "text": [{"id": "title", "content": "Hi"}], "endsIn": SOON}
    ],
    "offers_order": "publisherOrder",
    "sections_order": ["daily", "special"],
    "focus": {"publisherBundleId": "rolling", "publisherSpecialOfferId": "special"},
}
THEIR_NAMES = {
    "session_metadata": "sessionMetadata",
    "store_theme": "storeTheme",
    "profile_frame_id": "profileFrameId",
    "player_level_name": "playerLevelName",
    "banner_external_id": "bannerExternalId",
    "player_level": "playerLevel",
    "player_level_banners": "playerLevelBanners",
    "offers_order": "offersOrder",
    "sections_order": "sectionsOrder",
}


@pytest.fixture
def push(client, studio):
    """Calls the game API; a PUT of alice unless it is said otherwise."""

    def call(body, method="PUT", path="players/alice"):
        headers = {"Authorization": f"Bearer {studio.token}"}
        return client.open(f"/game/v1/{path}", method=method, headers=headers, data=json.dumps(body))

    return call


@pytest.fixture
def ask(client, studio):
    """Asks as the store does."""

    def call(player_id="alice", raw=None, game="demo"):
        body = json.dumps({"playerId": player_id}).encode() if raw is None else raw
        return client.post(f"/appcharge/{game}/players", data=body, headers=appcharge_headers(body))

    return call


@pytest.fixture
def game_server(studio):
    """The game's own server, which is asked about unknown players; it says one thing of each, after ``tells``."""
    studio.config("players.unknown", "lookup")
    with FakeServer() as server:
        studio.config("players.lookup_url", f"{server.url}/players")
        yield server


def tells(server, code, body=b""):
    server.reply = lambda request: (code, body)


def offer(**changed):
    return {"publisherOfferId": "o", "productsSequence": [{"index": 1, "products": []}], **changed}


def entry(**changed):
    return {"offers": [offer(productsSequence=[{"index": 1, "products": [], **changed}])]}


def product(**changed):
    return entry(products=[{"publisherProductId": "coins", "quantity": 1, **changed}])


class TestVersion2:
    def test_every_field_that_was_pushed_is_told_under_the_stores_names(self, push, ask):
        assert push(PROFILE).status_code == 200

        answer = ask()

        assert (answer.status_code, answer.mimetype) == (200, "application/json")
        assert answer.json == VALID | {THEIR_NAMES.get(name, name): value for name, value in PROFILE.items()}

    def test_each_part_alone_is_told_and_nothing_else(self, push, ask):
        for name, part in PROFILE.items():
            push({name: part})

            assert ask().json == VALID | {THEIR_NAMES.get(name, name): part}

    def test_a_player_without_a_profile_is_valid_and_asking_writes_nothing(self, push, ask, db):
        push({"name": "Alice", "country": "DE", "login_name": "alice@example.com", "password": "correct horse"})
        before = db("SELECT * FROM players ORDER BY player_id")

        assert ask().json == VALID
        ask("mallory")

        assert db("SELECT * FROM players ORDER BY player_id") == before
        assert db("SELECT * FROM events") == []

    def test_whole_numbers_are_exact_in_the_very_bytes(self, push, ask):
        push(product(quantity=str(10**24 - 1)) | {"balances": [{"publisherProductId": "g", "quantity": 2**53 + 1}]})

        told = ask().text
        assert f'"quantity": {10**24 - 1}' in told
        assert f'"quantity": {2**53 + 1}' in told

    def test_a_change_is_told_at_once_and_to_no_other_game(self, push, ask, studio, installation):
        other = type(studio)(installation, "other")
        other.secret("appcharge.main_key", MAIN_KEY)
        other.secret("appcharge.publisher_token", TOKEN)
        push({"segments": ["new"]})
        assert ask().json["segments"] == ["new"]
        assert ask(game="other").json == INVALID
        push({"segments": ["vip"]}, "PATCH")
        assert ask().json["segments"] == ["vip"]
        push(None, "DELETE")
        assert ask().json == INVALID

    def test_a_number_for_an_id_keeps_its_digits(self, push, ask):
        push({"segments": ["vip"]}, path="players/12345678901234567890")

        assert ask(12345678901234567890).json["segments"] == ["vip"]


class TestProfilesFromBeforeTheyWereChecked:
    """What the first version stored, as it is after the upgrade."""

    OLD = {"offers": [{"x": 1}], "focus": [], "segments": ["vip"], "store_theme": "dark", "hacks": 1, "balances": None}

    @pytest.fixture
    def upgraded(self, installation, studio):
        def store(profile, image="javascript:alert(1)"):
            installation.database.write_here(
                lambda tx: tx.execute(
                    """UPDATE players SET profile = :profile, profile_image = :image, is_profile_checked = 0
                       WHERE player_id = 'alice'""",
                    {"profile": json.dumps(profile), "image": image},
                )
            )

        return store

    def test_are_told_as_far_as_they_are_as_they_should_be_and_nothing_is_logged(self, ask, upgraded, caplog):
        upgraded(self.OLD)

        assert ask().json == VALID | {"segments": ["vip"]}
        assert caplog.text == ""

    def test_their_images_are_addresses_or_none(self, ask, studio, upgraded):
        studio.config("appcharge.players_version", "1")
        good = "https://example.com/a.png"
        for stored, told in (("javascript:alert(1)", ""), ("", ""), (None, ""), ("http://[", ""), (good, good)):
            upgraded(self.OLD, stored)
            answer = ask().json
            assert (answer["playerProfileImage"], answer["segments"], answer["offers"]) == (told, ["vip"], [])

    def test_stay_what_they_are_when_something_else_of_them_is_patched(self, ask, push, upgraded, db):
        upgraded(self.OLD)

        assert push({"name": "Alice", "logo": "l"}, "PATCH").status_code == 200

        assert ask().json == VALID | {"segments": ["vip"], "logo": "l"}
        assert db("SELECT is_profile_checked FROM players WHERE player_id = 'alice'") == [{"is_profile_checked": 0}]

    @pytest.mark.parametrize(
        ("body", "method", "path"),
        [
            ({"segments": ["new"]}, "PUT", "players/alice"),
            ({"players": [{"player_id": "alice", "segments": ["new"]}]}, "POST", "players"),
        ],
    )
    def test_are_checked_once_they_are_pushed_again(self, ask, push, upgraded, db, body, method, path):
        upgraded(self.OLD)

        assert push(body, method, path).status_code == 200
        assert ask().json["segments"] == ["new"]
        assert db("SELECT is_profile_checked FROM players WHERE player_id = 'alice'") == [{"is_profile_checked": 1}]


# Bodies that name no player -> a word of the error.
NO_PLAYER = {
    "cannot be read": (b"", b"{", b"\xff", b'{"playerId":NaN}', b'{"playerId":' * 40_000),
    "object": (b"[]", b"null", b'"alice"'),
    "playerId": (
        *(b"{}", b'{"player_id":"alice"}', b'{"playerId":null}', b'{"playerId":""}', b'{"playerId":" alice"}'),
        *(b'{"playerId":"a\\nb"}', b'{"playerId":"a\\ud800"}', b'{"playerId":"' + b"a" * 256 + b'"}'),
        *(b'{"playerId":1.5}', b'{"playerId":1e999999}', b'{"playerId":' + b"9" * 300 + b"}", b'{"playerId":true}'),
        *(b'{"playerId":["alice"]}', b'{"playerId":{"id":"alice"}}'),
    ),
}


class TestCalls:
    def test_what_names_no_player_is_a_400_that_is_kept_for_the_owner(self, ask, installation, db):
        bodies = [(raw, word) for word, bodies in NO_PLAYER.items() for raw in bodies]
        for raw, word in bodies:
            answer = ask(raw=raw)
            assert (answer.status_code, list(answer.json)) == (400, ["error"]), raw[:40]
            assert word in answer.json["error"], raw[:40]
        installation.observations.flush()
        noted = db("SELECT endpoint, reason FROM refusals")
        assert noted == [{"endpoint": "players", "reason": "malformed"}] * len(bodies)

    def test_what_else_a_call_brings_is_let_be(self, ask):
        raw = b'{"playerId":"alice","sessionMetadata":{"x":[1.5e400,"\\ud83d"]},"version":7,"publisherToken":null}'

        assert ask(raw=raw).json["status"] == "valid"

    def test_no_profile_and_no_id_reaches_the_log(self, push, ask, capfd, caplog):
        push({"session_metadata": {"mail": "alice@example.com"}})
        ask()
        ask("mallory@example.com")

        assert "example.com" not in caplog.text + capfd.readouterr().err


class TestUnknownPlayers:
    def test_reject_says_invalid(self, ask, studio):
        studio.config("appcharge.player_defaults", '{"segments":["new"]}')

        answer = ask("mallory")

        assert (answer.status_code, answer.json) == (200, INVALID)

    def test_create_shows_the_defaults_and_registers_nobody(self, ask, studio, db):
        studio.config("players.unknown", "create")
        studio.config("appcharge.player_defaults", '{"segments":["new"]}')

        assert ask("mallory").json == VALID | {"segments": ["new"]}
        assert db("SELECT * FROM players WHERE player_id = 'mallory'") == []

    @pytest.mark.parametrize("policy", ["reject", "create", "lookup"])
    def test_the_reserved_player_is_always_there(self, push, ask, studio, policy):
        studio.config("players.unknown", policy)
        studio.config("appcharge.player_defaults", '{"segments":["new"]}')

        assert ask(RESERVED_ID).json == VALID | {"segments": ["new"]}
        push({"segments": ["test"]}, path=f"players/{RESERVED_ID}")
        assert ask(RESERVED_ID).json["segments"] == ["test"]

    def test_lookup_asks_the_game_and_shows_what_it_says(self, ask, studio, db, game_server):
        studio.config("appcharge.player_defaults", '{"segments":["new"],"logo":"l"}')
        studio.secret("game.lookup_key", "lookup-key")
        shown = {"segments": ["vip"], "offers": [OFFER]}
        told = {"player_id": "m/x", "name": "M", "session_metadata": {"x": 0.5}} | shown
        tells(game_server, 200, json.dumps(told).encode())

        assert ask("m/x").json == VALID | shown | {"sessionMetadata": {"x": 0.5}, "logo": "l"}
        (asked,) = game_server.requests
        assert (asked.query, asked.headers["authorization"]) == ({"player_id": "m/x"}, "Bearer lookup-key")
        assert db("SELECT * FROM players WHERE player_id = 'm/x'") == []

    def test_lookup_does_not_ask_for_whom_it_knows(self, push, ask, game_server):
        tells(game_server, 404)
        push({"segments": ["vip"]})

        assert ask().json["segments"] == ["vip"]
        assert ask(RESERVED_ID).json["status"] == "valid"
        assert game_server.requests == []

    def test_a_404_of_the_game_is_an_invalid_player(self, ask, game_server):
        tells(game_server, 404, b'{"segments":["vip"]}')
        assert ask("mallory").json == INVALID

    def test_a_200_without_a_profile_is_a_valid_player(self, ask, game_server):
        for body in (b"", b"yes", b"[]", b"7", b"\xff", b'{"logo":"\\ud800"}', b'{"logo":NaN}', b"[" * 100_000):
            tells(game_server, 200, body)
            assert ask("mallory").json == VALID, body[:20]

    def test_what_is_wrong_in_a_looked_up_profile_is_left_out_and_logged_once_by_name(
        self, ask, studio, game_server, caplog
    ):
        studio.config("appcharge.player_defaults", '{"balances":[]}')
        told = product(quantity=-1) | {"balances": [{"publisherProductId": "secret"}], "logo": "l", "segments": None}
        tells(game_server, 200, json.dumps(told | {"session_metadata": {"a": 1}, "exists": True}).encode())

        assert ask("mallory").json == VALID | {"sessionMetadata": {"a": 1}, "logo": "l", "balances": []}
        (line,) = [record.getMessage() for record in caplog.records if "lookup_url" in record.getMessage()]
        assert line.endswith("without: balances, offers")
        assert "mallory" not in line

    def test_a_looked_up_profile_nested_too_deeply_is_left_out(self, ask, game_server):
        tells(game_server, 200, b'{"logo":"l","session_metadata":' + b'{"a":' * 500 + b"1" + b"}" * 501)
        assert ask("mallory").json == VALID | {"logo": "l"}

    def test_trouble_with_the_lookup_is_ours_and_never_says_invalid(self, ask, game_server):
        for code in (500, 401, 302, 204):
            tells(game_server, code)
            answer = ask("mallory")
            assert (answer.status_code, list(answer.json)) == (503, ["error"]), code

    def test_so_is_a_lookup_that_nobody_set_up(self, ask, studio):
        studio.config("players.unknown", "lookup")
        assert ask("mallory").status_code == 503


class TestDefaults:
    def test_a_part_the_player_lacks_comes_from_the_defaults_whole(self, push, ask, studio):
        defaults = PROFILE | {"logo": "ours", "session_metadata": {"shard": 0}}
        studio.config("appcharge.player_defaults", json.dumps(defaults, indent=2))
        own = {"logo": "theirs", "session_metadata": {"level": 1}, "offers": [], "attributes": {}}
        push(own)

        assert ask().json == VALID | {THEIR_NAMES.get(name, name): part for name, part in (PROFILE | own).items()}
        assert ask("bob").json == VALID | {THEIR_NAMES.get(name, name): part for name, part in defaults.items()}

    def test_they_hold_from_the_next_call_and_can_be_taken_back(self, ask, studio):
        for defaults in ('{"logo":"a"}', '{"logo":"b"}', ""):
            studio.config("appcharge.player_defaults", defaults)
            assert ask().json.get("logo") == (json.loads(defaults)["logo"] if defaults else None)

    def test_they_are_kept_compact_and_normal(self, studio, db):
        studio.config("appcharge.player_defaults", json.dumps(product(quantity="0010") | {"logo": None}, indent=8))

        (row,) = db("SELECT value FROM settings WHERE key = 'appcharge.player_defaults'")
        assert row["value"] == json.dumps(product(quantity=10), separators=(",", ":"))

    def test_what_is_no_profile_is_refused_by_place_and_changes_nothing(self, studio, db):
        for value, words in (
            ("nonsense", "use a JSON object"),
            ("[]", "use a JSON object"),
            ("null", "use a JSON object"),
            ('{"logo":"\\ud800"}', "use a JSON object"),
            ('{"logo":"\udcff"}', "use a JSON object"),
            ('{"attributes":{"x":1e999}}', "use a JSON object"),
            ('{"attributes":' * 5000, "65536"),
            ('{"session_metadata":' + '{"a":' * 70 + "1" + "}" * 71, "session_metadata"),
            ('{"name":"x"}', "name"),
            ('{"sessionMetadata":{}}', "sessionMetadata"),
            (json.dumps(product(quantity=-1)), "offers.0.productsSequence.0.products.0.quantity: below 0"),
        ):
            with pytest.raises(GameError, match=r"appcharge\.player_defaults") as error:
                studio.config("appcharge.player_defaults", value)

            assert words in str(error.value)
        assert db("SELECT * FROM settings") == []


class TestVersion1:
    @pytest.fixture(autouse=True)
    def _version_1(self, studio):
        studio.config("appcharge.players_version", "1")

    def test_all_of_it_in_the_older_words(self, push, ask):
        push(PROFILE | {"name": "Alice", "profile_image": "https://example.com/a.png"})

        assert ask().json == {
            "status": "valid",
            "playerName": "Alice",
            "playerProfileImage": "https://example.com/a.png",
            "publisherPlayerId": "alice",
            "sessionMetadata": PROFILE["session_metadata"],
            "segments": ["vip", "whale"],
            "focus": {"publisherBundleId": "rolling", "publisherSpecialOfferId": "special"},
            "balances": [{"publisherProductId": "gems", "balance": 10**24 - 1}],
            "offers": [
                {
                    "publisherOfferId": "rolling",
                    "offerPlayerAvailability": 2,
                    "productsSequence": [
                        {
                            "index": 1,
                            "products": [
                                {
                                    "publisherProductId": "coins",
                                    "quantity": 10**24 - 1,
                                    "badgeText": "Best",
                                    "rarityProductInfo": {"stars": 5},
                                },
                                {
                                    "publisherProductId": "gems",
                                    "quantity": 0,
                                    "rarityProductInfo": {"tooltipText": "Rare\nindeed", "rarityText": "1 %"},
                                },
                            ],
                        },
                        {"index": 2, "products": []},
                    ],
                    "dynamicOfferUi": {
                        "badges": [{"publisherBadgeId": "old", "position": "center"}],
                        "salePercentage": 12.5,
                    },
                }
            ],
        }

    def test_a_player_of_whom_nothing_is_known_but_the_id(self, ask):
        assert ask().json == {
            "status": "valid",
            "playerName": "alice",
            "playerProfileImage": "",
            "publisherPlayerId": "alice",
            "sessionMetadata": {},
            "segments": [],
            "focus": {"publisherBundleId": None, "publisherSpecialOfferId": None},
            "balances": [],
            "offers": [],
        }

    def test_an_unknown_player_is_invalid(self, ask):
        told = ask("mallory").json
        assert (told["status"], told["publisherPlayerId"], told["offers"]) == ("invalid", "mallory", [])
        assert "version" not in told

    def test_badges_and_sale_are_where_it_looks_for_them(self, push, ask):
        for changed, look in (
            ({}, None),
            (
                {"badges": [{"publisherBadgeId": "b", "position": "left", "ribbonTextOverride": "x"}]},
                {"badges": [{"publisherBadgeId": "b", "position": "left"}]},
            ),
            ({"badges": []}, {"badges": []}),
            ({"productSale": {"sale": 30}}, {"salePercentage": 30}),
            ({"productSale": {"sale": 30, "type": "percentage"}}, {"salePercentage": 30}),
            ({"productSale": {"sale": 3, "type": "multiplier"}}, None),
            ({"productSale": {"type": "percentage"}}, None),
            ({"productSale": {"sale": 30}, "dynamicOfferUi": {"salePercentage": 0}}, {"salePercentage": 0}),
            ({"badges": [{"publisherBadgeId": "b"}], "dynamicOfferUi": {"badges": []}}, {"badges": []}),
        ):
            push({"offers": [offer(**changed)]})

            assert ask().json["offers"][0].get("dynamicOfferUi") == look, changed

    def test_an_offer_without_a_limit_has_no_availability(self, push, ask):
        push({"offers": [offer()]})
        assert "offerPlayerAvailability" not in ask().json["offers"][0]

    def test_a_looked_up_player_has_the_name_the_game_told(self, ask, game_server):
        tells(game_server, 200, b'{"name":"Mal","balances":[{"publisherProductId":"g","quantity":1}]}')
        told = ask("mallory").json
        assert (told["playerName"], told["balances"]) == ("Mal", [{"publisherProductId": "g", "balance": 1}])


OFFERS, BANNERS = "offers.0.", "player_level_banners.0."
SEQUENCE = OFFERS + "productsSequence.0."
PRODUCT = SEQUENCE + "products.0."
TOOLTIP = "rarityProductInfo.tooltip"
BADGE = {"publisherBadgeId": "b"}
BALANCE = {"publisherProductId": "g", "quantity": 1}
ENTRY = {"index": 1, "products": []}


def of_offer(**changed):
    return {"offers": [offer(**changed)]}


def badly(name, word, *values):
    """Values of a product that are each told in the same words."""
    return [(product(**{name: value}), PRODUCT + name, word) for value in values]


# What is pushed, the place that is told, and a word of what is said of it.
MISTAKES = [
    # The parts
    ({"sessionMetadata": {}}, "sessionMetadata", "Unknown"),
    ({"session_metadata": []}, "session_metadata", ""),
    ({"segments": "vip"}, "segments", ""),
    ({"segments": [7]}, "segments.0", ""),
    ({"segments": [""]}, "segments.0", "characters"),
    ({"segments": [None]}, "segments.0", "null"),
    ({"segments": ["x"] * 1001}, "segments", "0 to 1000"),
    ({"sections_order": [["a"]]}, "sections_order.0", ""),
    ({"attributes": {"ok": 1, "x": {}}}, "attributes.x", "text, a number"),
    ({"attributes": {f"{number}": 1 for number in range(1001)}}, "attributes", "1000"),
    ({"attributes": {"a" * 256: 1}}, "attributes", "255"),
    ({"attributes": []}, "attributes", ""),
    ({"store_theme": {"background": "x"}}, "store_theme.background", "Unknown"),
    ({"store_theme": {"logo": 7}}, "store_theme.logo", ""),
    ({"store_theme": "dark"}, "store_theme", ""),
    ({"logo": "a" * 256}, "logo", "255"),
    ({"offers_order": "cheapest"}, "offers_order", ""),
    ({"focus": {"bundle": "x"}}, "focus.bundle", "Unknown"),
    ({"focus": {"publisherBundleId": 7}}, "focus.publisherBundleId", ""),
    ({"focus": "x"}, "focus", ""),
    ({"player_level": {"text": "x"}}, "player_level.assetId", "Missing"),
    ({"player_level": {"assetId": "x", "endsIn": 1_790_000_000}}, "player_level.endsIn", "milliseconds"),
    ({"player_level_banners": [{"assetId": "x"}]}, BANNERS + "designId", "Missing"),
    ({"player_level_banners": [{"designId": "x", "text": [{"content": "x"}]}]}, BANNERS + "text.0.id", "Missing"),
    ({"player_level_banners": {}}, "player_level_banners", ""),
    # Balances
    ({"balances": [{"quantity": 1}]}, "balances.0.publisherProductId", "Missing"),
    ({"balances": [BALANCE | {"balance": 1}]}, "balances.0.balance", "Unknown"),
    ({"balances": [BALANCE] * 2}, "balances.1.publisherProductId", "occurs twice"),
    # Offers
    ({"offers": {}}, "offers", ""),
    ({"offers": ["starter"]}, "offers.0", ""),
    ({"offers": [None]}, "offers.0", "null"),
    ({"offers": [offer()] * 1001}, "offers", "0 to 1000"),
    ({"offers": [offer(), offer()]}, "offers.1.publisherOfferId", "occurs twice"),
    ({"offers": [{"publisherOfferId": "o"}]}, OFFERS + "productsSequence", "Missing"),
    ({"offers": [{"productsSequence": []}]}, OFFERS + "publisherOfferId", "Missing"),
    (of_offer(offerId="x"), OFFERS + "offerId", "Unknown"),
    (of_offer(publisherOfferId=""), OFFERS + "publisherOfferId", "characters"),
    (of_offer(productsSequence=[]), OFFERS + "productsSequence", "1 to 100"),
    (of_offer(productsSequence=None), OFFERS + "productsSequence", "null"),
    (of_offer(endsIn=1_790_000_000), OFFERS + "endsIn", "milliseconds"),
    (of_offer(endsIn=str(SOON)), OFFERS + "endsIn", "whole number"),
    (of_offer(endsIn=SOON + 0.5), OFFERS + "endsIn", "whole number"),
    (of_offer(endsIn=10**14), OFFERS + "endsIn", "milliseconds"),
    (of_offer(endsIn=10**30), OFFERS + "endsIn", "range"),
    (of_offer(endsIn=-1), OFFERS + "endsIn", "below 0"),
    (of_offer(offerDescriptionOverride="a\x07"), OFFERS + "offerDescriptionOverride", "control"),
    (of_offer(offerDescriptionOverride="a" * 4097), OFFERS + "offerDescriptionOverride", "4096"),
    (of_offer(productSale={"sale": -1}), OFFERS + "productSale.sale", "below 0"),
    (of_offer(productSale={"sale": 1.5}), OFFERS + "productSale.sale", "whole number"),
    (of_offer(productSale={"type": "half"}), OFFERS + "productSale.type", ""),
    (of_offer(priceDiscount={"type": "percentage"}), OFFERS + "priceDiscount.discount", "Missing"),
    (of_offer(priceDiscount={"discount": 1}), OFFERS + "priceDiscount.type", "Missing"),
    (of_offer(priceDiscount={"discount": 1, "type": "fixed_amount"}), OFFERS + "priceDiscount.type", ""),
    (of_offer(priceDiscount={"discount": 101, "type": "percentage"}), OFFERS + "priceDiscount.discount", "above 100"),
    (of_offer(badges=[{"position": "left"}]), OFFERS + "badges.0.publisherBadgeId", "Missing"),
    (of_offer(badges=[BADGE | {"position": "top"}]), OFFERS + "badges.0.position", ""),
    (of_offer(dynamicOfferUi={"salePercentage": "10"}), OFFERS + "dynamicOfferUi.salePercentage", "number"),
    (of_offer(dynamicOfferUi={"salePercentage": True}), OFFERS + "dynamicOfferUi.salePercentage", "number"),
    (of_offer(dynamicOfferUi={"salePercentage": -0.5}), OFFERS + "dynamicOfferUi.salePercentage", "range"),
    *(
        (
            of_offer(offerDesignOverride={"offerBackgroundImageOverride": address}),
            OFFERS + "offerDesignOverride.offerBackgroundImageOverride",
            "http",
        )
        for address in ("image.png", "javascript:alert(1)", "https://", "https://a b", "//cdn/x", "https://ü/")
    ),
    # Their sequences
    (entry(index=0), SEQUENCE + "index", "below 1"),
    (entry(index="1"), SEQUENCE + "index", "whole number"),
    (entry(index=True), SEQUENCE + "index", "whole number"),
    (of_offer(productsSequence=[{"index": 1}]), SEQUENCE + "products", "Missing"),
    (of_offer(productsSequence=[ENTRY] * 2), OFFERS + "productsSequence.1.index", "occurs twice"),
    (entry(progressBarPoints=[{"points": 1}]), SEQUENCE + "progressBarPoints.0", "Missing"),
    (entry(playerAvailability={"total": 0, "remaining": 0}), SEQUENCE + "playerAvailability.total", "below 1"),
    (entry(playerAvailability={"total": 1, "remaining": 2}), SEQUENCE + "playerAvailability.remaining", "above total"),
    (entry(playerAvailability={"total": 1}), SEQUENCE + "playerAvailability.remaining", "Missing"),
    # Their products
    *badly("quantity", "below 0", -1),
    *badly("quantity", "range", 10**24),
    *badly("quantity", "24 digits", "9" * 25, "1e3", "-1", "１", ""),
    *badly("quantity", "whole number", 1.5, True, [1]),
    *badly("quantity", "null", None),
    *badly("sku", "Unknown", "coins"),
    *badly("priority", "", "main"),
    (product(traits=[{"name": "x"}]), PRODUCT + "traits.0.name", "Unknown"),
    (product(rarityProductInfo={"stars": "5"}), PRODUCT + "rarityProductInfo.stars", "whole number"),
    (product(rarityProductInfo={"tooltip": "rare"}), PRODUCT + TOOLTIP, ""),
    (product(rarityProductInfo={"tooltip": {"text": "rare"}}), PRODUCT + TOOLTIP + ".text", "Unknown"),
    (
        product(rarityProductInfo={"tooltip": [{"sectionName": "x", "products": [7]}]}),
        PRODUCT + TOOLTIP + ".0.products.0",
        "",
    ),
]


class TestPushing:
    """What the game is told of its mistakes: the place, and nothing is stored."""

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_every_mistake_is_told_by_its_place_and_nothing_is_stored(self, push, db, method):
        before = db("SELECT * FROM players ORDER BY player_id")

        for body, place, detail in MISTAKES:
            answer = push({"country": "DE", **body}, method)

            assert (answer.status_code, answer.mimetype) == (422, "application/problem+json"), place
            (error, *_) = answer.json["errors"]
            assert error["path"].startswith(place)
            assert detail in error["detail"], place
        assert db("SELECT * FROM players ORDER BY player_id") == before

    def test_null_is_no_attribute_and_no_asset(self, push):
        null = "Field may not be null."
        assert push({"attributes": {"x": None}}).json["errors"] == [{"path": "attributes.x", "detail": null}]
        told = push({"player_level": {"assetId": None}}).json["errors"]
        assert told == [{"path": "player_level.assetId", "detail": null}]

    def test_in_a_bulk_call_the_place_names_the_player(self, push, db):
        players = [{"player_id": "carol"}, {"player_id": "dave", **product(quantity=-1)}]

        answer = push({"players": players}, "POST", "players")

        assert answer.json["detail"] == "players.1.offers.0.productsSequence.0.products.0.quantity: below 0"
        assert len(db("SELECT * FROM players")) == 2

    def test_digits_in_text_are_kept_as_the_number_they_are(self, push, ask):
        answer = push(product(quantity="007"))

        assert answer.json["offers"][0]["productsSequence"][0]["products"][0]["quantity"] == 7
        assert '"quantity": 7' in ask().text

    def test_null_inside_is_as_good_as_left_out(self, push, ask):
        body = {"offers": [offer(endsIn=None, badges=None, productSale={"sale": 1, "type": None})], "segments": None}
        body |= {"player_level": {"assetId": "x", "text": None}, "focus": None}

        assert push(body).status_code == 200
        assert ask().json == VALID | {"offers": [offer(productSale={"sale": 1})], "playerLevel": {"assetId": "x"}}


class TestPatching:
    def test_objects_merge_and_lists_are_replaced_whole(self, push, ask):
        push(PROFILE)
        answer = push(
            {
                "player_level": {"text": None, "endsIn": SOON + 1},
                "store_theme": {"logo": "new", "bannerImage": None},
                "focus": {"publisherSpecialOfferId": None},
                "attributes": {"abTest": None, "new": True},
                "session_metadata": {"deep": {"list": None}},
                "offers": [offer()],
                "player_level_banners": None,
            },
            "PATCH",
        )

        assert answer.status_code == 200
        told = ask().json
        assert told["playerLevel"] == {"assetId": "level", "endsIn": SOON + 1}
        assert told["storeTheme"] == {
            "bgImageMobile": "m",
            "bgImageDesktop": "d",
            "logo": "new",
            "profileFrameImage": "f",
            "playerLevelImage": "p",
        }
        assert told["focus"] == {"publisherBundleId": "rolling"}
        assert told["attributes"] == {"level": 7, "ratio": 0.5, "new": True}
        assert told["sessionMetadata"] == {"shard": 3, "deep": {"big": 10**30}}
        assert told["offers"] == [offer()]
        assert "playerLevelBanners" not in told
        assert told["balances"] == PROFILE["balances"]

    @pytest.mark.parametrize("patch", [{"text": "x"}, {"assetId": None}, {}])
    def test_a_level_that_would_be_left_without_its_asset_is_refused_by_place(self, push, db, patch):
        if patch.get("assetId", ...) is None:
            push({"player_level": {"assetId": "x", "text": "y"}})
        before = db("SELECT * FROM players")

        answer = push({"country": "FR", "player_level": patch}, "PATCH")

        assert answer.status_code == 422
        assert answer.json["errors"] == [{"path": "player_level.assetId", "detail": "Missing data for required field."}]
        assert db("SELECT * FROM players") == before

    def test_attributes_may_not_grow_beyond_their_number_by_patches(self, push, ask):
        assert push({"attributes": {f"a{number}": 1 for number in range(600)}}, "PATCH").status_code == 200

        answer = push({"attributes": {f"b{number}": 1 for number in range(600)}}, "PATCH")

        assert (answer.status_code, answer.json["errors"][0]["path"]) == (422, "attributes")
        assert len(ask().json["attributes"]) == 600


class TestPartnersAreTold:
    @pytest.fixture
    def told(self, app):
        """What a partner that wants to know was told, with the profiles as its write finds them."""
        told = []

        def listen(tx, game, player_ids):
            rows = tx.execute("SELECT player_id, profile FROM players").fetchall()
            profiles = {row["player_id"]: json.loads(row["profile"]) for row in rows}
            told.append((game.slug, {player_id: profiles[player_id] for player_id in player_ids}))

        known = app.extensions["coinslot.partners"]
        app.extensions["coinslot.partners"] = (*known, dataclasses.replace(known[0], profiles_pushed=listen))
        return told

    def test_of_every_profile_that_changed_inside_of_the_write(self, push, told):
        push({"segments": ["a"]})
        push({"segments": ["b"]}, "PATCH")
        push({"segments": ["c"]}, path="players/carol")
        push({}, path="players/carol")
        players = [
            {"player_id": "alice", "segments": ["x"]},
            {"player_id": "bob", "segments": ["a"], "name": "Bob"},
            {"player_id": "carol"},
        ]
        assert push({"players": players}, "POST", "players").status_code == 200

        assert told == [
            ("demo", {"alice": {"segments": ["a"]}}),
            ("demo", {"alice": {"segments": ["b"]}}),
            ("demo", {"carol": {"segments": ["c"]}}),
            ("demo", {"carol": {}}),
            ("demo", {"alice": {"segments": ["x"]}, "bob": {"segments": ["a"]}}),
        ]

    def test_not_of_what_no_store_shows_nor_of_what_was_so_before(self, push, told):
        push(PROFILE)
        told.clear()

        push(PROFILE)
        push({"name": "Alice", "country": "DE", "password": "x", "identities": {"google": "g"}}, "PATCH")
        push({"player_level": {"assetId": "level"}}, "PATCH")
        push({"logo": 7}, "PATCH")
        push({"logo": "x"}, "PATCH", "players/mallory")
        push(None, "DELETE")

        assert told == []

    def test_but_of_a_true_that_was_a_one(self, push, told):
        push({"attributes": {"x": 1}})
        push({"attributes": {"x": True}})

        assert len(told) == 2

    def test_if_that_fails_nothing_is_stored(self, app, push, db):
        def fail(tx, game, player_ids):
            raise OSError("disk on fire")

        known = app.extensions["coinslot.partners"]
        app.extensions["coinslot.partners"] = (*known, dataclasses.replace(known[0], profiles_pushed=fail))

        answer = push({"segments": ["a"]})

        assert answer.status_code == 503
        assert "fire" not in answer.text
        assert db("SELECT profile FROM players WHERE player_id = 'alice'") == [{"profile": "{}"}]
