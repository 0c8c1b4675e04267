"""A game and its partners: what to paste where, which keys are set, and whether calls arrive.

It mirrors the integration page of the partner. Each :class:`handlers.kit.partner.Partner` has the texts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from flask import Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import keyring, rotation
from coinslot.access.keyring import SIGNING_PREFIX, SecretError, SecretRow
from coinslot.access.rotation import Advice
from coinslot.base import clock
from coinslot.games import games, options
from coinslot.games.games import Game
from coinslot.games.options import COMMON_SECRETS
from coinslot.operations import contacts
from coinslot.relay.jobs import last_errors
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, page, read, see_other, show_on_error, who, write
from handlers.dashboard.integration.checklist import Facts, Light, Step, checklist, light
from handlers.kit.partner import Address, Key, Partner
from handlers.kit.receive import current_installation, partners

LONGEST_KEY = 16 * 1024
GAME_KEYS = tuple(Key(name, "Lookup key", what_for, is_proof=False) for name, what_for in COMMON_SECRETS.items())


@dataclass(frozen=True)
class AddressField:
    """An address as the page shows it."""

    address: Address
    url: str
    light: Light
    steps: list[Step]
    is_copied: bool


@dataclass(frozen=True)
class KeyField:
    """A secret as the page shows it. ``key`` is None for the secrets that sign our deliveries."""

    name: str
    key: Key | None
    current: SecretRow | None
    previous: SecretRow | None
    age_days: int
    advice: list[Advice]
    doubt: str  # what is wrong with the form of the current value

    @property
    def anchor(self) -> str:
        return anchor_of(self.name)


@dataclass(frozen=True)
class SettingField:
    key: str
    about: str
    value: str


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
    """Change one of the settings that are agreed with the partner."""
    its = partner_of(partner)
    key, value = request.form.get("key", ""), request.form.get("value", "").strip()
    if key not in its.agreed:
        raise PageError(404, "There is no such setting on this page")
    installation = current_installation()
    show_on_error(partial(_partner_page, entered={key: value}), game, its)
    write(lambda tx: games.set_setting(tx, installation.catalogue, game.slug, key, value, actor=who()))
    return see_other("integration_partner", "saved", partner=partner)


def keys(game: Game, status: int = 200, problem: str = "") -> Response:
    """Every key of the game: how old, last used, and what to do next."""
    rows = keyring.listing_of(read(), game.id, game.secrets)
    owned: list[tuple[str, Partner | None, Sequence[tuple[str, Key | None]]]] = [
        *((partner.title, partner, _named(game, partner.keys)) for partner in partners()),
        ("The game's own addresses", None, _named(game, GAME_KEYS)),
    ]
    signing = [name for name in sorted(game.secrets) if name.startswith(SIGNING_PREFIX)]
    if signing:
        owned.append(("Deliveries to the game", None, [(name, None) for name in signing]))
    groups = [(title, partner, _key_fields(game, rows, names)) for title, partner, names in owned]
    return page("integration_keys.html", status, groups=groups, problem=problem)


def set_key(game: Game) -> AnyResponse:
    """Give a key a value; the one before stays valid as previous when callers may still use it."""
    show_on_error(_form_page, game)
    vault = current_installation().vault
    key, name = _named_key(request.form.get("name", ""), request.form.get("suffix", "").strip())
    value = _checked_value(name, request.form.get("value", ""))
    is_new, is_leaked = not game.keys(name), request.form.get("is_leaked") == "1"

    def store(tx: Connection) -> str:
        row = games.find(tx, game.slug)
        if is_new or is_leaked or not key.is_proof:
            keyring.put(tx, vault, row, name, value, actor=who())
            if is_leaked and len(game.keys(name)) > 1:
                keyring.retire(tx, row, name, actor=who())
            return "key-set" if is_new else "key-replaced"
        was_mistyped = keyring.rotate(tx, vault, row, name, value, actor=who())
        return "key-mistyped" if was_mistyped else "key-rotated"

    return _back(write(store))


def retire_key(game: Game) -> AnyResponse:
    """End the previous value of a key."""
    show_on_error(_form_page, game)
    name = request.form.get("name", "")
    if not game.keys(name):
        raise PageError(404, "There is no such key")
    write(lambda tx: keyring.retire(tx, games.find(tx, game.slug), name, actor=who()))
    return _back("key-retired")


def _partner_page(
    game: Game, partner: Partner, status: int = 200, problem: str = "", entered: Mapping[str, str] | None = None
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
    settings = [
        SettingField(key, installation.catalogue[key].about, (entered or {}).get(key, game.settings[key]))
        for key in partner.agreed
    ]
    return page(
        "integration_partner.html",
        status,
        partner=partner,
        partners=partners(),
        addresses=[_address_field(game, partner, address, facts) for address in partner.addresses],
        fields=_key_fields(game, key_rows, _named(game, partner.keys)),
        families=[key for key in partner.keys if key.secret.endswith(".*")],
        settings=settings,
        troubles=[*partner.wrong(game, last_errors(read(), game.id)), *partner.missing(game)],
        problem=problem,
        refusals=refusals_of(game, partner),
    )


def _form_partner() -> Partner | None:
    """The partner whose page has the form that was sent; None for the page of all keys."""
    return next((partner for partner in partners() if partner.name == request.form.get("back")), None)


def _form_page(game: Game, status: int, problem: str) -> Response:
    partner = _form_partner()
    return keys(game, status, problem) if partner is None else _partner_page(game, partner, status, problem)


def _back(said: str) -> AnyResponse:
    partner = _form_partner()
    if partner is None:
        return see_other("keys", said)
    return see_other("integration_partner", said, partner=partner.name)


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


def _key_fields(game: Game, rows: Sequence[SecretRow], names: Sequence[tuple[str, Key | None]]) -> list[KeyField]:
    now = clock.now()
    advice = rotation.advice(rows, now)
    slots = {(row.name, row.slot): row for row in rows}
    fields = []
    for name, key in names:
        current, previous = slots.get((name, "current")), slots.get((name, "previous"))
        days = 0 if current is None else rotation.age_days(current, now)
        values = game.keys(name)
        doubt = key.doubt(values[0].value.decode()) if key is not None and values else ""
        fields.append(KeyField(name, key, current, previous, days, advice.get(name, []), doubt))
    return fields


def _named(game: Game, keys: Sequence[Key]) -> list[tuple[str, Key | None]]:
    """Keys by their full names, set or not; of a family those that are set."""
    return [(name, key) for key in keys for name in _names(game, key)]


def _names(game: Game, key: Key) -> list[str]:
    if not key.secret.endswith(".*"):
        return [key.secret]
    prefix = key.secret[:-1]
    return sorted(name for name in game.secrets if name.startswith(prefix))


def _named_key(name: str, suffix: str) -> tuple[Key, str]:
    """The key that a form names, and its full name where it is one of a family."""
    known = {key.secret: key for key in (*(key for partner in partners() for key in partner.keys), *GAME_KEYS)}
    if name.endswith(".*") and name in known:
        full = name[:-1] + suffix
        if options.declared(current_installation().secret_names, full) is None:
            raise PageError(400, "Give the webhook a name: letters, digits and the like.")
        return known[name], full
    if name in known:
        return known[name], name
    family = next(
        (key for secret, key in known.items() if secret.endswith(".*") and name.startswith(secret[:-1])), None
    )
    if family is None or options.declared(current_installation().secret_names, name) is None:
        raise PageError(404, "There is no such key")
    return family, name


def _checked_value(name: str, value: str) -> str:
    """A key as it was pasted, without the blanks and line ends that come along. Raises SecretError."""
    value = value.replace("\r\n", "\n").strip()
    if not value:
        raise SecretError(f"{name}: paste the key first")
    if len(value) > LONGEST_KEY:
        raise SecretError(f"{name}: that is too long for a key")
    return value


def anchor_of(name: str) -> str:
    """The end of the anchor of a key's form."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:80]


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
