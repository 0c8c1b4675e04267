"""Logins with Google, Apple and Facebook, against servers that answer as theirs do, with tokens really signed."""

import hashlib
import hmac
import json
import logging
import threading
import time

import pytest

from coinslot.access.keyring import SecretValue
from coinslot.base.outbound import Outbound
from coinslot.games.games import Game
from handlers.appcharge.logins import jwks, providers, social
from handlers.appcharge.logins.providers import LoginRefusedError, ProviderError
from handlers.appcharge.settings import SETTINGS
from tests.fakes.http import closed_port, huge, nonsense, reset, silence, slow_body, status
from tests.fakes.social import Apple, Facebook, Google, apple_private_key, base64url, pem, public_pem, rsa_key
from tests.servers import Underway, together, until

FAKES = {"google": Google, "apple": Apple, "facebook": Facebook}
FACEBOOK_USER = "10215241773831025"
GOOGLE_USER = "110169484474386276334"


@pytest.fixture
def google():
    with Google() as fake:
        yield fake


@pytest.fixture
def apple():
    with Apple() as fake:
        yield fake


@pytest.fixture
def facebook():
    with Facebook() as fake:
        yield fake


@pytest.fixture(params=FAKES)
def provider(request):
    with FAKES[request.param]() as fake:
        yield fake


@pytest.fixture(scope="module")
def outbound():
    return Outbound()


def game_for(fake, secrets=None, **changed):
    """A game set up for a provider; ``changed`` are settings without their ``appcharge.``."""
    settings = {key: setting.default for key, setting in SETTINGS.items()} | fake.settings
    settings |= {f"appcharge.{key}": value for key, value in changed.items()}
    values = fake.secrets if secrets is None else secrets
    kept = {name: (SecretValue(name, "current", value.encode()),) for name, value in values.items()}
    return Game(1, "demo", "Demo", settings, kept)


def name_of(fake):
    return type(fake).__name__.lower()


def subject(fake, outbound, token, app_id=None, **changed):
    return social.subject(game_for(fake, **changed), outbound, name_of(fake), token, app_id)


def refusal(fake, outbound, token, app_id=None, **changed):
    with pytest.raises(LoginRefusedError) as caught:
        subject(fake, outbound, token, app_id, **changed)
    return caught.value.reason


def trouble(fake, outbound, token, **changed):
    with pytest.raises(ProviderError) as caught:
        subject(fake, outbound, token, **changed)
    assert str(token) not in str(caught.value)
    return str(caught.value)


def told(document, code=200):
    return status(code, json.dumps(document).encode())


# Tokens signed by the provider


@pytest.mark.parametrize("kind", ["auto", "id_token"])
def test_a_signed_token_for_us_is_the_account_it_names(provider, outbound, kind):
    token = provider.id_token(sub="account-1")

    found = subject(provider, outbound, token, provider.client_id, **{f"{name_of(provider)}_token": kind})

    assert found == "account-1"
    assert provider.paths() == [provider.keys_path]
    assert token not in str(provider.requests)


def test_each_of_a_providers_own_names_is_its_issuer(google, facebook, outbound):
    for fake, issuer in (
        (google, "accounts.google.com"),
        (google, "https://accounts.google.com"),
        (facebook, "https://limited.facebook.com"),
    ):
        assert subject(fake, outbound, fake.id_token(iss=issuer)) == GOOGLE_USER


def test_any_of_our_client_ids_is_the_audience(google, outbound):
    ids = f"one.example, {google.client_id} ,three.example"

    assert subject(google, outbound, google.id_token(aud="three.example"), google_client_id=ids) == GOOGLE_USER
    assert subject(google, outbound, google.id_token(aud=[google.client_id]), google_client_id=ids) == GOOGLE_USER
    assert refusal(google, outbound, google.id_token(aud="four.example"), google_client_id=ids) == "audience"


# Claim -> reason of the refusal -> values.
CLAIMS = {
    "aud": {"audience": ["com.stranger", {"x": 1}, [1]], "token": [..., []]},
    "iss": {
        "issuer": [
            "https://evil.example",
            "https://accounts.google.com.evil.example",
            ["https://appleid.apple.com", "https://accounts.google.com"],
        ],
        "token": [...],
    },
    "exp": {"expired": [1], "token": [..., "never", None]},
    "iat": {"not_yet_valid": [32503680000], "token": [...]},
    "nbf": {"not_yet_valid": [32503680000]},
    "sub": {"account": ["", "x" * 256, "a\nb", "\ud800"], "token": [..., 17, ["a"]]},
}


def test_a_signed_token_that_is_not_for_us_or_not_now_proves_nothing(provider, outbound):
    for claim, values_by_reason in CLAIMS.items():
        for reason, values in values_by_reason.items():
            for value in values:
                assert refusal(provider, outbound, provider.id_token(**{claim: value})) == reason, (claim, value)
    for_two = provider.id_token(aud=[provider.client_id, "com.stranger"])
    assert refusal(provider, outbound, for_two) == "audience"
    assert refusal(provider, outbound, provider.id_token(key=rsa_key("second"))) == "token"
    for kid in (..., "", "unknown", "x" * 3000):
        assert refusal(provider, outbound, provider.id_token(header={"kid": kid})) in ("token", "key")


def test_the_app_id_that_comes_with_a_token_is_never_its_audience(provider, outbound):
    token = provider.id_token(aud="com.stranger")

    assert refusal(provider, outbound, token, app_id="com.stranger") == "app_id"
    assert refusal(provider, outbound, token, app_id=provider.client_id) == "audience"
    assert refusal(provider, outbound, token, app_id="NA") == "audience"


def test_another_providers_token_proves_nothing(google, apple, outbound):
    """Even one that was made for a client of the same name."""
    assert refusal(google, outbound, apple.id_token(aud=google.client_id)) == "issuer"


def test_a_token_ends_when_it_says_so_give_or_take_the_clocks(google, outbound, clock):
    token = google.id_token(exp=int(time.time()) + 60)

    clock.shift(80)
    assert subject(google, outbound, token) == GOOGLE_USER

    clock.shift(20)
    assert refusal(google, outbound, token) == "expired"


def test_a_token_changed_after_it_was_signed_proves_nothing(google, outbound):
    head, _, signature = google.id_token().split(".")
    _, claims, _ = google.id_token(sub="somebody-else").split(".")

    assert refusal(google, outbound, f"{head}.{claims}.{signature}") == "token"
    assert refusal(google, outbound, f"{head}.{claims}.") == "token"


def test_a_token_never_chooses_how_it_is_verified(provider, outbound):
    kid = {"kid": "key-1"}
    _, claims, _ = provider.id_token().split(".")
    unsigned = base64url(json.dumps({"alg": "none"} | kid).encode()) + f".{claims}."
    own_header = {"jwk": provider.published()["keys"][0], "jku": provider.url, "kid": "key-9"}

    assert refusal(provider, outbound, provider.id_token(key="", algorithm="none")) == "token"
    assert refusal(provider, outbound, unsigned) == "token"
    assert refusal(provider, outbound, with_hmac(provider, public_pem(rsa_key("first")))) == "token"
    assert refusal(provider, outbound, provider.id_token(key=apple_private_key(), algorithm="ES256")) == "token"
    assert refusal(provider, outbound, provider.id_token(algorithm="RS512")) == "token"
    assert refusal(provider, outbound, provider.id_token(key=rsa_key("second"), header=own_header)) == "key"


def with_hmac(provider, key):
    """A token whose HMAC key is the public key: PyJWT itself refuses to make one."""
    head = base64url(b'{"alg":"HS256","kid":"key-1","typ":"JWT"}')
    claims = provider.id_token().split(".")[1]
    return f"{head}.{claims}.{base64url(hmac.digest(key, f'{head}.{claims}'.encode(), hashlib.sha256))}"


ODD_TOKENS = (
    *(
        None,
        17,
        True,
        1.5,
        ["a"],
        {"a": 1},
        b"bytes",
        "",
        " ",
        "a b",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "caf\u00e9",
        "\ud800",
    ),
    *("x" * 8193, "..", "a.b.c", "eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJSUzI1NiJ9..", "eyJhbGciOiJSUzI1NiJ9.e30."),
    *(f"{base64url(head)}.e30.e30" for head in (b"[]", b"\xff\xfe", b"[" * 3000)),
    base64url(b'{"alg":["RS256"],"kid":"key-1"}') + ".e30.e30",
    base64url(b'{"alg":"RS256","kid":{"a":1}}') + ".e30.e30",
    base64url(b'{"alg":"RS256","kid":"key-1","crit":["exp"]}') + ".e30.e30",
    base64url(b'{"alg":"RS256","kid":"key-1","b64":false,"crit":["b64"]}') + "..e30",
    base64url(b'{"alg":"RS256","kid":"' + b"9" * 5000 + b'"}') + ".e30.e30",
    base64url(b'{"alg":"RS256","kid":' + b"9" * 5000 + b"}") + ".e30.e30",
    base64url(b'{"alg":"RS256","kid":"\\ud800"}') + ".e30.e30",
)


def test_whatever_comes_in_a_tokens_place_is_refused(provider, outbound):
    for token in ODD_TOKENS:
        kind = {f"{name_of(provider)}_token": "id_token"}
        assert refusal(provider, outbound, token, **kind) in ("token", "key"), token
        assert refusal(provider, outbound, token) in ("token", "key", "code"), token


def test_an_app_id_that_is_not_ours_is_refused_before_anybody_is_asked(provider, outbound):
    for app_id in ("com.stranger", " ", "na", 17, 1.5, True, ["a"], {}, 10**5000, "\ud800"):
        assert refusal(provider, outbound, provider.id_token(), app_id=app_id) == "app_id", app_id
    assert provider.requests == []


def test_an_app_id_may_be_missing_or_ours_as_text_or_number(facebook, outbound):
    for app_id in (None, "", "NA", "611392880818819", 611392880818819):
        assert subject(facebook, outbound, facebook.id_token(), app_id) == GOOGLE_USER


# The published keys


def test_the_keys_are_fetched_once_for_many_logins(provider, outbound):
    game = game_for(provider)
    tokens = [provider.id_token(sub=f"account-{number}") for number in range(8)]

    found = together(*(lambda t=t: social.subject(game, outbound, name_of(provider), t) for t in tokens))

    assert sorted(found) == [f"account-{number}" for number in range(8)]
    assert provider.paths() == [provider.keys_path]


def test_new_keys_are_looked_for_when_a_token_names_one_and_once_a_minute_at_most(google, outbound, clock):
    old = google.id_token()
    assert subject(google, outbound, old) == GOOGLE_USER
    google.rotate_keys()
    token = google.id_token()

    assert refusal(google, outbound, token) == "key"  # within the minute of the first fetch
    assert len(google.requests) == 1

    clock.shift(61)
    assert subject(google, outbound, token) == GOOGLE_USER
    assert refusal(google, outbound, old) == "key"
    for number in range(5):
        assert refusal(google, outbound, google.id_token(header={"kid": f"made-up-{number}"})) == "key"
    assert len(google.requests) == 2

    clock.shift(61)
    for number in range(5):
        assert refusal(google, outbound, google.id_token(header={"kid": f"made-up-{number}"})) == "key"
    assert len(google.requests) == 3


def test_keys_are_looked_at_again_after_some_hours_and_a_withdrawn_one_ends(google, outbound, clock):
    assert subject(google, outbound, google.id_token()) == GOOGLE_USER

    clock.shift(5 * 3600)
    assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    assert len(google.requests) == 1

    google.rotate_keys()
    clock.shift(3600)
    assert refusal(google, outbound, google.id_token(key=rsa_key("first"), header={"kid": "key-1"})) == "key"
    assert len(google.requests) == 2


def test_known_keys_stay_good_for_a_day_while_the_provider_is_down(google, outbound, clock, caplog):
    assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    google.trouble[google.keys_path] = status(503)

    clock.shift(7 * 3600)
    for _ in range(3):
        assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    assert len(google.requests) == 2  # one failed fetch, and then a pause
    assert "were not fetched" in caplog.text

    clock.shift(10 * 3600)
    assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    assert "503" in trouble(google, outbound, google.id_token(header={"kid": "new"}))

    clock.shift(8 * 3600)
    trouble(google, outbound, google.id_token())
    trouble(google, outbound, google.id_token())
    assert len(google.requests) == 4

    google.trouble.clear()
    clock.shift(5)
    assert subject(google, outbound, google.id_token()) == GOOGLE_USER


def test_who_has_a_key_at_hand_does_not_wait_for_somebody_elses_fetch(google, outbound, clock):
    assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    may_answer = threading.Event()

    def answer_later(handler):
        may_answer.wait(10)
        told(google.published())(handler)

    google.trouble[google.keys_path] = answer_later
    clock.shift(7 * 3600)
    fetching = Underway(lambda: subject(google, outbound, google.id_token()))
    until(lambda: len(google.requests) == 2, "the keys are being fetched")

    assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    assert len(google.requests) == 2

    may_answer.set()
    assert fetching.results() == [GOOGLE_USER]


def test_a_clock_set_back_does_not_keep_old_keys(google, outbound, clock):
    assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    google.rotate_keys()

    clock.shift(-86400)

    assert subject(google, outbound, google.id_token()) == GOOGLE_USER


KEYS_TROUBLE = [
    status(500), status(404), status(200), status(200, b"<html>"), status(200, b"[]"), status(200, b'{"keys": {}}'),
    status(200, b'{"keys": []}'), status(200, b'{"keys": [1, null, {}, {"kty": "RSA", "kid": "key-1"}]}'),
    status(200, b'{"keys": [{"kty": "oct", "kid": "key-1", "k": "AAAA", "alg": "HS256"}]}'),
    status(200, b'{"keys": [{"kty": "RSA", "kid": "key-1", "n": "AQAB", "e": "AQAB", "alg": ["RS256"]}]}'),
    status(200, b'{"keys": [{"kty": "RSA", "kid": 7, "n": 1e5, "e": {}}]}'), status(200, b"[" * 5000),
    status(302, Location="http://127.0.0.1/"), huge, nonsense, reset,
]  # fmt: skip


@pytest.mark.parametrize("behaviour", KEYS_TROUBLE)
def test_without_the_providers_keys_nobody_gets_in(apple, outbound, behaviour):
    apple.trouble[apple.keys_path] = behaviour

    assert trouble(apple, outbound, apple.id_token()).startswith("Apple: ")


@pytest.mark.parametrize("behaviour", [silence, slow_body])
def test_a_slow_provider_costs_no_more_than_the_time_limit(google, outbound, monkeypatch, behaviour):
    monkeypatch.setattr(jwks, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(providers, "TIMEOUT_SECONDS", 0.2)
    google.trouble = {google.keys_path: behaviour, "/tokeninfo": behaviour}
    began = time.monotonic()

    assert "timeout" in trouble(google, outbound, google.id_token())
    assert "timeout" in trouble(google, outbound, google.access_token())
    assert "timeout" in trouble(google, outbound, google.id_token())  # not asked again at once

    assert time.monotonic() - began < 1
    assert google.paths() == [google.keys_path, "/tokeninfo"]


def test_weak_and_foreign_keys_among_the_published_ones_are_not_used(google, outbound):
    keys = google.published()["keys"]
    secret = {"kty": "oct", "kid": "hmac", "k": base64url(b"k" * 32), "alg": "HS256"}
    google.trouble[google.keys_path] = told(
        {"keys": [secret, {"kty": "EC"}, *keys, {**keys[0], "kid": "enc", "use": "enc"}]}
    )

    assert subject(google, outbound, google.id_token()) == GOOGLE_USER
    assert refusal(google, outbound, google.id_token("k" * 32, "HS256", {"kid": "hmac"})) == "token"
    assert refusal(google, outbound, google.id_token(header={"kid": "hmac"})) == "key"
    assert refusal(google, outbound, google.id_token(header={"kid": "enc"})) == "key"


def test_an_installation_that_calls_no_private_addresses_asks_no_provider_there(google):
    outbound = Outbound(may_call_private=False)

    assert "is not a public one" in trouble(google, outbound, google.id_token())
    assert "is not a public one" in trouble(google, outbound, google.access_token())
    assert google.requests == []


# Access tokens


def test_googles_access_token_for_us_is_the_account_it_names(google, outbound):
    token = google.access_token()

    assert subject(google, outbound, token) == GOOGLE_USER
    assert google.requests[0].query == {"access_token": token}


def test_googles_address_may_have_a_query_of_its_own(google, outbound):
    url = f"{google.url}/tokeninfo?alt=json"

    assert subject(google, outbound, google.access_token(), google_url=url) == GOOGLE_USER
    assert google.requests[0].query["alt"] == "json"


GOOGLES = {
    "audience": [{"aud": aud} for aud in ("stranger.apps.googleusercontent.com", ..., None, [Google.client_id], {})],
    "expired": [{"exp": "1000000000"}, {"exp": 1000000000}],
    "account": [{"sub": sub} for sub in (..., "", True, ["x"], "a\u0000b")],
}
FACEBOOKS = {
    "token": [*({"is_valid": value} for value in (False, ..., "true", 1)), {"type": "APP"}, {"type": "PAGE"}],
    "expired": [{"expires_at": 1000000000}],
    "account": [{"user_id": value} for value in (..., "", True, 10**300, "x" * 256)],
}


def test_an_access_token_that_is_not_for_us_or_not_valid_proves_nothing(google, facebook, outbound):
    for fake, rows in ((google, GOOGLES), (facebook, FACEBOOKS)):
        for reason, changed in ((reason, each) for reason, values in rows.items() for each in values):
            assert refusal(fake, outbound, fake.access_token(**changed)) == reason, changed
            assert refusal(fake, outbound, fake.access_token(**changed), app_id=fake.client_id) == reason


def test_an_unknown_access_token_proves_nothing(google, facebook, outbound):
    assert refusal(google, outbound, "ya29.unknown") == "token"
    assert refusal(facebook, outbound, "EAABunknown") == "token"


ANSWER_TROUBLE = [
    status(500), status(503, b"{}"), status(429, b"{}"), status(404), status(200), status(200, b"<html>"),
    status(200, b"[]"), status(200, b'"x"'), status(200, b'{"aud": NaN}'), status(200, b"[" * 5000),
    status(302, Location="http://127.0.0.1/"), huge, nonsense, reset,
]  # fmt: skip


@pytest.mark.parametrize("behaviour", ANSWER_TROUBLE)
def test_an_answer_that_tells_nothing_of_an_access_token_is_the_providers_trouble(
    google, facebook, outbound, behaviour
):
    google.trouble["/tokeninfo"] = facebook.trouble["/debug_token"] = behaviour

    assert trouble(google, outbound, google.access_token()).startswith("Google")
    assert trouble(facebook, outbound, facebook.access_token()).startswith("Facebook")


def test_an_end_that_cannot_be_read_is_the_providers_trouble(google, facebook, outbound):
    for ends in ("soon", 1.5, True, {}, "1" * 100):
        assert "cannot be read" in trouble(google, outbound, google.access_token(exp=ends))
        assert "cannot be read" in trouble(facebook, outbound, facebook.access_token(expires_at=ends))


def test_a_provider_that_cannot_be_reached_is_its_own_trouble(google, outbound):
    nowhere = f"http://127.0.0.1:{closed_port()}/tokeninfo"

    assert "refused" in trouble(google, outbound, google.access_token(), google_url=nowhere)


def test_facebooks_access_token_for_us_is_the_account_it_names(facebook, outbound):
    for expires_at in (0, 32503680000, ...):
        token = facebook.access_token(expires_at=expires_at)
        app_token = f"{facebook.client_id}|{facebook.app_secret}"
        assert subject(facebook, outbound, token, facebook.client_id) == FACEBOOK_USER
        assert facebook.requests[-1].query == {"input_token": token, "access_token": app_token}
    numbers = facebook.access_token(app_id=int(facebook.client_id), user_id=int(FACEBOOK_USER))
    assert subject(facebook, outbound, numbers) == FACEBOOK_USER


def test_facebooks_access_token_of_another_app_proves_nothing(facebook, outbound):
    token = facebook.access_token(app_id="99")
    assert refusal(facebook, outbound, token) == "token"  # Facebook says so

    for app_id in ("99", 99, None, True, ["611392880818819"], 611392880818819.0):
        about = {"app_id": app_id, "is_valid": True, "user_id": FACEBOOK_USER, "expires_at": 0}
        facebook.trouble["/debug_token"] = told({"data": about})
        assert refusal(facebook, outbound, token) == "audience"  # or does not


def test_a_wrong_secret_is_our_trouble_and_says_where_to_look(facebook, apple, google, outbound):
    facebook_game = game_for(facebook, {"appcharge.facebook_secret": "wrong-secret"})
    apple_game = game_for(apple, {"appcharge.apple_secret": "wrong-secret"})
    google_game = game_for(google, {"appcharge.google_secret": "wrong-secret"}, google_token="code")

    for name, game, token in (
        ("facebook", facebook_game, facebook.access_token()),
        ("apple", apple_game, apple.code()),
        ("google", google_game, google.code()),
    ):
        with pytest.raises(ProviderError, match=f"appcharge.{name}_secret") as caught:
            social.subject(game, outbound, name, token)
        assert "wrong-secret" not in str(caught.value)
        assert token not in str(caught.value)


def test_what_facebook_says_of_itself_is_not_held_against_the_player(facebook, outbound):
    for error in (None, "x", [], {"code": "100"}, {"code": 190}, {"code": 4}, {"code": 10**50}, {}):
        for code in (400, 200):
            facebook.trouble["/debug_token"] = told({"error": error}, code)
            assert "Facebook" in trouble(facebook, outbound, facebook.access_token())


# Codes


@pytest.mark.parametrize("redirect_uri", ["", "https://store.example.com/login"])
def test_a_code_is_exchanged_for_the_account_it_stands_for(provider, outbound, redirect_uri):
    code = provider.code("account-1", redirect_uri=redirect_uri or None)
    settings = {f"{name_of(provider)}_token": "code", "login_redirect_uri": redirect_uri}

    assert subject(provider, outbound, code, provider.client_id, **settings) == "account-1"
    assert [code in (request.form | request.query).values() for request in provider.requests].count(True) == 1

    assert refusal(provider, outbound, code, **settings) in ("code", "token")


def test_apples_store_sends_codes_unless_it_sends_tokens(apple, outbound):
    assert subject(apple, outbound, apple.code("001234.ab.0123")) == "001234.ab.0123"
    assert subject(apple, outbound, apple.id_token(sub="001234.ab.0123")) == "001234.ab.0123"
    assert apple.paths() == ["/auth/token", "/auth/keys"]

    apple.codes["a1.b2.c3"] = apple.codes[apple.code("account-3")]
    assert subject(apple, outbound, "a1.b2.c3") == "account-3"


def test_apples_client_secret_is_made_with_the_private_key_or_elsewhere(apple, outbound):
    assert subject(apple, outbound, apple.code()) == "001234.abcdef.0123"

    form = apple.requests[0].form
    assert form["client_secret"].count(".") == 2  # the fake has verified it
    assert "PRIVATE KEY" not in str(apple.requests)
    assert set(form) == {"client_id", "client_secret", "code", "grant_type"}

    apple.client_secret = "made.else.where"
    game = game_for(apple, {"appcharge.apple_secret": "made.else.where"})
    assert social.subject(game, outbound, "apple", apple.code()) == "001234.abcdef.0123"


def test_apples_code_is_exchanged_as_the_client_the_call_names_or_else_the_first(apple, outbound):
    ids = "com.example.first,com.example.second"
    first, second = apple.code("one", "com.example.first"), apple.code("two", "com.example.second")

    assert subject(apple, outbound, second, "com.example.second", apple_client_id=ids) == "two"
    assert subject(apple, outbound, first, "NA", apple_client_id=ids) == "one"
    assert refusal(apple, outbound, apple.code(), "com.example.third", apple_client_id=ids) == "app_id"


def test_a_token_in_exchange_for_a_code_is_verified_like_any_other_for_the_client_that_asked(apple, outbound):
    for token, reason in (
        (apple.id_token(aud="com.stranger"), "audience"),
        (apple.id_token(aud="com.other"), "audience"),
        (apple.id_token(key=rsa_key("second")), "token"),
        (apple.id_token(exp=1), "expired"),
    ):
        apple.trouble["/auth/token"] = told({"id_token": token})
        assert refusal(apple, outbound, apple.code(), apple_client_id=f"{apple.client_id},com.other") == reason


@pytest.mark.parametrize(
    "behaviour",
    [*ANSWER_TROUBLE, told({"id_token": 7}), told({}), told({"error": "x" * 9000}, 400), told({"error": {}}, 400)],
)
def test_a_code_is_never_sent_twice_whatever_comes_of_it(apple, facebook, outbound, behaviour):
    apple.trouble["/auth/token"] = facebook.trouble["/oauth/access_token"] = behaviour

    assert len(trouble(apple, outbound, apple.code())) < 200
    assert len(trouble(facebook, outbound, facebook.code(), facebook_token="code")) < 300

    assert apple.paths() == ["/auth/token"]
    assert facebook.paths() == ["/oauth/access_token"]


@pytest.mark.parametrize("key", [pem(rsa_key("first")), "-----BEGIN PRIVATE KEY-----\nnonsense", "PRIVATE KEY \xff"])
def test_a_private_key_that_is_none_of_apples_is_said_to_be_so(apple, outbound, key):
    game = game_for(apple, {"appcharge.apple_secret": key})

    with pytest.raises(ProviderError, match="apple_secret is no private key") as caught:
        social.subject(game, outbound, "apple", apple.code())

    assert key not in str(caught.value)
    assert apple.requests == []


# Configuration


MADE_ELSEWHERE = {"appcharge.apple_secret": "made.else.where"}
# Provider, its secrets (None: as the fake has them), changed settings, and whether that is enough.
CONFIGURED = [
    ("google", {}, {}, True),
    *(("google", {}, {"google_client_id": ids}, False) for ids in ("", " , ")),
    ("google", {}, {"google_token": "code"}, False),
    ("google", None, {"google_token": "code"}, True),
    ("facebook", None, {}, True),
    ("facebook", {}, {}, False),
    ("facebook", {}, {"facebook_token": "access_token"}, False),
    ("facebook", {}, {"facebook_token": "id_token"}, True),
    ("facebook", None, {"facebook_app_id": ""}, False),
    ("apple", None, {}, True),
    *(("apple", None, {f"apple_{name}": ""}, False) for name in ("team_id", "key_id", "client_id")),
    ("apple", MADE_ELSEWHERE, {"apple_team_id": ""}, True),
    ("apple", {}, {}, False),
    ("apple", {}, {"apple_token": "id_token"}, True),
]


def test_a_provider_is_configured_when_its_tokens_can_be_proved(google, apple, facebook, outbound):
    fakes = {"google": google, "apple": apple, "facebook": facebook}
    for name, secrets, changed, is_enough in CONFIGURED:
        game = game_for(fakes[name], secrets, **changed)

        assert social.is_configured(game, name) is is_enough, (name, secrets, changed)
        if not is_enough:
            with pytest.raises(LoginRefusedError, match="not_configured"):
                social.subject(game, outbound, name, fakes[name].id_token())
        assert fakes[name].requests == []


def test_another_provider_is_none_of_ours(google, outbound):
    assert not social.is_configured(game_for(google), "userToken")
    with pytest.raises(LoginRefusedError):
        social.subject(game_for(google), outbound, "myspace", google.id_token())


def test_the_owner_sets_a_provider_up_by_its_settings_and_secrets(provider, studio, installation):
    provider.set_up(studio, **{f"{name_of(provider)}_token": "code"})
    game = installation.games.by_slug(studio.slug)

    assert social.is_configured(game, name_of(provider))
    assert social.subject(game, installation.outbound, name_of(provider), provider.code("account-1")) == "account-1"


def test_nothing_secret_is_logged_whatever_happens(google, apple, facebook, outbound, caplog):
    caplog.set_level(logging.DEBUG)
    tokens = [
        (google, google.id_token()),
        (google, google.id_token(aud="com.stranger")),
        (google, google.access_token()),
        (google, google.access_token(aud="com.stranger")),
        (facebook, facebook.access_token()),
        (apple, apple.code()),
    ]

    for trouble_everywhere in ({}, {path: status(500) for path in ("/tokeninfo", "/debug_token", "/auth/token")}):
        for fake, token in tokens:
            fake.trouble = dict(trouble_everywhere)
            try:
                subject(fake, outbound, token)
            except (LoginRefusedError, ProviderError) as error:
                logging.getLogger("coinslot").error("refused: %r", error, exc_info=error)

    logged = caplog.text
    assert "refused" in logged
    for _, token in tokens:
        assert token not in logged
        assert token.split(".")[-1] not in logged
    assert facebook.app_secret not in logged
    assert "PRIVATE KEY" not in logged
    assert "alice@example.com" not in logged


HALF = "name cut in \ud83d"


def test_half_of_a_surrogate_pair_in_what_is_not_read_keeps_nobody_out(google, facebook, apple, outbound):
    assert subject(google, outbound, google.access_token(name=HALF)) == GOOGLE_USER
    assert subject(google, outbound, google.id_token(name=HALF)) == GOOGLE_USER
    assert subject(facebook, outbound, facebook.access_token(application=HALF)) == FACEBOOK_USER
    published = apple.published()["keys"]
    apple.published = lambda: {"note": HALF, "keys": [{**published[0], "kid": HALF}, *published]}
    assert subject(apple, outbound, apple.id_token()) == GOOGLE_USER


def test_half_of_a_surrogate_pair_in_what_is_read_is_refused_in_words(google, facebook, apple, outbound):
    assert refusal(google, outbound, google.access_token(sub=HALF)) == "account"
    assert refusal(facebook, outbound, facebook.access_token(user_id=HALF)) == "account"
    apple.id_token = lambda **_: HALF
    assert "answered 200 to a code" in trouble(apple, outbound, apple.code())
    public = google.published()["keys"][0]
    google.published = lambda: {"keys": [{**public, "n": HALF, "kid": "odd"}]}
    trouble(google, outbound, google.id_token(header={"kid": "odd"}))
