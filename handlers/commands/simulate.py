"""``flask simulate``: every configured partner, played against a running server and signed with the stored secrets.

What is printed holds no secret, signature or token, not even where a server echoes what it was sent.
"""

from collections.abc import Iterator

import click

from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.games.options import web_address
from handlers.kit import sending
from handlers.kit.console import Command, checked_option, opened_game, table
from handlers.kit.partner import Call, Check, Partner
from handlers.kit.receive import current_installation, partners

TIMEOUT_SECONDS = 15
EXCERPT = 48  # characters of an answer's body
FINDING = 120


@click.command("simulate", cls=Command)
@click.argument("game")
@click.option("--url", help="Where the server answers; COINSLOT_PUBLIC_URL when left out.")
def simulate(game: str, url: str | None) -> None:
    """Play every configured partner of GAME against the running server.

    Good calls, repeats, forgeries, and what came of them: a table of what was sent, expected and answered. Exit status
    1 when an answer is a surprise or there is none. Only the reserved test player and item are named, so nothing of it
    counts, and it may be run again and again.
    """
    opened = opened_game(game)
    base = checked_option("--url", web_address, url or current_installation().settings.public_url).rstrip("/")
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
        for partner, step in _steps(configured, opened):
            if isinstance(step, Check):
                answered, surprise = step.look()
                answered = shown(answered, FINDING)
            else:
                answer = sending.send(base, step, TIMEOUT_SECONDS)
                surprise = step.expect(answer.status, answer.body)
                answered = f"{answer.status} {_excerpt(answer.body, opened, step)}"
            surprises += surprise is not None
            verdict = "ok" if surprise is None else f"SURPRISE: {surprise}"
            rows.append((partner.title, step.title, step.expected, answered, verdict))
    except sending.UnreachableError as error:
        trouble = f"{base}: {error}"
    if len(rows) > 1:
        click.echo(table(rows))
    if trouble is not None:
        raise click.ClickException(trouble)
    if surprises:
        raise click.ClickException(f"{surprises} of {len(rows) - 1} answers were a surprise")
    click.echo(f"All {len(rows) - 1} answers were as expected.")


def _steps(configured: list[Partner], game: Game) -> Iterator[tuple[Partner, Call | Check]]:
    for partner in configured:
        for step in partner.simulate(game):
            yield partner, step


def _excerpt(body: bytes, game: Game, call: Call) -> str:
    text = sending.without_proofs(body.decode("utf-8", errors="replace"), game, call)
    return shown(" ".join(text.split()), EXCERPT)


COMMANDS: tuple[click.Command, ...] = (simulate,)
