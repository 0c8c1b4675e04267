"""The map of the application: every handler is one line below, and nothing here touches the disk.

Follow an order through it: Appcharge calls ``report_order`` in ``handlers/appcharge/orders.py``; ``enter`` in
``handlers/appcharge/receive.py`` has the caller prove itself; ``coinslot/ledger/credit.py`` credits, inside one write
of ``coinslot/store/db.py``. Playtem is ``handlers/playtem/credit.py``; the game reads at ``handlers/game``.
``docs/architecture.md`` goes on from here, step by step, and draws the folders.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from pathlib import Path

from flask import Flask, Response, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from coinslot.base import literals, request_ids
from coinslot.base.log_lines import LogLines
from coinslot.base.settings import Settings
from coinslot.games import games
from coinslot.games.options import COMMON_SECRETS, COMMON_SETTINGS
from coinslot.games.retention import SETTINGS as RETENTION_SETTINGS
from coinslot.installation import Following, Installation, OwnJob
from coinslot.operations import certificate, feeds, follower, nightly, retention, search_job
from coinslot.operations.alerts import heartbeat, targets
from coinslot.outbox.formats import FORMATS
from coinslot.settlement.terms import SETTINGS as SETTLEMENT_SETTINGS
from coinslot.store.db import BusyError
from coinslot.store.errors import MovedError
from handlers import commands, dashboard, game, health
from handlers.kit import alerting, demo_world, partner_reports, wrong_addresses
from handlers.kit.bodies import LARGEST_BODY, WholeBodies
from handlers.kit.headers import ReadHeaders, refuse_oversized
from handlers.kit.partner import Partner, silence_setting
from handlers.kit.request_ids import RequestIds

NAMES = ("appcharge", "playtem", "playcamp", "xsolla")  # a new partner is one name here
PARTNERS: tuple[Partner, ...] = tuple(import_module(f"handlers.{name}").partner for name in NAMES)
# Of the installation as a whole: name -> what runs when due.
OWN_JOBS: dict[str, OwnJob] = {
    targets.JOB: alerting.watch_and_send,
    heartbeat.JOB: alerting.beat,
    feeds.JOB: lambda installation: feeds.watch(installation.database),
    certificate.JOB: lambda installation: certificate.watch(installation.database, installation.settings.public_url),
    follower.JOB: lambda installation: follower.watch(installation.database, installation.settings.follower),
    search_job.NAME: Following(
        lambda installation: search_job.fill(installation.database, installation.vault), search_job.has_work
    ),
    retention.JOB: lambda installation: retention.run(
        installation.database, games.outlines(installation.database.read(), installation.catalogue)
    ),
    nightly.JOB: lambda installation: nightly.begin_when_due(
        installation.settings, installation.database, installation.started_at
    ),
}


class LateRule(Rule):
    """A rule that makes the function for its links on first use; making all of them is a tenth of the start."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        made = cache(partial(super()._compile_builder, append_unknown))
        return lambda rule, /, **values: made()(rule, **values)


def create_app(environment: Mapping[str, str] = os.environ) -> Flask:
    """The application. Raises ValueError, which names the variable, when the environment is malformed."""
    warnings.filterwarnings("ignore", module=literals.SOURCE)  # once: to do it at each call is not safe among threads
    app = Flask(__name__, static_folder=None)
    app.url_rule_class = LateRule
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # a doubled slash is another address, not a redirect to who knows where
    app.json = DefaultJSONProvider(app)
    app.json.sort_keys = False  # answers read in the order they are written in
    log_to_stderr(app.logger, logging.getLogger("coinslot"))

    settings = read_settings(environment)
    app.extensions["coinslot"] = new_installation(settings)
    app.extensions["coinslot"].job_context = app.app_context
    app.extensions["coinslot.partners"] = PARTNERS
    app.wsgi_app = game.EncodedSlashes(WholeBodies(app.wsgi_app))  # type: ignore[method-assign]
    app.wsgi_app = RequestIds(ReadHeaders(app.wsgi_app, settings.trusted_proxies))  # type: ignore[method-assign]
    app.before_request(refuse_oversized)

    for partner in PARTNERS:
        app.register_blueprint(partner.blueprint)
    app.register_blueprint(game.new_blueprint(PARTNERS))
    app.register_blueprint(dashboard.bp)
    app.register_blueprint(health.bp)
    commands.register(app, PARTNERS)

    # The first word of the path says who calls, and so in which form an error is answered.
    refusals = {root: partner.refuse for partner in PARTNERS for root in (partner.name, *partner.roots)}
    refusals["game"] = game.refuse
    refusals |= dict.fromkeys(dashboard.ROOTS, dashboard.refuse)

    @app.errorhandler(Exception)
    def answer_error(error: Exception) -> Response:
        refuse = refusals.get(request.path.split("/")[1], dashboard.refuse_elsewhere)
        if isinstance(error, HTTPException):
            if error.code == 405 or (error.code == 404 and request.url_rule is None):
                wrong_addresses.note(error.code)
            response = refuse(error.code or 500, error.name)
            for name, value in error.get_headers():
                if name in ("Allow", "Location", "Retry-After"):
                    response.headers[name] = value
            return response
        if isinstance(error, BusyError | MovedError):
            app.logger.error("%s %s was not answered: %s", request.method, request.endpoint, error)
            return refuse(503, "Busy; please try again")
        app.logger.error("error in %s %s", request.method, request.endpoint, exc_info=error)
        return refuse(503, f"Our own trouble, logged as {request_ids.current()}; please try again")

    return app


def new_installation(settings: Settings) -> Installation:
    """The core that handlers use, with the settings, secrets, jobs and formats of each partner."""
    return Installation(
        settings,
        catalogue=COMMON_SETTINGS
        | SETTLEMENT_SETTINGS
        | RETENTION_SETTINGS
        | {key: setting for partner in PARTNERS for key, setting in partner.settings.items()}
        | {f"silence.{partner.name}": silence_setting(partner) for partner in PARTNERS},
        secret_names=COMMON_SECRETS | {name: about for partner in PARTNERS for name, about in partner.secrets.items()},
        in_game=next(partner.in_game for partner in PARTNERS if partner.in_game is not None),
        jobs={name: job for partner in PARTNERS for name, job in partner.jobs.items()} | partner_reports.jobs(PARTNERS),
        formats={**FORMATS, **{each.name: each for partner in PARTNERS for each in partner.formats}},
        own_jobs=OWN_JOBS,
        demo_world=demo_world.answer,
    )


def read_settings(environment: Mapping[str, str]) -> Settings:
    proxies = environment.get("COINSLOT_TRUSTED_PROXIES", "0")
    if not (proxies.isascii() and proxies.isdigit() and int(proxies) <= 10):
        raise ValueError("COINSLOT_TRUSTED_PROXIES: use a number of proxies, 0 to 10")
    public_url = environment.get("COINSLOT_PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
    if not public_url.startswith(("http://", "https://")):
        raise ValueError("COINSLOT_PUBLIC_URL: use an http:// or https:// address")
    home = Path(environment.get("COINSLOT_HOME", "instance")).absolute()
    return Settings(
        home=home,
        backups=Path(environment.get("COINSLOT_BACKUPS") or home / "backups").absolute(),
        master_key=environment.get("COINSLOT_MASTER_KEY"),
        public_url=public_url,
        trusted_proxies=int(proxies),
        is_relaying=read_switch(environment, "COINSLOT_RELAY"),
        may_call_private=read_switch(environment, "COINSLOT_PRIVATE_TARGETS"),
        metrics_token=environment.get("COINSLOT_METRICS_TOKEN") or None,
        follower=Path(name).absolute() if (name := environment.get("COINSLOT_FOLLOWER")) else None,
        database=read_database(environment),
        bind=environment.get("COINSLOT_BIND", ""),
    )


def read_database(environment: Mapping[str, str]) -> str | None:
    """The URL of the database; None: the SQLite file in the home folder. It may hold a password: never quoted."""
    url = environment.get("COINSLOT_DATABASE") or None
    if url is None:
        return None
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("COINSLOT_DATABASE: use a postgresql:// address, or leave it out for SQLite")
    if not environment.get("COINSLOT_MASTER_KEY"):
        raise ValueError("COINSLOT_MASTER_KEY: with COINSLOT_DATABASE it is needed; a key file is on one machine alone")
    return url


def read_switch(environment: Mapping[str, str], name: str) -> bool:
    word = environment.get(name, "on")
    if word not in ("on", "off"):
        raise ValueError(f"{name}: use on or off")
    return word == "on"


def log_to_stderr(*loggers: logging.Logger) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLines())
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]
