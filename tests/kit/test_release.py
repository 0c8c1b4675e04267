"""Which version runs: said to the owner, and to nobody else."""

from pathlib import Path

from coinslot import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_the_doctor_the_pages_and_the_docs_say_which_version_runs(app, browser, studio):
    assert f"ok     Coinslot {__version__}" in app.test_cli_runner().invoke(args=["doctor"]).output.splitlines()
    for path in ("/", "/account"):
        assert f"Coinslot {__version__}</footer>" in browser.get(path).text
    assert f"version {__version__}" in (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_open_addresses_do_not_say_it(client, studio, installation):
    for path in (
        *("/", "/login", "/setup?token=x", "/healthz", "/readyz", "/metrics", "/game/v1/openapi.json"),
        "/appcharge/x/orders",
    ):
        for answer in (client.get(path), client.post(path)):
            assert __version__ not in answer.text
            assert __version__ not in str(answer.headers)
