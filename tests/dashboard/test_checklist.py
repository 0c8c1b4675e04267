"""The light of an address and the list that fills itself: facts in, words out."""

import pytest

from coinslot.base import clock
from handlers.dashboard.integration.checklist import Facts, checklist, light
from handlers.kit.partner import STEPS, Address

NOW = 1_800_000_000.0


def at(minutes_ago):
    return clock.stamp(NOW - 60 * minutes_ago)


def contact(**changed):
    columns = ("copied_at", "first_at", "proved_at", "refused_at", "refused_reason")
    return dict.fromkeys(columns) | changed


def address(**changed):
    given = {"endpoint": "orders", "name": "Order Reporting", "path": "/appcharge/{game}/orders", "what_for": ""}
    return Address(**given | {"lacks": lambda game: [], "healthy": "", "steps": STEPS} | changed)


def facts(its=None, credit=None, acked_through=0, acked_at=None, now=NOW, **others):
    contacts = {} if its is None else {"orders": its}
    return Facts(contacts | others, credit, acked_through, acked_at, now)


def credit(minutes_ago, grant_id=7, delivered_at=None):
    return {"received_at": at(minutes_ago), "grant_id": grant_id, "delivered_at": delivered_at}


def words(*args, **kwargs):
    return {step.title: step.word for step in checklist(*args, **kwargs)}


@pytest.mark.parametrize(
    ("lacking", "row", "word"),
    [
        (["appcharge.main_key"], None, "not set up"),
        (["appcharge.main_key"], contact(first_at=at(9), proved_at=at(9)), "not set up"),
        ([], None, "configured"),
        ([], contact(copied_at=at(1)), "configured"),
        ([], contact(first_at=at(9), proved_at=at(1), refused_at=at(2), refused_reason="signature"), "seen"),
        ([], contact(first_at=at(9), proved_at=at(2), refused_at=at(1), refused_reason="signature"), "failing"),
        ([], contact(refused_at=at(1), refused_reason="signature"), "failing"),
        ([], contact(first_at=at(2), proved_at=at(2), refused_at=at(2), refused_reason="unknown_player"), "failing"),
    ],
)
def test_a_light_is_what_the_last_call_was(lacking, row, word):
    found = light(lacking, row)
    assert found.word == word
    assert found.sentence.endswith(".")
    if word in ("seen", "failing"):
        assert found.at[:10] in found.sentence


def test_what_is_missing_is_named():
    assert light(["a", "b"], None).sentence == "a and b are not set, so its calls are answered 404."


def test_a_reason_nobody_has_words_for_is_told_as_it_is():
    found = light([], contact(refused_at=at(1), refused_reason="brand_new"))
    assert found.sentence.endswith("was refused: brand new.")


TITLES = ["First call seen", "Signature right", "Player known", "Credited", "Answer accepted", "Read by the game"]
SEEN, PROVED, PLAYER, CREDITED, ACCEPTED, READ = TITLES


@pytest.mark.parametrize(
    ("row", "given", "words_of_steps"),
    [
        (None, {}, dict.fromkeys(("Copied", *TITLES), "to do")),
        (contact(first_at=at(5), proved_at=at(5)), {}, {"Copied": "done"}),
        (contact(refused_at=at(1), refused_reason="token"), {}, {SEEN: "done", PROVED: "failing", CREDITED: "to do"}),
        (
            contact(first_at=at(1), proved_at=at(1), refused_at=at(1), refused_reason="unknown_player"),
            {},
            {PROVED: "done", PLAYER: "failing", CREDITED: "to do"},
        ),
        (
            contact(first_at=at(9), proved_at=at(5), refused_at=at(8), refused_reason="unknown_player"),
            {"credit": credit(5)},
            {PLAYER: "done", CREDITED: "done"},
        ),
        *(
            (
                contact(first_at=at(1), proved_at=at(1), refused_at=at(1), refused_reason=reason),
                {},
                {CREDITED: "failing"},
            )
            for reason in ("unknown_item", "conflict", "malformed", "game_down")
        ),
        # An answer is accepted when the credit is not sent again.
        *(
            (contact(first_at=at(proved), proved_at=at(proved)), {"credit": credit(credited)}, {ACCEPTED: word})
            for credited, proved, word in (
                (10, 10, "done"),  # nothing came after it
                (10, 9, "to do"),  # a call that brought nothing new
                (1, 1, "to do"),  # too early to tell
                (3, 3, "done"),
            )
        ),
        # The game has read a credit when it acknowledged it, or when it was delivered.
        *(
            (contact(), {"credit": newest, "acked_through": through, "acked_at": acked_at}, {READ: word})
            for newest, through, acked_at, word in (
                (None, 9, at(1), "to do"),
                (credit(9), 0, None, "to do"),
                (credit(9), 6, at(1), "to do"),
                (credit(9), 7, at(1), "done"),
                (credit(9, delivered_at=at(8)), 0, None, "done"),
            )
        ),
    ],
)
def test_a_step_is_what_the_calls_show(row, given, words_of_steps):
    assert words_of_steps.items() <= words(address(), [], facts(row, **given)).items()


def test_only_steps_that_can_be_told_are_listed():
    assert list(words(address(steps=STEPS[:3]), [], facts())) == ["Copied", SEEN, PROVED]


def test_while_keys_are_missing_nothing_fails():
    row = contact(refused_at=at(1), refused_reason="unknown_game")
    assert "failing" not in words(address(), ["appcharge.main_key"], facts(row)).values()


def test_a_forged_call_after_good_ones_asks_whether_it_was_a_stranger():
    row = contact(first_at=at(9), proved_at=at(5), refused_at=at(1), refused_reason="signature")
    step = next(step for step in checklist(address(), [], facts(row)) if step.title == PROVED)
    assert (step.word, "was that a stranger?" in step.sentence) == ("failing", True)


@pytest.mark.parametrize(
    ("players", "word"), [(None, "to do"), (contact(), "to do"), (contact(proved_at=at(9)), "to do")]
)
def test_a_login_is_accepted_only_by_what_follows(players, word):
    login = address(steps=("copied", "seen", "proved", "accepted"), followed_by=("players",))
    row = contact(first_at=at(5), proved_at=at(5))
    assert words(login, [], facts(row, players=players))[ACCEPTED] == word
    later = contact(first_at=at(9), proved_at=at(4))
    assert words(login, [], facts(row, players=later))[ACCEPTED] == "done"


def test_every_sentence_is_one():
    rows = [None, contact(), contact(first_at=at(9), proved_at=at(5), refused_at=at(1), refused_reason="signature")]
    for row in rows:
        for newest in (None, credit(9), credit(1, delivered_at=at(0))):
            for step in checklist(address(), [], facts(row, newest, 9, at(1))):
                assert step.sentence[-1] in ".?"
                assert step.sentence[0].isupper()
