"""How an older database becomes a current one: one step per schema version, all in one transaction.

A step makes the schema of its own version, with its own statements, and is never edited once it was released. They are
SQLite's; ``postgres/ddl.py`` says what PostgreSQL makes of them. While steps run, foreign keys are not enforced and
delete nothing: a step may make a table anew. All are checked once, before the commit. PostgreSQL also checks each row
when it is written or deleted, where neither of the two tables was dropped in these steps.

``schema.sql`` describes a new database. There is no step yet: nothing was released.
"""

import sqlite3
from collections.abc import Callable

# Version -> the step to it from the version before.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}
