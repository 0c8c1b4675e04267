"""The code for the game's side does what it says: Python and Node are run against the real app, all are compared.

Go and PHP are run in test_game_side.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest

from coinslot.access.keyring import SecretValue
from coinslot.outbox.destinations import new_secret
from coinslot.outbox.formats import STANDARD
from coinslot.relay import webhooks
from handlers.dashboard.integration.snippets import LANGUAGES
from handlers.playcamp.recipe import Recipe, verify
from tests.pages import assert_has, serving

BASE = "/games/demo/integration/snippets"
SHARED_KEY = "a shared key 'with' \"quotes\" and ünïcode"
RECIPES = [
    "pipe-sha256",
    "pipe-hmac-sha256",
    "{user}|{time}|{signature} = sha512({user}|{time}|{key})",
    "{signature}.{time_ms}.{nonce} = hmac-sha512-base64url({user}.{campaign}.{time_ms}.{nonce})",
    "v1:{time}:{signature} = hmac-sha256-base64({campaign}:{user}:{time})",
    "{time}-{signature} = sha256-base64url({key}~{user}~{time})",
    # Nothing of this may end a text, a comment or the page.
    "\"'\\$`{user}</script>?>{time}#{signature} = hmac-sha256(a\"b'c\\d${user}*/{time}\N{PILE OF POO})",
]
HAS_NODE = shutil.which("node") is not None
needs_node = pytest.mark.skipif(not HAS_NODE and "CI" not in os.environ, reason="there is no node here")


def code(browser, language, id):
    """A snippet as the page shows it."""
    page = browser.get(f"{BASE}?language={language}").text
    return unescape(re.search(rf'aria-labelledby="{id}".*?<code>(.*?)</code></pre>', page, re.S)[1])


def run(language, source, call, cwd, **environment):
    """What an expression of the snippet's comes to, as JSON."""
    environment = {**os.environ, **environment}
    if language == "python":
        (cwd / "snippet.py").write_text(source, encoding="utf-8")
        program = [sys.executable, "-c", f"import json, snippet\nprint(json.dumps({call}))"]
    else:
        (cwd / "snippet.js").write_text(source, encoding="utf-8")
        told = f"Promise.resolve({call}).then((value) => console.log(JSON.stringify(value)))"
        program = ["node", "-e", f"const snippet = require('./snippet.js'); {told}"]
    done = subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


RUNNABLE = [pytest.param("python"), pytest.param("node", marks=needs_node)]

PYTHON_FEED = """(lambda given: [
    setattr(snippet, "apply", lambda db, grant: given.append([grant["id"], str(grant["items"][0]["quantity"])])),
    (db := snippet.sqlite3.connect("game.db", isolation_level=None)).executescript(snippet.SCHEMA) and None,
    [snippet.read_page(db), snippet.read_page(db)],
    db.execute("UPDATE coinslot_cursor SET after = 0").rowcount,
    snippet.read_page(db),
    given][-1])([])"""
NODE_FEED = """(async () => {
    const known = new Set(), given = [];
    let after = "0";
    const store = {
      cursor: async () => after,
      take: async (grant) => {
        const key = grant.transaction_id + " " + grant.kind;
        if (!known.has(key) && !grant.is_test)
          given.push([Number(grant.id), BigInt(grant.items[0].quantity).toString()]);
        known.add(key);
        after = grant.id;
      },
    };
    await snippet.readPage(store); await snippet.readPage(store);
    after = "0";
    await snippet.readPage(store);
    return given;
  })()"""


@pytest.mark.parametrize("language", RUNNABLE)
def test_the_feed_is_read_once_exactly_and_acknowledged(
    browser, app, installation, studio, post_order, feed, db, tmp_path, language
):
    huge = 10**39 + 7
    for number, amount in enumerate((1000, huge, 3)):
        post_order(orderId=f"order-{number}", products=[{"amount": amount, "sku": "coins"}])
    post_order(orderId="simulated", playerId="coinslot-test")
    grants = feed()
    with serving(app, installation):
        source = code(browser, language, "feed")
        call = PYTHON_FEED if language == "python" else NODE_FEED
        given = run(language, source, call, tmp_path, COINSLOT_TOKEN=studio.token)

    assert given == [[grant["id"], str(grant["items"][0]["quantity"])] for grant in grants if not grant["is_test"]]
    assert str(huge) in [quantity for _, quantity in given]
    assert db("SELECT acked_through FROM games") == [{"acked_through": grants[-1]["id"]}]


@needs_node
def test_nodes_database_side_takes_a_grant_once_in_one_transaction(browser, studio, tmp_path):
    grant = {"id": "7", "transaction_id": "t", "kind": "reward", "is_test": False, "reverses": None, "items": []}
    told = run(
        "node",
        code(browser, "node", "feed"),
        f"""(async () => {{
          const said = [];
          let is_known = false;
          const db = {{
            query: async (sql) => {{
              said.push(sql.split(" ")[0]);
              if (!sql.startsWith("INSERT")) return {{}};
              const rowCount = is_known ? 0 : 1;
              is_known = true;
              return {{ rowCount }};
            }},
            release: () => said.push("release"),
          }};
          const store = snippet.postgres({{ connect: async () => db }});
          await store.take({json.dumps(grant)}); await store.take({json.dumps(grant)});
          return said;
        }})()""",
        tmp_path,
        COINSLOT_TOKEN="x",
    )
    assert told == ["BEGIN", "INSERT", "UPDATE", "COMMIT", "release"] * 2


def changed(headers, body, change):
    """A delivery in which one thing is not right."""
    headers = dict(headers)
    if change == "body":
        body = body + b" "
    elif change == "id":
        headers["webhook-id"] += "x"
    elif change == "old":
        headers["webhook-timestamp"] = str(int(time.time()) - 301)
    elif change in headers:
        headers[change] = ""
    elif change == "missing":
        headers = {}
    elif change == "cut":
        headers["webhook-signature"] = headers["webhook-signature"][:-1]
    elif change == "version":
        headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")
    return headers, body


@pytest.mark.parametrize("language", RUNNABLE)
def test_a_delivery_is_verified_and_a_forged_one_refused(browser, studio, tmp_path, language):
    secret, other = new_secret(), new_secret()
    body = json.dumps({"type": "grant.created", "data": {"id": 7, "quantity": 10**39 + 7}}).encode()

    def signed(*secrets, at=None):
        keys = [SecretValue("destination.main", "current", each.encode()) for each in secrets]
        return webhooks.signed(STANDARD, "evt_1", 1, body, keys, at)

    good = [(signed(secret), body), (signed(other, secret), body), (signed(secret, at=time.time() - 290), body)]
    bad = [
        (signed(other), body),
        (signed(secret, at=time.time() - 310), body),
        (signed(secret, at=time.time() + 310), body),
    ]
    bad += [
        changed(signed(secret), body, change)
        for change in (
            *("body", "id", "old", "missing", "cut", "version"),
            *("webhook-id", "webhook-timestamp", "webhook-signature"),
        )
    ]
    calls = [[headers, content.decode()] for headers, content in (*good, *bad)]
    if language == "python":
        judge = """[
            (lambda headers, body: (lambda: snippet_verify(headers, body)))(*each)() for each in calls]"""
        call = judge.replace("snippet_verify", "judged").replace("calls", "snippet.CALLS")
        source = code(browser, language, "webhook") + (
            f"\nCALLS = {calls!r}\n"
            "import builtins\n"
            "def judged(headers, body):\n"
            "    try:\n"
            "        return str(verify(headers, body.encode())['data']['quantity'])\n"
            "    except ValueError:\n"
            "        return None\n"
            "builtins.judged = judged\n"
        )
    else:
        source = code(browser, language, "webhook")
        call = f"""{json.dumps(calls)}.map(([headers, body]) => {{
          try {{ return snippet.verify(headers, Buffer.from(body)).data.quantity; }} catch (error) {{
            if (!/too old|no signature/.test(error.message)) throw error;
            return null;
          }}
        }})"""
    judged = run(language, source, call, tmp_path, COINSLOT_WEBHOOK_SECRET=secret)
    assert judged == [str(10**39 + 7)] * len(good) + [None] * len(bad)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("language", RUNNABLE)
def test_a_signed_entry_is_taken_by_the_real_address(browser, studio, installation, client, tmp_path, language, recipe):
    studio.secret("playcamp.shared_key", SHARED_KEY)
    studio.config("playcamp.signature", recipe)
    studio.config("playcamp.param.user", "uid")
    source = code(browser, language, "entry-1")
    assert SHARED_KEY not in source
    for user, campaign in (("alice smith+1&2", "camp/1"), ("玩家-1", "")):
        name = "entry_url" if language == "python" else "entryUrl"
        call = f"snippet.{name}({json.dumps(user)}, {json.dumps(campaign)})"
        url = run(language, source, call, tmp_path, PLAYCAMP_SHARED_KEY=SHARED_KEY)

        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        assert url.startswith("http://127.0.0.1:8000/api/demo/sponsor?uid=")
        assert "+" not in parts.query
        assert query["uid"] == user
        assert query.get("camp_code", "") == campaign
        proof = verify(
            Recipe.parse(recipe),
            installation.games.by_slug("demo").keys("playcamp.shared_key"),
            query["custom_data"],
            user,
            campaign,
            time.time() + 1,
            300,
        )
        assert proof.user == user
        # PlayCamp's own key is not set, so a proved entry ends on the page that says not now.
        assert client.get(f"{parts.path}?{parts.query}").status_code == 502


@pytest.mark.parametrize("language", RUNNABLE)
def test_what_the_recipe_cannot_tell_apart_is_not_signed(browser, studio, tmp_path, language):
    studio.secret("playcamp.shared_key", SHARED_KEY)
    studio.config("playcamp.signature", "{time}.{signature} = hmac-sha256({user}.{campaign}.{time})")
    studio.config("playcamp.entry_url", "https://gateway.example/enter?game=7")
    source = code(browser, language, "entry-1")
    if language == "python":
        source += "\ndef judged(user):\n    try:\n        return entry_url(user)\n"
        source += "    except ValueError:\n        return None\n"
        call = "[snippet.judged('a.b'), snippet.judged('x' * 255), snippet.judged('ab')]"
    else:
        source += (
            "\nconst judged = (user) => { try { return entryUrl(user); } catch { return null; } };"
            "\nmodule.exports.judged = judged;\n"
        )
        call = "[snippet.judged('a.b'), snippet.judged('x'.repeat(255)), snippet.judged('ab')]"
    refused, long_one, good = run(language, source, call, tmp_path, PLAYCAMP_SHARED_KEY=SHARED_KEY)
    assert refused is None
    assert long_one is not None  # this recipe does not repeat the player in custom_data
    assert good.startswith("https://gateway.example/enter?game=7&usn=ab&custom_data=")


@pytest.mark.parametrize("language", [language.name for language in LANGUAGES])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_language_has_the_games_values_and_no_secret(browser, studio, installation, language, recipe):
    studio.secret("playcamp.shared_key", "shared-0123456789abcdef")
    studio.config("playcamp.signature", recipe)
    studio.config("playcamp.param.auth", "proof.of.entry")
    agreed = Recipe.parse(recipe)
    feed, webhook, entry = (code(browser, language, id) for id in ("feed", "webhook", "entry-1"))

    for text in (feed, webhook, entry):
        assert_has(text, "demo", without=("@@", "shared-0123456789abcdef", studio.token))
    for constant in ("http://127.0.0.1:8000", "game/v1/grants?after=", "game/v1/grants/ack", "COINSLOT_TOKEN"):
        assert constant in feed
    assert "ON CONFLICT (transaction_id, kind) DO NOTHING" in feed
    assert re.search(r"is_test|IsTest", feed)
    for constant in ("COINSLOT_WEBHOOK_SECRET", "whsec_", "webhook", "v1"):
        assert constant in webhook or constant.upper() in webhook
    assert re.search(r"5 \* 60|5 \* time\.Minute", webhook)
    assert_has(entry, "/api/demo/sponsor?", "proof.of.entry", "PLAYCAMP_SHARED_KEY")
    assert agreed.digest in entry.lower().replace('"', "")
    assert bool(re.search(r"hmac", entry.partition("\n\n")[2], re.I)) == agreed.is_keyed
    # Go refuses to compile what it cannot find.
    if language == "go":
        head, _, used = entry.partition("import (")[2].partition(")")
        imports = re.findall(r'^\t"(?:.*/)?(\w+)"$', head, re.M)
        assert all(re.search(rf"\b{name}\.", used) for name in imports), imports
        assert set(re.findall(r"\b(base64|hex|hmac|rand|sha256|sha512)\.", used)) <= set(imports)
    if "\\" not in recipe:
        for begin, end in ("()", "[]", "{}"):
            for text in (feed, webhook, entry):
                assert text.count(begin) == text.count(end)


def test_an_unknown_language_is_the_first(browser, studio):
    assert "Python 3.11" in code(browser, "cobol", "feed")


def test_the_page_works_by_links_alone(browser, studio):
    told = browser.get(BASE).text
    for language in LANGUAGES:
        assert f'href="{BASE}?language={language.name}"' in told
    assert 'href="/games/demo/integration/snippets"' in browser.get("/games/demo/integration").text
