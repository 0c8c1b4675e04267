"""``flask destination grade`` against real endpoints: a good one, and one for each thing that can be wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from standardwebhooks import Webhook, WebhookVerificationError

from coinslot.access import keyring
from coinslot.access.keyring import SecretValue
from coinslot.base.outbound import Outbound
from coinslot.installation import Installation
from coinslot.outbox import destinations
from coinslot.outbox.formats import STANDARD
from coinslot.relay import grader, webhooks
from handlers.commands.grade import grade
from handlers.playcamp.format import FORMAT
from tests import databases
from tests.conftest import Studio
from tests.fakes.http import Handler, Receiver, Request, certificate, closed_port, huge, reset, silence, status
from tests.server.test_example import ExampleGame

LINES = 13  # findings about an endpoint of the format `standard`

Endpoint = Callable[[Handler], None]


class Grading:
    """A destination of the game ``demo``, and the command run on it."""

    def __init__(self, app: Flask, installation: Installation, studio: Studio) -> None:
        self.app = app
        self.installation = installation
        self.studio = studio
        self.secret = self.output = ""

    def aim(self, url: str, timeout_seconds: int = 2, **options: Any) -> str:
        """Returns the signing secret."""
        self.secret = self.installation.database.write_here(
            lambda tx: destinations.add(
                tx,
                self.installation.vault,
                "demo",
                "main",
                url,
                actor="test",
                timeout_seconds=timeout_seconds,
                formats=self.installation.formats,
                **options,
            )
        )
        return self.secret

    def run(self, *words: str) -> Result:
        result = self.app.test_cli_runner().invoke(grade, words or ["demo", "main"])
        assert result.exception is None or isinstance(result.exception, SystemExit), "a traceback instead of words"
        assert not self.secret or self.secret.removeprefix("whsec_") not in result.output
        self.output = result.output
        return result

    def marks(self) -> dict[str, tuple[str, str]]:
        """Title -> ok or PROBLEM, and the words; the exit status agrees with them."""
        result = self.run()
        found = {}
        for line in result.stdout.splitlines():
            mark, _, text = line.partition(" ")
            if mark in ("ok", "PROBLEM"):
                title, _, words = text.strip().partition(": ")
                found[title] = (mark, words)
        assert result.exit_code == any(mark == "PROBLEM" for mark, _ in found.values())
        assert "Grade: " in result.stdout
        return found

    def problems(self) -> dict[str, str]:
        return {title: words for title, (mark, words) in self.marks().items() if mark == "PROBLEM"}


@pytest.fixture
def grading(app: Flask, installation: Installation, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Grading:
    monkeypatch.setattr(grader, "TRICKLE_SECONDS", 0.2)
    return Grading(app, installation, studio)


def last(handler: Handler) -> Request:
    return handler.fake.requests[-1]


def proving(grading: Grading, behaviour: Endpoint | None = None, forged: Endpoint | None = None) -> Endpoint:
    """Verifies with the public package, and then behaves: success, and 401 for what is forged, unless told else."""

    def answer(handler: Handler) -> None:
        try:
            last(handler).verify(grading.secret)
        except WebhookVerificationError:
            (forged or status(401))(handler)
        else:
            (behaviour or status(200))(handler)

    return answer


class TestGood:
    def test_the_example_game_gets_full_marks(self, app, installation, studio, tmp_path):
        grading = Grading(app, installation, studio)  # trickling as long as it does for owners
        with ExampleGame(tmp_path, COINSLOT_WEBHOOK_SECRET=destinations.new_secret()) as game:
            game.kill()
            game.environment["COINSLOT_WEBHOOK_SECRET"] = grading.aim(game.url, 10)
            game.start()

            result = grading.run()

            assert result.exit_code == 0, result.output
            assert "PROBLEM" not in result.stdout
            assert f"Grade: ready. All {LINES} answers are as they should be.\n" in result.stdout
            assert f"Test grants to {game.url}\n" in result.stdout
            assert grader.UNSEEN in result.stdout
            assert game.items("coinslot-test") == {}
            assert {state for _, state in game.states("coinslot-test")} == {"test"}
            # A good one, the reversed one and its reversal, two signatures, large, slow.
            assert len(game.states("coinslot-test")) == 6

    def test_every_grant_is_marked_its_ids_are_fresh_and_nothing_is_written(self, grading):
        with Receiver(proving(grading)) as endpoint:
            grading.aim(endpoint.url)
            before = databases.content(grading.installation)
            grading.run()
            first_run = len(endpoint.requests)
            grading.run()
            assert databases.content(grading.installation) == before

        assert first_run == len(endpoint.requests) - first_run == LINES
        for request in endpoint.requests:
            grant = json.loads(request.body)["data"]
            assert grant["is_test"] is True
            assert grant["player_id"] == "coinslot-test"
            assert {line["sku"] for line in grant["items"]} == {"coinslot-test"}
            assert request.headers.get("webhook-id", "msg_grade_").startswith("msg_grade_")
        runs = endpoint.requests[:LINES], endpoint.requests[LINES:]
        ids = [{json.loads(request.body)["data"]["transaction_id"] for request in run} for run in runs]
        assert not ids[0] & ids[1]
        assert len(ids[0]) == LINES - 3  # the good one came three times, and one grant was reversed
        good, same, anew = endpoint.requests[:3]
        assert (good.body, good.headers) == (same.body, same.headers)
        assert (good.body, good.webhook_id) == (anew.body, anew.webhook_id)
        assert good.headers["webhook-timestamp"] < anew.headers["webhook-timestamp"]
        assert good.headers["webhook-signature"] != anew.headers["webhook-signature"]
        assert max(len(request.body) for request in endpoint.requests) > 100_000

    def test_the_secret_being_rotated_is_no_problem(self, grading):
        with Receiver(proving(grading)) as endpoint:
            grading.aim(endpoint.url)
            grading.studio.rotate("destination.main", destinations.new_secret())

            assert grading.problems() == {}

    def test_it_speaks_tls_slowly_too(self, grading, tmp_path, monkeypatch):
        pem = certificate(tmp_path, "127.0.0.1")
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        shared = grading.installation
        installation = Installation(shared.settings, shared.catalogue, shared.secret_names, shared.in_game)
        grading.app.extensions["coinslot"] = installation
        with Receiver(proving(grading), certificate=pem) as endpoint:
            grading.aim(endpoint.url)

            marks = grading.marks()

            assert len(marks) == LINES
            assert {mark for mark, _ in marks.values()} == {"ok"}
        installation.database.close()

    def test_the_format_playcamp_is_graded_in_its_own_way(self, grading):
        def endpoint_of_playcamp(handler: Handler) -> None:
            sent = last(handler)
            at, signature = sent.headers.get("x-gateway-timestamp"), sent.headers.get("x-gateway-signature")
            wanted = webhooks.signed(FORMAT, "", 1, sent.body, (secret_value(grading.secret),), float(at or 0))
            is_fresh = abs(sent.at - float(at or 0)) < 300
            is_good = is_fresh and signature == wanted["X-Gateway-Signature"]
            status(200, b'{"result": "ok"}' if is_good else b'{"result": "no"}')(handler)

        with Receiver(endpoint_of_playcamp) as endpoint:
            grading.aim(endpoint.url, format="playcamp", success="result == 'ok'")

            marks = grading.marks()

        assert len(marks) == LINES - 1  # one signature is all this format has room for
        assert {mark for mark, _ in marks.values()} == {"ok"}
        assert all(request.headers["x-gateway-attempt"] == "1" for request in endpoint.requests[:5])


def timeless(grading: Grading) -> Endpoint:
    """Verifies the signature, and takes one of any age."""

    def answer(handler: Handler) -> None:
        sent = last(handler)
        at, key = float(sent.headers.get("webhook-timestamp", 0)), (secret_value(grading.secret),)
        expected = webhooks.signed(STANDARD, sent.headers.get("webhook-id", ""), 1, sent.body, key, at)
        signatures = sent.headers.get("webhook-signature", "").split()
        status(200 if expected["webhook-signature"] in signatures else 401)(handler)

    return answer


def short_sighted(grading: Grading) -> Endpoint:
    """Reads the first signature only."""

    def answer(handler: Handler) -> None:
        sent = last(handler)
        first = sent.headers.get("webhook-signature", "").split(" ")[0]
        try:
            Webhook(grading.secret).verify(sent.body, dict(sent.headers) | {"webhook-signature": first})
        except WebhookVerificationError:
            status(401)(handler)
        else:
            status(200)(handler)

    return answer


def once(grading: Grading) -> Endpoint:
    """Answers 409 to a repeat."""
    seen: list[str] = []

    def answer(handler: Handler) -> None:
        seen.append(last(handler).webhook_id)
        status(200 if seen.count(seen[-1]) == 1 else 409)(handler)

    return proving(grading, answer)


def orderly(grading: Grading) -> Endpoint:
    """Wants a grant before its reversal."""
    grants = set()

    def answer(handler: Handler) -> None:
        grant = json.loads(last(handler).body)["data"]
        if grant["kind"] != "reversal":
            grants.add(grant["transaction_id"])
        status(200 if grant["transaction_id"] in grants else 422)(handler)

    return proving(grading, answer)


def known_types(grading: Grading) -> Endpoint:
    def answer(handler: Handler) -> None:
        is_known = json.loads(last(handler).body)["type"] in ("grant.created", "grant.reversed")
        status(200 if is_known else 400)(handler)

    return proving(grading, answer)


def small_bodies(grading: Grading) -> Endpoint:
    return proving(grading, lambda handler: status(413 if len(last(handler).body) > 65536 else 200)(handler))


FORGED = ("signed with another key", "changed after it was signed", "signed an hour ago", "not signed at all")
REPEATED = ("the same again, byte for byte", "the same again, signed anew")


@pytest.mark.parametrize(
    ("endpoint", "titles", "words", "grade"),
    [
        (
            lambda grading: status(200),
            FORGED,
            "your endpoint accepted it (200): anybody could give items; verify webhook-signature over the raw body "
            "before parsing",
            "UNSAFE, for it accepts what it must refuse. 4 of 13 answers need a change.",
        ),
        (
            timeless,
            ("signed an hour ago",),
            "your endpoint accepted it (200): what was overheard once can be sent for ever; refuse it when "
            "webhook-timestamp is more than five minutes from your clock",
            "UNSAFE",
        ),
        (short_sighted, ("several signatures, the first a stranger's",), "answered 401: ", "not ready."),
        (once, REPEATED, "answered 409: answer a grant you have already", "not ready. 2 of 13"),
        (orderly, ("a reversal before its grant",), "answered 422: ", "not ready."),
        (known_types, ("an unknown event type",), "answered 400: ", "not ready. 1 of 13 answers need a change."),
        (small_bodies, ("100 KB large",), "answered 413: ", "not ready."),
        (lambda grading: proving(grading, forged=status(500)), FORGED, "answered 500: ", "not ready."),
    ],
)
def test_one_that_does_something_wrong(grading, endpoint, titles, words, grade):
    with Receiver(endpoint(grading)) as receiver:
        grading.aim(receiver.url)
        problems = grading.problems()

    assert tuple(problems) == titles
    assert problems[titles[0]].startswith(words)
    assert f"Grade: {grade}" in grading.output


@pytest.mark.parametrize(
    ("behaviour", "mark", "words"),
    [
        (status(408), "ok", "answered 408, so it would be sent again"),
        (status(400), "PROBLEM", "answered 400: "),
        (reset, "PROBLEM", "no answer ("),
        (silence, "PROBLEM", "no answer within 1 s"),
    ],
)
def test_one_that_does_not_wait_for_a_slow_body(grading, behaviour, mark, words):
    """The slow one is the last of the story; what comes before it is as it should be."""

    def impatient(handler: Handler) -> None:
        is_last = len(handler.fake.requests) == LINES
        (behaviour if is_last else proving(grading))(handler)

    with Receiver(impatient) as endpoint:
        grading.aim(endpoint.url, 1)
        found = grading.marks()["arriving slowly, over 0 s"]

    assert (found[0], found[1].startswith(words)) == (mark, True)


@pytest.mark.parametrize(
    ("behaviour", "options", "words"),
    [
        (None, {}, "no answer (Connection refused): check your endpoint's address"),
        (silence, {"timeout_seconds": 1}, "no answer within 1 s: commit the grant, answer"),
        (
            status(401),
            {},
            "answered 401: the grant was properly signed; check that your game has this destination's secret",
        ),
        (status(404), {}, "answered 404: check that your endpoint takes POST at this address"),
        (status(500), {}, "answered 500: your endpoint failed"),
        (status(302, Location="/elsewhere"), {}, "answered 302: redirects are not followed"),
        (huge, {}, "answered more than 65536 bytes: answer in a few words"),
        (reset, {}, "no answer (the connection broke"),
        (status(202), {"success": "200"}, "answered 202, and success is exactly 200 here"),
        (status(202), {"success": "result == 'ok'"}, "answered 202, and success is 200 and result == 'ok' here"),
    ],
)
def test_one_that_does_not_accept_a_good_grant_has_one_finding_that_says_why(grading, behaviour, options, words):
    with Receiver(behaviour or status(200)) as endpoint:
        url = endpoint.url if behaviour else f"http://127.0.0.1:{closed_port()}/coinslot"
        grading.aim(url, **options)
        problems = grading.problems()

    assert list(problems) == ["a good grant"]
    assert problems["a good grant"].startswith(words)
    assert "Grade: none. Before a good grant is accepted, nothing else can be judged.\n" in grading.output
    assert len(endpoint.requests) == (behaviour is not None)


class TestCommand:
    def test_slow_but_in_time_is_said(self, grading):
        def slow(handler: Handler) -> None:
            if len(handler.fake.requests) == 1:
                handler.fake.is_closing.wait(1.1)
            proving(grading)(handler)

        with Receiver(slow) as endpoint:
            grading.aim(endpoint.url)

            mark, words = grading.marks()["a good grant"]

        assert mark == "ok"
        assert words.endswith(
            "the limit is 2 s. That is close: commit the grant, answer, and do what is slow afterwards"
        )

    def test_a_destination_that_gets_no_grants_is_said_to_be_tested_with_them(self, grading):
        grading.aim(f"http://127.0.0.1:{closed_port()}", events="sponsor.*")

        assert "(main gets only sponsor.*; it is tested with grants all the same.)" in grading.run().stdout

    def test_what_does_not_exist_is_refused_in_words(self, grading):
        assert grading.run("nogame", "main").stderr == "Error: there is no game nogame\n"
        assert grading.run("demo", "main").stderr == "Error: demo has no destination main\n"
        grading.aim("http://127.0.0.1:1/")
        grading.installation.database.write_here(lambda tx: keyring.delete(tx, grading.studio.row, "destination.main"))
        assert grading.run("demo", "main").stderr == "Error: main of demo has no signing secret\n"

    def test_it_goes_to_allowed_addresses_only(self, grading):
        with Receiver(status(200)) as endpoint:
            grading.aim(endpoint.url)
            grading.installation.outbound = Outbound(may_call_private=False)
            assert "is not a public one" in grading.problems()["a good grant"]
            assert endpoint.connections == 0


def secret_value(secret: str) -> SecretValue:
    return SecretValue("destination.main", "current", secret.encode())
