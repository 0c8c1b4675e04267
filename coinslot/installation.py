"""One installation: its settings, its folder, and the parts that use them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from coinslot.access import owner, page_facts
from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.base.outbound import Outbound, StandIn
from coinslot.base.settings import Settings
from coinslot.games.games import Game, Games
from coinslot.games.options import Setting
from coinslot.operations import forgetting, player_export
from coinslot.operations.observations import Observations
from coinslot.outbox.formats import FORMATS, Format
from coinslot.relay.loop import Relay
from coinslot.settlement.terms import InGame
from coinslot.store import audit
from coinslot.store.db import Connection, open_database

# Returns in how many seconds it wants to run again; None: only when it is asked for.
Job: TypeAlias = "Callable[[Installation, Game], float | None]"
OwnJob: TypeAlias = "Callable[[Installation], float | None]"  # of the installation as a whole; runs from the start on


class LinkError(Exception):
    """A setup link that does not work; ``is_spent``: it once did."""

    def __init__(self, message: str, is_spent: bool) -> None:
        super().__init__(message)
        self.is_spent = is_spent


class Installation:
    """Made without touching the disk; the parts open what they need when they are first used."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Mapping[str, Setting],
        secret_names: Mapping[str, str],
        in_game: InGame,
        jobs: Mapping[str, Job] | None = None,
        formats: Mapping[str, Format] = FORMATS,
        own_jobs: Mapping[str, OwnJob] | None = None,
        demo_world: StandIn | None = None,
    ) -> None:
        self.started_at = clock.now()
        self.settings = settings
        self.catalogue = catalogue
        self.secret_names = secret_names
        self.in_game = in_game
        self.jobs = jobs or {}
        self.own_jobs = own_jobs or {}
        self.job_context: Callable[[], AbstractContextManager[object]] = nullcontext  # that own jobs run in
        self.formats = formats
        self.database = open_database(settings.home, settings.database)
        self.vault = Vault(settings.home, settings.master_key)
        self.games = Games(self.database, self.vault, catalogue)
        self.observations = Observations(self.database, self.vault)
        self._demo_world = demo_world
        self.outbound = Outbound(settings.may_call_private, stand_in=self._stand_in)
        self.outbound_anywhere = Outbound(
            stand_in=self._stand_in
        )  # to what only the owner enters and only the owner hears of

    def elsewhere(self, settings: Settings, without: Collection[str] = ()) -> "Installation":
        """The same with other settings, such as another home, and without some of the jobs."""
        made = Installation(
            settings,
            self.catalogue,
            self.secret_names,
            self.in_game,
            {name: job for name, job in self.jobs.items() if name not in without},
            self.formats,
            {name: job for name, job in self.own_jobs.items() if name not in without},
            self._demo_world,
        )
        made.job_context = self.job_context
        return made

    def prepare(self) -> None:
        """Prepare to serve: make sure that folder, database and master key exist and belong together.

        Raises SchemaError or VaultError; then nothing may be served.
        """
        self.database.prepare()
        self.vault.prepare(self.database)

    def new_relay(self, pool: Executor | None = None) -> Relay:
        """A new relay of this process, not yet running. It works in ``pool``, or else in threads of its own."""
        jobs = {name: partial(self._run, job) for name, job in self.jobs.items()}
        jobs |= {name: partial(self._run_own, job) for name, job in self.own_jobs.items()}
        standing = [name for name, job in self.jobs.items() if isinstance(job, Standing)]
        has_work = {name: job.has_work for name, job in self.own_jobs.items() if isinstance(job, Following)}
        return Relay(
            self.database, self.vault, self.outbound, jobs, standing, self.formats, self.own_jobs, has_work, pool
        )

    def new_setup_link(self, base: str | None = None) -> str | None:
        """The link to set the first password; None once there is a password. ``base`` replaces the public URL."""
        if owner.has_password(self.database.read()):
            return None
        token = self._setup_tokens().dumps(self.database.write_here(owner.setup_nonce))
        return f"{self.settings.public_url if base is None else base}/setup?token={token}"

    def check_setup_token(self, token: str) -> None:
        """Raises :class:`LinkError` unless this is the newest link, has not expired, and there is no password yet."""
        try:
            nonce = self._setup_tokens().loads(token, max_age=owner.SETUP_LINK_SECONDS)
        except SignatureExpired:
            raise LinkError("this setup link has expired", is_spent=True) from None
        except BadSignature:
            raise LinkError("this is not a setup link", is_spent=False) from None
        connection = self.database.read()
        if owner.has_password(connection) or not owner.is_setup_nonce(connection, nonce):
            raise LinkError("this setup link has been used or replaced", is_spent=True)

    def forget_player(self, game: Game, player_id: str, actor: str) -> bool:
        """Forget a player of a game; returns whether there was anything to forget."""
        self.observations.flush()  # write what this process still holds
        return forgetting.forget(self.database, self.vault, game, player_id, actor)

    def export_player(self, game: Game, player_id: str, actor: str) -> Iterator[bytes] | None:
        """Everything kept about a player as JSON, piece by piece, and a line in the audit; None: nothing is kept."""
        self.observations.flush()  # write what this process still holds
        if not player_export.is_known(self.database.read(), game.id, player_id):
            return None
        self.database.write(lambda tx: audit.record(tx, game.id, actor, "player.export", player_id))
        return player_export.export(self.database, self.vault, game.id, game.slug, player_id)

    def _stand_in(self) -> StandIn | None:
        """A demo never calls out. Asked each time, since a restore may make this a demo, or no longer one."""
        return self._demo_world if page_facts.is_demo(self.database.read()) else None

    def _run(self, job: Job, slug: str) -> float | None:
        game = self.games.by_slug(slug)
        return None if game is None else job(self, game)

    def _run_own(self, job: OwnJob, slug: str) -> float | None:
        with self.job_context():
            return job(self)

    def _setup_tokens(self) -> URLSafeTimedSerializer:
        key = self.vault.current(self.database.read()).derive("setup link")
        return URLSafeTimedSerializer(key, salt="setup")


@dataclass(frozen=True)
class Standing:
    """A job that runs for every game; it finds out itself whether the game has it configured."""

    run: Job

    def __call__(self, installation: "Installation", game: "Game") -> float | None:
        return self.run(installation, game)


@dataclass(frozen=True)
class Following:
    """A job of the installation that follows the commits: when due, it is claimed only while ``has_work`` says so."""

    run: OwnJob
    has_work: Callable[[Connection], bool]

    def __call__(self, installation: "Installation") -> float | None:
        return self.run(installation)
