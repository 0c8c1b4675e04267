"""Every address of the URL map, against everybody who may come: who is let in, and what is in every answer.

A new address fails here until it has a kind, and a new partner's address until ``tests/partner_cases.py`` has it.
"""

import re

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner, people, second_factor, sessions
from coinslot.games import games
from handlers.dashboard.frame import roles
from tests import databases
from tests.conftest import Browser, Studio
from tests.partner_cases import ADDRESSES, Sent

METRICS_TOKEN = "metrics-token-of-the-tests"
# Beside the pages, whose kinds are in tests/surface/people.txt.
OPEN = {"/healthz", "/readyz", "/game/v1/openapi.json"}
PROVE_THEMSELVES = {"/setup", "/invitation"}  # by the token of their link, not by a form token
PLAYERS = {"/api/<game_slug>/sponsor"}  # the signature is in the query
WORDS = {"slug": "demo", "game_slug": "demo", "hook": "coupons", "filename": "style.css"}
HTML, FRAMES = "text/html", "frame-ancestors 'none'"


def addresses_of(app):
    """Rule, method and the address filled in, of each."""
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            words = {name: getattr(converter, "items", None) for name, converter in rule._converters.items()}
            given = {name: min(words[name] or [WORDS.get(name, "1")]) for name in words}
            yield rule, method, app.url_map.bind("").build(rule.endpoint, given, method)


def kind_of(rule, method):
    blueprint, _, endpoint = rule.endpoint.partition(".")
    if rule.rule in OPEN:
        return "open"
    if rule.rule == "/metrics":
        return "metrics"
    if blueprint == "game":
        return "game"
    if blueprint == "dashboard":
        if endpoint in roles.OPEN:
            return "open" if method == "GET" or rule.rule in PROVE_THEMSELVES else "form"
        return "support" if endpoint in roles.SUPPORT_MAY else "owner"
    if rule.rule in PLAYERS or rule.rule in {path_of(each) for each in ADDRESSES}:
        return "partner"
    raise AssertionError(f"{method} {rule.rule}: who may call it?")


def path_of(address):
    return address.path.replace("{game}", "<game_slug>").replace("webhook/coupons", "webhook/<hook>")


class Callers:
    """Everybody: a name -> what their call carries."""

    def __init__(self, app, installation, studio):
        self.app, self.installation = app, installation
        other = Studio(installation, "other")
        retired = studio.token
        studio.token = self.write(lambda tx: games.replace_token(tx, "demo", "test"))
        self.write(lambda tx: games.retire_tokens(tx, "demo", "test"))
        self.bearers = {
            "the game": studio.token,
            "another game": other.token,
            "a retired token": retired,
            "nobody's token": "coinslot_" + "x" * 43,
            "no token": "",
            "the metrics token": METRICS_TOKEN,
        }
        self.cookies = {"an owner": self.session("owner"), "support": self.session("Anna", "support")}
        self.cookies |= {"signed out": self.session("owner"), "expired": self.session("owner")}
        self.cookies |= {"removed": self.session("Ben", "support"), "a game's token for a session": studio.token}
        self.cookies |= {"nobody's session": "x" * 43}
        self.bearers["a session for a token"] = self.cookies["an owner"]
        hashed = {name: sessions.token_hash(value) for name, value in self.cookies.items()}
        self.write(lambda tx: sessions.end(tx, owner.first(tx).id, hashed["signed out"]))
        expire = "UPDATE sessions SET expires_at = '2020-01-01T00:00:00.000000Z' WHERE token_hash = :hash"
        self.write(lambda tx: tx.execute(expire, {"hash": hashed["expired"]}))
        self.write(lambda tx: people.remove(tx, people.named(tx, "Ben"), "owner"))

    def write(self, function):
        return self.installation.database.write_here(function)

    def session(self, name, role="owner"):
        def begin(tx):
            person = owner.first(tx) if name == "owner" else people.accept(tx, people.invite(tx, name, role, "t"), "h")
            return sessions.begin(tx, person.id, "127.0.0.1", "test")

        return self.write(begin)

    def names(self):
        return ["a stranger", *self.bearers, *self.cookies]

    def call(self, name, method, address, **how):
        client = self.app.test_client()
        if name in self.cookies:
            client.set_cookie("coinslot_session", self.cookies[name])
        headers = {"Authorization": f"Bearer {self.bearers[name]}"} if name in self.bearers else {}
        return client.open(address, method=method, headers=headers | how.pop("headers", {}), buffered=True, **how)


@pytest.fixture
def callers(app, installation, studio):
    for address in ADDRESSES:
        address.set_up(studio)
    object.__setattr__(installation.settings, "metrics_token", METRICS_TOKEN)
    return Callers(app, installation, studio)


def outcome(answer):
    """What became of a call, in one word."""
    text = answer.get_data(as_text=True) if answer.mimetype in (HTML, "application/json") else ""
    if answer.status_code == 303 and answer.location.partition("?")[0] == "/login":
        return "to the login"
    if answer.status_code == 403 and "Only an owner may do that" in text:
        return "role"
    if answer.status_code == 403 and "This form is too old" in text:
        return "form"
    if answer.status_code == 401:
        return "unauthorized"
    return "in"


def expected(kind, method, caller):
    signed_in = {"an owner": "owner", "support": "support"}.get(caller)
    if kind in ("support", "owner"):
        if signed_in is None:
            return "to the login"
        if kind == "owner" and signed_in == "support":
            return "role"
        return "in" if method == "GET" else "form"
    if kind == "game":
        return "in" if caller in ("the game", "another game") else "unauthorized"
    if kind == "metrics":
        return "in" if caller == "the metrics token" else "unauthorized"
    return {"form": "form", "open": "in"}[kind]


def kept(installation, db):
    """All rows of all tables but those that any call may change."""
    free = {"refusals", "refusal_names", "counters", "sessions", "throttles", "secrets", "feeds", "contacts"}
    return {name: db(f"SELECT * FROM {name}") for name in databases.tables(installation) if name not in free}


def test_every_address_has_a_kind(app):
    kinds = [kind_of(rule, method) for rule, method, _ in addresses_of(app)]

    assert set(kinds) == {"open", "form", "support", "owner", "game", "metrics", "partner"}
    assert {path_of(each) for each in ADDRESSES} | PLAYERS == {
        rule.rule for rule, method, _ in addresses_of(app) if kind_of(rule, method) == "partner"
    }


@pytest.mark.long
def test_everybody_is_let_in_where_they_may_and_nowhere_else(app, installation, callers, db):
    before, wrong, seen = kept(installation, db), [], 0
    for rule, method, address in addresses_of(app):
        kind = kind_of(rule, method)
        for caller in callers.names() if kind != "partner" else ():
            wanted = expected(kind, method, caller)
            if address == "/login/code" and method == "GET" and caller not in ("an owner", "support"):
                wanted = "to the login"  # no password was right before
            if wanted == "in" and kind == "game" and method != "GET":
                continue  # it would change something
            found = outcome(callers.call(caller, method, address))
            seen += 1
            if found != wanted:
                wrong.append((method, rule.rule, caller, found, wanted))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen > 1500
    assert kept(installation, db) == before


@pytest.mark.long
def test_at_a_partners_address_only_its_signature_for_this_game_counts(app, installation, callers, studio, db):
    """Neither a token nor a session, nor the partner's signature of another game, under its address or under ours."""
    other = Studio(installation, "other-two")
    for address in ADDRESSES:
        other.secret(address.secret, f"other-{address.key}")
        if address.partner == "appcharge":
            other.secret("appcharge.publisher_token", "other-publisher-token")
    before = kept(installation, db)
    client = app.test_client()
    for address in ADDRESSES:
        made = address.make(address.path, Sent(address.key))
        for caller in callers.names():
            answer = callers.call(caller, made["method"], address.path.format(game="demo"))
            assert not address.is_accepted(answer), (address.name, caller)
            assert answer.status_code in (400, 401, 404, 500), (address.name, caller, answer.status_code)
        for game, key in (("demo", f"other-{address.key}"), ("other-two", address.key)):
            if game == "demo" or "{game}" in address.path:
                assert not address.is_accepted(address.call(client, game, key=key)), (address.name, game)
    assert kept(installation, db) == before


@pytest.mark.long
def test_no_form_is_taken_that_is_not_this_sessions_own(app, installation, callers, db):
    """The token of another session, of before signing in, in another place than the form; or from another site."""
    callers.write(lambda tx: owner.set_password(tx, "hash", "command"))
    mine = Browser(app.test_client(), installation)
    again = Browser(app.test_client(), installation)
    support = Browser(app.test_client(), installation, "Anna")
    visitor = app.test_client()
    (before_login,) = re.findall(r'name="form_token" value="([^"]+)"', visitor.get("/login").text)
    right = mine.form_token()
    ways = [{"data": {"form_token": each}} for each in (again.form_token(), support.form_token(), before_login, "")]
    ways += [{"query_string": {"form_token": right}}, {"json": {"form_token": right}}]
    ways += [{"headers": {"X-CSRF-Token": right, "form_token": right}}, {"data": f"form_token={right}"}]
    ways += [
        {"data": {"form_token": right}, "headers": {"Sec-Fetch-Site": each}}
        for each in ("cross-site", "same-site", "x")
    ]
    rows, seen = kept(installation, db), 0
    for rule, method, address in addresses_of(app):
        is_page = kind_of(rule, method) in ("support", "owner", "form") and rule.endpoint.startswith("dashboard.")
        for how in ways if is_page and method == "POST" else ():
            answer = mine.client.post(address, **how)
            assert answer.status_code == 403, (address, how)
            assert answer.mimetype == HTML, (address, how)
            seen += 1
    assert seen > 700
    assert kept(installation, db) == rows


@pytest.mark.long
def test_a_password_alone_opens_nothing_where_a_second_factor_is_on(app, installation, studio, db):
    """Between the two, the browser has a signed cookie; it opens the form for the code, and nothing else."""
    digest = generate_password_hash("correct horse battery", method="scrypt:1024:8:1")
    write = installation.database.write_here
    write(lambda tx: owner.set_password(tx, digest, "command"))
    person = write(owner.first)
    write(lambda tx: second_factor.offer(tx, installation.vault, person))
    secret = second_factor.offered(installation.database.read(), installation.vault, person)
    code = second_factor.pyotp.TOTP(secret).now()
    assert write(lambda tx: second_factor.confirm(tx, installation.vault, person, code)) is not None
    client = app.test_client()
    (token,) = re.findall(r'name="form_token" value="([^"]+)"', client.get("/login").text)
    proved = client.post("/login", data={"form_token": token, "password": "correct horse battery"})
    assert (proved.status_code, proved.location) == (303, "/login/code")
    assert client.get("/login/code").status_code == 200
    proof = client.get_cookie("coinslot_proof", path="/login").value

    seen = 0
    for rule, method, address in addresses_of(app):
        if kind_of(rule, method) in ("support", "owner"):
            for cookies in ({}, {"coinslot_session": proof, "coinslot_proof": proof}):
                for name, value in cookies.items():
                    client.set_cookie(name, value)
                answer = client.open(address, method=method, data={"form_token": token} if method == "POST" else None)
                assert outcome(answer) == "to the login", (method, address)
                client.delete_cookie("coinslot_session")
                seen += 1
    assert seen > 200


@pytest.mark.long
class TestAnswers:
    """What is in every answer, whoever asks."""

    @pytest.fixture
    def answers(self, app, callers):
        """Every address, asked for as everybody; with the answers to what is not there."""
        found = []
        for rule, method, address in addresses_of(app):
            for caller in ("a stranger", "the game", "support", "an owner"):
                if method == "GET" or caller == "a stranger":
                    found.append((caller, method, rule, callers.call(caller, method, address)))
        for address in ("/nowhere", "/games/nowhere", "/game/v1/nowhere", "/appcharge/x", "/%00", "/static/x", "/.env"):
            for caller in ("a stranger", "an owner"):
                found.append((caller, "GET", None, callers.call(caller, "GET", address)))
                found.append((caller, "TRACE", None, callers.call(caller, "TRACE", address)))
        return found

    def test_types_frames_and_caches(self, answers):
        wrong = []
        for caller, method, rule, answer in answers:
            headers, place = answer.headers, (caller, method, rule and rule.rule, answer.status_code)
            policy = headers.get("Content-Security-Policy", "")
            is_page = rule is not None and rule.endpoint.startswith("dashboard.")
            if answer.data and not answer.mimetype:
                wrong.append((*place, "no type"))
            if answer.mimetype not in (
                *(HTML, "text/plain", "text/css", "text/csv", "text/javascript", "application/json", "image/png"),
                *("application/problem+json", "application/zip", "image/svg+xml"),
            ):
                wrong.append((*place, answer.mimetype))
            if answer.mimetype == HTML or is_page:
                if (
                    not {"default-src 'none'", FRAMES, "base-uri 'none'"} <= set(policy.split("; "))
                    or "unsafe" in policy
                ):
                    wrong.append((*place, policy or "no policy"))
                if headers.get("X-Content-Type-Options") != "nosniff":
                    wrong.append((*place, "may be sniffed"))
            if (is_page and rule.endpoint != "dashboard.static") and headers.get("Cache-Control") != "no-store":
                wrong.append((*place, headers.get("Cache-Control")))
            if (
                answer.mimetype in ("text/csv", "application/zip")
                and "attachment" not in headers["Content-Disposition"]
            ):
                wrong.append((*place, "no download"))
            if headers.get("Access-Control-Allow-Origin") or headers.get("Access-Control-Allow-Credentials"):
                wrong.append((*place, "open to other sites"))
        assert not wrong, "\n".join(map(str, sorted(map(str, set(wrong)))))

    def test_cookies_are_for_no_script_and_no_other_site(self, answers):
        seen = set()
        for _, _, rule, answer in answers:
            for cookie in answer.headers.getlist("Set-Cookie"):
                flags = {each.strip().lower() for each in cookie.split(";")[1:]}
                if cookie.split("=")[1].startswith(";"):
                    continue  # it is deleted
                assert {"httponly", "samesite=lax"} <= flags, (rule, cookie)
                assert not any(each.startswith("domain") for each in flags), (rule, cookie)
                seen.add(cookie.split("=")[0])
        assert seen == {"coinslot_visitor"}

    def test_no_answer_repeats_a_host_that_is_not_ours(self, app, callers):
        evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
        evil |= {"Origin": "https://evil.example", "Referer": "https://evil.example/", "X-Forwarded-Proto": "evil"}
        for rule, method, address in addresses_of(app):
            for caller in ("a stranger", "the game", "an owner"):
                if method == "GET" or caller == "a stranger":
                    answer = callers.call(caller, method, address, headers=evil)
                    assert b"evil.example" not in answer.data, (method, rule.rule, caller)
                    assert "evil.example" not in str(answer.headers), (method, rule.rule, caller)
