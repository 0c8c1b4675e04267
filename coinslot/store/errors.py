"""What is raised where a database cannot do what it is asked for, whichever engine it is."""

from coinslot.base.errors import CoinslotError


class DatabaseError(CoinslotError):
    """The database cannot be read or written. A partner gets 5xx and tries again."""


class BusyError(DatabaseError):
    """The write was not committed within the seconds that a caller waits."""


class SchemaError(DatabaseError):
    """This code must not serve the database: it is newer, older, or not ours."""


class MovedError(SchemaError):
    """The database was moved to another one, or a move into it has not ended (``marks.py``)."""
