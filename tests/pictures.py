"""The pictures of the owner's pages in docs/, of what ``flask demo`` makes: ``python -m tests.pictures [FOLDER]``.

Nothing of it is a test; it stands here because it drives the same browser and server as they do.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.browsers import DESKTOP, PHONE, browsing, person, sign_in
from tests.fakes.http import closed_port
from tests.killing import flask
from tests.servers import ROOT, Server

GAME = "/games/space-miner"


class Picture(NamedTuple):
    """A page; ``then`` is the first of these links on it, which leads to the page that is meant."""

    path: str
    height: int
    viewport: dict[str, int] = DESKTOP
    then: str = ""


PICTURES = {
    "overview": Picture("/", 1150),
    "integration": Picture(f"{GAME}/integration/appcharge", 1000),
    "transaction": Picture(f"{GAME}/transactions?state=reversed", 1100, then="tbody th a"),
    "refusals": Picture(f"{GAME}/refusals", 760),
    "deliveries": Picture(f"{GAME}/deliveries", 900),
    "month": Picture(f"{GAME}/settlements", 1100, then="tbody tr:has-text('closed') a"),
    "phone": Picture("/", 844, PHONE),
}


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    port = closed_port()
    with tempfile.TemporaryDirectory() as parent:
        home = Path(parent, "home")
        status, said = flask(home, "demo").end()
        assert status == 0, said
        (password,) = re.findall(r"the password (\S+)", said)
        listen, public_url = ("-b", f"127.0.0.1:{port}"), f"http://127.0.0.1:{port}"
        with Server(home, listen=listen, COINSLOT_PUBLIC_URL=public_url) as server, browsing() as browser:
            for name, picture in PICTURES.items():
                with person(browser, server.url, {**picture.viewport, "height": picture.height}) as page:
                    sign_in(page, password)
                    page.wait_for_load_state()
                    _go(page, picture)
                    page.screenshot(path=folder / f"{name}.png")


def _go(page: Any, picture: Picture) -> None:
    page.goto(picture.path)
    if picture.then:
        page.locator(picture.then).first.click()
        page.wait_for_load_state()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")
