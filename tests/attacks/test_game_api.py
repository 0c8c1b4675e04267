"""The game API under calls in any order, good and bad ones mixed, with every check that schemathesis knows.

``tests/game/test_openapi.py`` tries each call alone. Here the answer of one call is what the next is made of: an entry
that was stored is read, changed, exported, forgotten and read again; a feed is read page by page and acknowledged.
"""

import json
from collections import Counter
from itertools import count
from typing import Any

import pytest
import schemathesis
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import ensure_resource_availability, use_after_free

from tests.attacks.examples import examples
from tests.conftest import MAIN_KEY, TOKEN, Studio, appcharge_headers, order
from tests.game.test_openapi import as_told_in_words

pytestmark = pytest.mark.long

# Where answers lead that schemathesis cannot tell by the names of their fields.
LINKS = {
    "/grants": {
        "next": ("/grants", "get", {"parameters": {"after": "$response.body#/next_after"}}),
        "applied": ("/grants/ack", "post", {"requestBody": {"through": "$response.body#/next_after"}}),
        "whose": (
            "/players/{player_id}/granted",
            "get",
            {"parameters": {"player_id": "$response.body#/grants/0/player_id"}},
        ),
    },
    "/events": {"next": ("/events", "get", {"parameters": {"after": "$response.body#/next_after"}})},
    "/items": {
        "remove": ("/items/{sku}", "delete", {"parameters": {"sku": "$response.body#/items/0/sku"}}),
        "rename": ("/items/{sku}", "put", {"parameters": {"sku": "$response.body#/items/0/sku"}}),
    },
}


def link(document: dict[str, Any]) -> None:
    for path, links in LINKS.items():
        document["paths"][path]["get"]["responses"]["200"]["links"] = {
            name: {"operationRef": f"#/paths/{to.replace('~', '~0').replace('/', '~1')}/{method}", **how}
            for name, (to, method, how) in links.items()
        }


@pytest.fixture(params=["players", "feeds"])
def document(request, app, studio):
    """As it is, where schemathesis finds out by names how calls about a player follow each other; or with links."""
    found = schemathesis.openapi.from_wsgi("/game/v1/openapi.json", app)
    if request.param == "feeds":
        link(found.raw_schema)
    return found


def test_calls_in_any_order_are_answered_as_described(document, installation, client):
    answered: Counter[tuple[str, str, int]] = Counter()
    numbers, tokens = count(), []

    @document.auth(refresh_interval=None)
    class Token:
        def get(self, case, context):
            return tokens[-1]

        def set(self, case, data, context):
            case.headers["Authorization"] = f"Bearer {data}"

    class Calls(document.as_state_machine()):
        def setup(self):
            """A game of its own for each run, with one player, one item and one order; what others did is not there."""
            game = Studio(installation, f"game-{next(numbers)}")
            game.secret("appcharge.main_key", MAIN_KEY)
            game.secret("appcharge.publisher_token", TOKEN)
            game.player("alice")
            game.item("coins", "gems")
            body = json.dumps(order()).encode()
            answer = client.post(f"/appcharge/{game.slug}/orders", data=body, headers=appcharge_headers(body))
            assert answer.status_code == 200
            tokens.append(game.token)
            self.handed_out = 0

        def before_call(self, case):
            if case.meta.generation.mode == GenerationMode.POSITIVE:
                case.body = as_told_in_words(case.body)
                if case.path == "/grants/ack":  # nobody has applied what no feed has handed out
                    case.body["through"] = min(case.body["through"], self.handed_out)
            super().before_call(case)

        def after_call(self, response, case):
            answered[case.method, case.path, response.status_code] += 1
            if (case.path, response.status_code) == ("/grants", 200):
                self.handed_out = max([self.handed_out, *(grant["id"] for grant in response.json()["grants"])])
            super().after_call(response, case)

        def validate_response(self, response, case, additional_checks=None, **kwargs):
            # Sums outlive a player, and a player whom nobody knows has none: these two never answer 404.
            is_lasting = case.path.endswith(("/granted", "/sponsors"))
            case.validate_response(
                response,
                excluded_checks=[use_after_free, ensure_resource_availability] if is_lasting else [],
                transport_kwargs=kwargs or None,
                recorder=self.recorder,
            )

    Calls.run(settings=examples(15, stateful_step_count=12))

    accepted = {(method, path) for method, path, status in answered if status < 300}
    assert len(accepted) >= 6, answered
    assert 401 in {status for *_, status in answered}
    assert not [each for each in answered if each[2] >= 500]
