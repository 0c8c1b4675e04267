"""Facts besides grants: what partners reported that credits nothing."""

from flask import Response, jsonify

from coinslot.ledger import events
from handlers.game.grants import LARGEST_ID
from handlers.kit.problems import caller, whole_argument
from handlers.kit.receive import current_installation

MOST_EVENTS = 1000


def feed() -> Response:
    """Events after a cursor, oldest first; the same paging as the grants, over ids of its own."""
    game = caller()
    after = whole_argument("after", 0, 0, LARGEST_ID)
    limit = whole_argument("limit", 100, 1, MOST_EVENTS)
    found, has_more = events.feed(current_installation().database.read(), game.id, after, limit)
    return jsonify(events=found, next_after=found[-1]["id"] if found else after, has_more=has_more)
