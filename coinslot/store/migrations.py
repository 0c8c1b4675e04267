"""How an older file becomes one of today: a step per version of the schema, each in one transaction (``db.migrate``).

A step is history: it makes what the schema was then, in words of its own, and is never edited once it has served.
``schema.sql`` says what a new file looks like. Nothing older than the first release's schema is read: there is no
step yet, because nothing was released.
"""

import sqlite3
from collections.abc import Callable

# Version -> the step that brings a file there from the version before.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}
