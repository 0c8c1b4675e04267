"""A player's entry: the signed address, the recipes behind it, and the way to the WebView of a fake PlayCamp."""

import base64
import hashlib
import hmac
import json
import logging
import re
import threading
import time
from html.parser import HTMLParser
from urllib.parse import parse_qs, quote, quote_plus, urlencode, urlsplit

import pytest
import urllib3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coinslot.access import keyring, used_entries
from coinslot.access.keyring import SecretValue
from coinslot.access.vault import Sealed
from coinslot.base import clock as our_clock
from handlers.playcamp.recipe import LONGEST_CUSTOM_DATA, NAMED, Recipe, SignatureError, sign, verify
from tests.conftest import Studio
from tests.fakes.http import closed_port, nonsense, reset, silence
from tests.fakes.playcamp import API_KEY, PlayCamp, answers, broken, garbage, too_many

SHARED_KEY = "demo_shared_key_01"
USN, THEN = "100001", 1700000000
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
VECTORS = {
    "pipe-sha256": "2d94b56d1761f24c743c98ed5b710254a1164581f76371a1937aaac66c1f1fdf",
    "pipe-hmac-sha256": "4ea9e87f854e7a6e2dd17cff845ad44d1b5e444afdebfdffa11ca0b8542c3da1",
}
OTT = "/v1/server/webview/ott"
UNPROVED = ("malformed", "player", "signature")
RECIPES = [
    "{user}|{time}|{signature} = sha256({user}|{time}|{key})",
    "{signature}.{time} = hmac-sha256({user}.{campaign}.{time})",
    "{user}:{campaign}:{time_ms}:{signature}=sha512({key}:{user}:{campaign}:{time_ms})",
    "v1={signature},t={time},n={nonce} = hmac-sha512-base64({time}{nonce},{user})",
    "{nonce}{time}{signature} = sha256-base64url({user}/{nonce}/{time}/{key})",
    "({user} = {time}) {signature} = hmac-sha256-base64({user}{time})",
    "{user}{user}{time}{signature}{campaign} = hmac-sha256({user}\\{campaign}\\{time})",
]


REFUSED = [
    ("md5", "use pipe-sha256, pipe-hmac-sha256, or FORMAT"),
    *(
        (text, "playcamp.signature: use")
        for text in ("{}" * 600, "x" * 1025, "{user}\n", "pipe-sha256\n", "= (", "\ud800")
    ),
    ("= sha256({user}{time}{key})", "use pipe-sha256"),
    ("x= sha256({user}{time}{key})", "FORMAT must have {signature}, once"),
    ("{time}{signature} = md5({user}{time}{key})", "use one of sha256"),
    ("{time}{signature} = hmac-sha256-hex({user}{time})", "use one of sha256"),
    ("{user}{time} = sha256({user}{time}{key})", "FORMAT must have {signature}, once"),
    ("{signature}{signature}{time} = sha256({user}{time}{key})", "FORMAT must have {signature}, once"),
    ("{user}{signature} = sha256({user}{time}{key})", "FORMAT must have {time} or {time_ms}, once"),
    ("{time}{time_ms}{signature} = sha256({user}{time}{key})", "FORMAT must have {time} or {time_ms}, once"),
    ("{user}{time}{signature} = sha256({time}{key})", "MESSAGE must have {user}"),
    ("{user}{time}{signature} = sha256({user}{key})", "MESSAGE must have {time}"),
    ("{user}{time}{signature} = sha256({user}{time_ms}{key})", "MESSAGE must have {time}"),
    ("{user}{time}{signature} = sha256({user}{time}{time_ms}{key})", "nobody could verify it"),
    ("{time}{signature} = sha256({user}-{nonce}{time}{key})", "nobody could verify it"),
    ("{campaign}{time}{signature} = sha256({user}{time}{key})", "would not be signed"),
    ("{nonce}{time}{signature} = sha256({user}{time}{key})", "would not be signed"),
    ("{time}{signature} = sha256({user}{time})", "MESSAGE must have {key}"),
    ("{time}{signature} = hmac-sha256({user}{time}{key})", "leave {key} out"),
    ("{time}{signature}{key} = hmac-sha256({user}{time})", "FORMAT may have the places"),
    ("{time}{signature} = sha256({user}{time}{key}{signature})", "MESSAGE may have the places"),
    ("{time}{signature} = sha256({user}{time}{key}{)", "MESSAGE may have the places"),
    ("{time}{signature}{shoe} = sha256({user}{time}{key})", "FORMAT may have the places"),
    ("{time}{signature} = sha256({user}{campaign}{time}{key})", "put a separator after {user}"),
    ("{time}{signature} = sha256({campaign}{time}{user}{key})", "put a separator after {campaign}"),
]


def proved(recipe, custom_data, user=USN, campaign=None, now=THEN, by=(SHARED_KEY,)):
    slots = zip(("current", "previous"), by, strict=False)
    keys = [SecretValue("playcamp.shared_key", slot, value.encode()) for slot, value in slots]
    return verify(recipe, keys, custom_data, user, campaign, now, 300)


def refusal(*args, **changed):
    with pytest.raises(SignatureError) as refused:
        proved(*args, **changed)
    return refused.value.reason


def pipe(user=USN, at=None, key=SHARED_KEY):
    """The usual ``custom_data``, made here without our own code."""
    at = int(our_clock.now() if at is None else at)
    return f"{user}|{at}|{hashlib.sha256(f'{user}|{at}|{key}'.encode()).hexdigest()}"


@pytest.fixture
def playcamp():
    with PlayCamp() as playcamp:
        yield playcamp


@pytest.fixture
def game(studio, playcamp, clock):
    playcamp.set_up(studio)
    studio.secret("playcamp.shared_key", SHARED_KEY)
    return studio


@pytest.fixture
def enter(client, game):
    """Open the entry as a browser does; keywords are the query, ``...`` leaves one out, ``query`` replaces all."""

    def enter(query=None, headers=None, slug="demo", method="GET", **changed):
        given = {"usn": USN, "camp_code": "camp_1", "custom_data": pipe()} | changed
        written = urlencode({name: value for name, value in given.items() if value is not ...})
        address = f"/api/{slug}/sponsor?{written if query is None else query}"
        answer = client.open(address, method=method, headers=headers)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        return answer

    return enter


@pytest.fixture
def issued(playcamp):
    return lambda: [request.json for request in playcamp.asked(OTT)]


@pytest.fixture
def refusals(installation, db):
    def read():
        installation.observations.flush()
        found = []
        for row in db("SELECT * FROM refusals ORDER BY id"):
            sealed = Sealed(row["ciphertext"], row["nonce"], row["key_id"])
            opened = installation.vault.unseal(installation.database.read(), keyring.REFUSAL_PURPOSE, sealed)
            found.append(row | {"request": json.loads(opened)})
        return found

    return read


@pytest.fixture
def ask(client, game):
    """The game's server asks for an entry."""

    def ask(body=None, raw=None, **changed):
        content = {"player_id": USN} | changed if body is None else body
        return client.post(
            "/game/v1/playcamp/entry",
            data=json.dumps(content) if raw is None else raw,
            headers={"Authorization": f"Bearer {game.token}", "Content-Type": "application/json"},
        )

    return ask


def location(answer):
    assert answer.status_code == 302, answer.text
    return urlsplit(answer.headers["Location"])


class TestRecipes:
    @pytest.mark.parametrize("name", VECTORS)
    def test_a_named_recipe_signs_as_the_example_does(self, name):
        recipe = Recipe.parse(name)

        custom_data = sign(recipe, SHARED_KEY.encode(), USN, "camp_1", THEN)

        assert custom_data == f"{USN}|{THEN}|{VECTORS[name]}"
        proof = proved(recipe, custom_data)
        assert (proof.user, proof.signed_at, proof.key.slot) == (USN, THEN, "current")

    def test_a_named_recipe_may_have_the_campaign_after_the_player(self):
        plain, keyed = (Recipe.parse(name, with_campaign=True) for name in NAMED)

        assert sign(plain, b"k", "1", "c", THEN) == f"1|c|{THEN}|{hashlib.sha256(f'1|c|{THEN}|k'.encode()).hexdigest()}"
        expected = hmac.new(b"k", f"1|c|{THEN}".encode(), "sha256").hexdigest()
        assert sign(keyed, b"k", "1", "c", THEN) == f"1|c|{THEN}|{expected}"
        assert sign(keyed, b"k", "1", None, THEN).startswith(f"1||{THEN}|")
        assert refusal(keyed, sign(keyed, SHARED_KEY.encode(), USN, "camp_1", THEN), campaign="camp_2") == "malformed"
        assert refusal(keyed, sign(keyed, SHARED_KEY.encode(), USN, "camp_1", THEN)) == "malformed"

    def test_a_template_of_ones_own(self):
        recipe = Recipe.parse("{signature}.{time_ms} = hmac-sha512-base64({user}.{campaign}.{time_ms})")

        custom_data = sign(recipe, b"k", "7", "camp_1", THEN + 0.25)

        digest = hmac.digest(b"k", b"7.camp_1.1700000000250", "sha512")
        assert custom_data == f"{base64.b64encode(digest).decode()}.1700000000250"
        assert proved(recipe, custom_data, "7", "camp_1", by=("k",)).signed_at == THEN + 0.25
        assert refusal(recipe, custom_data, "8", "camp_1", by=("k",)) == "signature"
        assert refusal(recipe, custom_data, "7", "camp_2", by=("k",)) == "signature"

    @pytest.mark.parametrize("recipe", RECIPES)
    @settings(max_examples=40)
    @given(
        user=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
        campaign=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10),
        seconds=st.integers(THEN, THEN + 10**9),
    )
    def test_what_a_recipe_signs_it_verifies_for_that_player_and_moment_alone(self, recipe, user, campaign, seconds):
        recipe = Recipe.parse(recipe)
        try:
            custom_data = sign(recipe, b"k", user, campaign, seconds)
        except ValueError:
            assume(False)

        assert proved(recipe, custom_data, user, campaign, seconds, by=("other", "k")).key.slot == "previous"
        assert refusal(recipe, custom_data, user, campaign, seconds, by=("other",)) == "signature"
        assert refusal(recipe, custom_data, f"{user}1", campaign, seconds, by=("k",)) in UNPROVED
        for late, is_good in ((300, True), (301, False), (-5, True), (-6, False)):
            if is_good:
                assert proved(recipe, custom_data, user, campaign, seconds + late, by=("k",)).user == user
            else:
                assert refusal(recipe, custom_data, user, campaign, seconds + late, by=("k",)) == "timestamp"

    @pytest.mark.parametrize("recipe", RECIPES)
    @settings(max_examples=40)
    @given(changed=st.data())
    def test_one_changed_character_is_enough(self, recipe, changed):
        recipe = Recipe.parse(recipe)
        custom_data = sign(recipe, SHARED_KEY.encode(), USN, "camp_1", THEN)
        i = changed.draw(st.integers(0, len(custom_data) - 1))
        other = changed.draw(st.characters(exclude_categories=["Cs"]))
        forged = custom_data[:i] + other + custom_data[i + 1 :]
        assume(forged.lower() != custom_data.lower() and forged.rstrip("=") != custom_data.rstrip("="))

        try:
            assert proved(recipe, forged, campaign="camp_1").signature in custom_data  # padding in the middle
        except SignatureError:
            assert other != custom_data[i]

    @given(st.text(max_size=300), st.none() | st.text(max_size=20), st.none() | st.text(max_size=20))
    def test_nothing_that_is_sent_gives_anything_but_a_refusal(self, custom_data, user, campaign):
        for recipe in RECIPES:
            assert refusal(Recipe.parse(recipe), custom_data, user, campaign) in UNPROVED

    def test_one_signature_has_one_spelling_however_it_was_sent(self):
        shouted = f"{USN}|{THEN}|{VECTORS['pipe-sha256'].upper()}"
        assert proved(Recipe.parse("pipe-sha256"), shouted).signature == VECTORS["pipe-sha256"]

        for encoding in ("base64", "base64url"):
            recipe = Recipe.parse(f"{{time}}.{{signature}} = hmac-sha256-{encoding}({{user}}.{{time}})")
            bare = sign(recipe, SHARED_KEY.encode(), USN, None, THEN).rstrip("=")

            assert proved(recipe, bare).signature == proved(recipe, bare + "==").signature
            assert refusal(recipe, bare + "===") == "malformed"

    def test_who_is_not_named_beside_it_is_who_the_data_names(self):
        recipe = Recipe.parse("pipe-sha256")
        custom_data = sign(recipe, SHARED_KEY.encode(), "a|b", None, THEN)

        assert proved(recipe, custom_data, None).user == "a|b"
        assert refusal(recipe, custom_data, "b") == "player"
        assert refusal(Recipe.parse(RECIPES[1]), "0" * 64 + f".{THEN}", None) == "malformed"

    def test_no_two_entries_have_the_same_message(self):
        """``a|b`` in campaign ``c`` would be signed as ``a`` in campaign ``b|c``."""
        recipe = Recipe.parse("pipe-sha256", with_campaign=True)

        with pytest.raises(ValueError, match=r"user: '\|' ends it"):
            sign(recipe, b"k", "a|b", "c", THEN)
        assert sign(recipe, b"k", "a", "b|c", THEN)
        digest = hashlib.sha256(f"a|b|c|{THEN}|{SHARED_KEY}".encode()).hexdigest()
        assert refusal(recipe, f"a|b|c|{THEN}|{digest}", "a|b", "c") == "malformed"
        assert proved(recipe, f"a|b|c|{THEN}|{digest}", "a", "b|c")

    def test_what_is_signed_is_no_longer_than_playcamp_may_take(self):
        recipe = Recipe.parse("pipe-sha256")
        longest = "1" * (LONGEST_CUSTOM_DATA - 76)

        assert len(sign(recipe, b"k", longest, None, THEN)) == LONGEST_CUSTOM_DATA
        with pytest.raises(ValueError, match="more than 255"):
            sign(recipe, b"k", f"{longest}1", None, THEN)

    def test_a_recipe_that_proves_nothing_is_refused_in_words(self, studio):
        for text, complaint in REFUSED:
            with pytest.raises(Exception, match=re.escape(complaint)) as refused:
                studio.config("playcamp.signature", text)

            assert str(refused.value).startswith("playcamp.signature: ")


class TestEntering:
    def test_a_good_entry_leads_to_the_webview_with_a_fresh_token_each_time(self, enter, game, playcamp, issued):
        custom_data = pipe()

        answers = [enter(custom_data=custom_data) for _ in range(2)]

        first, second = map(location, answers)
        assert f"{first.scheme}://{first.netloc}{first.path}" == f"{playcamp.url}/webview/"
        assert parse_qs(first.query) | {"ott": []} == {"ott": [], "tabs": ["sponsor"]}
        assert parse_qs(first.query)["ott"] != parse_qs(second.query)["ott"]
        assert issued() == [{"userId": USN, "campaignId": "camp_1", "callbackId": custom_data}] * 2
        assert answers[0].data == b""  # the token is in the header alone
        assert urllib3.request("GET", answers[0].headers["Location"]).status == 200
        assert playcamp.sessions[0]["userId"] == USN

    def test_a_player_may_be_called_anything_and_the_address_be_written_in_any_way(self, client, game, issued):
        def query(name):
            return urlencode({"usn": name, "custom_data": pipe(name)})

        names = ("김철수", "Jane Doe", "a+b&c=d", "%31", 'x"><script>', "O'Brien", "💰" * 40)
        written = [(name, query(name)) for name in names]
        written += [(USN, f"usn={USN}&custom_data={pipe()}"), ("Jane Doe", query("Jane Doe").replace("+", "%20"))]
        written += [("김철수", f"usn=김철수&custom_data={pipe('김철수')}".encode().decode("latin-1"))]
        for name, query_string in written:
            answer = client.get("/api/demo/sponsor", environ_overrides={"QUERY_STRING": query_string})

            assert answer.status_code == 302, query_string
            assert issued()[-1] == {"userId": name, "callbackId": pipe(name)}

    def test_what_is_not_proved_is_401_in_the_same_words(self, enter, issued):
        wrong = (pipe(at=THEN), ..., "", "100001|1700000000|a1b2c3d4...", "\0", "x" * 8000, "\ufffd")
        others = ("100002", "100001|", "0100001", "１００００１")
        for changed in [{"custom_data": each} for each in wrong] + [{"usn": each} for each in others]:
            answer = enter(**changed)

            assert (answer.status_code, answer.mimetype) == (401, "text/plain")
            assert answer.data == enter(custom_data="x").data
            assert issued() == []

    @pytest.mark.parametrize("name", ["usn", "custom_data", "camp_code"])
    def test_a_parameter_that_comes_twice_or_is_no_text_is_refused(self, enter, issued, name):
        given = {"usn": USN, "camp_code": "camp_1", "custom_data": pipe()}
        twice = f"{urlencode(given)}&{name}={quote(given[name])}"
        no_text = "&".join(f"{key}={value}" for key, value in (given | {name: "%ff%fe"}).items())

        for query in (twice, no_text):
            assert enter(query=query).status_code == (401 if name == "custom_data" else 400)
        assert issued() == []

    def test_an_entry_ages_as_the_game_has_set_it(self, enter, game):
        for seconds, status in [(-299, 302), (-301, 401), (4, 302), (6, 401)]:
            assert enter(custom_data=pipe(at=int(time.time()) + seconds)).status_code == status
        game.config("playcamp.tolerance_seconds", "10")
        for seconds, status in [(-9, 302), (-12, 401)]:
            assert enter(custom_data=pipe(at=int(time.time()) + seconds)).status_code == status

    def test_the_shared_key_is_replaced_without_a_refused_entry(self, enter, game, installation, db):
        game.rotate("playcamp.shared_key", "another_shared_key_02")

        assert enter(custom_data=pipe(key=SHARED_KEY)).status_code == 302
        assert enter(custom_data=pipe(key="another_shared_key_02")).status_code == 302
        game.retire("playcamp.shared_key")
        assert enter(custom_data=pipe(key=SHARED_KEY)).status_code == 401

        installation.observations.flush()
        used = db("SELECT slot, last_used_at FROM secrets WHERE name = 'playcamp.shared_key'")
        assert [(row["slot"], row["last_used_at"] is not None) for row in used] == [("current", True)]

    def test_parameters_have_the_names_the_game_gave_them(self, enter, game, issued):
        for name, own in (("user", "member.no"), ("campaign", "event"), ("auth", "sig")):
            game.config(f"playcamp.param.{name}", own)

        answer = enter(query=urlencode({"member.no": USN, "event": "camp_1", "sig": pipe(), "usn": "x"}))

        assert answer.status_code == 302
        assert issued()[0]["campaignId"] == "camp_1"
        assert enter().status_code == 401

    def test_the_campaign_may_be_part_of_what_is_signed(self, enter, game):
        game.config("playcamp.signature", "pipe-hmac-sha256")
        game.config("playcamp.signature_campaign", "on")
        at = int(time.time())
        signature = hmac.new(SHARED_KEY.encode(), f"{USN}|camp_1|{at}".encode(), "sha256").hexdigest()
        custom_data = f"{USN}|camp_1|{at}|{signature}"

        assert enter(custom_data=custom_data).status_code == 302
        assert enter(custom_data=custom_data, camp_code="camp_2").status_code == 401
        assert enter(custom_data=custom_data, camp_code=...).status_code == 401

    def test_base64_keeps_its_plus_signs_however_they_are_written(self, enter, game, issued):
        game.config("playcamp.signature", "{signature}.{time} = hmac-sha256-base64({user}.{time})")
        recipe = Recipe.parse("{signature}.{time} = hmac-sha256-base64({user}.{time})")
        users = (str(number) for number in range(1000))
        found = ((user, sign(recipe, SHARED_KEY.encode(), user, None, time.time())) for user in users)
        user, custom_data = next(each for each in found if "+" in each[1] and "/" in each[1])

        assert enter(query=f"usn={user}&custom_data={custom_data}").status_code == 302
        assert enter(query=f"usn={user}&custom_data={quote_plus(custom_data)}").status_code == 302

        assert [each["callbackId"] for each in issued()] == [custom_data] * 2

    def test_a_campaign_must_be_one_of_the_games_where_it_lists_them(self, enter, game, playcamp, issued):
        playcamp.campaigns["camp_2"] = playcamp.campaigns["camp_1"] | {"campaignId": "camp_2"}
        game.config("playcamp.campaigns", "camp_1, camp_2")

        for campaign in ("camp_2", ..., ""):
            assert enter(camp_code=campaign).status_code == 302
        for other in ("camp_3", "camp", "camp_1,camp_2", " camp_1", "CAMP_1", "\x00", "a\nb", "x" * 256, " "):
            assert enter(camp_code=other).status_code == 400
        assert enter(camp_code="camp_3", custom_data="x").status_code == 401
        game.config("playcamp.campaigns", "camp_1")
        assert enter(camp_code=...).status_code == 302  # with one in the list, an entry without one means it
        game.config("playcamp.campaigns", "")
        assert enter(camp_code="a\nb").status_code == 400
        assert [each.get("campaignId") for each in issued()] == ["camp_2", None, None, "camp_1"]

    def test_a_player_who_is_missing_or_cannot_be_one_is_400_once_the_entry_is_proved(self, enter, issued):
        for user in [..., "", "a\nb", " 1"]:
            signed_for = USN if user is ... or not user else user

            assert enter(usn=user, custom_data=pipe(signed_for)).status_code == 400
            assert enter(usn=user, custom_data=pipe(signed_for)[:-1] + "x").status_code == 401
            assert issued() == []

    def test_pkce(self, enter, issued):
        assert enter(code_challenge=CHALLENGE).status_code == 302
        assert issued()[0]["codeChallenge"] == CHALLENGE

        for wrong in ("", "x" * 42, "x" * 129, CHALLENGE[:-1] + "=", CHALLENGE[:-1] + "\n"):
            assert enter(code_challenge=wrong).status_code == 400
        assert len(issued()) == 1

    def test_the_language_is_the_links_the_games_or_the_browsers(self, enter, game):
        for asked, configured, browser, spoken in [
            ("en", "ko", "ko", "en"),
            ("KO", "", "en", "ko"),
            ("fr", "", "en-GB,en;q=0.9", "en"),
            (..., "ko", "en", "ko"),
            (..., "", "fr-FR, ko-KR;q=0.8, en;q=0.5", "ko"),
            (..., "", "fr", None),
            (..., "", ";;q=,,ko;q=x", None),
            (..., "", "", None),
        ]:
            game.config("playcamp.lang", configured)

            answer = enter(headers={"Accept-Language": browser} if browser else {}, lang=asked)

            assert parse_qs(location(answer).query).get("lang") == (None if spoken is None else [spoken])

    def test_tabs_colour_and_test_mode_are_the_games(self, enter, game, issued):
        game.config("playcamp.tabs", "sponsor,coupon")
        game.config("playcamp.primary_color", "#FF6B35")

        query = location(enter()).query
        assert parse_qs(query) | {"ott": 0} == {"ott": 0, "tabs": ["sponsor,coupon"], "primaryColor": ["FF6B35"]}
        enter(usn="coinslot-test", custom_data=pipe("coinslot-test"))
        game.config("playcamp.webview_test", "on")
        game.config("playcamp.tabs", "all")
        assert "tabs" not in parse_qs(location(enter()).query)
        assert [each.get("isTest") for each in issued()] == [None, True, True]

    def test_only_get_enters_and_a_head_uses_nothing_up(self, client, game, issued):
        game.config("playcamp.entry_once", "on")
        address = f"/api/demo/sponsor?{urlencode({'usn': USN, 'custom_data': pipe()})}"
        for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"]:
            answer = client.open(address, method=method)

            assert (answer.status_code, "GET" in answer.headers["Allow"]) == (405, True)
        assert (issued(), client.get(address).status_code) == ([], 302)

    def test_games_that_are_not_there_or_not_set_up_are_404(self, enter, studio, installation, playcamp):
        other = Studio(installation, "other")
        assert enter(slug="other").status_code == enter(slug="nobody").status_code == 404
        other.secret("playcamp.shared_key", SHARED_KEY)
        assert enter(slug="other").status_code == 502
        playcamp.set_up(other)
        assert enter(slug="other").status_code == 302
        assert enter(slug="nobody").data == enter(slug="x" * 500).data
        other.config("allowlist.playcamp", "192.0.2.0/24")  # it is for PlayCamp's own calls
        assert enter(slug="other").status_code == 302


class TestOnce:
    @pytest.fixture
    def once(self, game):
        game.config("playcamp.entry_once", "on")

    def test_an_entry_opens_once_however_it_is_written(self, once, enter, issued, db):
        assert enter().status_code == 302
        again = enter()

        user, at, signature = pipe().split("|")
        assert (again.status_code, again.data) == (401, enter(custom_data="x").data)
        assert enter(custom_data=f"{user}|{at}|{signature.upper()}").status_code == 401
        assert enter(camp_code=...).status_code == 401
        assert len(issued()) == 1
        assert enter(usn="2", custom_data=pipe("2")).status_code == 302
        first, _ = db("SELECT * FROM used_entries")
        assert signature not in str(first)  # a hash of it is kept
        assert first["expires_at"] == our_clock.stamp(int(time.time()) + 300)

    def test_of_two_at_once_one_gets_in(self, once, app, game, db):
        query = urlencode({"usn": USN, "custom_data": pipe()})
        statuses = []

        def come():
            statuses.append(app.test_client().get(f"/api/demo/sponsor?{query}").status_code)

        threads = [threading.Thread(target=come) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(statuses) == [302] + [401] * 5
        assert len(db("SELECT * FROM used_entries")) == 1

    def test_an_entry_that_was_refused_or_not_opened_may_be_tried_again(self, once, enter, playcamp):
        playcamp.trouble("POST", OTT, broken())

        assert enter(code_challenge="x").status_code == 400
        assert [enter().status_code for _ in range(3)] == [502, 302, 401]

    def test_what_has_expired_is_forgotten(self, once, enter, clock, db):
        enter()
        clock.shift(301)
        enter(usn="2", custom_data=pipe("2"))

        assert len(db("SELECT * FROM used_entries")) == 1

    def test_games_do_not_use_up_each_others(self, studio, installation):
        first, second = studio.row["id"], Studio(installation, "other").row["id"]

        def use(game_id):
            return installation.database.write(lambda tx: used_entries.use(tx, game_id, "ab", time.time() + 60))

        assert [use(first), use(first), use(second)] == [True, False, True]
        assert used_entries.is_used(installation.database.read(), first, "ab")
        assert not used_entries.is_used(installation.database.read(), first, "abc")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.language = [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self.language = given.get("lang") or self.language
        self.links += [given["href"]] if tag == "a" else []


class TestTrouble:
    @pytest.mark.parametrize(
        "behaviour",
        [
            *(broken(), broken(503), too_many(1), garbage, nonsense, reset),
            answers(401, {"error": "Invalid API key", "code": "UNAUTHORIZED"}),
            answers(400, {"error": "Validation Error", "code": "VALIDATION_ERROR"}),
            answers(200, {"data": {"ott": "", "expiresIn": 60}}),
            answers(200, {"data": {"ott": 5}}),
            answers(200, []),
            answers(204, b""),
            answers(302, b"", Location="https://elsewhere.example"),
        ],
    )
    def test_what_playcamp_refuses_or_garbles_is_502_and_a_page(self, enter, playcamp, behaviour):
        playcamp.trouble("POST", OTT, behaviour, times=9)

        answer = enter()

        assert (answer.status_code, answer.mimetype) == (502, "text/html")
        assert "Location" not in answer.headers
        style = re.search("<style>(.*)</style>", answer.text)[1]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert f"style-src 'sha256-{digest}'" in answer.headers["Content-Security-Policy"]

    def test_no_answer_in_time_is_504_and_a_page_and_no_server_is_502(self, enter, game, playcamp, monkeypatch):
        monkeypatch.setattr("handlers.playcamp.api.client.OTT_SECONDS", 0.2)
        playcamp.trouble("POST", OTT, silence)
        answer = enter()
        assert (answer.status_code, answer.mimetype) == (504, "text/html")

        game.config("playcamp.base_url", f"http://127.0.0.1:{closed_port()}")
        assert enter().status_code == 502

    def test_a_key_that_cannot_be_one_is_502_and_said_in_the_log(self, enter, game, caplog):
        for key in ["no colon in it", ":", "a:"]:
            game.secret("playcamp.api_key", key)

            assert enter().status_code == 502
            assert "playcamp.api_key is not of the form keyId:secret" in caplog.text

    def test_the_page_leads_to_the_same_address_again(self, enter, playcamp):
        playcamp.trouble("POST", OTT, broken())
        name = "\"'><script>alert(1)</script>&amp;"
        query = urlencode({"usn": name, "camp_code": "camp_1", "custom_data": pipe(name)}, safe="\"'<>|")

        page = Page(enter(query=query).text)

        assert page.tags == {"html", "head", "meta", "title", "style", "body", "h1", "p", "a"}
        assert len(page.links) == 1
        assert page.links[0].startswith("?")
        assert enter(query=page.links[0][1:]).status_code == 302

    def test_the_address_may_hold_any_bytes(self, client, game, playcamp):
        playcamp.trouble("POST", OTT, broken())
        raw = urlencode({"usn": USN, "custom_data": pipe()}) + "&x=\xff\x01\"'<%zz"

        answer = client.get("/api/demo/sponsor", environ_overrides={"QUERY_STRING": raw})

        assert Page(answer.text).links == [f"?{urlencode({'usn': USN, 'custom_data': pipe()})}&x=%FF%01\"'<%zz"]

    def test_the_page_speaks_the_players_language(self, enter, playcamp):
        for language, word in [("ko", "다시 시도"), ("en", "Try again"), ("fr", "Try again")]:
            playcamp.trouble("POST", OTT, broken())

            answer = enter(headers={"Accept-Language": language})

            assert word in answer.text
            assert Page(answer.text).language == ("ko" if language == "ko" else "en")

    def test_our_own_trouble_is_kept_private_too(self, enter, game, installation):
        game.config("playcamp.entry_once", "on")
        installation.database.write_here(lambda tx: tx.execute("DROP TABLE used_entries"))

        assert enter().status_code == 503


class TestWhatIsKept:
    def test_neither_proof_nor_token_is_logged_or_kept(self, enter, game, playcamp, caplog, capfd, refusals, db):
        caplog.set_level(logging.DEBUG)
        playcamp.trouble("POST", OTT, answers(400, {"error": f"bad callbackId {pipe()}", "code": "BAD_REQUEST"}))

        assert enter().status_code == 502
        token = parse_qs(location(enter()).query)["ott"][0]
        assert enter(usn="2").status_code == 401
        assert enter(camp_code="\n").status_code == 400

        kept = str(refusals())
        logged = caplog.text + "".join(capfd.readouterr()) + kept
        for secret in (pipe(), pipe().rpartition("|")[2], token, SHARED_KEY, API_KEY, API_KEY.partition(":")[2]):
            assert secret not in logged
        assert "playcamp demo: an entry could not be opened: PlayCamp answered 400 BAD_REQUEST" in logged

    def test_refused_entries_are_noted_without_a_query_that_proves_anything(self, enter, game, refusals, db):
        game.config("playcamp.entry_once", "on")
        enter()
        enter()
        enter(usn="2", custom_data=pipe("3"))
        enter(custom_data=pipe(key="x"))
        enter(usn="4", custom_data=pipe("4", at=THEN))
        enter(custom_data="x")
        enter(usn="5", custom_data=pipe("5"), camp_code="\n")
        enter(slug="nobody")

        noted = refusals()
        reasons = "used player signature timestamp malformed campaign unknown_game"
        assert [each["reason"] for each in noted] == reasons.split()
        assert [each["status"] for each in noted] == [401] * 5 + [400, 404]
        assert [each["request"]["query"] != "" for each in noted] == [False, False, True, False, True, False, False]
        assert [each["request"]["found"] for each in noted if each["request"]["found"]] == [
            {"signed": "3", "entering": "2"},
            {"signed_at": f"{THEN}.0"},
        ]
        assert noted[0]["request"]["path"] == "/api/demo/sponsor"
        assert {(each["partner"], each["endpoint"]) for each in noted} == {("playcamp", "sponsor")}
        called = db("SELECT label, value FROM counters WHERE name = 'called'")
        assert called == [{"label": "sponsor", "value": 2}]  # the entries that were proved, not yet used

    def test_proofs_keep_to_themselves(self):
        recipe = Recipe.parse("pipe-sha256")

        shown = repr(proved(recipe, f"{USN}|{THEN}|{VECTORS['pipe-sha256']}"))

        assert VECTORS["pipe-sha256"] not in shown
        assert SHARED_KEY not in shown


class TestEntryCall:
    def test_the_game_gets_an_address_that_enters(self, ask, client, issued):
        answer = ask(campaign_id="camp_1")

        assert answer.status_code == 200
        assert answer.json["custom_data"] == pipe()
        parts = urlsplit(answer.json["url"])
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "http://127.0.0.1:8000/api/demo/sponsor"
        assert parse_qs(parts.query) == {"usn": [USN], "camp_code": ["camp_1"], "custom_data": [pipe()]}
        assert client.get(f"{parts.path}?{parts.query}").status_code == 302
        assert issued() == [{"userId": USN, "campaignId": "camp_1", "callbackId": pipe()}]

    def test_whatever_the_recipe_the_address_enters(self, ask, client, game):
        for recipe in [*NAMED, *RECIPES]:
            game.config("playcamp.signature", recipe)
            for player_id in ("100001", "Jane Doe + 김철수 &=%"):
                url = urlsplit(ask(player_id=player_id, campaign_id="camp_1").json["url"])

                assert client.get(f"{url.path}?{url.query}").status_code == 302

    def test_it_signs_for_the_gateway_that_playcamp_runs(self, ask, game, installation):
        game.config("playcamp.entry_url", "https://gateway.example.com/api/studio/sponsor?v=1#top")
        game.config("playcamp.param.user", "member")
        game.config("playcamp.signature", "pipe-hmac-sha256")
        game.rotate("playcamp.shared_key", "another_shared_key_02")

        answer = ask()

        at = int(time.time())
        signature = hmac.new(b"another_shared_key_02", f"{USN}|{at}".encode(), "sha256").hexdigest()
        custom_data = f"{USN}|{at}|{signature}"
        assert answer.json["url"] == (
            "https://gateway.example.com/api/studio/sponsor?v=1&member=100001"
            f"&custom_data={quote(custom_data, safe='')}"
        )

    def test_without_the_shared_key_there_is_nothing_to_sign_with(self, client, installation):
        headers = {"Authorization": f"Bearer {Studio(installation, 'other').token}"}
        answer = client.post("/game/v1/playcamp/entry", json={"player_id": "1"}, headers=headers)

        assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
        assert "playcamp.shared_key" in answer.json["detail"]

    def test_a_campaign_must_be_one_that_players_may_enter(self, ask, game):
        game.config("playcamp.campaigns", "camp_1,camp_2")

        assert ask(campaign_id="camp_2").status_code == 200
        assert ask().status_code == 200
        answer = ask(campaign_id="camp_3")
        assert (answer.status_code, answer.json["errors"][0]["path"]) == (422, "campaign_id")

    def test_what_the_recipe_cannot_sign_is_said(self, ask, game):
        game.config("playcamp.signature_campaign", "on")

        assert ask(player_id="a|b").status_code == 409
        answer = ask(player_id="x" * 255)
        assert (answer.status_code, "more than 255 characters" in answer.json["detail"]) == (409, True)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            *({"player_id": value} for value in (None, 5, "", " 1", "x" * 256, "\x7f", "a\0", ["1"])),
            *({"player_id": "1", "campaign_id": value} for value in (None, 10**400)),
            {"player_id": "1", "usn": "1"},
            [],
        ],
        ids=lambda body: ascii(body)[:40],
    )
    def test_a_body_that_is_not_right_is_422(self, ask, body):
        assert ask(body).status_code == 422

    def test_a_body_that_is_no_json_is_400(self, ask):
        assert ask(raw=b"{").status_code == 400
        assert ask(player_id="\ud800").status_code == 400
