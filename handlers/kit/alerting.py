"""Alerts in words, and the two jobs of the installation that send them and call the heartbeat."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import partial
from urllib.parse import urlsplit

from coinslot.access import page_facts
from coinslot.installation import Installation
from coinslot.operations import asides, readiness
from coinslot.operations.alerts import heartbeat, sending, targets, watch
from coinslot.operations.alerts.watch import Alarm, News
from coinslot.operations.findings import WRONG, Trouble
from handlers.kit import troubles
from handlers.kit.wording import shown

MOST_SAID = 30  # troubles in one message; the overview has the others
LONGEST_SENTENCE = 600
NEVER_SENT = "alert_failed:"  # begins the keys of such troubles


def watch_and_send(installation: Installation) -> float:
    """Note which troubles are new and over, write the messages that are due, and send some.

    What waits is sent even when the troubles cannot be listed.
    """
    database = installation.database
    say = partial(compose, installation.settings.public_url)
    try:
        found, _, aside_over = troubles.list_checked(installation)
        if aside_over:
            database.write(lambda tx: asides.end(tx, aside_over))
        wait = watch.look(database, worth_sending(found), say, are_all=troubles.UNREADABLE not in found)
    finally:
        is_demo = page_facts.is_demo(database.read())
        is_more = not is_demo and sending.send_due(database, installation.settings)
    return 0 if is_more else wait


def beat(installation: Installation) -> float | None:
    """Call the heartbeat's URL, if there is one and a credit could be made now."""
    database, vault = installation.database, installation.vault
    if not heartbeat.state(database.read()).is_on:
        return None
    is_ready = readiness.is_ready(readiness.checks(database, vault))
    return heartbeat.beat(database, vault, installation.outbound_anywhere, is_ready)


def worth_sending(found: Iterable[Trouble]) -> list[Alarm]:
    """The troubles that are wrong, but not that alerts do not arrive: no alert can say that."""
    return [
        Alarm(each.key, each.sentence, each.link or "/", each.game, each.money, each.remedy)
        for each in found
        if each.severity == WRONG and not each.key.startswith(NEVER_SENT)
    ]


def compose(public_url: str, news: News) -> tuple[str, str]:
    """Subject and body of one message. A paragraph for each trouble: its sentence, the money at stake, its page."""
    standing = [*news.new, *news.still]
    parts = []
    if standing:
        money = in_all(standing)
        parts.append(counted(len(standing)) + (f", {money} at stake" if money else ""))
    if news.over:
        parts.append(f"{len(news.over)} over" if standing else f"over: {counted(len(news.over))}")
    subject = f"Coinslot at {host(public_url)}: {'; '.join(parts)}"
    said = [
        *(_paragraph(public_url, "", alarm) for alarm in news.new),
        *(_paragraph(public_url, "Still: ", alarm) for alarm in news.still),
        *(_paragraph(public_url, "Over: ", alarm) for alarm in news.over),
    ]
    more = [f"{len(said) - MOST_SAID} more: {public_url}/"] if len(said) > MOST_SAID else []
    return subject, "\n\n".join([*said[:MOST_SAID], *more])


def send_test(installation: Installation, name: str) -> str | None:
    """Send a test to a target and wait; returns why it failed, None once it arrived. Raises AlertError."""
    targets.check_exists(installation.database.read(), name)
    if page_facts.is_demo(installation.database.read()):
        return "this is a demo, and a demo alerts nobody"
    public_url = installation.settings.public_url
    subject = f"Coinslot at {host(public_url)}: test"
    body = f"This is a test of the alert target {name}. Troubles of this installation are sent here.\n{public_url}/"
    return sending.send_test(installation.settings, name, subject, body)


def in_all(alarms: Iterable[Alarm]) -> str:
    """The money at stake in some troubles, summed by currency: 24.95 USD and 3.00 EUR; empty where there is none."""
    sums: dict[str, Decimal] = {}
    for alarm in alarms:
        for currency, amount in alarm.money.items():
            sums[currency] = sums.get(currency, Decimal(0)) + Decimal(amount)
    return " and ".join(f"{sums[currency]:,f} {shown(currency, 10)}" for currency in sorted(sums))


def counted(count: int) -> str:
    return "1 trouble" if count == 1 else f"{count:,} troubles"


def host(public_url: str) -> str:
    return urlsplit(public_url).netloc


def _paragraph(public_url: str, word: str, alarm: Alarm) -> str:
    money = in_all([alarm])
    lines: Sequence[str] = (
        f"{word}{f'{alarm.game}: ' if alarm.game else ''}{shown(alarm.sentence, LONGEST_SENTENCE)}",
        shown(alarm.remedy, LONGEST_SENTENCE),
        f"At stake: {money}" if money else "",
        f"{public_url}{alarm.page}",
    )
    return "\n".join(line for line in lines if line)
