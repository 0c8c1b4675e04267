"""The warning about recent events from PlayCamp that led to nothing."""

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.operations import unsettled
from handlers.kit.receive import current_installation
from handlers.playcamp.events.coupons import UNGRANTED
from handlers.playcamp.events.payload import UNREADABLE
from handlers.playcamp.events.webhooks import COUPON_REDEEMED, PARTNER

UNSETTLED_DAYS = 30  # for which the doctor warns
COUPONS = (COUPON_REDEEMED, UNGRANTED)


def warnings(game: Game) -> list[str]:
    """A sentence for the owner about recent events that led to nothing; ``flask playcamp parked`` lists them."""
    where = (current_installation().database.read(), game.id, PARTNER)
    since = clock.stamp(clock.now() - UNSETTLED_DAYS * 86_400)
    counts = {
        "redeemed coupon(s) not granted": unsettled.count_events_without_grant(*where, COUPONS, since),
        "event(s) not read": unsettled.count_events_without_grant(*where, (UNREADABLE,), since),
        "coupon(s) reported with other content": unsettled.count_conflicts(*where, since),
    }
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return [f"in {UNSETTLED_DAYS} days: {found} (`flask playcamp parked {game.slug}`)"] if found else []
