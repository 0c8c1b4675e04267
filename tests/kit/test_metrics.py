"""/metrics: what was counted, for whoever brings the token; what could not be read is left out."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from coinslot.outbox import deliveries
from coinslot.store import counters
from tests import databases
from tests.conftest import Studio
from tests.owed import Owed

TOKEN = "test-metrics-token"


@pytest.fixture
def app(tmp_path):
    app = create_app({**databases.environment(tmp_path / "home"), "COINSLOT_METRICS_TOKEN": TOKEN})
    app.testing = False
    installation = app.extensions["coinslot"]
    installation.prepare()
    yield app
    installation.observations.flush()
    installation.database.close()


@pytest.fixture
def scrape(client):
    def read():
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        assert answer.content_type.startswith("text/plain; version=0.0.4")
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    return read


def of(figures, name, **labels):
    return figures.get((name, tuple(sorted(labels.items()))))


def test_without_a_token_set_there_is_no_such_page(tmp_path):
    for environment in ({}, {"COINSLOT_METRICS_TOKEN": ""}):
        app = create_app({**databases.environment(tmp_path / "none"), **environment})
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            assert app.test_client().get("/metrics", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", "Bearer x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xe9"]
)
def test_only_the_token_opens_it(client, given):
    answer = client.get("/metrics", headers={} if given is None else {"Authorization": given})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "coinslot_" not in answer.text


def test_the_token_shows_nowhere(app):
    assert TOKEN not in repr(app.extensions["coinslot"].settings)


def test_orders_show_as_they_were_counted(scrape, installation, studio, post_order):
    post_order()
    post_order()
    post_order(priceInCents=1)
    installation.observations.flush()
    figures = scrape()
    where = {"game": "demo", "partner": "appcharge"}
    assert of(figures, "coinslot_credits_total", **where) == 1
    assert of(figures, "coinslot_duplicates_total", **where) == 1
    assert of(figures, "coinslot_conflicts_total", **where) == 1
    assert of(figures, "coinslot_gross_minor_total", **where, currency="USD") == 999
    assert of(figures, "coinslot_last_call_timestamp_seconds", **where, endpoint="orders") > 0
    assert of(figures, "coinslot_unread") == 0
    assert not any("coins" in str(labels) for _, labels in figures)  # a catalogue makes too many series


def test_deliveries_jobs_and_the_relay(scrape, installation, studio):
    owed = Owed(installation, studio)
    owed.destination()
    owed.credit(3)
    owed.record(owed.claim(1)[0], duration_ms=20)
    owed.record(owed.claim(1)[0], "timeout", duration_ms=20_000)
    installation.database.write_here(
        lambda tx: tx.execute(
            "INSERT INTO schedules (game_id, name, asked, failures) VALUES (:id, 'playcamp.poll', 1, 4)",
            {"id": studio.row["id"]},
        )
    )
    assert of(scrape(), "coinslot_relay_heartbeat_timestamp_seconds") is None
    installation.database.write_here(deliveries.beat)
    figures = scrape()
    assert of(figures, "coinslot_delivered_total", game="demo") == 1
    assert of(figures, "coinslot_failed_attempts_total", game="demo", failure="timeout") == 1
    assert of(figures, "coinslot_attempt_duration_seconds_bucket", game="demo", le="0.1") == 1
    assert of(figures, "coinslot_attempt_duration_seconds_bucket", game="demo", le="10.0") == 1
    assert of(figures, "coinslot_attempt_duration_seconds_bucket", game="demo", le="+Inf") == 2
    assert of(figures, "coinslot_deliveries", game="demo", state="waiting") == 2
    assert of(figures, "coinslot_deliveries", game="demo", state="dead") == 0
    assert of(figures, "coinslot_destination_up", game="demo", destination="game") == 1
    assert of(figures, "coinslot_job_failures", game="demo", job="playcamp.poll") == 4
    assert of(figures, "coinslot_payments", game="demo", state="parked") == 0
    assert of(figures, "coinslot_relay_heartbeat_timestamp_seconds") > 0


def test_counters_begin_anew_with_the_day(scrape, installation, studio, clock):
    installation.database.write_here(lambda tx: counters.add(tx, studio.row["id"], "appcharge", "credited", 5))
    assert of(scrape(), "coinslot_credits_total", game="demo", partner="appcharge") == 5
    clock.shift(86400)
    assert of(scrape(), "coinslot_credits_total", game="demo", partner="appcharge") is None


def test_what_cannot_be_read_is_left_out_and_not_0(scrape, installation, studio):
    installation.database.write_here(lambda tx: tx.execute("DROP TABLE heartbeats"))
    installation.database.write_here(lambda tx: tx.execute("DROP TABLE contacts"))
    figures = scrape()
    assert of(figures, "coinslot_unread") == 2
    assert of(figures, "coinslot_deliveries", game="demo", state="dead") == 0
    assert not [name for name, _ in figures if name.startswith(("coinslot_last_", "coinslot_relay"))]


def test_hostile_words_do_not_break_the_format(scrape, installation, studio):
    word = 'a"b\\c\nd 1\ncoinslot_credits_total 5 \u202e😀'
    installation.database.write_here(lambda tx: counters.add(tx, studio.row["id"], "appcharge", "refused", label=word))
    figures = scrape()
    assert of(figures, "coinslot_refused_calls_total", game="demo", partner="appcharge", reason=word) == 1
    assert not [name for name, labels in figures if name == "coinslot_credits_total" and not labels]


def test_a_scrape_asks_no_more_with_more_games(client, installation, studio):
    def statements():
        with databases.statements(installation) as seen:
            client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        return len(seen)

    few = statements()
    for number in range(10):
        Studio(installation, f"game-{number}")
    assert statements() == few <= (20 if databases.IS_POSTGRES else 15)  # there the engine's own are seen too
