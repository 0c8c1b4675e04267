"""The tables that are served where the engine is PostgreSQL, and how a restore replaces them.

The rows are loaded and compared before anybody reads them. Then the tables of before and the new ones change their
names in one commit: whenever a machine stops, one or the other is served, whole.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from coinslot.access.vault import database_key_id
from coinslot.operations.backup import BackupError
from coinslot.operations.serving import Live, facts
from coinslot.store import copying
from coinslot.store.db import Database
from coinslot.store.errors import MovedError
from coinslot.store.postgres import schemas
from coinslot.store.sqlite import connect


@contextmanager
def served_tables(database: Database) -> Iterator["ServedTables"]:
    """Those of a database, while no other process restores or moves it."""
    with schemas.alone(database) as raw:
        yield ServedTables(raw, database.name)


class ServedTables:
    def __init__(self, raw: schemas.Raw, name: str) -> None:
        self._raw = raw
        self._name = name

    def look_at(self) -> Live:
        """As ``serving.look_at``. Raises MovedError for a database that was moved."""
        if not schemas.is_there(self._raw):
            return Live("missing")
        if (mark := schemas.read_mark(self._raw)) is not None:
            raise MovedError(mark.sentence())
        with schemas.reading(self._raw, schemas.SERVED) as connection:
            return Live("healthy", **dict(facts(connection)))

    def replace(self, prepared: Path, live: Live) -> str | None:
        """Serve what a prepared file holds; returns the name of the schema that was served before, if there was one.

        All commits wait while the names are changed. Raises BackupError.
        """
        raw = self._raw
        with closing(connect(prepared)) as source:
            source.execute("BEGIN")
            name, _ = schemas.fill(raw, source)
            with schemas.reading(raw, name) as loaded:
                names = ("the prepared file", self._name)
                faults = [*copying.differences(source, loaded, names), *schemas.id_faults(loaded)]
            if faults:
                raise BackupError(f"what was loaded is not the same: {faults[0]}")
        with schemas.commits_wait(raw):
            if schemas.is_there(raw):
                with schemas.reading(raw, schemas.SERVED) as connection:
                    if database_key_id(connection) != live.key_id:
                        raise BackupError("the master key was rotated just now; try again")
            elif live.state != "missing":
                raise BackupError("the tables were removed just now; try again")
            return schemas.put_in_place(raw, name, None, "coinslot_before_restore")
