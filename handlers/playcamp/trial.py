"""One window of the game's own payments, read now and stored nowhere: does the configuration work, what comes of it?

What a poll would do with an answer is done here too, by the same functions, and only told. The watermark stays.
"""

import math
import time
from collections import Counter

from coinslot import clock
from coinslot.games import Game
from coinslot.installation import Installation
from handlers import Trial
from handlers.playcamp.game_payments import Source, SourceError, is_configured
from handlers.playcamp.payment_rules import is_sandbox, rules
from handlers.playcamp.polling import read_row

MOST_PAGES = 3  # enough to see that .next leads on
PAGE_SECONDS = 10.0  # for one answer: somebody is waiting for it
TRIAL_SECONDS = 15.0  # then no further page is asked for
MOST_PROBLEMS = 10


def try_payments(house: Installation, game: Game, start: int | None = None) -> Trial:
    """Read from ``start`` (Unix seconds), as long a window as one poll asks for; left out: one that ends where a poll
    would end now. Never raises for what is configured or answered: that is the trial's ``trouble``.
    """
    span = int(game.settings["playcamp.payments.span_seconds"])
    until = math.floor(clock.now()) - int(game.settings["playcamp.payments.lag_seconds"])
    begin = max(0, until - span) if start is None else start
    end = max(begin, min(begin + span, until))
    if not is_configured(game):
        return Trial(begin, end, trouble="playcamp.payments needs .url, .rows and .map before payments can be read")
    if begin >= end:
        return Trial(begin, end, trouble="that begins later than payments are asked for yet")
    made, is_test = rules(game), is_sandbox(game)
    rows = pages = 0
    first = None
    problems: Counter[str] = Counter()
    after: str | None = None
    seen: set[str] = set()
    trouble = None
    deadline = time.monotonic() + TRIAL_SECONDS
    try:
        source = Source(game, house.outbound)
        while pages < MOST_PAGES and (pages == 0 or after is not None) and time.monotonic() < deadline:
            seen.add(after or "")
            page = source.page(begin, end, after, PAGE_SECONDS)
            after, pages, rows = page.next, pages + 1, rows + len(page.rows)
            for row in page.rows:
                payment = read_row(source, row, made, is_test)
                if payment.problem is not None:
                    problems[payment.problem] += 1
                elif first is None:
                    first = payment
            if after in seen:
                raise SourceError("playcamp.payments.next never ends: it leads in a circle")
    except SourceError as error:
        trouble = str(error)
    told = tuple(problems.most_common(MOST_PROBLEMS))
    return Trial(begin, end, rows, pages, after is not None, first, told, problems.total(), trouble)
