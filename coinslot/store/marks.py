"""The mark of a database that must not be served: it was moved to another one, or a move into it has not ended.

A move marks what it fills as arriving, then what it leaves as moved, and takes the first mark away in the end
(``coinslot/operations/moving.py``). So at each moment at most one of the two is served.
"""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Mark:
    """``other`` is the database that a move goes to, or comes from while it ``is_arriving``, as sentences call it."""

    move_id: str
    other: str
    is_arriving: bool

    @classmethod
    def read(cls, text: str) -> "Mark":
        return cls(**json.loads(text))

    def text(self) -> str:
        """The mark as a database keeps it; :meth:`read` reads it."""
        return json.dumps(asdict(self))

    def sentence(self) -> str:
        """Why the database is not served, and what to do."""
        if self.is_arriving:
            return f"a move from {self.other} into this database has not ended: run the same `flask move` again"
        if self.other.startswith("postgresql://"):
            how = "serve it from there, with COINSLOT_DATABASE; `flask move sqlite:` there brings it back"
        else:
            how = "serve it from there, without COINSLOT_DATABASE; `flask move postgresql://...` there brings it back"
        return f"this database was moved to {self.other}: {how}"
