"""For monitoring: whether the process is up, whether it could credit a purchase now, and figures for Prometheus."""

import hmac
from collections.abc import Callable, Iterator, Mapping

from flask import Blueprint, Response, current_app, jsonify, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from coinslot.base import clock
from coinslot.games import games
from coinslot.installation import Installation
from coinslot.operations import contacts, proofs, readiness
from coinslot.outbox import attempts, deliveries, destinations
from coinslot.outbox import lists as delivery_lists
from coinslot.outbox.attempts import COUNTED_AS
from coinslot.payments import lists
from coinslot.relay import jobs
from coinslot.store import counters
from coinslot.store.db import Connection, DatabaseError, EngineError
from handlers.kit import troubles
from handlers.kit.receive import current_installation, plain_error

# A counter's name -> the metric, and what it means; below, of a counter with a label, the metric's name for that.
OF_PARTNERS = {
    "credited": ("coinslot_credits", "Grants made, without tests."),
    "credited.test": ("coinslot_test_credits", "Grants made that are tests."),
    "duplicate": ("coinslot_duplicates", "Calls that repeated a known transaction and credited nothing."),
    "conflict": ("coinslot_conflicts", "Calls that named a known transaction with other content."),
    "failed": ("coinslot_failed_orders", "Orders reported as failed."),
    "reversed": ("coinslot_reversals", "Grants reversed."),
    "restored": ("coinslot_restored", "Reversals undone by a dispute that was won."),
}
WITH_LABEL = {
    "called": ("coinslot_calls", "endpoint", "Calls that proved themselves."),
    "refused": ("coinslot_refused_calls", "reason", "Calls that were refused."),
    "gross": ("coinslot_gross_minor", "currency", "Paid by players, in minor units of the currency."),
    "refunded": ("coinslot_refunded_minor", "currency", "Refunded to players, in minor units of the currency."),
    "returned": ("coinslot_returned_minor", "currency", "Of that, brought back by disputes won, in minor units."),
}


bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers. Touches nothing."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> Response:
    """A credit could be made now: the writer gets its lock, key, disk and relay are there. 503 if not."""
    installation = current_installation()
    found = readiness.checks(installation.database, installation.vault)
    is_ready = readiness.is_ready(found)
    response = jsonify(status="ready" if is_ready else "not ready", checks=found)
    response.status_code = 200 if is_ready else 503
    return response


@bp.get("/metrics")
def metrics() -> Response:
    """Figures for Prometheus. 404 unless a token is configured, 401 for a call without that token."""
    installation = current_installation()
    token = installation.settings.metrics_token
    if token is None:
        return plain_error(404, "Not Found")
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Compared first, whatever the scheme, so that the time it takes tells nothing.
    is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    if not is_right or scheme.lower() != "bearer":
        response = plain_error(401, "Unauthorized")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(installation))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Figures(Collector):
    """One scrape's worth of figures."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def collect(self) -> Iterator[Metric]:
        connection = self._installation.database.read()
        unread = 0
        try:
            slugs = {row["id"]: row["slug"] for row in games.every(connection)}
        except (EngineError, DatabaseError) as error:
            current_app.logger.error("metrics: the games could not be read: %s", error)
            yield _unread(1)
            return
        readers: tuple[Callable[[Connection, dict[int, str]], list[Metric]], ...] = (
            _counted,
            _queues,
            _payments,
            _contacts,
            _destinations,
            _jobs,
            _relay,
            _proofs,
        )
        for read in readers:
            try:
                found = read(connection, slugs)
            except (EngineError, DatabaseError) as error:
                current_app.logger.error("metrics: %s could not be read: %s", read.__name__.strip("_"), error)
                unread += 1
                continue
            yield from found
        yield from _troubles(self._installation)
        yield _unread(unread)


def _unread(count: int) -> Metric:
    return GaugeMetricFamily(
        "coinslot_unread", "Groups of figures that are left out because they could not be read.", value=count
    )


def _troubles(installation: Installation) -> list[Metric]:
    labels = ("key", "severity", "game")
    counts = GaugeMetricFamily("coinslot_trouble", "Troubles that stand, each with its count.", labels=labels)
    money = GaugeMetricFamily(
        "coinslot_trouble_money", "Money at stake in a trouble, in major units.", labels=("key", "game", "currency")
    )
    for each in troubles.list_troubles(installation):
        counts.add_metric((each.key, each.severity, each.game or ""), each.count)
        for currency, amount in each.money.items():
            money.add_metric((each.key, each.game or "", currency), float(amount.split(" ")[0]))
    return [counts, money]


def _counted(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    rows = counters.list_day(connection, clock.stamp()[:10])
    plain = {
        name: CounterMetricFamily(metric, about, labels=("game", "partner"))
        for name, (metric, about) in OF_PARTNERS.items()
    }
    labelled = {
        name: CounterMetricFamily(metric, about, labels=("game", "partner", label))
        for name, (metric, label, about) in WITH_LABEL.items()
    }
    delivered = CounterMetricFamily("coinslot_delivered", "Deliveries taken by the game.", labels=("game",))
    failed = CounterMetricFamily("coinslot_failed_attempts", "Attempts that failed.", labels=("game", "failure"))
    dead = CounterMetricFamily("coinslot_died", "Deliveries that became dead letters.", labels=("game",))
    took: dict[str, dict[str, int]] = {}
    for row in rows:
        slug, partner, name, label, value = row
        if partner == COUNTED_AS:
            if name == "delivered":
                delivered.add_metric((slug,), value)
            elif name == "dead":
                dead.add_metric((slug,), value)
            elif name == "failed":
                failed.add_metric((slug, label), value)
            elif name == "took":
                took.setdefault(slug, {})[label] = value
        elif name in plain:
            plain[name].add_metric((slug, partner), value)
        elif name in labelled:
            labelled[name].add_metric((slug, partner, label), value)
    return [*plain.values(), *labelled.values(), delivered, failed, dead, _durations(took)]


def _durations(took: dict[str, dict[str, int]]) -> Metric:
    """Attempts by how long they took. There is no sum: only the ranges are counted."""
    durations = HistogramMetricFamily(
        "coinslot_attempt_duration_seconds", "How long attempts took, as ranges.", labels=("game",)
    )
    for slug, counted in took.items():
        total = 0
        buckets: list[tuple[str, float]] = []
        for limit in attempts.TOOK_MS:
            total += counted.get(str(limit), 0)
            buckets.append((f"{limit / 1000}", total))
        durations.add_metric((slug,), [*buckets, ("+Inf", total + counted.get("more", 0))], sum_value=None)
    return durations


def _queues(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    about = f"Deliveries that wait or are dead now; counted up to {delivery_lists.COUNTED_TO + 1}."
    return _by_state("coinslot_deliveries", about, slugs, delivery_lists.queues(connection))


def _payments(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    about = f"In-game payments by state; counted up to {lists.COUNTED_TO + 1}."
    shown = ("parked", "waiting", "quarantined", "refund-refused")
    counts = lists.capped_counts(connection)
    states = {game_id: {state: counted[state] for state in shown} for game_id, counted in counts.items()}
    return _by_state("coinslot_payments", about, slugs, states)


def _by_state(
    metric: str, about: str, slugs: Mapping[int, str], counts: Mapping[int, Mapping[str, int]]
) -> list[Metric]:
    """``counts`` are game id -> state -> how many."""
    family = GaugeMetricFamily(metric, about, labels=("game", "state"))
    for game_id, counted in counts.items():
        for state, count in counted.items():
            family.add_metric((slugs.get(game_id, ""), state), count)
    return [family]


def _contacts(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    labels = ("game", "partner", "endpoint")
    proved = GaugeMetricFamily("coinslot_last_call_timestamp_seconds", "When a call last proved itself.", labels=labels)
    refused = GaugeMetricFamily("coinslot_last_refusal_timestamp_seconds", "When one was last refused.", labels=labels)
    for row in contacts.of_all(connection):
        for family, at in ((proved, row["proved_at"]), (refused, row["refused_at"])):
            if at is not None:
                where = (slugs.get(row["game_id"], ""), row["partner"], row["endpoint"])
                family.add_metric(where, clock.seconds(at))
    return [proved, refused]


def _destinations(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    family = GaugeMetricFamily(
        "coinslot_destination_up",
        "Whether deliveries are sent to a destination: 0 while it rests or is paused.",
        labels=("game", "destination"),
    )
    for row in destinations.of_all(connection):
        is_up = row["state"] == "active" and row["circuit_open_since"] is None
        family.add_metric((slugs.get(row["game_id"], ""), row["name"]), int(is_up))
    return [family]


def _jobs(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    failures = GaugeMetricFamily("coinslot_job_failures", "Failures in a row of a job.", labels=("game", "job"))
    ran = GaugeMetricFamily("coinslot_job_last_run_timestamp_seconds", "When it last ran.", labels=("game", "job"))
    for row in jobs.listing(connection):
        which = (slugs.get(row["game_id"], ""), row["name"])
        failures.add_metric(which, row["failures"])
        if row["last_ran_at"] is not None:
            ran.add_metric(which, clock.seconds(row["last_ran_at"]))
    return [failures, ran]


def _relay(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    beat = deliveries.last_beat(connection)
    family = GaugeMetricFamily("coinslot_relay_heartbeat_timestamp_seconds", "When a relay last said that it runs.")
    if beat is not None:
        family.add_metric((), beat)
    return [family]


def _proofs(connection: Connection, slugs: dict[int, str]) -> list[Metric]:
    last, good = proofs.last(connection), proofs.last_good(connection)
    found: list[Metric] = []

    def gauge(name: str, about: str, value: float) -> None:
        found.append(GaugeMetricFamily(f"coinslot_{name}", about, value=value))

    if last is not None:
        gauge("proof_success", "Whether the last proof of a backup found nothing wrong.", int(last.fault is None))
        gauge("proof_timestamp_seconds", "When the last proof ended.", clock.seconds(last.ended_at))
        gauge("proof_duration_seconds", "How long the last proof took, the backup included.", last.took_ms / 1000)
        gauge("backup_kept", "Backups that are kept, each proved.", last.kept)
    if good is not None:
        gauge(
            "proof_last_success_timestamp_seconds",
            "When a proof last found nothing wrong.",
            clock.seconds(good.ended_at),
        )
        gauge("backup_timestamp_seconds", "When the newest proved backup was begun.", clock.seconds(good.began_at))
        gauge("backup_size_bytes", "Size of the newest proved backup.", good.size_bytes or 0)
    return found
