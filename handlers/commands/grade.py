"""``flask destination grade``: a game's endpoint, tested with grants that count for nothing."""

import click

from coinslot.base.spellings import shown
from coinslot.games import games
from coinslot.outbox import destinations
from coinslot.relay import grader
from handlers.kit.console import Command
from handlers.kit.grading import new_grader
from handlers.kit.receive import current_installation


@click.command("grade", cls=Command)
@click.argument("game")
@click.argument("name")
@click.pass_context
def grade(context: click.Context, game: str, name: str) -> None:
    """Test the endpoint behind destination NAME of GAME and say what to change.

    Sends test grants of the reserved player: good, repeated, out of order, forged, stale, large, slow. Exit status 1
    when there is a PROBLEM. Deliveries go on meanwhile, and nothing is written here.
    """
    installation = current_installation()
    connection = installation.database.read()
    destination_id = destinations.find_id(connection, game, name)
    listed = destinations.listing(connection, games.find(connection, game)["id"])
    row = next(row for row in listed if row["id"] == destination_id)
    keys = destinations.signing_secrets(connection, installation.vault, destination_id)
    if not keys:
        raise click.ClickException(f"{name} of {game} has no signing secret")
    destination = destinations.opened(row)

    click.echo(f"Test grants to {shown(destination.url, 200)}")
    if not destinations.wants(row["events"], "grant.created"):
        click.echo(f"({name} gets only {row['events']}; it is tested with grants all the same.)")
    findings = []
    for finding in new_grader(destination, keys).findings():
        findings.append(finding)
        click.echo(f"{'ok' if finding.is_ok else 'PROBLEM':<8} {finding.title}: {finding.words}")
    click.echo(grader.UNSEEN)
    click.echo(f"Grade: {grader.grade(findings)}")
    if not all(finding.is_ok for finding in findings):
        context.exit(1)
