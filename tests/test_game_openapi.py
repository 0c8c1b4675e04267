"""The game API's OpenAPI document is true: calls generated from it are answered as it says."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.generation.modes import GenerationMode

from app import PARTNERS, create_app
from handlers.game import CALLS

DOCUMENT = create_app({}).test_client().get("/game/v1/openapi.json").json
OPERATIONS = [
    (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations if method != "parameters"
]
# The same calls in every run of the same code, with nothing kept between runs or picked out of the source.
bounded = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def calls(app, studio, house, post_order):
    """A function that makes the strategy of one operation's calls, against a game where there is something to find."""
    post_order(products=[{"amount": 10**39, "sku": "coins"}])
    # As after a restore; and so every id that the document allows may be acknowledged.
    house.database.write_here(lambda tx: tx.execute("UPDATE sequences SET last_id = 1000000000000000000"))
    document = schemathesis.openapi.from_wsgi("/game/v1/openapi.json", app)

    def make(method: str, path: str, mode: GenerationMode) -> Any:
        operation = document[path][method.upper()]
        token = {"Authorization": f"Bearer {studio.token}"}
        anyone = operation.as_strategy(mode, feedback=NO_FEEDBACK, headers=token)
        if "{" not in path or mode.is_negative:
            return anyone
        known = {name: {"player_id": "alice", "sku": "coins"}[name] for name in re.findall(r"{(\w+)}", path)}
        return anyone | operation.as_strategy(mode, feedback=NO_FEEDBACK, headers=token, path_parameters=known)

    return make


def as_told_in_words(body: Any) -> Any:
    """What the document can only say in words: 1.0 is no whole number here, and a bulk call names each player once."""
    if isinstance(body, dict):
        body = {name: as_told_in_words(inner) for name, inner in body.items()}
        if isinstance(body.get("players"), list):
            body["players"] = list({entry["player_id"]: entry for entry in body["players"]}.values())
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

    @bounded
    @given(calls(method, path, GenerationMode.POSITIVE))
    def call(case):
        if isinstance(case.body, dict):
            case.body = as_told_in_words(case.body)
        answered.add(case.call_and_validate().status_code)

    call()
    assert answered & {200, 201, 204}
    assert answered <= {200, 201, 204, 404, 409}


@pytest.mark.parametrize(
    ("method", "path"), [each for each in OPERATIONS if each[1] not in ("/items", "/openapi.json")]
)
def test_calls_not_as_described_are_refused_as_described(calls, method, path):
    answered = set()

    @bounded
    @given(calls(method, path, GenerationMode.NEGATIVE))
    def call(case):
        answered.add(case.call_and_validate().status_code)

    call()
    assert answered & {400, 401, 404, 422}


@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if each[1] != "/openapi.json"])
def test_calls_without_a_good_token_are_all_refused_alike(calls, method, path, db):
    before = db("SELECT * FROM players ORDER BY player_id"), db("SELECT * FROM items"), db("SELECT * FROM games")

    @settings(bounded, max_examples=10)
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
