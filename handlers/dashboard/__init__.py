"""The owner's pages: setup, and a status page that tells a stranger nothing."""

from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.security import generate_password_hash

from coinslot import games, owner
from coinslot.installation import LinkError
from handlers import installation, partners

bp = Blueprint(
    "dashboard",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)


@bp.get("/")
def overview() -> Response:
    """Whether this installation runs and has an owner; the figures are not for strangers."""
    return _page("overview.html", has_owner=owner.has_password(installation().database.read()))


@bp.get("/setup")
def setup() -> Response:
    """The form behind the link in the log. Following the link uses nothing up; posting the form does."""
    try:
        installation().check_setup_token(request.args.get("token", ""))
    except LinkError as error:
        return _spent(error)
    has_game = bool(games.every(installation().database.read()))
    return _page("setup.html", token=request.args["token"], has_game=has_game, problem=None, form={})


@bp.post("/setup")
def complete_setup() -> Response:
    """Set the owner's password and, if there is none, add the first game; its API token is on this answer only."""
    house = installation()
    token = request.form.get("token", "")
    try:
        house.check_setup_token(token)
    except LinkError as error:
        return _spent(error)
    has_game = bool(games.every(house.database.read()))
    slug, name = request.form.get("slug", "").strip(), request.form.get("name", "").strip()
    try:
        password_hash = generate_password_hash(owner.checked_password(request.form.get("password", "")))
        api_token = house.database.write(lambda tx: _set_up(tx, password_hash, slug, name))
    except (owner.OwnerError, games.GameError) as error:
        form = {"slug": slug, "name": name}
        page = _page("setup.html", token=token, has_game=has_game, problem=str(error), form=form)
        page.status_code = 400
        return page
    except LinkError as error:  # somebody was first, in the moment between the check and the write
        return _spent(error)
    urls = [
        (partner.title, title, house.settings.public_url + path.format(game=slug))
        for partner in partners()
        for title, path in partner.urls.items()
    ]
    return _page("done.html", slug=slug, api_token=api_token, urls=urls if api_token else [])


def _set_up(tx: Any, password_hash: str, slug: str, name: str) -> str | None:
    if not owner.set_first_password(tx, password_hash):
        raise LinkError("this setup link has been used", is_spent=True)
    if games.every(tx):
        return None
    return games.add(tx, slug, name or slug, actor="owner")


def _spent(error: LinkError) -> Response:
    page = _page("spent.html", message=str(error))
    page.status_code = 410 if error.is_spent else 403
    return page


def _page(template: str, **values: object) -> Response:
    page = make_response(render_template(template, **values))
    page.headers["Cache-Control"] = "no-store"
    page.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
    page.headers["Referrer-Policy"] = "no-referrer"  # the setup link carries a token
    page.headers["X-Content-Type-Options"] = "nosniff"
    return page
