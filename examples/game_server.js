// A small game server that takes grants from Coinslot, by feed and by webhook, each exactly once. Copy from it.
//
// Node 18 or newer is all it needs. How to run it: README.md beside this file.
//
// Both ways end in `take`. It appends the grant to a file and has the disk confirm that before it changes anything in
// memory; a start reads the file from its beginning. Node runs one function at a time, so nobody else takes the same
// grant in between. With a database of your own, write the grant and what it changes in one transaction instead.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");

const POLL_MS = 2000;
const CALL_MS = 10000;
const TOLERANCE_SECONDS = 5 * 60; // how far a webhook's time may be from ours, either way
const LARGEST_BODY = 1024 * 1024;

class Store {
  constructor(path) {
    this.grants = new Map(); // transaction_id and kind -> { grant, state }: this is what "exactly once" stands on
    this.orders = new Map(); // partner and external_id -> what it has in `grants`, in the order it came
    this.players = new Map(); // player_id -> the same
    this.inventory = new Map(); // player_id -> Map of sku -> BigInt
    this.taken = new Map(); // by reversals, for each order and sku: what a player had spent already could not be
    this.cursor = "0"; // of the feed
    this.file = fs.openSync(path, "a+");
    const written = fs.readFileSync(path);
    const whole = written.lastIndexOf("\n") + 1;
    fs.ftruncateSync(this.file, whole); // what a crash has cut off was not confirmed to anybody
    for (const line of written.subarray(0, whole).toString("utf8").split("\n").slice(0, -1)) {
      const { grant, cursor } = JSON.parse(line);
      if (grant !== undefined) this.note(grant);
      else this.cursor = cursor;
    }
  }

  // Take grants, and note how far the feed is read. What is known changes nothing. One that we cannot read throws, and
  // nothing is kept.
  take(grants, cursor) {
    const unknown = new Map();
    for (const grant of grants) {
      if (!grant.items.every((line) => /^-?\d+$/.test(line.quantity))) throw new Error("a quantity is no integer");
      const key = keyOf(grant);
      if (!this.grants.has(key)) unknown.set(key, grant);
    }
    let text = [...unknown.values()].map((grant) => JSON.stringify({ grant }) + "\n").join("");
    if (cursor !== undefined && cursor !== this.cursor) text += JSON.stringify({ cursor }) + "\n";
    if (text !== "") {
      fs.writeSync(this.file, text);
      fs.fsyncSync(this.file);
    }
    for (const grant of unknown.values()) this.note(grant);
    if (cursor !== undefined) this.cursor = cursor;
  }

  // In memory alone: do what a grant says, and what has waited for it. Test grants are noted and never applied.
  note(grant) {
    const entry = { grant, state: grant.is_test ? "test" : "waiting" };
    this.grants.set(keyOf(grant), entry);
    const order = listIn(this.orders, JSON.stringify([grant.partner, grant.external_id]));
    order.push(entry);
    listIn(this.players, grant.player_id).push(entry);
    // What undoes another grant may come before it: it waits here, and is settled right after it. A reversal undoes a
    // grant of its transaction; an adjustment that names one in `reverses` undoes the reversal of its order.
    for (const kind of ["grant", "reversal", "adjustment", "reversal"]) {
      for (const each of order) {
        if (each.state === "waiting" && isReady(each.grant, kind, order)) each.state = this.apply(each.grant);
      }
    }
  }

  // Change the inventory, as the `policy` of each line asks where there is one.
  //
  // A reversal has negative quantities: `revoke` takes what the player still has, `revoke_negative` lets the player owe
  // the rest, `flag` takes nothing. An adjustment that undoes a reversal gives back what was taken, and no more.
  apply(grant) {
    let state = "applied";
    if (!this.inventory.has(grant.player_id)) this.inventory.set(grant.player_id, new Map());
    const items = this.inventory.get(grant.player_id);
    for (const line of grant.items) {
      const policy = line.policy ?? grant.policy; // a line has one where it differs from the others
      if (grant.kind === "reversal" && policy !== "revoke" && policy !== "revoke_negative") {
        state = "flagged"; // `flag`, or a policy newer than this server: a person decides, nothing is taken
        continue;
      }
      const taken = JSON.stringify([grant.partner, grant.external_id, line.sku]);
      const held = items.get(line.sku) ?? 0n;
      let after = held + BigInt(line.quantity);
      if (isUndoing(grant)) {
        after = held + (this.taken.get(taken) ?? 0n);
        this.taken.delete(taken);
      } else if (policy === "revoke") {
        const least = held < 0n ? held : 0n;
        if (after < least) after = least;
      }
      if (grant.kind === "reversal") this.taken.set(taken, held - after);
      items.set(line.sku, after);
    }
    return state;
  }
}

function keyOf(grant) {
  return JSON.stringify([grant.transaction_id, grant.kind]);
}

function listIn(lists, key) {
  if (!lists.has(key)) lists.set(key, []);
  return lists.get(key);
}

function isUndoing(grant) {
  return grant.kind === "adjustment" && grant.reverses !== null;
}

// Whether a grant is of this kind, and what it undoes is there.
function isReady(grant, kind, order) {
  const isDone = (each) => each.state !== "waiting";
  if (grant.kind === "reversal") {
    const isUndone = ({ grant: other }) => other.transaction_id === grant.transaction_id && other.kind !== "reversal";
    return kind === "reversal" && order.some((each) => isDone(each) && isUndone(each));
  }
  if (grant.reverses !== null) {
    return kind === "adjustment" && order.some((each) => isDone(each) && each.grant.kind === "reversal");
  }
  return kind === "grant";
}

// Quantities are exact integers of up to 40 digits, which JSON.parse would round: they are made text first, and BigInt
// where we count with them. Inside a string the quotes are escaped, so nothing there looks like this.
function parse(text) {
  return JSON.parse(text.replace(/"(id|next_after|reverses|quantity)":\s*(-?\d+)/g, '"$1":"$2"'));
}

// --- The feed: ask, apply, then say how far we have come. ---

async function call(url, token, body) {
  const answer = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body,
    signal: AbortSignal.timeout(CALL_MS),
  });
  if (!answer.ok) throw new Error(`Coinslot answered ${answer.status}`);
  return parse(await answer.text());
}

async function poll(store, url, token) {
  let acked = "0";
  for (;;) {
    try {
      let hasMore = true;
      while (hasMore) {
        const page = await call(`${url}/game/v1/grants?after=${store.cursor}&limit=100`, token);
        store.take(page.grants, page.next_after);
        hasMore = page.has_more;
        if (store.cursor !== acked) {
          // After the disk has it; a start acks once more, in case we died just before.
          await call(`${url}/game/v1/grants/ack`, token, `{"through": ${store.cursor}}`);
          acked = store.cursor;
        }
      }
    } catch (error) {
      // Coinslot is away, a disk is full: the cursor stands still, so nothing is lost.
      console.error(`feed: ${error.cause ?? error}; trying again`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

// --- Webhooks: prove, apply, and only then answer. ---

// The key in `whsec_<Base64>`. Anything else stops the start: with an empty key anybody could sign.
function keyOfSecret(secret) {
  const found = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret);
  if (found === null) stop("COINSLOT_WEBHOOK_SECRET must be the whole secret, whsec_ included");
  return Buffer.from(found[1], "base64");
}

// Whether Coinslot signed exactly these bytes a moment ago (Standard Webhooks). Before anything is parsed.
function isGenuine(key, headers, body) {
  const id = headers["webhook-id"] ?? "";
  const at = headers["webhook-timestamp"] ?? "";
  if (key === undefined || id === "" || !/^\d{1,12}$/.test(at)) return false;
  if (Math.abs(Date.now() / 1000 - Number(at)) > TOLERANCE_SECONDS) return false;
  const digest = crypto.createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  // Several signatures, separated by blanks, while the secret is being changed: one of them must be ours. Compared in
  // constant time, so that nobody learns a signature by measuring.
  return (headers["webhook-signature"] ?? "").split(" ").some((each) => {
    const signature = Buffer.from(each);
    return signature.length === expected.length && crypto.timingSafeEqual(signature, expected);
  });
}

function takeWebhook(store, key, request, body) {
  if (!isGenuine(key, request.headers, body)) return [401, '{"error": "not signed"}'];
  try {
    const event = parse(body.toString("utf8"));
    // Types we do not know are answered like those we do: new ones come without asking us.
    if (event.type === "grant.created" || event.type === "grant.reversed") store.take([event.data]);
  } catch (error) {
    console.error(error); // nothing was kept; it will be sent again
    return [500, '{"error": "our trouble"}'];
  }
  return [200, '{"result": "ok"}']; // on the disk: from here on it is our promise
}

function inventory(store, playerId) {
  const items = [...(store.inventory.get(playerId) ?? [])].map(([sku, held]) => `${JSON.stringify(sku)}: ${held}`);
  const newest = (store.players.get(playerId) ?? []).slice(-100).reverse();
  const grants = newest.map(({ grant, state }) => [grant.transaction_id, grant.kind, state]);
  return `{"items": {${items.join(", ")}}, "newest_grants": ${JSON.stringify(grants)}}`;
}

async function answer(store, key, request) {
  const path = request.url.split("?")[0];
  if (request.method === "GET" && path.startsWith("/inventory/")) {
    return [200, inventory(store, decodeURIComponent(path.slice("/inventory/".length)))];
  }
  if (request.method !== "POST" || path !== "/coinslot") return [404, '{"error": "not found"}'];
  const pieces = [];
  let size = Number(request.headers["content-length"] ?? 0);
  if (size <= LARGEST_BODY) {
    size = 0;
    for await (const piece of request) {
      size += piece.length;
      if (size > LARGEST_BODY) break;
      pieces.push(piece);
    }
  }
  if (size > LARGEST_BODY) return [413, '{"error": "too large"}'];
  return takeWebhook(store, key, request, Buffer.concat(pieces));
}

function stop(why) {
  console.error(why);
  process.exit(1);
}

function main() {
  const { COINSLOT_TOKEN: token, COINSLOT_WEBHOOK_SECRET: secret } = process.env;
  if (!token && secret === undefined) {
    stop("set COINSLOT_TOKEN to read the feed, COINSLOT_WEBHOOK_SECRET to take webhooks, or both");
  }
  const key = secret === undefined ? undefined : keyOfSecret(secret); // without a secret every webhook gets a 401
  const store = new Store(process.env.GAME_DB ?? "game.jsonl");
  const server = http.createServer(async (request, response) => {
    let [status, body] = [400, '{"error": "cannot be read"}'];
    try {
      [status, body] = await answer(store, key, request);
    } catch (error) {
      console.error(error);
    }
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
    if (!request.complete) headers.Connection = "close"; // the rest of its body is not read
    response.writeHead(status, headers).end(body);
  });
  // Reachable from this machine alone; in front of it stands what speaks https.
  server.listen(Number(process.env.GAME_PORT ?? 9000), "127.0.0.1", () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}`);
    if (token) poll(store, (process.env.COINSLOT_URL ?? "http://127.0.0.1:8000").replace(/\/+$/, ""), token);
  });
}

main();
