"""Why payment queries are refused: they sign their address."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

from coinslot.base import signing
from handlers.kit import explain
from handlers.kit.explain import Hypothesis, every
from handlers.kit.explain_keys import digest_hex, hmac_hex
from handlers.kit.explain_words import Finding
from handlers.playcamp.explain_words import QUERIES


class Case(explain.Case):
    """A payment query that was refused."""

    partner = "playcamp"
    service = "PlayCamp's payment queries"
    what = "address"
    signed_by = "playcamp.payments_key"
    findings = QUERIES

    @property
    def signed_at(self) -> float | None:
        try:
            return signing.unix_seconds(self.call.headers.get("x-timestamp", ""))
        except ValueError:
            return None

    def made(self, key: bytes, message: bytes) -> str:
        return digest_hex(message + b"\n" + key)


def no_fingerprint(case: Case) -> Finding | None:
    lacking = [name for name in ("X-Fingerprint", "X-Timestamp") if name.lower() not in case.call.headers]
    return case.say("no_fingerprint", names=" and ".join(lacking)) if lacking else None


def another_fingerprint(case: Case) -> Finding | None:
    given = case.call.headers["x-fingerprint"].lower()
    tries = [("\n".join(lines).encode("utf-8", "surrogateescape"), how) for lines, how in _lines(case)]
    found = case.search(every(case.stored, tries), given)
    if found is not None:
        key, how = found
        return case.say("another_fingerprint", key=case.name(key), how=how) if how else case.about_key(key)
    found = case.search(every(case.stored, tries), given, hmac_hex)
    if found is None:
        return None
    key, how = found
    how += f"{' and ' if how else ''}as an HMAC in place of a digest"
    return case.say("another_fingerprint", key=case.name(key), how=how)


def _lines(case: Case) -> Iterator[tuple[list[str], str]]:
    """The lines that may have been signed, without the key, and how they differ from the right ones."""
    call, timestamp = case.call, case.call.headers["x-timestamp"]
    method, path, words = call.text("method"), call.text("path"), call.text("query")
    in_order = "&".join(sorted(words.split("&")))
    decoded = "&".join(sorted(unquote_plus(each) for each in words.split("&")))
    for query_line, how in (
        (in_order, ""),
        (words, "over the query as it is sent, its parameters not in order"),
        (decoded, "over the decoded query, without its percent signs"),
        (f"?{in_order}", "with the question mark in front of the query"),
        ("", "without the query"),
    ):
        yield [method, path, query_line, timestamp], how
    yield [method.lower(), path, in_order, timestamp], "with its method in small letters"
    yield [path, in_order, timestamp], "without the method"
    yield [method, path.rstrip("/") + "/", in_order, timestamp], "over another path"
    if timestamp.isdigit():
        yield [method, path, in_order, f"{timestamp}000"], "with its time in milliseconds and sent with seconds"


def stale(case: Case) -> Finding | None:
    tolerance = float(case.setting("tolerance_seconds", "300"))
    return explain.timed(case, tolerance) or case.say("time_no_number")


HYPOTHESES: Mapping[str, tuple[Hypothesis[Case], ...]] = {
    "signature": (no_fingerprint, another_fingerprint, explain.in_vain),
    "timestamp": (stale,),
}
