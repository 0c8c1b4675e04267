"""Passwords of players and of the owner: how they are hashed and compared, in whichever Unicode form they come."""

from functools import cache

from werkzeug.security import check_password_hash, generate_password_hash

from coinslot.base import spellings


def hash_of(password: str) -> str:
    """The hash that is stored (scrypt). It takes the better part of a tenth of a second and 32 MiB."""
    return generate_password_hash(spellings.composed(password), method="scrypt")


def is_right(password_hash: str, password: str) -> bool:
    """In either Unicode form. It takes as long as :func:`hash_of`."""
    return check_password_hash(password_hash, spellings.composed(password))


@cache
def nobodys_hash() -> str:
    """What a password is compared with when there is none, so that saying no takes as long. Made on first use."""
    return hash_of("nobody's password")
