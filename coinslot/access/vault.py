"""Secrets at rest: AES-256-GCM under a master key that is not in the database.

* Every value is sealed with a fresh 96-bit nonce (NIST SP 800-38D, section 8.2.2); its purpose, such as game and
  name, is bound as additional data, so a ciphertext moved to another row does not open.
* The master key comes from ``COINSLOT_MASTER_KEY`` or from ``master.key`` in the home folder. The database knows only
  the key's id, as the fact ``vault.key_id``. A process that finds another id there than it holds reads the key
  files again, so a rotation needs no restart.
* Plaintext appears in no exception, log or repr.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.store import queries
from coinslot.store.db import Connection, Database, Row
from coinslot.store.lock import hand_over

KEY_BYTES = 32
NONCE_BYTES = 12


class VaultError(CoinslotError):
    """A key is missing, malformed or not the right one; or a sealed value was changed."""


@dataclass(frozen=True)
class Sealed:
    """What the database keeps of a secret."""

    ciphertext: bytes
    nonce: bytes
    key_id: str

    @classmethod
    def of(cls, row: Row) -> "Sealed":
        return cls(row["ciphertext"], row["nonce"], row["key_id"])


class MasterKey:
    """32 bytes that no repr shows."""

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_BYTES:
            raise VaultError(f"a master key has {KEY_BYTES} bytes, this one {len(value)}")
        self.id = hashlib.sha256(b"coinslot master key id\0" + value).hexdigest()[:16]
        self._value = value
        self._cipher = AESGCM(value)

    @classmethod
    def generate(cls) -> "MasterKey":
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str, source: str) -> "MasterKey":
        """Raises :class:`VaultError`, which names ``source`` and never the text."""
        try:
            return cls(base64.b64decode(text.strip().encode("ascii"), validate=True))
        except (binascii.Error, ValueError, VaultError):
            raise VaultError(f"{source} does not hold the Base64 of {KEY_BYTES} bytes") from None

    def text(self) -> str:
        return base64.b64encode(self._value).decode("ascii")

    def seal(self, purpose: str, plaintext: bytes) -> Sealed:
        nonce = os.urandom(NONCE_BYTES)
        return Sealed(self._cipher.encrypt(nonce, plaintext, self._bound(purpose)), nonce, self.id)

    def unseal(self, purpose: str, sealed: Sealed) -> bytes:
        try:
            return self._cipher.decrypt(sealed.nonce, sealed.ciphertext, self._bound(purpose))
        except InvalidTag:
            raise VaultError(f"the sealed value of {purpose} was changed, or is not under key {self.id}") from None

    def derive(self, purpose: str) -> bytes:
        """Another key, for one purpose (HKDF, RFC 5869)."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(self._value)

    def _bound(self, purpose: str) -> bytes:
        return f"coinslot/{self.id}/{purpose}".encode()


class Vault:
    """The master key of an installation, read when it is first needed."""

    def __init__(self, home: Path, environment_key: str | None) -> None:
        self.path = home / "master.key"
        self.next_path = home / "master.key.next"
        self.is_from_environment = environment_key is not None
        self._environment_key = environment_key
        self._keys: dict[str, MasterKey] = {}

    def prepare(self, database: Database) -> None:
        """Load the database's key. A new database takes the key that is there, or a new one.

        Raises :class:`VaultError` when the key is missing, malformed or another one.
        """

        def choose(tx: Connection) -> None:
            if database_key_id(tx) is None:
                set_database_key_id(tx, self._load_or_generate().id)

        if database_key_id(database.read()) is None:
            database.write_here(choose)
        self.current(database.read())

    def current(self, connection: Connection) -> MasterKey:
        """The key that all values in the database are under. Raises :class:`VaultError` when we do not have it."""
        key_id = database_key_id(connection)
        if key_id is None:
            raise VaultError("the database is under no master key yet; start the server once")
        if key_id not in self._keys:
            self._keys.update((candidate.id, candidate) for candidate in self.candidates())
        if key_id not in self._keys:
            source = "COINSLOT_MASTER_KEY" if self.is_from_environment else str(self.path)
            raise VaultError(f"the database is under master key {key_id}, which {source} does not hold")
        return self._keys[key_id]

    def candidates(self) -> list[MasterKey]:
        """The keys there are: the environment's alone, or the key file and the one a rotation has just written.

        In the environment there may be several, with spaces between them: while a key is replaced, a server that has
        both goes on before and after. A new database takes the first.
        """
        if self._environment_key is not None:
            texts = self._environment_key.split() or [""]
            return [MasterKey.parse(text, "COINSLOT_MASTER_KEY") for text in texts]
        # The next key first: a rotation that ends between the two reads renames it to the one read second.
        keys = [_read_key_file(path) for path in (self.next_path, self.path)]
        found = [key for key in reversed(keys) if key is not None]
        if not found:
            raise VaultError(f"there is no master key: {self.path} is missing and COINSLOT_MASTER_KEY is not set")
        return found

    def put_aside(self) -> list[MasterKey]:
        """Earlier keys that rotations have kept beside the key file, newest first; unreadable ones are skipped."""
        return list(self._aside().values())

    def file_put_aside(self, key_id: str) -> Path | None:
        """Where a rotation has kept that key; None when it has not."""
        return next((path for path, key in self._aside().items() if key.id == key_id), None)

    def seal(self, connection: Connection, purpose: str, plaintext: bytes) -> Sealed:
        return self.current(connection).seal(purpose, plaintext)

    def unseal(self, connection: Connection, purpose: str, sealed: Sealed) -> bytes:
        return self.opener(connection)(purpose, sealed)

    def opener(self, connection: Connection) -> Callable[[str, Sealed], bytes]:
        """:meth:`unseal` for many values, which looks the key up once."""
        key = self.current(connection)

        def unseal(purpose: str, sealed: Sealed) -> bytes:
            if sealed.key_id != key.id:
                raise VaultError(f"the sealed value of {purpose} is under master key {sealed.key_id}, not {key.id}")
            return key.unseal(purpose, sealed)

        return unseal

    def rotate(
        self, database: Database, reseal: Callable[[Connection, MasterKey, MasterKey], int], new: MasterKey
    ) -> int:
        """Put all values under ``new`` in one transaction; ``reseal`` changes the rows and returns how many.

        With key files, the new file is on the disk before the commit and is renamed after it, so a crash at any point
        leaves the key that the database names readable. The old file is kept beside it. All of it happens under the
        write lock: of two rotations at once, one follows the other.
        """

        def reseal_all(tx: Connection) -> int:
            if not self.is_from_environment:
                self._tidy_key_files(tx)
                _write_key_file(self.next_path, new)
            count = reseal(tx, self.current(tx), new)
            set_database_key_id(tx, new.id)
            return count

        count = database.write_here(reseal_all)
        self._keys[new.id] = new
        with database.lock:
            self._tidy_key_files(database.read())
        return count

    def _tidy_key_files(self, connection: Connection) -> None:
        """Rename the next key file after a committed rotation, delete it after a failed one. Under the write lock."""
        next_key = None if self.is_from_environment else _read_key_file(self.next_path)
        if next_key is None:
            return
        if database_key_id(connection) != next_key.id:
            self.next_path.unlink()
            return
        if self.path.exists():
            aside = self.path.with_name(f"master.key.old-{clock.stamp().replace(':', '')}")
            os.link(self.path, aside)  # both names until the rename below: there is always a key file
        os.replace(self.next_path, self.path)
        _sync_folder(self.path.parent)

    def _aside(self) -> dict[Path, MasterKey]:
        keys = {}
        for path in sorted(self.path.parent.glob("master.key.old-*"), reverse=True):
            with suppress(OSError, VaultError):
                if (key := _read_key_file(path)) is not None:
                    keys[path] = key
        return keys

    def _load_or_generate(self) -> MasterKey:
        if self._environment_key is None and not self.path.exists():
            key = MasterKey.generate()
            _write_key_file(self.path, key)
            return key
        return self.candidates()[0]


def database_key_id(connection: Connection) -> str | None:
    """The id of the master key that a database is under; None when it has none yet."""
    return queries.fact(connection, "vault.key_id")


def set_database_key_id(tx: Connection, key_id: str) -> None:
    """Call it in the transaction that seals all values under that key."""
    queries.set_fact(tx, "vault.key_id", key_id)


def _read_key_file(path: Path) -> MasterKey | None:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    return MasterKey.parse(text, str(path))


def _write_key_file(path: Path, key: MasterKey) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.text() + "\n")
        file.flush()
        os.fsync(file.fileno())
        hand_over(path, descriptor)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
