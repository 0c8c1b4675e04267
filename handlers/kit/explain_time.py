"""Why a call was refused whose signature is right and whose time is not."""

from dataclasses import replace

from handlers.kit.explain import Case, Finding

ALIKE_SECONDS = 90.0  # two clocks that differ by the same
ZONE_SECONDS = 120.0  # off a whole number of half hours: a local time taken for UTC


def timed(case: Case, tolerance_seconds: float) -> Finding | None:
    """Whose clock is wrong, or whether an old call was sent again: judged by the other calls of that day.

    The call's signature is right. None where it does not say when it was signed.
    """
    if case.signed_at is None:
        return None
    lag, received = case.call.received - case.signed_at, case.call.received
    others = [replace(case, call=each) for each in case.known.alike(case.call) if each.id != case.call.id]
    lags = [each.call.received - each.signed_at for each in others if each.signed_at is not None]
    is_repeated = any(
        each.signed_at == case.signed_at and each.call.text("signature") == case.call.text("signature")
        for each in others
    )
    proved_at = case.known.proved_at(case.call)
    is_clock_right = proved_at is not None and abs(proved_at - received) < 86400
    half_hours = round(lag / 1800)
    is_zone = 2 <= abs(half_hours) <= 28 and abs(lag - half_hours * 1800) < ZONE_SECONDS
    alike = sum(abs(each - lag) < ALIKE_SECONDS for each in lags)
    if is_repeated and lag > 0:
        row = "sent_twice"
    elif is_zone and (is_clock_right or not alike):
        row = "local_time"
    elif is_clock_right:
        row = "sent_late" if lag > 0 else "sender_ahead"
    elif lag < 0:
        row = "behind" if alike else "maybe_behind"
    else:
        row = "ahead" if alike else "late_or_ahead"
    return case.say(
        row,
        away=in_words(lag),
        allowed=f"{in_words(tolerance_seconds)} are allowed",
        zone=in_words(half_hours * 1800),
        count=alike + 1,
    )


def in_words(seconds: float) -> str:
    """How long: 7 minutes, 3 hours, 2 days."""
    seconds = abs(seconds)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (seconds >= size and seconds % size < size / 10):
            count = round(seconds / size)
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    if seconds >= 3600:
        return f"{round(seconds / 60):,} minutes"
    return f"{round(seconds):,} seconds"
