"""Who may sign in: the list, invitations, removals, and signing a person out everywhere. For owners."""

from flask import Response, g, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import people, sessions
from coinslot.access.people import Person
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.account.security import confirm
from handlers.dashboard.frame.pages import page, read, see_other, show_on_error, who, write
from handlers.kit.receive import current_installation


def people_page(at: str = "", status: int = 200, problem: str = "", link: str | None = None) -> Response:
    """When a form on it fails, ``problem`` is shown beside the form ``at``. ``link`` is a new invitation's."""
    return page(
        "people.html",
        status,
        people=people.every(read()),
        problems={at: problem} if problem else {},
        link=link,
        form=request.form,
        longest=people.LONGEST_NAME,
    )


def invite_person() -> Response:
    """Invite a person; the link is on this answer only."""
    name, role = request.form.get("name", ""), request.form.get("role", "")
    show_on_error(people_page, "invite")
    people.checked_name(name, role)
    confirm("invite", show=people_page)
    token = write(lambda tx: people.invite(tx, name, role, who()))
    return people_page(link=people.link(current_installation().settings.public_url, token))


def remove_person() -> AnyResponse:
    """Remove another person, who is signed out at once."""
    show_on_error(people_page, "list")

    def remove(tx: Connection) -> None:
        person = _other(tx)
        people.remove(tx, person, who())

    write(remove)
    return see_other("people_page", "person-removed")


def end_browsers_of() -> AnyResponse:
    """Sign all browsers of a person out."""
    show_on_error(people_page, "list")

    def end(tx: Connection) -> int:
        person = people.named(tx, request.form.get("name", ""))
        count = sessions.end_of(tx, person.id, but=g.session)
        if count:
            what = f"{count} browser{'' if count == 1 else 's'} of {person.name}"
            audit.record(tx, None, who(), "session.end", what)
        return count

    return see_other("people_page", "person-signed-out" if write(end) else "nothing")


def _other(tx: Connection) -> Person:
    person = people.named(tx, request.form.get("name", ""))
    if person.id == g.person.id:
        raise people.PersonError("you cannot remove yourself: another owner can")
    return person
