"""Sentences about refused calls: each row of a table can be said, and whatever is said has a row."""

import ast
import base64
import hashlib
import json
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from app import PARTNERS
from coinslot.access.keyring import SecretValue
from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.options import COMMON_SETTINGS
from coinslot.operations.refusals import Refused
from handlers.appcharge import encryption
from handlers.appcharge import explain as appcharge
from handlers.kit import explain_words
from handlers.kit.explain import Known
from handlers.kit.explain_bodies import SignedBody
from handlers.playcamp import explain as webhooks
from handlers.playcamp import explain_entries as entries
from handlers.playcamp import explain_queries as queries
from handlers.playtem import explain as playtem

ROOT = Path(__file__).parents[2] / "handlers"
CASES = [each.Case for each in (appcharge, playtem, webhooks, entries, queries)]
MODULES = {each.Case: each for each in (appcharge, playtem, webhooks, entries, queries)}
COMMON = explain_words.table("unknown?: No known cause matched.")

NEED_NO_TRYING = ("used", "misplaced", "unknown_status")  # reasons that are rows themselves
AT = 1767225600
LONGER = b"the-shared-key\n"
KEY_32, VECTOR_16 = b"0123456789abcdef0123456789abcdef", b"fedcba9876543210"
DIAGNOSE = {"appcharge": appcharge.diagnose, "playcamp": webhooks.diagnose, "playtem": playtem.diagnose}


def words(*paths):
    """Every text that stands in the code of these files, sentences apart."""
    found = (node.value for path in paths for node in ast.walk(ast.parse(path.read_text())) if is_text(node))
    return {text for text in found if " " not in text}


def said(*paths):
    """The rows that code names as it says them."""
    calls = (node for path in paths for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "say" and call.args and is_text(call.args[0])
    }


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.service)
def test_whatever_is_said_has_a_row(case):
    shared = {ROOT / "kit/explain.py"}
    shared |= {ROOT / "kit/explain_bodies.py"} if issubclass(case, SignedBody) else set()
    assert said(Path(MODULES[case].__file__), *shared) - set(case.findings) == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.service)
def test_each_row_can_be_said(case):
    own = {name for name, row in case.findings.items() if row != COMMON.get(name)}
    shared = (ROOT / "kit").glob("explain*.py")
    reasons = {*MODULES[case].HYPOTHESES, *NEED_NO_TRYING}
    assert own - words(Path(MODULES[case].__file__), *shared) - reasons == set()


def test_a_row_is_a_sentence_a_hint_a_link_and_whether_it_is_a_guess():
    table = explain_words.table("one, two (settings)?: It is {this}.\n    Do\n    that.\n\nthree: It is.")
    assert table["one"] == table["two"] == explain_words.Finding("It is {this}.", "Do that.", "settings", is_sure=False)
    assert table["three"] == explain_words.Finding("It is.")


@pytest.mark.parametrize("text", ["no sentence", "A name: It is.", "one (x y): It is.", "one:It is."])
def test_what_is_no_row_is_refused(text):
    with pytest.raises(ValueError, match="no row of a table"):
        explain_words.table(text)


# Sentences that few calls get


def game(number=1, secrets=None, **settings):
    catalogue = {**COMMON_SETTINGS, **{name: each for partner in PARTNERS for name, each in partner.settings.items()}}
    found = {name: each.default for name, each in catalogue.items()} | {
        name.replace("__", "."): value for name, value in settings.items()
    }
    stored = {name: (SecretValue(name, "current", value),) for name, value in (secrets or {}).items()}
    return Game(number, ("demo", "space-miner")[number - 1], "Demo", found, stored)


def refused(where, reason, body=b"", number=1, found=None, status=401, is_kept=True, **request):
    partner, _, endpoint = where.partition("/")
    kept = {"body": base64.b64encode(body).decode(), "path": f"/{partner}/demo/{endpoint}", "found": found or {}}
    at = clock.stamp(AT)
    return Refused(
        number, 1, partner, endpoint, reason, status, "192.0.2.7", len(body), at, True, False, kept | request
    )


def diagnosed(call, *games, alike=()):
    names = {secret: name for partner in PARTNERS for secret, name in partner.secret_names.items()}
    return DIAGNOSE[call.partner](call, Known(games, alike=lambda call: alike, names=names)).sentence


def sha256(*parts):
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def test_an_encrypted_call_whose_keys_or_inner_token_are_others():
    secrets = {"appcharge.main_key": KEY_32, "appcharge.secondary_key": VECTOR_16, "appcharge.publisher_token": b"ours"}
    demo = game(secrets=secrets, appcharge__payload="aes")
    body = encryption.encrypt(b'{"publisherToken": "theirs"}', KEY_32, VECTOR_16)

    inside = diagnosed(refused("appcharge/orders", "encryption", body), demo)
    since = diagnosed(refused("appcharge/orders", "encryption", body, headers={"x-publisher-token": "ours"}), demo)

    assert inside == "It opens with this game's keys, and carries another publisherToken than is set here."
    assert since == "It opens with the main key of this game, which was set after this call came."


def test_a_player_whom_the_game_does_not_know():
    call = refused("appcharge/orders", "unknown_player", b'{"playerId": "bob"}')

    assert diagnosed(call, game(players__unknown="lookup")) == (
        "The player bob is unknown to the game: players.lookup_url said that there is no such player."
    )


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("A" * 9000, "The payload has 9,000 characters; more than 8,192 are not read."),
        (
            {"AppId": 1, "UserId": [], "Items": [], "TransactionId": 1, "Signature": "0" * 40},
            "A field of the payload holds what can be no id.",
        ),
    ],
)
def test_a_payload_that_holds_what_cannot_be(payload, said):
    text = payload if isinstance(payload, str) else base64.b64encode(json.dumps(payload).encode()).decode()

    assert diagnosed(refused("playtem/credit", "malformed", query=f"payload={quote(text, safe='')}"), game()) == said


def test_an_app_id_that_two_games_have():
    document = {"AppId": 3, "UserId": 1, "Items": [1], "TransactionId": 1, "Signature": "0" * 40}
    query = f"payload={quote(base64.b64encode(json.dumps(document).encode()).decode(), safe='')}"
    call = refused("playtem/credit", "unknown_game", query=query, path="/playtem/credit")

    assert diagnosed(call, game(playtem__app_id="3"), game(2, playtem__app_id="3")) == (
        "It names the AppId 3, which demo and space-miner both have."
    )


def test_a_webhooks_signature_under_another_name():
    call = refused("playcamp/webhook", "signature", b"{}", headers={"x-hub-signature": f"sha256={'0' * 64}"})

    assert diagnosed(call, game()) == (
        "The signature came in the header x-hub-signature; PlayCamp sends X-Webhook-Signature."
    )


@pytest.mark.parametrize(
    ("reason", "custom_data", "said"),
    [
        ("malformed", "8|1767225600|x", "The parameter does not begin with the player that the entry names."),
        ("malformed", "8" * 256, "The signature's parameter has 256 characters; more than 255 are not read."),
        (
            "signature",
            f"7|{AT}|{sha256(b'7', str(AT).encode(), LONGER)}",
            "It is signed with the PlayCamp shared key of this game, with a line break at its end.",
        ),
    ],
)
def test_an_entry_that_is_written_otherwise(reason, custom_data, said):
    demo = game(secrets={"playcamp.shared_key": b"the-shared-key"})
    call = refused("playcamp/sponsor", reason, query=urlencode({"usn": "7", "custom_data": custom_data}))

    assert diagnosed(call, demo) == said


def test_a_link_that_was_opened_twice():
    late = [refused("playcamp/sponsor", "timestamp", number=n, found={"signed_at": str(AT - 600)}) for n in (1, 2)]

    assert diagnosed(late[0], game(), alike=late) == (
        "The player opened an old link: it was signed 10 minutes before (5 minutes are allowed)."
    )


def test_a_query_by_a_key_that_was_misread():
    lines = f"GET\n/playcamp/demo/payments\n\n{AT}\nthe-payments-key\n"
    headers = {"x-timestamp": str(AT), "x-fingerprint": hashlib.sha256(lines.encode()).hexdigest()}
    call = refused("playcamp/payments", "signature", headers=headers, method="GET", query="")

    assert diagnosed(call, game(secrets={"playcamp.payments_key": b"the-payments-key"})) == (
        "The fingerprint is made with the PlayCamp payments key of this game, with a line break at its end."
    )
