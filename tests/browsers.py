"""Chromium as a person's browser: Debian's, driven by Playwright, and axe-core to say what a page lacks for whom."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
MISFITS = Path(__file__).parent / "misfits.js"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
PATIENCE_MS = 20_000
# A browser that looks for nothing on the network but the pages it is shown.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def chromium() -> str:
    """The program; a user without one skips these tests, CI must have it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed")
        pytest.skip("needs Chromium (Debian's package is called chromium)")
    return found


@contextmanager
def browsing() -> Iterator[Any]:
    """A browser of Playwright's; its contexts are as many people, each with cookies of their own."""
    program = chromium()
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def person(browser: Any, url: str, viewport: dict[str, int] = DESKTOP, **how: Any) -> Iterator[Any]:
    """A page of somebody who opens the server at ``url``; ``how`` are a Playwright context's options."""
    context = browser.new_context(viewport=viewport, base_url=url, **how)
    context.set_default_timeout(PATIENCE_MS)
    try:
        page = context.new_page()
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        yield page
    finally:
        context.close()


def sign_in(page: Any, password: str) -> None:
    page.goto("/login")
    page.fill("#password", password)
    page.click("main button")


def barriers(page: Any) -> list[str]:
    """What axe-core finds serious or worse on the page as it stands, one line each."""
    # Evaluated by the debugger, which the page's own policy does not bind.
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run(document)).violations")
    return [
        f"{each['id']} ({each['impact']}): {node['target']} {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def is_too_wide(page: Any) -> bool:
    """Whether the page itself must be scrolled sideways, as no page on a phone should be."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def misfits(page: Any) -> list[str]:
    """Values that are cut or outside of their box, tables that scroll sideways, and broken words; one line each."""
    found: list[str] = page.evaluate(MISFITS.read_text())
    return found
