"""Setup, once: the form behind the link in the log."""

from typing import Any

from flask import Response, request

from coinslot.access import owner, people, sessions
from coinslot.games import games
from coinslot.installation import LinkError
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import SESSION_COOKIE, page, read, set_cookie
from handlers.kit import passwords
from handlers.kit.partner import addresses_of
from handlers.kit.receive import current_installation, partners


def setup() -> Response:
    """The form of the link. Only posting it uses the link up."""
    try:
        current_installation().check_setup_token(request.args.get("token", ""))
    except LinkError as error:
        return _spent(error)
    has_game = bool(games.every(read()))
    return page("setup.html", token=request.args["token"], has_game=has_game, problem=None, form={}, **_address())


def complete_setup() -> Response:
    """Set the owner's password and, if there is none, add the first game; its API token is on this answer only.

    Only the owner has the link, so it signs the browser in.
    """
    installation = current_installation()
    token = request.form.get("token", "")
    try:
        installation.check_setup_token(token)
    except LinkError as error:
        return _spent(error)
    has_game = bool(games.every(installation.database.read()))
    slug, name = request.form.get("slug", "").strip(), request.form.get("name", "").strip()
    address, agent = request.remote_addr or "", request.headers.get("User-Agent", "")

    def set_up(tx: Connection) -> tuple[str | None, str]:
        person = owner.set_first_password(tx, password_hash)
        if person is None:
            raise LinkError("this setup link has been used", is_spent=True)
        api_token = None if games.every(tx) else games.add(tx, slug, name or slug, actor=person.name)
        return api_token, sessions.begin(tx, person.id, address, agent)

    try:
        password_hash = passwords.hash_of(people.checked_password(request.form.get("password", "")))
        api_token, session = installation.database.write(set_up)
    except (people.PersonError, games.GameError) as error:
        form = {"slug": slug, "name": name}
        return page("setup.html", 400, token=token, has_game=has_game, problem=str(error), form=form, **_address())
    except LinkError as error:  # another setup was first, in the moment between the check and the write
        return _spent(error)
    urls = addresses_of(slug, partners(), installation.settings.public_url) if api_token else []
    done = page("done.html", slug=slug, api_token=api_token, urls=urls, **_address())
    set_cookie(done, SESSION_COOKIE, session)
    return done


def _address() -> dict[str, Any]:
    """The public address, and whether it leads to this computer alone, where no partner can call."""
    settings = current_installation().settings
    return {"public_url": settings.public_url, "is_local": settings.is_local}


def _spent(error: LinkError) -> Response:
    return page("spent.html", 410 if error.is_spent else 403, message=str(error))
