"""Long work on months: how soon a page that shows how far it is looks again."""

from collections.abc import Sequence

from coinslot.base import clock
from coinslot.settlement.runs import Run

# A run is followed closely while it is young: most end within a minute.
SOON_SECONDS, LATER_SECONDS, SOON_FOR_SECONDS = 5, 60, 600.0
NOT_ADDED_UP_SECONDS = 30  # a month whose figures a job is still calculating


def refresh_seconds(runs: Sequence[Run]) -> int | None:
    """After how long a page that shows these runs asks anew; None when none of them is under way.

    A file whose reading was broken off stays under way: such a run is not followed for ever.
    """
    ages = [clock.now() - clock.seconds(run.started_at) for run in runs if not run.finished_at]
    if not ages or min(ages) > clock.DAY_SECONDS:
        return None
    return SOON_SECONDS if min(ages) < SOON_FOR_SECONDS else LATER_SECONDS
