"""A partner's card: what one folder of ``handlers/`` brings to the application.

Partners do not import each other; what they share is in ``handlers/kit`` and ``coinslot``.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Response
from marshmallow import Schema

from coinslot.base.outbound import Outbound
from coinslot.games.games import Game
from coinslot.games.options import Setting, duration, one_of
from coinslot.installation import Installation, Job
from coinslot.ledger.refused import Claim
from coinslot.operations.refusals import Refused
from coinslot.outbox.formats import Format
from coinslot.settlement.columns import ReportFormat
from coinslot.settlement.runs import Run
from coinslot.settlement.terms import InGame
from coinslot.store.db import Connection
from handlers.kit.explain import Known
from handlers.kit.explain_words import Finding
from handlers.kit.previews import Formula, Window


@dataclass(frozen=True)
class Call:
    """One call of a simulated partner: what is sent, and what a healthy server answers.

    ``expect`` gets the status and the body and says what is wrong with them, or None. ``sample_of`` is the endpoint
    that this call is the sample of.
    """

    title: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    expected: str
    expect: Callable[[int, bytes], str | None]
    sample_of: str = ""


def answered_object(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer to a simulated call; empty for anything else."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


# What is known of an address after it is set up, in this order (handlers/dashboard/integration/checklist.py).
STEPS = ("copied", "seen", "proved", "player", "credited", "accepted", "read")


@dataclass(frozen=True)
class Address:
    """One of our addresses, as the owner sets it up at the partner.

    ``name`` is the field it is pasted into, in the partner's own words; in ``path``, ``{game}`` is the slug. ``lacks``
    names the secrets and settings without which calls there fail. ``steps`` are those of :data:`STEPS` that
    apply to it; a call to one of ``followed_by`` shows that an answer given here was taken. ``unsent`` says why
    there may be no sample to send.
    """

    endpoint: str
    name: str
    path: str
    what_for: str
    lacks: Callable[[Game], Sequence[str]]
    healthy: str
    is_mandatory: bool = False
    steps: tuple[str, ...] = STEPS[:3]
    followed_by: tuple[str, ...] = ()
    unsent: str = ""


@dataclass(frozen=True)
class Key:
    """A secret of a game that a partner uses; a name that ends in ``.*`` is a family of secrets.

    ``name`` is the partner's own word. ``is_proof``: callers prove themselves with it, so that a previous value has
    its use and the last use is known. ``has_lines``: may be a text of several lines. ``doubt`` says of a value why it
    cannot work as it is, in words that hold nothing of it, as in "it has no colon"; empty where nothing is wrong.
    """

    secret: str
    name: str
    what_for: str
    is_mandatory: bool = False
    is_proof: bool = True
    has_lines: bool = False
    doubt: Callable[[str], str] = lambda value: ""


@dataclass(frozen=True)
class EntryRecipe:
    """How the game's server signs the address with which its players enter at a partner's.

    ``parameters`` are the names of those for user, campaign and auth. ``form`` is what auth looks like and ``message``
    what is signed; every second part is the name of a place. ``secret`` is the key's name.
    """

    title: str
    url: str
    parameters: tuple[str, str, str]
    digest: str
    is_keyed: bool
    encoding: str
    form: tuple[str, ...]
    message: tuple[str, ...]
    secret: str


@dataclass(frozen=True)
class Check:
    """What a simulation looks at itself once the calls before it are answered: our database, or another server.

    ``look`` says what it found, and what is wrong with that, or None. It holds no secret.
    """

    title: str
    expected: str
    look: Callable[[], tuple[str, str | None]]


@dataclass(frozen=True)
class GameCall:
    """A call of the game API: its address under ``/game/v1``, who answers it, and what the OpenAPI document says.

    ``answers`` is status -> schema, None for no body; ``errors`` are answered by problem documents beside 401
    and 503; ``is_open`` marks a call that needs no token.
    """

    method: str
    path: str
    function: Callable[..., Any]
    summary: str
    answers: Mapping[int, type[Schema] | None]
    body: type[Schema] | None = None
    parameters: tuple[Mapping[str, Any], ...] = ()
    errors: tuple[int, ...] = ()
    is_open: bool = False


@dataclass(frozen=True)
class Report(ReportFormat):
    """How to read a partner's own figures of a month, to compare ours with them (``coinslot/settlement``).

    ``read`` asks the partner itself for some more, until a deadline in monotonic seconds, stores that, and returns
    whether there is more; it raises JobError. ``is_askable`` is whether the game can ask. ``are_movements``: each row
    is one movement of money, and a refund is in the report of its own month; else a row is the state of a purchase.
    """

    read: Callable[[Installation, Game, Run, float], bool]
    is_askable: Callable[[Game], bool]
    are_movements: bool


@dataclass(frozen=True)
class Refunds:
    """How a person has the partner give the money of an order back (``handlers/kit/refunding.py``).

    ``sender(game, outbound, environment)`` gives the function that sends one request, of the order's id and of who asks
    as one ASCII word; for an order of an ``environment`` that the game is not in, or without a key, it raises
    NotConfiguredError. The function raises ApiError and ends in :data:`LONGEST_REFUND_SECONDS`. ``job`` reads the
    partner's report, and begins ``first_look_seconds`` after a request.
    """

    sender: Callable[[Game, Outbound, str | None], Callable[[str, str], None]]
    job: str
    first_look_seconds: float


LONGEST_REFUND_SECONDS = 10.0  # so long a page waits for the answer


@dataclass(frozen=True)
class Partner:
    """What a partner brings to the application; ``app.py`` lists them."""

    name: str
    title: str
    blueprint: Blueprint
    addresses: tuple[Address, ...]  # to be pasted into the partner's dashboard
    keys: tuple[Key, ...]
    settings: Mapping[str, Setting]
    is_configured: Callable[[Game], bool]
    missing: Callable[[Game], list[str]]  # in sentences, what a game still lacks
    simulate: Callable[[Game], Iterator[Call | Check]]  # plays the partner against a running server
    refuse: Callable[[int, str], Response] = field(repr=False)
    roots: tuple[str, ...] = ()  # first words of its paths beside its name
    report: Report | None = None  # of a partner with figures of its own
    # What is set and cannot work; the second argument is job -> its last error, of the jobs that failed.
    wrong: Callable[[Game, Mapping[str, str]], list[str]] = lambda game, errors: []
    unset: Callable[[Game], list[str]] = lambda game: []  # what a configured game could set and does not
    commands: Mapping[str, str] = field(default_factory=dict)  # name -> module, imported on first use
    game_calls: tuple[GameCall, ...] = ()
    jobs: Mapping[str, Job] = field(default_factory=dict)  # name -> what runs when due (coinslot/relay/jobs.py)
    job_names: Mapping[str, str] = field(default_factory=dict)  # name of a job -> what people call it
    # Called inside the write that changed the profiles of these players.
    profiles_pushed: Callable[[Connection, Game, Sequence[str]], None] = lambda tx, game, player_ids: None
    # Why a call was refused; for the owner alone.
    diagnose: Callable[[Refused, Known], Finding] = lambda call, known: Finding("Nobody knows why.", is_sure=False)
    formats: tuple[Format, ...] = ()  # of deliveries, beside the standard one
    in_game: InGame | None = None  # of the one partner whose months hold the in-game payments
    secret_names: Mapping[str, str] = field(default_factory=dict)  # what a sentence calls its secrets
    formulas: tuple[Formula, ...] = ()  # settings with an expression that a page can try
    try_window: Callable[[Installation, Game, int], Window] | None = None  # one window of days; stores nothing
    agreed: tuple[str, ...] = ()  # settings that follow from the agreement with the partner
    send_again: str = "ask the partner to report it again"  # how the owner gets an order reported again
    # What the current request reports, if it is signed with a key of this game, whatever else is wrong with it; None if
    # it is not. The second argument is the endpoint.
    claim: Callable[[Game, str], Claim | None] = lambda game, endpoint: None
    # A call of this content to one of its endpoints, proved as the partner proves it; ``flask demo`` plays with it.
    proved: Callable[[Game, str, Any], Call] | None = None
    entry: Callable[[Game], EntryRecipe | None] = lambda game: None  # how the game signs entries
    refunds: Refunds | None = None  # of a partner whose API refunds an order

    @property
    def urls(self) -> dict[str, str]:
        """Field -> path with ``{game}``."""
        return {address.name: address.path for address in self.addresses}

    @property
    def secrets(self) -> dict[str, str]:
        """Name of a secret -> what it is."""
        return {key.secret: f"{key.name}: {key.what_for}" for key in self.keys}

    def sample(self, game: Game, endpoint: str) -> Call | None:
        """A good call to one of the addresses, naming the reserved player and item; None where there is none."""
        calls = (step for step in self.simulate(game) if isinstance(step, Call))
        return next((call for call in calls if call.sample_of == endpoint), None)


def silence_setting(partner: Partner) -> Setting:
    """``silence.<partner>``, which every partner has (coinslot/operations/silence.py)."""
    about = (
        f"after how long without a call of {partner.title} you are warned, at each address that it has called: learned "
        "from its own calls (auto), never (off), or a time such as 6h or 2d"
    )
    return Setting(about, duration("auto", "off"), "auto", "Warn when calls stop")


def addresses_of(game: str, partners: Sequence[Partner], public_url: str) -> list[tuple[str, str, str]]:
    """(partner's title, address's name, URL): what is pasted into each partner's dashboard for the slug ``game``."""
    return [
        (partner.title, name, public_url + path.format(game=game))
        for partner in partners
        for name, path in partner.urls.items()
    ]


WHEN_GAME_DOWN = Setting(
    "a new credit while a destination of the game is down: accept and deliver later, or refuse it for now",
    one_of("accept", "refuse"),
    "accept",
    "Credits while the game is down",
)
