"""One's own account: password, second factor, browsers; and, for owners, what concerns the installation as a whole."""

from collections.abc import Callable
from urllib.parse import urlsplit

import segno
from flask import Response, g, request
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import keyring, page_facts, people, second_factor, sessions, throttle
from coinslot.access.vault import MasterKey
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.games import games, registry
from coinslot.operations import backup
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.account.login import later
from handlers.dashboard.frame import privacy, times
from handlers.dashboard.frame.pages import download, page, read, see_other, show_on_error, who, write
from handlers.kit import passwords
from handlers.kit.partner import addresses_of
from handlers.kit.receive import current_installation, partners

CHUNK_BYTES = 256 * 1024


class UnconfirmedError(CoinslotError):
    """What was typed is not the person's password. ``status`` is that of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def account(at: str = "", status: int = 200, problem: str = "") -> Response:
    """The page of the account. When a form on it fails, ``problem`` is shown beside the form ``at``."""
    installation = current_installation()
    connection = installation.database.read()
    privacy.reveal()  # it is the person's own
    return page(
        "account.html",
        status,
        problems={at: problem} if problem else {},
        browsers=sessions.of(connection, g.person.id),
        this=g.session,
        has_second_factor=second_factor.is_on(connection, g.person),
        codes_left=second_factor.recovery_codes_left(connection, g.person),
        games=games.every(connection),
        zone=getattr(g.zone, "key", "UTC"),
        zones=times.choices(),
        are_several=people.are_several(connection),
        key_id=installation.vault.current(connection).id,
        key_path=None if installation.vault.is_from_environment else installation.vault.path,
        form=request.form,
        shortest=people.SHORTEST_PASSWORD,
    )


def change_password() -> AnyResponse:
    """Change it and sign the other browsers out."""
    confirm("password")
    try:
        chosen = people.checked_password(request.form.get("password", ""))
    except people.PersonError as error:
        return account("password", 400, f"Please {error}.")
    digest = passwords.hash_of(chosen)
    write(lambda tx: people.set_password(tx, g.person, digest, who(), keep=g.session))
    return see_other("account", "password")


def end_browser() -> AnyResponse:
    """Sign one browser out, all others, or all of them, this one too."""
    this, which = g.session, request.form.get("browser", "")

    def end(tx: Connection) -> int:
        if which in ("others", "all"):
            count = sessions.end_of(tx, g.person.id, but=this if which == "others" else None)
        else:
            count = int(sessions.end(tx, g.person.id, which))
        if count:
            audit.record(tx, None, who(), "session.end", f"{count} browser{'' if count == 1 else 's'}")
        return count

    count = write(end)
    if which == "all" or which == this:
        return see_other("login", said="signed-out")
    return see_other("account", said=("ended" if which == "others" else "session-ended") if count else "nothing")


def offer_second_factor() -> AnyResponse:
    """Make a secret for the owner's app; it counts once a code of it was given."""
    installation = current_installation()
    confirm("second-factor")
    if second_factor.is_on(read(), g.person):
        return see_other("account", "nothing")
    write(lambda tx: second_factor.offer(tx, installation.vault, g.person))
    return see_other("new_second_factor")


def new_second_factor() -> AnyResponse:
    """The offer as a QR code and as text."""
    return _offer(200, None)


def switch_second_factor_on() -> AnyResponse:
    """Check the first code of the offer; the answer has the recovery codes."""
    installation = current_installation()
    code = request.form.get("code", "")
    codes = write(lambda tx: second_factor.confirm(tx, installation.vault, g.person, code))
    if codes is None:
        return _offer(400, "That is not the code your app shows now. Is your phone's clock right?")
    return page("recovery_codes.html", codes=codes, is_first=True)


def switch_second_factor_off() -> AnyResponse:
    confirm("second-factor-off", or_code=True)
    was_on = write(lambda tx: second_factor.turn_off(tx, g.person, who()))
    return see_other("account", "second-factor-off" if was_on else "nothing")


def new_recovery_codes() -> AnyResponse:
    """Replace all recovery codes; the new ones are on this answer only."""
    confirm("recovery-codes")
    if not second_factor.is_on(read(), g.person):
        return see_other("account", "nothing")
    codes = write(lambda tx: second_factor.replace_recovery_codes(tx, g.person))
    return page("recovery_codes.html", codes=codes, is_first=False)


def add_game() -> Response:
    """Add a game; its API token is on this answer only."""
    slug, name = request.form.get("slug", "").strip(), request.form.get("name", "").strip()
    show_on_error(account, "slug")
    try:
        chosen = registry.checked_text(name or slug, games.LONGEST_NAME)
    except ValueError as error:
        return account("name", 400, f"Please {error}.")
    token = write(lambda tx: games.add(tx, slug, chosen, actor=who()))
    installation = current_installation()
    urls = addresses_of(slug, partners(), installation.settings.public_url)
    return page("game_added.html", game=installation.games.by_slug(slug), api_token=token, urls=urls)


def choose_zone() -> AnyResponse:
    """Choose the time zone in which the pages write times."""
    name = request.form.get("zone", "")
    show_on_error(account, "zone")
    write(lambda tx: page_facts.set_zone(tx, name, who()))
    return see_other("account", "zone")


def rotate_master_key() -> Response:
    """Make a new master key in its file. A key from the environment is changed there."""
    installation = current_installation()
    if installation.vault.is_from_environment:
        return account("master-key", 400, "This key comes from COINSLOT_MASTER_KEY and is changed there.")
    confirm("master-key")
    old, new = installation.vault.current(read()), MasterKey.generate()
    count = keyring.rotate_master_key(installation.database, installation.vault, new, who())
    kept = installation.vault.file_put_aside(old.id)
    return page("key_rotated.html", count=count, old_id=old.id, new_id=new.id, kept=kept)


def download_backup() -> Response:
    """Stream a consistent copy. Its file has no name any more, so it is gone when this answer ends."""
    database, caller = current_installation().database, request.remote_addr or ""
    confirm("backup")
    write(lambda tx: audit.record(tx, None, who(), "backup.download", caller))
    try:
        copy, file = backup.copy_to_send(database)
    except backup.BackupError as error:
        return account("backup", 503, str(error))
    name = f"coinslot-{clock.stamp()[:19].replace(':', '')}Z.db"
    response = download(iter(lambda: file.read(CHUNK_BYTES), b""), name, "application/vnd.sqlite3")
    response.content_length = copy.size_bytes
    response.call_on_close(file.close)
    return response


def confirm(at: str, *, or_code: bool = False, show: Callable[..., Response] = account) -> None:
    """Raise :class:`UnconfirmedError` unless the form ``at`` has the person's password; the page then says so there.

    With ``or_code``, a code of the second factor or a recovery code will do, too.
    """
    show_on_error(show, at)
    installation = current_installation()
    person, given = g.person, request.form.get("current", "")
    key = throttle.key("confirmation", str(person.id))  # one count for all addresses: each is signed in
    try:
        installation.database.write(lambda tx: throttle.begin(tx, throttle.OWNER, key))
    except throttle.ThrottledError as error:
        raise UnconfirmedError(429, later(error)) from None
    row = people.by_id(installation.database.read(), person.id)
    stored = None if row is None else row["password_hash"]
    is_right = passwords.is_right(stored or passwords.nobodys_hash(), given) and stored is not None

    def settle(tx: Connection) -> bool:
        is_confirmed = is_right or (or_code and second_factor.accept(tx, installation.vault, person, given))
        if is_confirmed:
            throttle.clear(tx, throttle.OWNER, key)
        return is_confirmed

    if not installation.database.write(settle):
        what = "the password, nor a code that is good now" if or_code else "the password"
        raise UnconfirmedError(403, f"That is not {what}.")


def _offer(status: int, problem: str | None) -> AnyResponse:
    installation = current_installation()
    secret = second_factor.offered(installation.database.read(), installation.vault, g.person)
    if secret is None:
        return see_other("account", said="too-late")
    name = f"{g.person.name}@{urlsplit(installation.settings.public_url).hostname or 'coinslot'}"
    code = segno.make(second_factor.address(secret, name), error="m", micro=False)
    # Attributes alone, no style: the page's policy allows none.
    drawing = Markup(code.svg_inline(omitsize=True, border=4, svgclass="qr", lineclass=None))  # noqa: S704
    return page("second_factor.html", status, drawing=drawing, secret=secret, problem=problem)
