"""``flask alert``: who is sent the troubles, and the heartbeat for a watcher outside."""

import click

from coinslot.operations.alerts import heartbeat, sending, targets
from handlers.kit import alerting
from handlers.kit.console import Group, read_value, table
from handlers.kit.receive import current_installation
from handlers.kit.wording import NOTHING, utc_moment


@click.group("alert", cls=Group)
def alert() -> None:
    """Who is sent the troubles of this installation."""


@alert.command("add")
@click.argument("name")
def add(name: str) -> None:
    """Add a target NAME. Its Apprise URL is read from standard input or a hidden prompt, and stored sealed."""
    installation = current_installation()
    installation.prepare()
    targets.check_name(installation.database.read(), name)
    url = read_value("URL").strip()
    scheme = sending.understood_scheme(url)
    installation.database.write_here(lambda tx: targets.add(tx, installation.vault, name, url, scheme, actor="command"))
    click.echo(f"{name} ({scheme}) is added. Try it: flask alert test {name}")


@alert.command("list")
def list_targets() -> None:
    """The targets, what arrived there last, and how it last failed. No URL is shown."""
    connection = current_installation().database.read()
    rows = targets.listing(connection)
    if rows:
        head = ("name", "scheme", "last sent", "last failure")
        cells = [
            (
                row["name"],
                row["scheme"],
                utc_moment(row["last_sent_at"]),
                f"{utc_moment(row['last_failed_at'])} {row['last_failure']}" if row["last_failure"] else NOTHING,
            )
            for row in rows
        ]
        click.echo(table([head, *cells]))
    else:
        click.echo("There is no alert target: nobody is sent a trouble. `flask alert add NAME` adds one.")
    state = heartbeat.state(connection)
    failure = f", last failure: {state.failure}" if state.failure else ""
    click.echo(f"Heartbeat: {f'on, last arrived: {utc_moment(state.arrived_at)}{failure}' if state.is_on else 'off'}")


@alert.command("test")
@click.argument("name")
@click.pass_context
def test(context: click.Context, name: str) -> None:
    """Send a test to NAME now and say whether the service took it; exit 1 if not."""
    failure = alerting.send_test(current_installation(), name)
    if failure is None:
        click.echo(f"{name} took the test.")
        return
    click.echo(f"{name} did not take the test: {failure}.", err=True)
    context.exit(1)


@alert.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the target NAME and what waits for it."""
    current_installation().database.write_here(lambda tx: targets.remove(tx, name, actor="command"))
    click.echo(f"{name} is removed.")


@alert.command("heartbeat")
@click.argument("url", required=False)
def set_heartbeat(url: str | None) -> None:
    """Call URL once a minute while this installation is ready; `off` ends it. Without URL it is read from a prompt."""
    installation = current_installation()
    installation.prepare()
    chosen = (read_value("URL") if url is None else url).strip()
    if chosen == "off":
        was_on = installation.database.write_here(lambda tx: heartbeat.turn_off(tx, actor="command"))
        click.echo("The heartbeat is off." if was_on else "There is no heartbeat; nothing was changed.")
        return
    installation.database.write_here(lambda tx: heartbeat.set_url(tx, installation.vault, chosen, actor="command"))
    click.echo("The heartbeat is on: its URL is called once a minute while this installation is ready.")


COMMANDS: tuple[click.Command, ...] = (alert,)
