"""The dispute pack: a file with what a bank or a partner may ask about an order, and how to check it."""

import io
import json
import zipfile
from typing import Any

from coinslot.base import clock
from coinslot.ledger.dossier import Dossier
from handlers.dashboard.frame.timeline import is_own_call
from handlers.kit import wording

LARGEST_PART = 4 * 1024 * 1024
HIDDEN_COLUMNS = ("raw_body", "signature", "session_metadata", "before", "next", "acked_through", "acked_at")

HOW_TO_VERIFY = {
    "appcharge": """Appcharge signs each call with HMAC-SHA256. The key is the main (or secondary) key of the game,
which is not in this pack. In the header `signature: t=<timestamp>,v1=<hex>`:

    v1 = HMAC-SHA256(key, "<timestamp as in the header>" + "." + <bytes of body.bin>)

In a shell:

    (printf '%s.' "$TIMESTAMP"; cat request/body.bin) | openssl dgst -sha256 -hmac "$KEY"
""",
    "playtem": """Playtem signs each call with HMAC-SHA1, in upper-case hexadecimal. The secret is the game's and is
not in this pack. body.bin is the query of the call as it came; its payload is Base64 of a JSON object.
What is signed is

    AppId + UserId + Items + TransactionId

written one after the other as text. How the items were written is said in verification.json, behind the key's name
("concat": one after the other; "comma": with commas; "json_compact", "json_spaced" and "raw": as a JSON list).
""",
    "playcamp": """PlayCamp signs each webhook with HMAC-SHA256, keyed with the text of the webhook's secret, which is
the game's and is not in this pack. The header is `X-Webhook-Signature`, in one of two forms:

    <hex>                      HMAC-SHA256(secret, <bytes of the body>)
    t=<timestamp>,v1=<hex>     HMAC-SHA256(secret, "<timestamp>" + "." + <bytes of the body>)

A webhook may bring several events at once. Of such a one body.bin holds this event alone, while the signature is over
all of them: then it cannot be checked by this pack.
""",
}
OWN_CALL = """This is the answer to a call of the game's own, made over a secure connection: there is no signature to
check.
"""
BY_PERSON = (
    "This transaction was made by the service itself and not by a signed call, so there is no signature to check.\n"
)


def pack(found: Dossier, timeline: str, game_name: str) -> bytes:
    """A ZIP file. Apart from the time it was made, the same rows give the same content."""
    transaction = found.transaction
    parts: dict[str, bytes | str] = {"README.txt": _readme(found, game_name), "timeline.txt": timeline}
    body = transaction["raw_body"]
    if body is not None:
        parts["request/body.bin"] = bytes(body)
    if transaction["signature"]:
        parts["request/signature.txt"] = f"{transaction['signature']}\n"
    how = HOW_TO_VERIFY.get(transaction["partner"], "") if transaction["signed_with"] else BY_PERSON
    how = OWN_CALL if is_own_call(transaction) else how
    parts["request/HOW-TO-VERIFY.txt"] = how + _HASHES
    parts["verification.json"] = _json(_verification(found))
    parts["ledger.json"] = _json(
        {
            "transaction": {name: value for name, value in transaction.items() if name not in HIDDEN_COLUMNS},
            "other_ids": [{"kind": kind, "value": value} for kind, value in found.keys],
            "grants": found.grants,
            "refunds": found.refunds,
            "events": found.events,
            "conflicts": [{**row, "raw_body": None} for row in found.conflicts],
            "acknowledged_by_the_game_through": transaction["acked_through"],
            "acknowledged_at": transaction["acked_at"],
        }
    )
    parts["deliveries.json"] = _json(found.deliveries)
    for conflict in found.conflicts[:20]:
        if conflict["raw_body"] is not None:
            parts[f"conflicts/{conflict['id']}.bin"] = bytes(conflict["raw_body"])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            content = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
            archive.writestr(name, content[:LARGEST_PART])
    return file.getvalue()


_HASHES = """
Independently of the signature, verification.json has the SHA-256 of the body's bytes:

    sha256sum request/body.bin

It also has the place of this row in the ledger's hash chain. `row_hash` covers the row and the hash of the row before
it, so that a change made later to either of them would show: `flask doctor` checks the whole chain.
"""


def _verification(found: Dossier) -> dict[str, Any]:
    transaction = found.transaction
    before, following = transaction["before"], transaction["next"]
    is_signed = bool(transaction["signed_with"]) and not is_own_call(transaction)
    return {
        "signed_with": transaction["signed_with"] or None,
        "checked_at": transaction["received_at"],
        "result": "the signature was right when the call came" if is_signed else "not a signed call",
        "body_sha256": transaction["body_sha256"],
        "body_is_in_this_pack": transaction["raw_body"] is not None,
        "answer": {"status": transaction["answer_status"], "body": transaction["answer_body"]},
        "chain": {
            "previous_hash": transaction["previous_hash"],
            "row_hash": transaction["row_hash"],
            "row_before": _neighbour(before, transaction),
            "row_after": _neighbour(following, transaction),
            "follows_the_row_before": before is None or before["row_hash"] == transaction["previous_hash"],
            "is_followed_by_the_row_after": following is None or following["previous_hash"] == transaction["row_hash"],
        },
    }


def _neighbour(row: dict[str, Any] | None, transaction: dict[str, Any]) -> dict[str, Any] | None:
    """The hash of a neighbouring row; and its id, unless it is of another game."""
    if row is None:
        return None
    is_ours = row["game_id"] == transaction["game_id"]
    return {name: value for name, value in row.items() if name != "game_id" and (is_ours or name != "public_id")}


def _readme(found: Dossier, game_name: str) -> str:
    transaction = found.transaction
    lines = [
        f"Order {transaction['reference']} of {transaction['partner']}",
        "",
        f"Game:            {game_name}",
        f"Transaction id:  {transaction['public_id']}",
        f"Player:          {transaction['player_id']}",
        f"Amount:          {wording.money(transaction['gross_minor'], transaction['currency'])}",
        f"Received:        {wording.utc_moment(transaction['received_at'])} UTC",
        f"State now:       {found.state}{' (a test, which does not count)' if transaction['is_test'] else ''}",
        f"Pack made:       {wording.utc_moment(clock.stamp())} UTC",
        "",
        "What is in here:",
        "",
        "  timeline.txt         what happened, in sentences, from the partner's call to the game's acknowledgement",
        "  request/             the signed call as it came, byte for byte, and how to check its signature",
        "  verification.json    which key signed it, the hash of its body, its place in the ledger's hash chain",
        "  ledger.json          the rows of the ledger: what was credited, reversed and refunded",
        "  deliveries.json      what was sent to the game because of it, with every attempt and the game's answer",
        "  conflicts/           other reports of the same order that were refused, if there were any",
        "",
        "What is not:",
        "",
        "  Keys. To check the signature, get the key from the partner or from the game's studio.",
        "  Headers of the call other than the signature: they are not kept.",
        "  How often the partner repeated the very same call: repeats are counted per day, not per order.",
        "  Deliveries that arrived long ago: they are deleted after a while, the ledger is not.",
    ]
    if found.is_forgotten:
        lines += [
            "  The body of the call, its signature and what the game attached to it: the player asked to be forgotten.",
            "  Their hash is still here, so that a copy kept elsewhere can be proved to be the same.",
        ]
    if found.is_body_deleted:
        lines += [
            "  The body of the call: this game keeps it for some time only. Its SHA-256, its fingerprint and the",
            "  accepted signature are here. A copy of the body kept elsewhere can be proved to be the same, and then",
            "  the signature can be checked.",
        ]
    if found.is_cut:
        lines.append("  Everything: a list was too long and is cut.")
    return "\n".join(lines) + "\n"


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=_text_of) + "\n"


def _text_of(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
