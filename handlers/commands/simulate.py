"""``flask simulate``: every configured partner, played against a running server and signed with the stored secrets.

What is printed holds no secret, signature or token, not even where a server echoes what it was sent.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

import click
import urllib3
from flask.cli import with_appcontext

from coinslot.games import Game, GameError, web_address
from handlers import SIMULATED, Call, Partner, installation, partners
from handlers.console import shown, table
from handlers.trouble import in_words

TIMEOUT_SECONDS = 15
LARGEST_ANSWER = 64 * 1024
EXCERPT = 48  # characters of an answer's body
HIDDEN = "[hidden]"
PUBLIC_HEADERS = ("content-type", "x-webhook-batch")
SHORTEST_PROOF = 8  # characters of what proves anything; shorter values of headers are flags and counts


class UnreachableError(Exception):
    """The server gave no HTTP answer."""


@click.command("simulate")
@click.argument("game")
@click.option("--url", help="Where the server answers; COINSLOT_PUBLIC_URL when left out.")
@with_appcontext
@in_words
def simulate(game: str, url: str | None) -> None:
    """Play every configured partner of GAME against the running server.

    Good calls, repeats, forgeries: a table of what was sent, expected and answered. Exit status 1 when an answer is
    a surprise or there is none. Only the reserved test player and item are named, so nothing of it counts, and it
    may be run again and again.
    """
    house = installation()
    opened = house.games.by_slug(game)
    if opened is None:
        raise GameError(f"there is no game {game}")
    base = _checked_url(url or house.settings.public_url)
    configured = [partner for partner in partners() if partner.is_configured(opened)]
    skipped = [partner.title for partner in partners() if not partner.is_configured(opened)]
    if skipped:
        click.echo(f"Skipped, not configured: {', '.join(skipped)}")
    if not configured:
        raise click.ClickException(f"no partner of {game} is configured; `flask secret set` gives it keys")

    rows = [("partner", "sent", "expected", "answered", "")]
    surprises = 0
    trouble = None
    try:
        for partner, call in _calls(configured, opened):
            status, body = _play(base, call)
            surprise = call.expect(status, body)
            surprises += surprise is not None
            answered = f"{status} {_excerpt(body, opened, call)}"
            verdict = "ok" if surprise is None else f"SURPRISE: {surprise}"
            rows.append((partner.title, call.title, call.expected, answered, verdict))
    except UnreachableError as error:
        trouble = f"{base}: {error}"
    if len(rows) > 1:
        click.echo(table(rows))
    if trouble is not None:
        raise click.ClickException(trouble)
    if surprises:
        raise click.ClickException(f"{surprises} of {len(rows) - 1} answers were a surprise")
    click.echo(f"All {len(rows) - 1} answers were as expected.")


def _calls(configured: list[Partner], game: Game) -> Iterator[tuple[Partner, Call]]:
    for partner in configured:
        for call in partner.simulate(game):
            yield partner, call


def _checked_url(url: str) -> str:
    try:
        return web_address(url).rstrip("/")
    except ValueError as error:
        raise click.ClickException(f"--url: {error}") from None


def _play(base: str, call: Call) -> tuple[int, bytes]:
    """Raises :class:`UnreachableError`. Its words are ours: urllib3's would quote the URL, and a signature with it."""
    try:
        with urllib3.PoolManager() as pool:
            response = pool.request(
                call.method,
                base + call.path,
                headers={"User-Agent": SIMULATED, **call.headers},
                body=call.body,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(total=TIMEOUT_SECONDS),
                preload_content=False,
            )
            return response.status, response.read(LARGEST_ANSWER)
    except urllib3.exceptions.NameResolutionError:
        raise UnreachableError("there is no such host") from None
    except urllib3.exceptions.NewConnectionError:
        raise UnreachableError("nobody answers there; is the server running?") from None
    except urllib3.exceptions.TimeoutError:
        raise UnreachableError(f"no answer within {TIMEOUT_SECONDS} seconds") from None
    except urllib3.exceptions.SSLError:
        raise UnreachableError("no safe connection; the certificate or TLS is not right") from None
    except urllib3.exceptions.HTTPError:
        raise UnreachableError("what came back is not an HTTP answer") from None


def _excerpt(body: bytes, game: Game, call: Call) -> str:
    text = body.decode("utf-8", errors="replace")
    for word in _unspeakable(game, call):
        text = text.replace(word, HIDDEN)
    return shown(" ".join(text.split()), EXCERPT)


def _unspeakable(game: Game, call: Call) -> list[str]:
    """Secrets, and what was signed or proved with them, longest first so that no piece of one is left."""
    query = call.path.partition("?")[2].partition("=")[2]
    words = [value.value.decode() for values in game.secrets.values() for value in values]
    for name, value in call.headers.items():
        if name.lower() not in PUBLIC_HEADERS and len(value) >= SHORTEST_PROOF:
            words += [value, *(part for part in re.split("[=,]", value) if len(part) >= 8)]
    words += [query, unquote_plus(query)]
    return sorted({word for word in words if word}, key=len, reverse=True)


COMMANDS: tuple[click.Command, ...] = (simulate,)
