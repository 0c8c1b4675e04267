"""Conditions that depend on what is asked for."""


def equals(column: str, value: object) -> str:
    """The column has the value of the parameter of its name; where that is None, the column is NULL.

    ``=`` is never true of NULL, and what SQLite has for both (``IS :x``) other engines refuse.
    """
    return f"{column} IS NULL" if value is None else f"{column} = :{column}"
