"""Refused calls for the owner to read: ``observations.py`` writes them, the vault opens them."""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from coinslot.access import keyring
from coinslot.access.vault import MasterKey, Sealed, VaultError
from coinslot.base import clock
from coinslot.ledger import refused
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID
from coinslot.store.queries import equals

DAY_SECONDS = 86400


@dataclass(frozen=True)
class Refused:
    """A refused call. ``request`` is what was kept of it, empty where it could not be opened."""

    id: int
    game_id: int | None
    partner: str
    endpoint: str
    reason: str
    status: int
    remote_address: str
    body_size: int
    created_at: str
    is_opened: bool
    is_simulated: bool  # proved to be one of our own calls, which no figure counts
    request: Mapping[str, Any] = field(repr=False)
    state: str | None = (
        None  # None: it had not proved itself; else see coinslot/ledger/refused.py, also for what follows
    )
    reference: str = ""
    detail: str = ""
    player_id: str | None = None
    currency: str | None = None
    amount_minor: int | None = None
    seen: int = 1
    last_at: str | None = None
    ended_at: str | None = None
    note: str | None = None

    @cached_property
    def body(self) -> bytes:
        """The beginning of the body, as much of it as was kept."""
        try:
            return base64.b64decode(self.text("body"), validate=True)
        except (binascii.Error, ValueError):
            return b""

    @property
    def is_whole(self) -> bool:
        """Whether all of the body was kept: of a login none is, of a large one the beginning."""
        return self.is_opened and len(self.body) == self.body_size

    @property
    def received(self) -> float:
        return clock.seconds(self.last_at or self.created_at)

    def text(self, name: str) -> str:
        """A part of what was kept; empty where there is none."""
        value = self.request.get(name, "")
        return value if isinstance(value, str) else ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that were kept, names in lower case."""
        return self._texts("headers")

    @property
    def found(self) -> dict[str, str]:
        """What the handler had found out when it refused the call."""
        return self._texts("found")

    def _texts(self, name: str) -> dict[str, str]:
        found = self.request.get(name)
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Wanted:
    """Which refused calls a list has; an empty text is any.

    ``state``: one of those of coinslot/ledger/refused.py, ``unproved`` for none of them, or ``ended`` for all but open.
    ``order`` is a whole id of the order, in either case, as the partner writes it or the ledger knows it.
    """

    partner: str = ""
    reason: str = ""
    endpoint: str = ""
    order: str = ""
    player: str = ""
    state: str = ""


_OF_STATE = {
    "": "",
    "unproved": "AND state IS NULL",
    "ended": "AND (state IS NULL OR state <> 'open')",
    **{state: f"AND state = '{state}'" for state in (refused.OPEN, refused.MENDED, refused.ASIDE)},
}
_OF_ORDER = """AND (lower(reference) = lower(:order)
                    OR id IN (SELECT refusal_id FROM refusal_names WHERE lower(name) = lower(:order)))"""


def newest(
    connection: Connection,
    key: MasterKey,
    game_id: int | None,
    partners: Collection[str],
    wanted: Wanted,
    *,
    before: int = LAST_ID,
    limit: int = 20,
) -> list[Refused]:
    """The newest refused calls to these partners' addresses, opened; ``game_id`` None: those that named no game."""
    names = {f"partner{number}": name for number, name in enumerate(partners)}
    given = [name for name in ("reason", "endpoint") if getattr(wanted, name)]
    where = f"""{equals("game_id", game_id)} AND id < :before {_OF_STATE[wanted.state]}
                {" ".join(f"AND {name} = :{name}" for name in given)}
                {"AND player_id = :player" if wanted.player else ""} {_OF_ORDER if wanted.order else ""}"""
    each = [  # by the index of each partner's
        f"SELECT * FROM (SELECT * FROM refusals WHERE partner = :{name} AND {where} ORDER BY id DESC LIMIT :limit) f"  # noqa: S608
        for name in names
    ]
    values = {**names, **vars(wanted), "game_id": game_id, "before": before, "limit": limit}
    del values["partner"], values["state"]
    rows = connection.execute(f"{' UNION ALL '.join(each)} ORDER BY id DESC LIMIT :limit", values).fetchall()
    return [opened(key, row) for row in rows]


def find(connection: Connection, key: MasterKey, game_id: int | None, refusal_id: int) -> Refused | None:
    """One of them, opened; None where this game has no such call, or no longer."""
    row = connection.execute(
        f"SELECT * FROM refusals WHERE id = :id AND {equals('game_id', game_id)}",  # noqa: S608  our own words
        {"id": refusal_id, "game_id": game_id},
    ).fetchone()
    return None if row is None else opened(key, row)


def of_the_day(
    connection: Connection, key: MasterKey, game_id: int | None, partner: str, around: str, reason: str
) -> list[Refused]:
    """Calls that were refused for the same reason within a day of that moment, the nearest ids last; at most 50."""
    moment = clock.seconds(around)
    rows = connection.execute(
        f"""SELECT * FROM refusals WHERE partner = :partner AND {equals("game_id", game_id)} AND reason = :reason
            AND created_at BETWEEN :since AND :until ORDER BY id DESC LIMIT 50""",  # noqa: S608  our own words
        {
            "partner": partner,
            "game_id": game_id,
            "reason": reason,
            "since": clock.stamp(moment - DAY_SECONDS),
            "until": clock.stamp(moment + DAY_SECONDS),
        },
    ).fetchall()
    return [opened(key, row) for row in rows]


def opened(key: MasterKey, row: Row) -> Refused:
    """A row of the ring; one that does not open under this key has an empty ``request``."""
    sealed = Sealed.of(row)
    request: Any = None
    with suppress(VaultError, ValueError):
        request = json.loads(key.unseal(keyring.REFUSAL_PURPOSE, sealed))
    is_opened = isinstance(request, dict)
    return Refused(
        **{name: row[name] for name in _AS_STORED},
        is_opened=is_opened,
        is_simulated=bool(row["is_simulated"]),
        request=request if is_opened else {},
    )


_AS_STORED = (
    "id game_id partner endpoint reason status remote_address body_size created_at state reference detail player_id "
    "currency amount_minor seen last_at ended_at note"
).split()
