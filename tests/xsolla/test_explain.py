"""Why Xsolla's calls were refused, in sentences: each row of its table is said of a call that was really refused."""

import hmac
import re
from html import unescape

import pytest

from handlers.xsolla import explain_words
from tests.conftest import Studio
from tests.partner_cases import XSOLLA_SECRET as SECRET_KEY
from tests.xsolla.test_webhook import dump, order, post, signed, studio

__all__ = ["post", "studio"]  # fixtures


BODY = dump(order())
KEY = SECRET_KEY.encode()

CASES = {
    "no_header": (BODY, {"X-Other": "1"}),
    "renamed_header": (BODY, {"X-Signature": "0" * 64}),
    "no_digest": (BODY, {"Authorization": "Bearer abc"}),
    "misread": (BODY, signed(BODY, SECRET_KEY + "\n")),
    "another_game": (BODY, signed(BODY, "the other game's token")),
    "another_secret": (BODY, signed(BODY, "test-playtem-secret")),
    "another_message": (BODY, {"Authorization": f"Signature {hmac.new(KEY, BODY, 'sha1').hexdigest()}"}),
    "another_body": (b" " + BODY, signed(BODY)),
    "in_vain": (BODY, signed(BODY, "nobody's key")),
    "unreadable": (b"{}", signed(b"{}")),
    "player": (dump(order(user={"id": "mallory"})), None),
    "item": (dump(order(items=[{"sku": "swords"}])), None),
    "no_game": (BODY, None),
}


@pytest.mark.parametrize("row", CASES)
def test_each_refusal_is_explained_by_its_sentence(row, post, client, studio, installation, browser):
    other = Studio(installation, "other")
    other.secret("xsolla.secret", "the other game's key")
    other.secret("playtem.secret", "the other game's token")
    body, headers = CASES[row]

    answer = post(body, headers=headers, game="demos" if row == "no_game" else "demo")
    assert answer.status_code in (400, 404)
    installation.observations.flush()
    page = browser.get("/games/demo/refusals/1")

    assert page.status_code == 200
    sentence = explain_words.FINDINGS["game_nearly_named" if row == "no_game" else row].sentence
    assert [part for part in re.split("{[^}]*}", sentence) if part not in unescape(page.text)] == []


def test_every_row_of_the_table_is_said_above():
    shared = set(explain_words.table("unknown?: Nothing here knows why."))

    assert set(explain_words.FINDINGS) - shared <= set(CASES)
