"""The address of the database: COINSLOT_DATABASE. It may hold a password, so no sentence quotes it."""

from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

NOT_UNDERSTOOD = (
    "COINSLOT_DATABASE: PostgreSQL does not understand this address; in the user and the password write "
    "%40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %"
)


def read(url: str) -> dict[str, Any]:
    """The parameters that it names. Raises ValueError, which quotes nothing of it, when it cannot be read.

    A password with a plain ``@`` or ``/`` is read as part of a host, which every complaint about the host would quote.
    """
    rest = url.partition("://")[2]
    if rest.count("@") != urlsplit(url).netloc.count("@") or rest.count("@") > 1 or "#" in rest:
        raise ValueError(NOT_UNDERSTOOD)
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:
        raise ValueError(NOT_UNDERSTOOD) from None


def without_password(url: str) -> str:
    """The address as sentences show it."""
    parts = urlsplit(url)
    at = parts.netloc.rpartition("@")[2]
    return f"postgresql://{at}{parts.path}"
