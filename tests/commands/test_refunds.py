"""``flask refund``, and what doctor says of refunds that nobody has settled."""

import pytest


@pytest.fixture
def run(app):
    runner = app.test_cli_runner()
    return lambda *arguments: runner.invoke(args=[str(argument) for argument in arguments])


@pytest.fixture
def refunded(post_event):
    def post(**named):
        return post_event({"eventName": "order.refunded", "eventId": str(named), "timestamp": 1767225600000, **named})

    return post


@pytest.fixture
def post_event(client, studio):
    import json

    from tests.conftest import appcharge_headers

    def post(document):
        body = json.dumps(document).encode()
        answer = client.post("/appcharge/demo/events", data=body, headers=appcharge_headers(body))
        assert answer.status_code == 200
        return answer

    return post


def test_what_waits_and_what_is_for_a_person_is_listed(run, refunded, studio):
    assert run("refund", "list", "demo").output == "None waits for its order or for a person.\n"
    refunded(orderId="never-came", customer={"id": "alice"})
    refunded(customer={"id": "bob"})

    lines = run("refund", "list", "demo").output.splitlines()

    assert [line.split()[4:] for line in lines[1:]] == [
        ["ambiguous", "-", "bob", "-"],
        ["waiting", "never-came", "alice", "-"],
    ]


def test_settled_ones_are_listed_when_asked_for(run, refunded, post_order, studio):
    post_order()
    refunded(orderId="68e25eebdcb1278")

    assert "None" in run("refund", "list", "demo").output
    assert "ignored" in run("refund", "list", "demo", "--all").output


def test_doctor_tells_of_those_that_stay(run, refunded, studio, clock):
    refunded(orderId="never-came")
    refunded()
    output = run("doctor").output
    assert "1 refund names no one order." in output
    assert "waited for the order" not in output

    clock.shift(86400 + 1)

    assert "1 refund has waited for the order for over a day" in run("doctor").output


def test_a_person_takes_an_order_back_once(run, post_order, feed, studio, db):
    post_order()

    result = run("refund", "reverse", "demo", "68e25eebdcb1278", "--policy", "flag", "--reason", "asked by phone")

    assert (result.exit_code, result.output) == (0, "Order 68e25eebdcb1278 is taken back: grant 2, policy flag.\n")
    assert [(grant["kind"], grant["policy"], grant["reverses"]) for grant in feed()] == [
        ("purchase", None, None),
        ("reversal", "flag", 1),
    ]
    assert [row["reason"] for row in db("SELECT reason FROM grants WHERE kind = 'reversal'")] == ["asked by phone"]
    assert [row["action"] for row in db("SELECT action FROM audit")][-1] == "order.reverse"
    again = run("refund", "reverse", "demo", "68e25eebdcb1278", "--reason", "once more")
    assert (again.exit_code, "was taken back already" in again.output) == (1, True)
    assert len(feed()) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "nothing", "--reason", "x"], "reported no order nothing"),
        (["nowhere", "o", "--reason", "x"], "there is no game nowhere"),
        (["demo", "o"], "Missing option '--reason'"),
        (["demo", "o", "--reason", "a\x07b"], "use no control characters"),
        (["demo", "o", "--reason", "x", "--policy", "ignore"], "Invalid value for '--policy'"),
    ],
)
def test_mistakes_are_said_in_words(run, studio, arguments, words):
    result = run("refund", "reverse", *arguments)

    assert result.exit_code != 0
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_person_says_when_the_money_went_back(run, post_order, studio, db):
    post_order()
    words = ("refund", "reverse", "demo", "68e25eebdcb1278", "--reason", "by phone", "--at")
    for never in ("2999-01-01T00:00:00Z", "1999-01-01", "yesterday", "2026-13-01"):
        refused = run(*words, never)
        assert (refused.exit_code, "--at: " in refused.output) == (1, True)
    taken = run(*words, "2026-07-22T12:00:00+09:00")
    assert taken.exit_code == 0, taken.output
    assert [row["occurred_at"] for row in db("SELECT occurred_at FROM refunds")] == ["2026-07-22T03:00:00.000000Z"]
