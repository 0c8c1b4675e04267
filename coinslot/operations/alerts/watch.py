"""Which troubles are sent, and when: decided from a table that survives restarts, in the commit with the messages.

* A trouble that stands :data:`STANDS_SECONDS` is sent once, then every :data:`REPEAT_SECONDS` while it stands, then
  once when it is over. One that is over before it was sent is not mentioned.
* A trouble that is gone for a moment and back is the same: it is over after :data:`OVER_SECONDS`. One that returns
  within a day of being over is sent again, and is then over only after :data:`RETURNED_OVER_SECONDS`: one that comes
  and goes all day makes at most two messages an hour.
* What becomes due within :data:`GATHER_SECONDS` of each other is one message.

The activity has each of these troubles when it would be sent and when it is over, with a target or without one. A
target that is added later gets what stands then.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coinslot.base import clock
from coinslot.operations.alerts import outbox
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Database, Row

STANDS_SECONDS = 120.0
REPEAT_SECONDS = clock.DAY_SECONDS
OVER_SECONDS = 20.0
RETURNED_OVER_SECONDS = 3600.0
FLICKER_SECONDS = 30.0  # how long a trouble that was not sent yet may be gone without beginning again
GATHER_SECONDS = 30.0
LOOK_SECONDS = 10.0
LONGEST_NOTED = 500  # of a sentence, in the activity
SOONEST_SECONDS = 0.5  # a fraction of a microsecond may be left to wait


@dataclass(frozen=True)
class Alarm:
    """A trouble as an alert says it. ``money`` is currency -> exact decimal text; ``page`` the path of its page.

    ``remedy`` says what to do; one that is over has none.
    """

    key: str
    sentence: str
    page: str
    game: str | None = None
    money: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True)
class News:
    """What one message says: what is new, what still stands, what is over."""

    new: Sequence[Alarm] = ()
    still: Sequence[Alarm] = ()
    over: Sequence[Alarm] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.still or self.over)


Compose = Callable[[News], tuple[str, str]]  # subject and body


def look(database: Database, alarms: Iterable[Alarm], compose: Compose, *, are_all: bool = True) -> float:
    """Compare what is wrong now with what was sent, and write the messages that are due.

    Marking as sent and writing the messages is one commit. ``are_all``: what is not among the alarms is gone; else
    nobody knows. Returns in how many seconds to look again. Writes nothing while nothing changes.
    """
    standing = {alarm.key: alarm for alarm in alarms}
    plan = _plan(database.read(), standing, are_all)
    if plan.changes:
        plan = database.write(lambda tx: _apply(tx, standing, are_all, compose))
    return plan.wait_seconds


def forget(tx: Connection) -> None:
    """Forget what was sent and drop what waits: after a restore it is that of another time.

    What stands is then seen for the first time.
    """
    tx.execute("DELETE FROM alerts")
    tx.execute("DELETE FROM alert_messages WHERE state = 'waiting'")


def _note(tx: Connection, alarm: Alarm, action: str) -> None:
    game_id = None if alarm.game is None else queries.get(tx, "id", "games", slug=alarm.game)
    audit.record(tx, game_id, "server", action, alarm.sentence[:LONGEST_NOTED])


@dataclass
class _Plan:
    now: float
    targets: list[Row]
    begin: list[Alarm] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    news: News = News()
    known: list[Alarm] = field(default_factory=list)  # stand and were sent: news for a new target
    wait_seconds: float = LOOK_SECONDS

    @property
    def changes(self) -> bool:
        is_any_new = any(target["is_new"] for target in self.targets)
        return bool(self.begin or self.returned or self.gone or self.forgotten or self.news or is_any_new)


def _plan(connection: Connection, standing: Mapping[str, Alarm], are_all: bool) -> _Plan:
    """What to change."""
    targets = connection.execute("SELECT name, is_new FROM alert_targets ORDER BY name").fetchall()
    rows = {row["key"]: row for row in connection.execute("SELECT * FROM alerts ORDER BY first_seen_at, key")}
    now = clock.now()
    plan = _Plan(now, targets)
    new: list[tuple[float, Alarm]] = []
    still: list[Alarm] = []
    over: list[tuple[float, Alarm]] = []
    for key, alarm in standing.items():
        if key not in rows or rows[key]["over_at"] is not None:
            plan.begin.append(alarm)
            new.append((STANDS_SECONDS, alarm))
    for key, row in rows.items():
        seen = standing.get(key)
        if row["over_at"] is not None:
            if seen is None and _age(row["over_at"], now) >= clock.DAY_SECONDS:
                plan.forgotten.append(key)
        elif seen is not None:
            if row["gone_at"] is not None:
                plan.returned.append(key)
            if row["sent_at"] is None:
                new.append((STANDS_SECONDS - _age(row["first_seen_at"], now), seen))
            elif _age(row["sent_at"], now) >= REPEAT_SECONDS:
                still.append(seen)
            else:
                plan.known.append(seen)
        elif not are_all:
            continue
        elif row["gone_at"] is None:
            plan.gone.append(key)
        elif row["sent_at"] is None:
            if _age(row["gone_at"], now) >= FLICKER_SECONDS:
                plan.forgotten.append(key)
        else:
            limit = RETURNED_OVER_SECONDS if row["is_returned"] else OVER_SECONDS
            over.append((limit - _age(row["gone_at"], now), Alarm(key, row["sentence"], row["page"], row["game"])))
    plan.news = News(_due(new), still, _due(over))
    waits = [seconds for seconds, _ in [*new, *over] if seconds > 0]
    plan.wait_seconds = max(SOONEST_SECONDS, min([LOOK_SECONDS, *waits]))
    return plan


def _due(waiting: Sequence[tuple[float, Alarm]]) -> list[Alarm]:
    """Those whose seconds have passed; none while others follow soon, which then go into the same message."""
    due = [alarm for seconds, alarm in waiting if seconds <= 0]
    is_followed = any(0 < seconds <= GATHER_SECONDS for seconds, _ in waiting)
    overdue = -min((seconds for seconds, _ in waiting), default=0.0)
    return [] if is_followed and overdue < GATHER_SECONDS else due


def _age(stamp: str, now: float) -> float:
    """Seconds since a stamp. One in the future was set by a clock that ran ahead: it counts as long ago."""
    seconds = now - clock.seconds(stamp)
    return math.inf if seconds < -1 else seconds


def _apply(tx: Connection, standing: Mapping[str, Alarm], are_all: bool, compose: Compose) -> _Plan:
    plan = _plan(tx, standing, are_all)
    now = clock.stamp(plan.now)
    for alarm in plan.begin:
        row = _columns(alarm) | {"key": alarm.key, "is_returned": 0, "first_seen_at": now}
        queries.insert(
            tx,
            "alerts",
            row,
            """ON CONFLICT (key) DO UPDATE SET is_returned = 1, first_seen_at = excluded.first_seen_at,
                   gone_at = NULL, sent_at = NULL, over_at = NULL""",
        )
    for key in plan.returned:
        tx.execute("UPDATE alerts SET gone_at = NULL WHERE key = :key", {"key": key})
    for key in plan.gone:
        tx.execute("UPDATE alerts SET gone_at = :now WHERE key = :key", {"key": key, "now": now})
    for key in plan.forgotten:
        tx.execute("DELETE FROM alerts WHERE key = :key", {"key": key})
    for target in plan.targets:
        news = plan.news
        if target["is_new"]:
            news = News(news.new, [*news.still, *plan.known], news.over)
        if news:
            outbox.enqueue(tx, target["name"], *compose(news))
    tx.execute("UPDATE alert_targets SET is_new = 0 WHERE is_new = 1")
    for alarm in (*plan.news.new, *plan.news.still):
        tx.execute(
            "UPDATE alerts SET sent_at = :now, sentence = :sentence, game = :game, page = :page WHERE key = :key",
            _columns(alarm) | {"key": alarm.key, "now": now},
        )
        if alarm in plan.news.new:
            _note(tx, alarm, "trouble.new")
    for alarm in plan.news.over:
        _note(tx, alarm, "trouble.over")
        tx.execute("UPDATE alerts SET over_at = :now WHERE key = :key", {"key": alarm.key, "now": now})
    return plan


def _columns(alarm: Alarm) -> dict[str, str | None]:
    return {"sentence": alarm.sentence, "game": alarm.game, "page": alarm.page}
