"""A game and its partners: what to paste where, which keys are set, and whether calls arrive.

It mirrors the integration page of the partner. Each :class:`handlers.kit.partner.Partner` has the texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import keyring, rotation
from coinslot.access.keyring import SIGNING_PREFIX
from coinslot.base import clock
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.operations import contacts
from coinslot.relay.jobs import last_errors
from handlers.dashboard.frame.pages import PageError, page, read, see_other, show_on_error, who, write
from handlers.dashboard.integration.checklist import Facts, Light, Step, checklist, light
from handlers.dashboard.integration.key_forms import GAME_KEYS, key_fields, named_keys, save_keys
from handlers.dashboard.settings.fields import Sent, field_of
from handlers.kit.partner import Address, Key, Partner
from handlers.kit.receive import current_installation, partners


@dataclass(frozen=True)
class AddressField:
    """An address as the page shows it."""

    address: Address
    url: str
    light: Light
    steps: list[Step]
    is_copied: bool


def integration(game: Game) -> Response:
    """The partners at a glance."""
    connection = read()
    rows = contacts.of_game(connection, game.id)
    advice = rotation.advice(keyring.listing_of(connection, game.id, game.secrets), clock.now())
    summaries = [_summary(game, partner, rows) for partner in partners()]
    due = [name for name, steps in advice.items() if any(each.is_due for each in steps)]
    under_way = [name for name, steps in advice.items() if any(each.step == "retire" for each in steps)]
    return page("integration.html", summaries=summaries, due=due, under_way=under_way)


def integration_partner(game: Game, partner: str) -> Response:
    """All that is copied from here into a partner's dashboard, and back."""
    return _partner_page(game, partner_of(partner))


def set_agreed(game: Game, partner: str) -> AnyResponse:
    """Save what was changed of the settings agreed with the partner: all of it, or nothing if a value is not valid."""
    its = partner_of(partner)
    sent = Sent.of(game, its.agreed)
    if sent.problems:
        return _partner_page(game, its, 400, sent=sent)
    said = "saved" if sent.save(game) else "nothing"
    return see_other("integration_partner", said, partner=partner, _anchor="agreed")


def keys(game: Game, status: int = 200, problem: str = "", problems: Mapping[str, str] | None = None) -> Response:
    """Every key of the game: how old, last used, and what to do next. ``problems`` are of keys that were not saved."""
    rows = keyring.listing_of(read(), game.id, game.secrets)
    owned: list[tuple[str, Partner | None, Sequence[tuple[str, Key | None]]]] = [
        *((partner.title, partner, named_keys(game, partner.keys)) for partner in partners()),
        ("The game's own addresses", None, named_keys(game, GAME_KEYS)),
    ]
    signing = [name for name in sorted(game.secrets) if name.startswith(SIGNING_PREFIX)]
    if signing:
        owned.append(("Deliveries to the game", None, [(name, None) for name in signing]))
    groups = [(title, partner, key_fields(game, rows, names, problems)) for title, partner, names in owned]
    used = [group for group in groups if group[1] is None or any(field.current for field in group[2])]
    return page(
        "integration_keys.html",
        status,
        groups=used,
        idle=[group for group in groups if group not in used],
        problem=problem,
        problems=problems or {},
    )


def set_key(game: Game) -> AnyResponse:
    """Give keys their values; the one before stays valid as previous when callers may still use it.

    Those that can be saved are, in one write; of the others the page says why not.
    """
    saved, problems = save_keys(game)
    if problems:
        said = f"Saved: {', '.join(saved)}." if saved else "Nothing was saved."
        return _form_page(game, 400, f"{said} Look at the marked fields.", problems)
    words = set(saved.values())
    return _back(words.pop() if len(words) == 1 and len(saved) == 1 else "keys-saved" if saved else "key-nothing")


def retire_key(game: Game) -> AnyResponse:
    """End the previous value of a key."""
    show_on_error(_form_page, game)
    name = request.form.get("name", "")
    if not game.keys(name):
        raise PageError(404, "There is no such key")
    write(lambda tx: keyring.retire(tx, games.find(tx, game.slug), name, actor=who()))
    return _back("key-retired")


def _partner_page(
    game: Game,
    partner: Partner,
    status: int = 200,
    problem: str = "",
    problems: Mapping[str, str] | None = None,
    sent: Sent | None = None,
) -> Response:
    installation = current_installation()
    connection = installation.database.read()
    rows = contacts.of_game(connection, game.id)
    acked = contacts.acknowledged(connection, game.id)
    facts = Facts(
        contacts={endpoint: row for (name, endpoint), row in rows.items() if name == partner.name},
        credit=contacts.newest_credit(connection, game.id, partner.name),
        acked_through=acked["acked_through"],
        acked_at=acked["acked_at"],
        now=clock.now(),
    )
    key_rows = keyring.listing_of(connection, game.id, game.secrets)
    stored = games.stored_settings(connection, game.id)
    return page(
        "integration_partner.html",
        status,
        partner=partner,
        partners=partners(),
        addresses=[_address_field(game, partner, address, facts) for address in partner.addresses],
        fields=key_fields(game, key_rows, named_keys(game, partner.keys), problems),
        families=[key for key in partner.keys if key.secret.endswith(".*")],
        settings=[field_of(key, stored, sent) for key in partner.agreed],
        troubles=[*partner.wrong(game, last_errors(read(), game.id)), *partner.missing(game)],
        problem=problem,
        problems=problems or {},
        refusals=refusals_of(game, partner),
    )


def _form_partner() -> Partner | None:
    """The partner whose page has the form that was sent; None for the page of all keys."""
    return next((partner for partner in partners() if partner.name == request.form.get("back")), None)


def _form_page(game: Game, status: int, problem: str, problems: Mapping[str, str] | None = None) -> Response:
    partner = _form_partner()
    if partner is None:
        return keys(game, status, problem, problems)
    return _partner_page(game, partner, status, problem, problems)


def _back(said: str) -> AnyResponse:
    """To the page that has the form, and there to the form."""
    partner = _form_partner()
    if partner is None:
        group = request.form.get("group", "")
        return see_other("keys", said, _anchor=f"keys-{group}" if group.isalnum() else None, group=group or None)
    return see_other("integration_partner", said, partner=partner.name, _anchor="keys")


def _summary(game: Game, partner: Partner, rows: Mapping[tuple[str, str], object]) -> dict[str, object]:
    lights = [light(address.lacks(game), rows.get((partner.name, address.endpoint))) for address in partner.addresses]
    words = [each.word for each in lights]
    word = next((each for each in ("failing", "seen", "configured") if each in words), "not set up")
    return {
        "partner": partner,
        "word": word,
        "lights": list(zip(partner.addresses, lights, strict=True)),
        "last": max((each.at for each in lights if each.at is not None), default=None),
        "troubles": [*partner.wrong(game, last_errors(read(), game.id)), *partner.missing(game)],
    }


def _address_field(game: Game, partner: Partner, address: Address, facts: Facts) -> AddressField:
    lacking = address.lacks(game)
    contact = facts.contacts.get(address.endpoint)
    return AddressField(
        address,
        current_installation().settings.public_url + address.path.format(game=game.slug),
        light(lacking, contact),
        checklist(address, lacking, facts),
        contact is not None and contact["copied_at"] is not None,
    )


def partner_of(name: str) -> Partner:
    found = next((partner for partner in partners() if partner.name == name), None)
    if found is None:
        raise PageError(404, "There is no such partner")
    return found


def address_of(partner: Partner) -> Address:
    wanted = request.form.get("endpoint", "")
    found = next((address for address in partner.addresses if address.endpoint == wanted), None)
    if found is None:
        raise PageError(404, "There is no such address")
    return found


def refusals_of(game: Game, partner: Partner) -> str:
    """The page of its refused calls."""
    return url_for("dashboard.refusals", partner=partner.name)
