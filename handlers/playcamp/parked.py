"""What came from PlayCamp of late and led to nothing: which events it may be, and the warning about them."""

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.operations import unsettled
from handlers.kit.receive import current_installation
from handlers.playcamp.events.coupons import UNGRANTED
from handlers.playcamp.events.payload import UNREADABLE
from handlers.playcamp.events.webhooks import COUPON_REDEEMED, PARTNER

UNSETTLED_DAYS = 30  # for which the doctor names what nobody has dealt with
COUPONS = (COUPON_REDEEMED, UNGRANTED)


def warnings(game: Game) -> list[str]:
    """A sentence for the owner about what came of late and led to nothing, which ``flask playcamp parked`` lists."""
    connection = current_installation().database.read()
    since = clock.stamp(clock.now() - UNSETTLED_DAYS * 86_400)
    counts = (
        (
            unsettled.count_events_without_grant(connection, game.id, PARTNER, COUPONS, since),
            "redeemed coupon(s) not granted",
        ),
        (unsettled.count_events_without_grant(connection, game.id, PARTNER, (UNREADABLE,), since), "event(s) not read"),
        (unsettled.count_conflicts(connection, game.id, PARTNER, since), "coupon(s) reported with other content"),
    )
    found = ", ".join(f"{count} {what}" for count, what in counts if count)
    return [f"in {UNSETTLED_DAYS} days: {found} (`flask playcamp parked {game.slug}`)"] if found else []
