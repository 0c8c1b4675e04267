"""The Integration pages: what to paste, which keys are set, the light of each address, a test through the real URL."""

import re
import threading
from dataclasses import replace

import pytest

from coinslot.access import keyring
from coinslot.base import clock
from coinslot.games import games
from coinslot.operations import contacts
from handlers.kit.receive import partners
from tests.conftest import MAIN_KEY, PLAYTEM_SECRET, TOKEN, Studio, use_key
from tests.fakes.http import FakeServer, Receiver, closed_port
from tests.fakes.playcamp import PlayCamp
from tests.pages import assert_has, serving

BASE = "/games/demo/integration"
PARTNERS = ("appcharge", "playtem", "playcamp")
OWNERS = "SELECT action, subject FROM audit WHERE actor = 'owner' AND action LIKE 'secret.%'"


@pytest.fixture
def playcamp(studio):
    for name in ("api_key", "shared_key", "webhook_secret", "payments_key"):
        studio.secret(f"playcamp.{name}", f"playcamp-{name}-0123456789")
    studio.secret("playcamp.webhook_secret.second", "another-webhook-secret-0123456789")
    return studio


def section(text, endpoint):
    """What a partner's page says of one address."""
    return re.search(rf'<section class="card" id="{endpoint}".*?</section>', text, re.S)[0]


def test_every_address_of_every_partner_is_there_to_copy(browser, studio, app):
    with app.app_context():
        cards = partners()
    for partner in cards:
        page = browser.get(f"{BASE}/{partner.name}").text
        for address in partner.addresses:
            shown = section(page, address.endpoint)
            assert_has(
                shown,
                f"http://127.0.0.1:8000{address.path.format(game='demo')}</code>",
                "Mandatory" if address.is_mandatory else "Optional",
                address.what_for.replace("'", "&#39;"),
            )


def test_the_card_names_what_is_pasted_and_what_is_secret(app):
    with app.app_context():
        cards = {partner.name: partner for partner in partners()}
    assert cards["playtem"].urls == {"Item credit endpoint": "/playtem/{game}/credit"}
    assert [address.endpoint for address in cards["appcharge"].addresses if address.is_mandatory] == [
        "orders",
        "players",
        "auth",
    ]
    for card in cards.values():
        assert set(card.agreed) <= set(card.settings)
        assert set(card.secrets) == {key.secret for key in card.keys}


def test_a_light_goes_from_not_set_up_to_seen_and_failing(browser, installation, client, db):
    studio = Studio(installation, "demo")
    studio.player("alice")
    studio.item("coins", "gems")
    assert "not set up" in section(browser.get(f"{BASE}/appcharge").text, "orders")
    studio.secret("appcharge.main_key", MAIN_KEY)
    studio.secret("appcharge.publisher_token", TOKEN)
    assert ">configured<" in section(browser.get(f"{BASE}/appcharge").text, "orders")

    observed = installation.observations
    observed.called(studio.row["id"], "appcharge", "orders")
    observed.flush()
    assert ">seen<" in section(browser.get(f"{BASE}/appcharge").text, "orders")

    client.post("/appcharge/demo/orders", data=b"{}", headers={"signature": "t=1,v1=00"})
    observed.flush()
    shown = section(browser.get(f"{BASE}/appcharge").text, "orders")
    assert_has(shown, ">failing<", "its signature fits none of the keys set here")
    assert ">failing<" in browser.get(BASE).text


def test_the_list_fills_itself_with_a_real_order(browser, studio, installation, post_order, client, feed):
    assert post_order().status_code == 200
    installation.observations.flush()
    shown = section(browser.get(f"{BASE}/appcharge").text, "orders")
    for title in ("First call seen", "Signature right", "Player known", "Credited"):
        assert re.search(rf">done</span> <strong>{title}", shown), title
    assert re.search(r">to do</span> <strong>Read by the game", shown)

    (grant,) = feed()
    headers = {"Authorization": f"Bearer {studio.token}"}
    client.post("/game/v1/grants/ack", json={"through": grant["id"]}, headers=headers)
    shown = section(browser.get(f"{BASE}/appcharge").text, "orders")
    assert re.search(r">done</span> <strong>Read by the game", shown)


def test_the_owner_says_what_is_pasted_and_may_take_it_back(browser, studio, installation, db):
    done = browser.post(f"{BASE}/appcharge/copied", endpoint="orders", is_copied="1")
    assert (done.status_code, done.location) == (303, f"{BASE}/appcharge?said=saved")
    assert re.search(r">done</span> <strong>Copied", section(browser.get(f"{BASE}/appcharge").text, "orders"))
    browser.post(f"{BASE}/appcharge/copied", endpoint="orders", is_copied="0")
    assert re.search(r">to do</span> <strong>Copied", section(browser.get(f"{BASE}/appcharge").text, "orders"))
    assert [row["action"] for row in db("SELECT action FROM audit WHERE action LIKE 'address.%'")] == [
        "address.copied",
        "address.not_copied",
    ]
    assert browser.post(f"{BASE}/appcharge/copied", endpoint="nothing", is_copied="1").status_code == 404


# Send test


@pytest.mark.parametrize(
    ("partner", "endpoint"),
    [
        ("appcharge", "orders"),
        ("appcharge", "auth"),
        ("appcharge", "players"),
        ("appcharge", "events"),
        ("appcharge", "otp"),
        ("playtem", "credit"),
        ("playcamp", "webhook"),
        ("playcamp", "payments"),
    ],
)
def test_a_test_goes_through_the_real_address_and_shows_the_real_answer(
    browser, app, installation, playcamp, db, partner, endpoint
):
    playcamp.config("appcharge.deep_link", "mygame://login?token={token}")
    with serving(app, installation):
        shown = browser.post(f"{BASE}/{partner}/test", endpoint=endpoint)
    installation.observations.flush()

    assert shown.status_code == 200
    assert "As it should be." in shown.text, shown.text
    assert "<dt>Status</dt><dd>200</dd>" in shown.text
    for secret in (MAIN_KEY, TOKEN, PLAYTEM_SECRET, "playcamp-", "v1="):
        assert secret not in shown.text
    assert contacts.of_game(installation.database.read(), playcamp.row["id"]) == {}
    assert db("SELECT name FROM secrets WHERE last_used_at IS NOT NULL") == []
    assert db("SELECT subject FROM audit WHERE action = 'address.test'") == [{"subject": f"{partner}/{endpoint}"}]
    assert db("SELECT 1 FROM transactions WHERE is_test = 0") == []


def test_the_answer_to_an_order_names_our_id(browser, app, installation, studio, db):
    with serving(app, installation):
        answer = browser.post(f"{BASE}/appcharge/test", endpoint="orders").text
    (row,) = db("SELECT public_id, player_id FROM transactions")
    assert (row["player_id"], row["public_id"] in answer) == ("coinslot-test", True)


def test_what_is_not_set_up_or_live_cannot_be_tested(browser, playcamp, installation):
    Studio(installation, "other")
    for game, endpoint, said in (
        ("demo", "sponsor", "there is a sample with the sandbox alone"),
        ("other", "webhook", "playcamp.webhook_secret must be set first"),
    ):
        answer = browser.post(f"/games/{game}/integration/playcamp/test", endpoint=endpoint)
        assert (answer.status_code, said in answer.text) == (409, True)


def test_where_the_public_address_does_not_answer_the_local_one_is_offered(browser, app, installation, studio):
    with serving(app, installation) as server:
        installation.settings = replace(installation.settings, public_url="http://127.0.0.1:9")
        here = {"SERVER_NAME": "0.0.0.0", "SERVER_PORT": str(server.server_port), "REMOTE_PORT": "50000"}
        form = {"form_token": browser.form_token(), "endpoint": "orders"}
        path = f"{BASE}/appcharge/test"

        shown = browser.client.post(path, data=form, environ_overrides=here).text
        assert_has(
            shown,
            "http://127.0.0.1:9 did not answer from this machine: nobody answers there",
            f"Send it to http://127.0.0.1:{server.server_port}",
        )

        shown = browser.client.post(path, data={**form, "where": "here"}, environ_overrides=here).text
        assert "As it should be." in shown


def test_on_a_unix_socket_no_host_header_says_where_a_test_goes(browser, installation, studio):
    """gunicorn has SERVER_NAME and SERVER_PORT from the Host header there, and no REMOTE_PORT."""
    installation.settings = replace(installation.settings, public_url=f"http://127.0.0.1:{closed_port()}")
    with Receiver() as other:
        form = {"form_token": browser.form_token(), "endpoint": "orders", "where": "here"}
        named = {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": str(other.port), "REMOTE_ADDR": ""}

        shown = browser.client.post(f"{BASE}/appcharge/test", data=form, environ_overrides=named).text

        assert_has(shown, "did not answer from this machine", without=("Send it to",))
        assert other.connections == 0


def test_somebody_elses_answer_is_shown_as_text_without_what_it_echoes(browser, installation, studio):
    def behave(handler):
        body = f"<script>alert(1)</script>\u202e {handler.headers['signature']} {TOKEN} {'x' * 10_000}".encode()
        handler.send_response(302)
        handler.send_header("Location", "http://elsewhere/path?ott=secret-token")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with FakeServer(lambda _: behave) as server:
        installation.settings = replace(installation.settings, public_url=server.url)
        shown = browser.post(f"{BASE}/appcharge/test", endpoint="orders").text

    assert_has(
        shown,
        "Not as it should be: an order must get 200",
        "&lt;script&gt;",
        "http://elsewhere/path?[hidden]",
        "characters)",
        without=("<script>alert", "\u202e", TOKEN, "secret-token", "v1="),
    )


def test_a_key_that_no_header_may_hold_is_not_quoted(browser, installation, studio, caplog):
    """As a preview may have stored one; none is taken any more."""
    keep_as_it_is(installation, "appcharge.publisher_token", "token\nof-old-0123456789")
    shown = browser.post(f"{BASE}/appcharge/test", endpoint="orders").text

    assert "a header cannot be sent" in shown
    assert "of-old" not in shown + caplog.text


@pytest.mark.parametrize("is_begun", [False, True])
def test_who_does_not_answer_in_time_is_said_so(browser, installation, studio, monkeypatch, is_begun):
    monkeypatch.setattr("handlers.dashboard.integration.send_test.TEST_SECONDS", 0.3)
    over = threading.Event()

    def behave(handler):
        if is_begun:  # a body that drips for ever
            handler.send_response(200)
            handler.end_headers()
            while not over.wait(0.05):
                handler.wfile.write(b".")
        over.wait(10)

    with FakeServer(lambda _: behave) as server:
        installation.settings = replace(installation.settings, public_url=server.url)
        shown = browser.post(f"{BASE}/appcharge/test", endpoint="orders").text
        over.set()
    assert "no answer within 0.3 seconds" in shown


# Keys


def keep_as_it_is(installation, name, value):
    """A secret that would be refused today."""
    installation.database.write_here(
        lambda tx: keyring._store_current(tx, installation.vault, games.find(tx, "demo"), name, value.encode())
    )


def enter(browser, name, value, back="", **more):
    """Send the form of all keys with one value typed in."""
    form = {f"{field}:{name}": typed for field, typed in {"value": value, **more}.items()}
    return browser.post(f"{BASE}/keys/set", back=back, **form)


def values(installation, name):
    return [key.value.decode() for key in installation.games.by_slug("demo").keys(name)]


def test_a_key_is_set_rotated_and_retired_and_never_shown(browser, studio, installation, db):
    done = enter(browser, "appcharge.secondary_key", "  secondary-0123456789\r\n")
    assert done.location == f"{BASE}/keys?said=key-set"
    done = enter(browser, "appcharge.main_key", "newer-main-key-0123456789", back="appcharge")
    assert done.location == f"{BASE}/appcharge?said=key-rotated#keys"
    assert values(installation, "appcharge.secondary_key") == ["secondary-0123456789"]
    assert values(installation, "appcharge.main_key") == ["newer-main-key-0123456789", MAIN_KEY]

    shown = browser.get(f"{BASE}/keys").text
    assert_has(
        shown,
        "Previous value",
        "its previous value is still valid: once the new one is entered at the other side, retire it",
    )
    for secret in (MAIN_KEY, "newer-main-key", "secondary-012", TOKEN):
        assert secret not in shown
    assert_has(shown, "<code>…6789</code>", without=("…<code>",))

    done = browser.post(f"{BASE}/keys/retire", name="appcharge.main_key")
    assert done.location == f"{BASE}/keys?said=key-retired"
    assert values(installation, "appcharge.main_key") == ["newer-main-key-0123456789"]
    assert [(row["action"], row["subject"]) for row in db(OWNERS)] == [
        ("secret.set", "appcharge.secondary_key"),
        ("secret.rotate", "appcharge.main_key"),
        ("secret.retire", "appcharge.main_key"),
    ]


SECOND, THIRD = "second-key-0123456789", "third-key-0123456789"
ROTATED = (SECOND, {}, "rotated", [SECOND, MAIN_KEY])
PEM = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("name", "entered"),
    [
        # a new value after which the one before stays valid, and one that ends both: somebody else knows them
        (
            "appcharge.main_key",
            [ROTATED, (THIRD, {"is_leaked": "1"}, "replaced", [THIRD])],
        ),
        # nobody has used the second one: it was mistyped
        (
            "appcharge.main_key",
            [ROTATED, (THIRD, {}, "mistyped", [THIRD, MAIN_KEY])],
        ),
        # what only we send has no previous value
        ("appcharge.facebook_secret", [(SECOND, {}, "set", [SECOND]), (THIRD, {}, "replaced", [THIRD])]),
        ("appcharge.apple_secret", [(PEM.replace("\n", "\r\n") + "\r\n", {}, "set", [PEM])]),
        # the owner names one of a family
        ("playcamp.webhook_secret.second", [(SECOND, {}, "set", [SECOND]), (THIRD, {}, "rotated", [THIRD, SECOND])]),
    ],
)
def test_a_new_value_takes_the_place_of_the_one_before(browser, studio, installation, name, entered):
    for value, form, said, kept in entered:
        done = enter(browser, name, value, **form)
        assert (done.location.endswith(f"said=key-{said}"), values(installation, name)) == (True, kept)


def test_a_key_of_another_form_is_set_and_its_card_says_what_is_wrong(browser, studio, installation):
    words = "not of the form keyId:secret"
    for value, is_wrong in (("no-colon-0123456789", True), ("id:0123456789:more", False)):
        enter(browser, "playcamp.api_key", value, back="playcamp")

        assert values(installation, "playcamp.api_key") == [value]
        for path in ("keys", "playcamp"):
            assert (words in browser.get(f"{BASE}/{path}").text) is is_wrong


@pytest.mark.parametrize("spoiled", ["inside\nof it", "inside\x00of it", "inside\x7fof it", "inside\u200bof it"])
def test_a_character_that_cannot_be_seen_is_refused_first_and_at_a_rotation(browser, studio, installation, spoiled):
    for name in ("game.lookup_key", "playtem.secret", "appcharge.facebook_secret", "playcamp.shared_key"):
        before = values(installation, name)
        for _ in range(2):
            refused = enter(browser, name, spoiled)
            assert refused.status_code == 400
            assert "cannot be seen" in refused.text
            assert values(installation, name) == before
            enter(browser, name, "a-good-value-0123456789")
            before = values(installation, name)


def test_one_of_a_family_is_named_by_the_owner(browser, studio, installation):
    enter(browser, "playcamp.webhook_secret.*", "hook-secret-0123456789", suffix="second")
    assert values(installation, "playcamp.webhook_secret.second") == ["hook-secret-0123456789"]
    enter(browser, "playcamp.webhook_secret.second", "hook-secret-9876543210")
    assert len(values(installation, "playcamp.webhook_secret.second")) == 2
    assert enter(browser, "playcamp.webhook_secret.*", "x", suffix="").status_code == 400


def test_one_form_saves_all_keys_that_can_be_and_says_of_the_others_why_not(browser, installation):
    Studio(installation, "fresh")
    good, bad = "fresh-main-key-0123456789", "zero\u200bwidth-0123456789"
    form = {
        "value:appcharge.main_key": good,
        "value:appcharge.publisher_token": bad,
        "value:appcharge.apple_secret": "",
    }
    answer = browser.post("/games/fresh/integration/keys/set", back="appcharge", **form)
    assert answer.status_code == 400
    field = re.search(r'<input id="value-appcharge-publisher-token"[^>]*>', answer.text)[0]
    assert_has(field, 'aria-invalid="true"', "problem-appcharge-publisher-token")
    assert_has(answer.text, "Saved: appcharge.main_key.", "cannot be seen", without=(good, bad))
    assert sorted(installation.games.by_slug("fresh").secrets) == ["appcharge.main_key"]

    form["value:appcharge.publisher_token"] = "fresh-token-0123456789"
    form |= {"value:appcharge.main_key": "", "value:appcharge.secondary_key": "second-key-0123456789"}
    answer = browser.post("/games/fresh/integration/keys/set", back="appcharge", **form)
    assert answer.location == "/games/fresh/integration/appcharge?said=keys-saved#keys"
    assert len(installation.games.by_slug("fresh").secrets) == 3
    assert "The keys are saved." in browser.get(answer.location).text


def test_a_form_without_a_value_changes_nothing(browser, studio, installation, db):
    before = db("SELECT * FROM secrets")
    for value in ("", "   ", " \r\n"):
        assert enter(browser, "appcharge.main_key", value).location == f"{BASE}/keys?said=key-nothing"
    form = {"value:appcharge.main_key": "", "group": "appcharge"}
    answer = browser.post(f"{BASE}/keys/set", **form)
    assert answer.location == f"{BASE}/keys?group=appcharge&said=key-nothing#keys-appcharge"
    assert browser.get(answer.location).text.count("No key was entered") == 2  # at the top, and beside the form
    assert db("SELECT * FROM secrets") == before


@pytest.mark.parametrize("value", ["a\x00b", "two\nlines", "x" * 20_000, "zero\u200bwidth", MAIN_KEY])
def test_what_cannot_be_a_key_is_refused_in_words(browser, studio, installation, value):
    for back in ("", "appcharge"):
        shown = enter(browser, "appcharge.main_key", value, back=back)
        assert shown.status_code == 400
        assert_has(shown.text, 'class="problem"', without=(MAIN_KEY,))
    assert values(installation, "appcharge.main_key") == [MAIN_KEY]


@pytest.mark.parametrize("name", ["", "nothing", "destination.main", "appcharge.*", "playcamp.webhook_secret.", "\x00"])
def test_nothing_but_known_keys_can_be_set(browser, studio, db, name):
    before = db("SELECT name FROM secrets")
    assert enter(browser, name, "0123456789").status_code in (400, 404)
    assert browser.post(f"{BASE}/keys/retire", name=name).status_code in (400, 404)
    assert db("SELECT name FROM secrets") == before
    refused = browser.post(f"{BASE}/keys/retire", name="playtem.secret")
    assert (refused.status_code, "has no previous value" in refused.text) == (400, True)


def test_the_planner_says_when_a_previous_value_may_go(browser, studio, installation):
    studio.rotate("appcharge.main_key", "newer-main-key-0123456789")

    def later(tx):
        use_key(tx, "appcharge.main_key", "current", clock.stamp())
        tx.execute("UPDATE secrets SET created_at = :ago", {"ago": clock.stamp(clock.now() - 8 * 86400)})

    installation.database.write_here(later)
    shown = browser.get(f"{BASE}/keys").text
    assert "It was rotated 8 days ago, the new value is in use and the previous one has not been used for 7" in shown
    assert "appcharge.main_key" in browser.get(BASE).text


def test_a_destinations_secret_is_planned_for_and_not_typed(browser, studio, installation):
    studio.secret("destination.main", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    shown = browser.get(f"{BASE}/keys").text
    assert_has(shown, "destination.main", without=('name="name" value="destination.main"',))


# Settings


def test_what_is_agreed_is_changed_in_one_form_and_the_page_stays_there(browser, studio, installation, db):
    def save(**typed):
        return browser.post(f"{BASE}/playcamp/settings", **{f"value:{key}": value for key, value in typed.items()})

    done = save(**{"playcamp.param.user": " uid ", "playcamp.environment": "sandbox", "playcamp.entry_once": "off"})
    assert done.location == f"{BASE}/playcamp?said=saved#agreed"
    settings = installation.games.by_slug("demo").settings
    assert (settings["playcamp.param.user"], settings["playcamp.environment"]) == ("uid", "sandbox")
    shown = save(**{"playcamp.param.user": "<b>", "playcamp.environment": "live", "appcharge.payload": "aes"})
    assert shown.status_code == 400
    assert_has(shown.text, "Not saved: use a name such as usn.", 'value="&lt;b&gt;"', '<option value="live" selected>')
    assert installation.games.by_slug("demo").settings["playcamp.environment"] == "sandbox"
    assert save(**{"playcamp.param.user": "", "appcharge.payload": "aes"}).status_code == 303
    settings = installation.games.by_slug("demo").settings
    assert (settings["playcamp.param.user"], settings["appcharge.payload"]) == ("usn", "json")
    assert len(db("SELECT 1 FROM audit WHERE action = 'config.set'")) == 3


def test_choices_are_selects_on_the_page_of_a_partner_too(browser, studio, installation):
    page = browser.get(f"{BASE}/appcharge").text
    for key in ("environment", "payload", "events_without_token", "code_digits"):
        assert f'<select id="f-appcharge.{key}"' in page
    assert_has(page, 'Environment <code class="key">appcharge.environment</code>')


# All pages


def test_another_games_pages_and_partners_are_404(browser, studio, installation):
    installation.database.write_here(lambda tx: games.add(tx, "other", "Other", "test"))
    assert browser.get("/games/nope/integration").status_code == 404
    assert browser.get("/games/nope/integration/keys").status_code == 404
    assert browser.get("/games/nope/integration/snippets").status_code == 404
    assert browser.get(f"{BASE}/nobody").status_code == 404
    browser.post("/games/other/integration/appcharge/copied", endpoint="orders", is_copied="1")
    assert re.search(r">to do</span> <strong>Copied", section(browser.get(f"{BASE}/appcharge").text, "orders"))
    assert browser.post("/games/other/integration/keys/retire", name="appcharge.main_key").status_code == 404


def test_the_newest_credit_is_found_by_an_index(installation, studio):
    connection, asked = installation.database.read(), []
    connection.set_trace_callback(asked.append)
    contacts.newest_credit(connection, 1, "appcharge")
    connection.set_trace_callback(None)
    seen = [row["detail"] for sql in asked for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert any("transactions_by_partner" in line for line in seen), seen
    assert not [line for line in seen if re.match(r"SCAN (?!t\b|\(subquery)", line)], seen


def test_encrypted_payloads_are_tested_as_they_are_set_up(browser, app, installation, studio):
    studio.secret("appcharge.main_key", "0123456789abcdef0123456789abcdef")
    studio.secret("appcharge.secondary_key", "fedcba9876543210")
    studio.config("appcharge.payload", "aes")
    with serving(app, installation):
        shown = browser.post(f"{BASE}/appcharge/test", endpoint="orders").text
    assert_has(shown, "As it should be.", without=("0123456789abcdef", "fedcba9876543210"))


def test_an_entry_is_tried_where_playcamp_is_no_live_one_and_its_token_is_not_shown(browser, app, installation, studio):
    with PlayCamp() as playcamp, serving(app, installation):
        playcamp.set_up(studio)
        studio.secret("playcamp.shared_key", "shared-key-0123456789")
        shown = browser.post(f"{BASE}/playcamp/test", endpoint="sponsor").text
        tokens = list(playcamp.tokens)
    assert_has(shown, "As it should be.", "<dt>Status</dt><dd>302</dd>", "?[hidden]")
    assert tokens
    assert not [token for token in tokens if token in shown]
