"""The encrypted payloads of Appcharge's first months (2023): AES-256-CBC, and nothing that proves integrity or age.

The body is hexadecimal text: PKCS#7 padded JSON under the main key's text (32 bytes) with the secondary key's text (16
bytes) as the initialisation vector, the same for every message. Anyone who can see such calls can replay them, so this
is a mode the owner chooses, never a way around a missing signature.
"""

from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from coinslot.access.keyring import SecretValue
from coinslot.base import exact
from handlers.appcharge.signature import SignatureError

KEY_BYTES = 32
VECTOR_BYTES = 16
# A good pad is read on and a bad one is not, which takes measurably longer for a long body: bounded before anything.
LARGEST_BODY = 64 * 1024


def decrypt(
    body: bytes, keys: Iterable[SecretValue], vectors: Iterable[SecretValue]
) -> tuple[bytes, dict[str, Any], SecretValue]:
    """The JSON object as bytes and parsed, and the key that opened it.

    Raises :class:`SignatureError` with the one reason ``encryption``, whatever was wrong.
    """
    if len(body) > LARGEST_BODY:
        raise SignatureError("encryption")
    try:
        ciphertext = bytes.fromhex(body.decode("ascii").strip())
    except ValueError:
        raise SignatureError("encryption") from None
    vectors = list(vectors)
    for key in keys:
        for vector in vectors:
            try:
                plaintext = _decrypted(ciphertext, key.value, vector.value)
                document = exact.parse_json(plaintext, allow_half_pairs=True)
            except ValueError:
                continue
            if isinstance(document, dict):
                return plaintext, document, key
    raise SignatureError("encryption")


def encrypt(plaintext: bytes, key: bytes, vector: bytes) -> bytes:
    """The body as Appcharge sent it. Raises ValueError unless the key has 32 bytes and the vector 16."""
    padder = PKCS7(AES.block_size).padder()
    encryptor = _cipher(key, vector).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    return (encryptor.update(padded) + encryptor.finalize()).hex().encode()


def _decrypted(ciphertext: bytes, key: bytes, vector: bytes) -> bytes:
    decryptor = _cipher(key, vector).decryptor()
    unpadder = PKCS7(AES.block_size).unpadder()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def _cipher(key: bytes, vector: bytes) -> Cipher[CBC]:
    if len(key) != KEY_BYTES or len(vector) != VECTOR_BYTES:
        raise ValueError("the main key must have 32 characters and the secondary key 16")
    return Cipher(AES(key), CBC(vector))
