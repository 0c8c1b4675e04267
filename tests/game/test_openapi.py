"""The game API's OpenAPI document is true: calls generated from it are answered as it says."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from openapi_spec_validator import validate
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.generation.modes import GenerationMode

from app import PARTNERS, create_app
from coinslot.access import logins
from handlers.game import CALLS
from tests.attacks.examples import examples
from tests.fakes.appcharge import FakeAppcharge
from tests.fakes.playcamp import PlayCamp

DOCUMENT = create_app({}).test_client().get("/game/v1/openapi.json").json
OPERATIONS = [
    (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations if method != "parameters"
]
TAKES_NOTHING = ("/items", "/appcharge/checkout-key", "/openapi.json")  # nothing that could be wrong
bounded = examples(25)
# Many players take long to invent, and each is what a single one is, which is tried as often as everything else.
seldom = examples(6)


@pytest.fixture
def store(studio):
    """Appcharge and PlayCamp, for the calls that go through to them."""
    with FakeAppcharge() as fake, PlayCamp() as playcamp:
        playcamp.set_up(studio)
        coupon = playcamp.coupons["WELCOME"]
        coupon.per_user = coupon.per_package = coupon.in_all = 10**6
        studio.config("appcharge.base_url", fake.url)
        studio.secret("appcharge.checkout_public_key", "test-checkout-public-key")
        yield


@pytest.fixture
def calls(app, studio, installation, post_order, store):
    """A function that makes the strategy of one operation's calls, against a game where there is something to find."""
    post_order(products=[{"amount": 10**39, "sku": "coins"}])
    # As after a restore; and so every id that the document allows may be acknowledged.
    installation.database.write_here(lambda tx: tx.execute("UPDATE sequences SET last_id = 1000000000000000000"))
    studio.secret("playcamp.shared_key", "test-shared-key-0123456789")
    studio.config("players.unknown", "create")
    studio.config("items.unknown", "accept")
    studio.config("appcharge.store_url", "https://store.example.com")
    login = installation.database.write(lambda tx: logins.begin(tx, studio.row["id"], "appcharge", 600))
    document = schemathesis.openapi.from_wsgi("/game/v1/openapi.json", app)

    def with_login(case: Any) -> Any:
        case.body["token"] = login
        return case

    def with_coupon(case: Any) -> Any:
        case.body["coupon_code"] = "WELCOME"
        return case

    def make(method: str, path: str, mode: GenerationMode) -> Any:
        operation = document[path][method.upper()]
        token = {"Authorization": f"Bearer {studio.token}"}
        anyone = operation.as_strategy(mode, feedback=NO_FEEDBACK, headers=token)
        if path == "/logins/confirm" and mode.is_positive:
            return anyone | operation.as_strategy(mode, feedback=NO_FEEDBACK, headers=token).map(with_login)
        if path == "/playcamp/coupons/redeem" and mode.is_positive:
            return anyone | operation.as_strategy(mode, feedback=NO_FEEDBACK, headers=token).map(with_coupon)
        if "{" not in path or mode.is_negative:
            return anyone
        known = {name: {"player_id": "alice", "sku": "coins"}[name] for name in re.findall(r"{(\w+)}", path)}
        return anyone | operation.as_strategy(mode, feedback=NO_FEEDBACK, headers=token, path_parameters=known)

    return make


# Lists whose entries each have another one of these.
ONCE = {
    "players": "player_id",
    "offers": "publisherOfferId",
    "balances": "publisherProductId",
    "productsSequence": "index",
}


def as_told_in_words(body: Any) -> Any:
    """What the document can only say in words: 1.0 is no whole number here, and a bulk call names each player once."""
    if isinstance(body, dict):
        body = {name: as_told_in_words(inner) for name, inner in body.items()}
        for name, key in ONCE.items():
            if isinstance(body.get(name), list):
                body[name] = list({entry[key]: entry for entry in body[name]}.values())
        if isinstance(body.get("playerAvailability"), dict):
            limit = body["playerAvailability"]
            limit["remaining"] = min(limit["remaining"], limit["total"])
        if isinstance(body.get("player_level"), dict) and not body["player_level"].get("assetId"):
            body["player_level"]["assetId"] = "asset"  # what no level is stored without, a patch cannot go without
        return body
    if isinstance(body, list):
        return [as_told_in_words(inner) for inner in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


def test_the_document_is_a_valid_one_and_needs_no_token(client, studio):
    answer = client.get("/game/v1/openapi.json")

    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    validate(answer.json)


def test_every_rule_is_in_the_document_and_every_operation_is_a_rule(app):
    served = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix("/game/v1")))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("game.")
        for method in rule.methods - {"HEAD"}
    }

    assert served == set(OPERATIONS)
    assert (
        len(OPERATIONS) == len(CALLS) + sum(len(partner.game_calls) for partner in PARTNERS) + 1
    )  # the document itself


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_calls_as_described_are_accepted_and_answered_as_described(calls, method, path):
    answered = set()

    @(seldom if (method, path) == ("post", "/players") else bounded)
    @given(calls(method, path, GenerationMode.POSITIVE))
    def call(case):
        if isinstance(case.body, dict):
            case.body = as_told_in_words(case.body)
        answered.add(case.call_and_validate().status_code)

    call()
    assert answered & {200, 201, 204}
    assert answered <= {200, 201, 204, 404, 409}


@pytest.mark.long
@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if each[1] not in TAKES_NOTHING])
def test_calls_not_as_described_are_refused_as_described(calls, method, path):
    answered = set()

    @(seldom if (method, path) == ("post", "/players") else bounded)
    @given(calls(method, path, GenerationMode.NEGATIVE))
    def call(case):
        answered.add(case.call_and_validate().status_code)

    call()
    assert answered & {400, 401, 404, 422}


@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if each[1] != "/openapi.json"])
def test_calls_without_a_good_token_are_all_refused_alike(calls, method, path, db):
    before = db("SELECT * FROM players ORDER BY player_id"), db("SELECT * FROM items"), db("SELECT * FROM games")

    @examples(3 if path == "/players" else 10)
    @given(calls(method, path, GenerationMode.POSITIVE))
    def call(case):
        case.headers = {}
        answer = case.call_and_validate()
        assert (answer.status_code, answer.json()["status"]) == (401, 401)

    call()
    assert before == (
        db("SELECT * FROM players ORDER BY player_id"),
        db("SELECT * FROM items"),
        db("SELECT * FROM games"),
    )
