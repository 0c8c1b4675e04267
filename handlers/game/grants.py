"""What was granted: the feed the game reads, how far it has come, and the sums."""

from flask import Response, jsonify

from coinslot.games import games
from coinslot.ledger import grants
from handlers.game.schemas import Ack
from handlers.kit.problems import ProblemError, caller, checked, read_body, whole_argument
from handlers.kit.receive import current_installation

MOST_GRANTS = 1000
LARGEST_ID = 10**18 - 1

_ack = Ack()


def feed() -> Response:
    """Grants after a cursor, oldest first. Ids rise in commit order, so nothing ever appears behind the cursor."""
    game = caller()
    after = whole_argument("after", 0, 0, LARGEST_ID)
    limit = whole_argument("limit", 100, 1, MOST_GRANTS)
    installation = current_installation()
    with installation.database.snapshot() as connection:
        page, has_more = grants.feed(connection, game.id, after, limit)
    installation.observations.read(game.id, after)
    return jsonify(grants=page, next_after=page[-1]["id"] if page else after, has_more=has_more)


def acknowledge() -> Response:
    """The game has applied everything up to an id; a lower id than an earlier one changes nothing."""
    game = caller()
    through = read_body(_ack)["through"]
    try:
        acked = current_installation().database.write(lambda tx: games.acknowledge(tx, game.id, through))
    except games.GameError as error:
        raise ProblemError(422, f"through: {error}") from None
    return jsonify(acked_through=acked)


def granted(player_id: str) -> Response:
    """Sums of entries per item; what the game took or gave by itself is not in them, and test traffic is not."""
    game = caller()
    player_id = checked(player_id, "player_id")
    sums = grants.granted(current_installation().database.read(), game.id, player_id)
    return jsonify(player_id=player_id, granted=sums)
