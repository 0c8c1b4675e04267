"""What browsers, proxies and owners may write: cookies, forms, tokens of links, X-Forwarded-For, formulas."""

import contextlib
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer

from coinslot.base import addresses
from coinslot.base.expressions import Expression
from coinslot.base.limits import ExpressionError
from tests.attacks.examples import examples

pytestmark = pytest.mark.long

OPEN_PAGES = ("/", "/login", "/login/code", "/setup", "/invitation", "/search", "/games/demo/items/import", "/account")
COOKIES = ("coinslot_session", "coinslot_visitor", "coinslot_proof")
latin = st.text(st.characters(codec="latin-1", exclude_categories=("Cc",)), max_size=40)


@given(st.text(max_size=30), st.text(max_size=30), st.integers(1, 3))
@examples(300)
def test_what_callers_write_left_of_our_proxies_changes_nothing(invented, ours, proxies):
    entries = [each.replace(",", "") for each in (ours * 3).split(" ")][:proxies]
    ours = ",".join((entries * proxies)[:proxies])

    told = addresses.forwarded(f"{invented},{ours}", proxies)

    assert told == addresses.forwarded(ours, proxies)
    assert told == addresses.UNKNOWN or str(addresses.parsed(told)) == told


def test_any_cookie_and_any_form(client, studio, installation, db):
    """Nobody is let in, nothing is written, and no answer is our fault."""
    signed = URLSafeTimedSerializer("another key", salt="password was right").dumps(
        {"person": 1, "for": "", "next": "/"}
    )
    values = latin | st.sampled_from(
        [signed, signed[:-1], "e30.e30.e30", "." * 200, "%00", '"\\303', ";;=;", "a" * 4000]
    )
    names = st.sampled_from(["token", "password", "name", "code", "form_token", "slug", "next", "file"])
    types = st.sampled_from(
        [
            *(
                "application/x-www-form-urlencoded",
                "application/x-www-form-urlencoded; charset=utf-16",
                "text/plain",
                "",
            ),
            *("multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300),
        ]
    )
    fields = st.lists(st.tuples(names, values.map(lambda text: quote(text.encode("latin-1", "replace")))), max_size=4)
    forms = fields.map(lambda pairs: "&".join("=".join(pair) for pair in pairs).encode())
    parts = values.map(
        lambda text: (
            b'--x\r\nContent-Disposition: form-data; name="token"; filename="%s"\r\n\r\n%s\r\n--x--'
            % ((text.encode("latin-1", "replace"),) * 2)
        )
    )

    @examples(250)
    @given(
        st.sampled_from(OPEN_PAGES),
        st.dictionaries(st.sampled_from(COOKIES), values),
        types,
        forms | parts | st.binary(),
    )
    def attack(path, cookies, content_type, form):
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "Content-Type": content_type,
        }
        for answer in (client.get(path, headers=headers), client.post(path, data=form, headers=headers)):
            assert answer.status_code in (200, 303, 400, 403, 404, 405, 410, 413, 431), answer.status_code

    attack()
    installation.observations.flush()
    assert db("SELECT 1 FROM sessions") == []
    assert db("SELECT 1 FROM people WHERE password_hash IS NOT NULL") == []


DOCUMENT = {"rows": [{"id": n, "name": f"n{n}", "tags": ["a", "b", "c"]} for n in range(300)]}
GROWING = (
    *("rows[].tags[] | [@, @, @] | [] | [@, @, @] | [] | [@, @]", "rows[?tags[?contains(@, 'a')]].tags[].{a: @, b: @}"),
    *(
        "map(&map(&join(',', @), rows[].tags), rows)",
        "sort_by(rows, &to_string(@))",
        "rows.*.*.*.*",
        "reverse(rows[::-1])",
    ),
    *("rows[*].[rows, rows]", "rows[?@ == rows[0]]", "to_string(rows[].[@, @, @, @])", "max_by(rows, &length(name))"),
    *("scale('9', `999999999`)", "time('9', '%Y' )", "rows[].name | join('', [@, @][])", "merge(rows[0], rows[1])"),
)
UNREACHABLE = ("__class__", "rows.__class__.__mro__", '"__globals__"', "rows[0].keys", "id.__init__", "config", "env")


def test_a_formula_ends_soon_and_reaches_nothing_but_its_document():
    pieces = st.sampled_from(
        [*GROWING, "@", "|", "[]", "*", "[*]", "&", "rows", "name", ".", "length(@)", "!", "||", "`1`"]
    )

    @examples(150)
    @given(st.lists(pieces, min_size=1, max_size=7).map(" ".join) | st.sampled_from(GROWING))
    def attack(text):
        begun = time.process_time()
        with contextlib.suppress(ExpressionError):
            Expression.parse(text).apply(DOCUMENT)
        assert time.process_time() - begun < 5.0, text  # the limit of steps is reached in a tenth of that

    attack()
    for text in UNREACHABLE:
        assert Expression.parse(text).apply(DOCUMENT) is None, text
