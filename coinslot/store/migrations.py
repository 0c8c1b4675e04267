"""How an older file becomes a current one: one step per schema version, all in one transaction (``db.migrate``).

A step makes the schema of its own version, with its own statements, and is never edited once it was released. While
steps run, foreign keys are not enforced and delete nothing: a step may make a table anew. All are checked once, before
the commit.

``schema.sql`` describes a new file. There is no step yet: nothing was released.
"""

import sqlite3
from collections.abc import Callable

# Version -> the step to it from the version before.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}
