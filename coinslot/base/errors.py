"""The errors whose message is for a person."""


class CoinslotError(Exception):
    """Something cannot be done. The message is one sentence for a person, and holds no secret.

    A command prints it and ends with exit status 1; a page shows it.
    """
