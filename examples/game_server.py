"""A small game server that takes grants from Coinslot, by feed and by webhook, each exactly once. Copy from it.

Python's standard library is all it needs. How to run it: README.md beside this file.

Both ways end in `take`, which writes the grant and what it changes in one transaction. The table's key is
(transaction_id, kind), so whoever brings a grant second, or a second time, finds it there and changes nothing.
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import threading
import time
import traceback
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

POLL_SECONDS = 2
CALL_SECONDS = 10
TOLERANCE_SECONDS = 5 * 60  # how far a webhook's time may be from ours, either way
LARGEST_BODY = 1024 * 1024

# Quantities are exact integers of up to 40 digits: text in the database, Python's int in memory, never a float.
SCHEMA = """
CREATE TABLE IF NOT EXISTS grants (
    transaction_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    partner TEXT NOT NULL,
    external_id TEXT NOT NULL,
    player_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'applied', 'flagged', 'test')),
    document TEXT NOT NULL,
    PRIMARY KEY (transaction_id, kind)  -- this is what "exactly once" stands on
) STRICT;
CREATE INDEX IF NOT EXISTS grants_of_player ON grants (player_id);
CREATE INDEX IF NOT EXISTS grants_of_order ON grants (partner, external_id);
CREATE TABLE IF NOT EXISTS taken (  -- by reversals: what a player had spent already could not be
    partner TEXT NOT NULL, external_id TEXT NOT NULL, sku TEXT NOT NULL, quantity TEXT NOT NULL,
    PRIMARY KEY (partner, external_id, sku)
) STRICT;
CREATE TABLE IF NOT EXISTS inventory (
    player_id TEXT NOT NULL, sku TEXT NOT NULL, quantity TEXT NOT NULL, PRIMARY KEY (player_id, sku)
) STRICT;
CREATE TABLE IF NOT EXISTS feed (is_it INTEGER PRIMARY KEY CHECK (is_it = 1), cursor INTEGER NOT NULL) STRICT;
INSERT INTO feed VALUES (1, 0) ON CONFLICT (is_it) DO NOTHING;
"""


@contextmanager
def transaction(path):
    """When the block ends everything in it is on the disk; when it fails, or the process dies, nothing is."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
    finally:
        db.close()  # what was not committed is rolled back


def take(db, grant):
    """Note a grant and do what it says, unless it is known. A grant we cannot read raises, and nothing is kept."""
    state = "test" if grant["is_test"] else "waiting"  # test grants are noted and never applied
    order = (grant["partner"], grant["external_id"])
    values = (grant["transaction_id"], grant["kind"], *order, grant["player_id"], state, json.dumps(grant))
    db.execute("INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (transaction_id, kind) DO NOTHING", values)
    # What undoes another grant may come before it: it waits here, and is settled right after it. A reversal undoes a
    # grant of its transaction; an adjustment that names one in `reverses` undoes the reversal of its order.
    for kind in ("grant", "reversal", "adjustment", "reversal"):
        ready = db.execute(
            """SELECT g.transaction_id, g.kind, g.document FROM grants g
               WHERE g.partner = :partner AND g.external_id = :external_id AND g.state = 'waiting'
                 AND CASE
                     WHEN g.kind = 'reversal' THEN :kind = 'reversal' AND EXISTS (
                         SELECT 1 FROM grants o WHERE o.transaction_id = g.transaction_id AND o.kind <> 'reversal'
                         AND o.state <> 'waiting')
                     WHEN json_extract(g.document, '$.reverses') IS NOT NULL THEN :kind = 'adjustment' AND EXISTS (
                         SELECT 1 FROM grants r WHERE r.partner = g.partner AND r.external_id = g.external_id
                         AND r.kind = 'reversal' AND r.state <> 'waiting')
                     ELSE :kind = 'grant' END""",
            {"partner": order[0], "external_id": order[1], "kind": kind},
        ).fetchall()
        for transaction_id, its_kind, document in ready:
            done = (apply(db, json.loads(document)), transaction_id, its_kind)
            db.execute("UPDATE grants SET state = ? WHERE transaction_id = ? AND kind = ?", done)


def apply(db, grant):
    """Change the inventory, as the `policy` of each line asks where there is one.

    A reversal has negative quantities: `revoke` takes what the player still has, `revoke_negative` lets the player owe
    the rest, `flag` takes nothing. An adjustment that undoes a reversal gives back what was taken, and no more.
    """
    state = "applied"
    is_undoing = grant["kind"] == "adjustment" and grant["reverses"] is not None
    for line in grant["items"]:
        if type(line["quantity"]) is not int:
            raise ValueError("a quantity is no integer")
        policy = line.get("policy", grant["policy"])  # a line has one where it differs from the others
        if grant["kind"] == "reversal" and policy not in ("revoke", "revoke_negative"):
            state = "flagged"  # `flag`, or a policy newer than this server: a person decides, nothing is taken
            continue
        item = (grant["player_id"], line["sku"])
        taken = (grant["partner"], grant["external_id"], line["sku"])
        held = quantity(db, "SELECT quantity FROM inventory WHERE player_id = ? AND sku = ?", item)
        after = held + line["quantity"]
        if is_undoing:
            after = held + quantity(db, GIVE_BACK, taken)
        elif policy == "revoke":
            after = max(after, min(held, 0))
        if grant["kind"] == "reversal":
            db.execute("INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?)", (*taken, str(held - after)))
        db.execute(
            """INSERT INTO inventory VALUES (?, ?, ?)
               ON CONFLICT (player_id, sku) DO UPDATE SET quantity = excluded.quantity""",
            (*item, str(after)),
        )
    return state


GIVE_BACK = "DELETE FROM taken WHERE partner = ? AND external_id = ? AND sku = ? RETURNING quantity"


def quantity(db, sql, values):
    row = db.execute(sql, values).fetchone()
    return int(row[0]) if row else 0


# --- The feed: ask, apply, then say how far we have come. ---


def call(url, token, body=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=CALL_SECONDS) as response:
        return json.load(response)


def read_page(path, url, token):
    """Take the next page; returns the new cursor, written together with the grants, and whether there are more."""
    with transaction(path) as db:
        (cursor,) = db.execute("SELECT cursor FROM feed").fetchone()
    page = call(f"{url}/game/v1/grants?after={cursor}&limit=100", token)
    with transaction(path) as db:
        for grant in page["grants"]:
            take(db, grant)
        db.execute("UPDATE feed SET cursor = ?", (page["next_after"],))
    return page["next_after"], page["has_more"]


def poll(path, url, token):
    acked = 0
    while True:
        try:
            has_more = True
            while has_more:
                cursor, has_more = read_page(path, url, token)
                if cursor > acked:  # after the commit; a start acks once more, in case we died just before it
                    acked = call(f"{url}/game/v1/grants/ack", token, {"through": cursor})["acked_through"]
        except Exception as error:  # Coinslot is away, a disk is full: the cursor stands still, so nothing is lost
            print(f"feed: {error!r}; trying again", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)


# --- Webhooks: prove, apply, and only then answer. ---


def key_of(secret):
    """The key in `whsec_<Base64>`. Anything else stops the start: with an empty key anybody could sign."""
    encoded = secret.removeprefix("whsec_")
    if not encoded or encoded == secret:
        sys.exit("COINSLOT_WEBHOOK_SECRET must be the whole secret, whsec_ included")
    return base64.b64decode(encoded, validate=True)


def is_genuine(key, headers, body):
    """Whether Coinslot signed exactly these bytes a moment ago (Standard Webhooks). Before anything is parsed."""
    webhook_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if key is None or not webhook_id or not (at.isascii() and at.isdigit() and len(at) <= 12):
        return False
    if abs(time.time() - int(at)) > TOLERANCE_SECONDS:
        return False
    digest = hmac.new(key, f"{webhook_id}.{at}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    # Several signatures, separated by blanks, while the secret is being changed: one of them must be ours. Compared
    # as bytes and in constant time, so that nobody learns a signature by measuring.
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


class Game(BaseHTTPRequestHandler):
    """POST /coinslot takes webhooks; GET /inventory/<player> is for looking."""

    protocol_version = "HTTP/1.1"  # connections are kept, so a delivery costs no new one
    disable_nagle_algorithm = True
    timeout = 30

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self.close_connection = True  # the body stays unread, so what follows on this connection is not a request
            return self.answer(413, {"error": "say how long the body is, up to 1 MiB"})
        body = self.rfile.read(int(length))
        if self.path != "/coinslot":
            return self.answer(404, {"error": "not found"})
        if not is_genuine(self.server.key, self.headers, body):
            return self.answer(401, {"error": "unproved"})  # and not a word about what was wrong
        try:
            event = json.loads(body)
            # Types we do not know are answered like those we do: new ones come without asking us.
            if event["type"] in ("grant.created", "grant.reversed"):
                with transaction(self.server.path) as db:
                    take(db, event["data"])
        except Exception:  # nothing was kept; it will be sent again
            traceback.print_exc()
            return self.answer(500, {"error": "our trouble"})
        return self.answer(200, {"result": "ok"})  # committed: from here on it is our promise

    def do_GET(self):
        room, _, player_id = self.path.removeprefix("/").partition("/")
        if room != "inventory" or not player_id:
            return self.answer(404, {"error": "not found"})
        player = (unquote(player_id),)
        with transaction(self.server.path) as db:
            items = db.execute("SELECT sku, quantity FROM inventory WHERE player_id = ?", player).fetchall()
            grants = db.execute(
                "SELECT transaction_id, kind, state FROM grants WHERE player_id = ? ORDER BY rowid DESC LIMIT 100",
                player,
            ).fetchall()
        return self.answer(200, {"items": {sku: int(quantity) for sku, quantity in items}, "newest_grants": grants})

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def main():
    path = os.environ.get("GAME_DB", "game.db")
    token, secret = os.environ.get("COINSLOT_TOKEN"), os.environ.get("COINSLOT_WEBHOOK_SECRET")
    if not (token or secret):
        sys.exit("set COINSLOT_TOKEN to read the feed, COINSLOT_WEBHOOK_SECRET to take webhooks, or both")
    with sqlite3.connect(path, timeout=30) as db:
        db.executescript(SCHEMA)
    # Reachable from this machine alone; in front of it stands what speaks https.
    ThreadingHTTPServer.request_queue_size = 128  # deliveries come in bursts; the default of 5 resets the sixth
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("GAME_PORT", "9000"))), Game)
    server.path, server.key = path, key_of(secret) if secret else None  # without a secret every webhook gets a 401
    if token:
        url = os.environ.get("COINSLOT_URL", "http://127.0.0.1:8000").rstrip("/")
        threading.Thread(target=poll, args=(path, url, token), daemon=True).start()
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
