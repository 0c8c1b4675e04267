"""What leads to a player, in one table: the id, the name from any of its words on, and e-mail addresses.

Ids and names are stored folded, so that a search may have any case and any beginning. Of an address only a keyed hash
is stored. Its key is random, sealed by the vault, and stays the same when the master key is rotated: so a hash says
nothing to anyone without the vault, and an address has to be searched as a whole.
"""

import hmac
import re
import secrets
from contextlib import suppress
from itertools import islice

from coinslot.access.vault import Sealed, Vault
from coinslot.base import clock, exact, spellings
from coinslot.store import queries
from coinslot.store.db import Connection

SECRET = "search.addresses"  # noqa: S105  its name in installation_secrets, and what it is sealed for
LONGEST_KEY = 64
MOST_WORDS = 4  # of a name, from which it can be searched
MOST_ADDRESSES = 5  # of one text

_LONGEST_NAME = 256
_ADDRESS = re.compile(r"[^\s@<>\"']{1,64}@[^\s@<>\"']{1,189}\.[^\s@<>\"'.]{2,63}")
_FIELD = re.compile("mail", re.IGNORECASE)
_AT_SIGN = re.compile(rb"@|\\u0040")


def of_id(player_id: str) -> str:
    return spellings.searched(player_id)[:LONGEST_KEY]


def of_name(name: str) -> set[str]:
    """A key for each of the first words of a name: a search may begin with any of them."""
    words = name[:_LONGEST_NAME].split()
    keys = {spellings.searched(" ".join(words[start:]))[:LONGEST_KEY] for start in range(min(len(words), MOST_WORDS))}
    return keys - {""}


def of_address(secret: bytes, address: str) -> str:
    """The keyed hash of an address as :func:`address` gives it: 128 bits of HMAC-SHA256, in hexadecimal digits."""
    return hmac.new(secret, address.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:32]


def address(text: str) -> str | None:
    """An e-mail address in its one form, whichever way it is written; None for text that is none."""
    found = spellings.normal("NFKC", text.strip()).casefold() if "@" in text and len(text) <= spellings.LONGEST else ""
    return found if _ADDRESS.fullmatch(found) else None


def addresses_in(body: bytes | str | None) -> set[str]:
    """The e-mail addresses in fields of a JSON document whose names say that they hold one."""
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if raw is None or not _AT_SIGN.search(raw):
        return set()
    with suppress(ValueError):
        document = exact.parse_json(raw, allow_half_pairs=True, is_lenient=True)
        found = (address(value) for field, value in exact.leaves(document) if _is_address_field(field, value))
        return set(islice((each for each in found if each is not None), MOST_ADDRESSES))
    return set()


def secret(connection: Connection, vault: Vault) -> bytes | None:
    """The key of the hashes; None while there is none yet. Raises VaultError."""
    row = queries.row(connection, "SELECT * FROM installation_secrets WHERE name = :name", {"name": SECRET})
    return None if row is None else vault.unseal(connection, SECRET, Sealed.of(row))


def make_secret(tx: Connection, vault: Vault) -> bytes:
    """The key of the hashes, made now if there is none."""
    if (known := secret(tx, vault)) is not None:
        return known
    made = secrets.token_bytes(32)
    sealed = vault.seal(tx, SECRET, made)
    queries.insert(tx, "installation_secrets", {"name": SECRET, **vars(sealed), "created_at": clock.stamp()})
    return made


def put(tx: Connection, kind: str, key: str, game_id: int, player_id: str) -> None:
    """Have a key lead to a player; one that does already is no error."""
    queries.insert(
        tx,
        "search_keys",
        {"kind": kind, "key": key, "game_id": game_id, "player_id": player_id},
        "ON CONFLICT (kind, key, game_id, player_id) DO NOTHING",
    )


def put_names(tx: Connection, game_id: int, player_id: str, name: str | None) -> None:
    """Have the name lead to the player, and no earlier name."""
    tx.execute(  # kind <> 'id' has the engine use the index with that condition
        """DELETE FROM search_keys
           WHERE game_id = :game_id AND player_id = :player_id AND kind <> 'id' AND kind = 'name'""",
        {"game_id": game_id, "player_id": player_id},
    )
    for key in of_name(name or ""):
        put(tx, "name", key, game_id, player_id)


def forget(tx: Connection, game_id: int, player_id: str) -> int:
    """Have nothing lead to the player; returns how many keys did."""
    values = {"game_id": game_id, "player_id": player_id, "key": of_id(player_id)}
    of_player = "game_id = :game_id AND player_id = :player_id"
    found = tx.execute(f"DELETE FROM search_keys WHERE {of_player} AND kind <> 'id'", values).rowcount  # noqa: S608
    found += tx.execute(
        f"DELETE FROM search_keys WHERE kind = 'id' AND key = :key AND {of_player}",  # noqa: S608  our own words only
        values,
    ).rowcount
    return found


def _is_address_field(field: str, value: object) -> bool:
    return isinstance(value, str) and _FIELD.search(field) is not None
