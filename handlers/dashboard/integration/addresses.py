"""A game and its partners: what to paste where, which keys are set, whether the calls come, and a test of each address.

The twin of a partner's own integration page. What is said of a partner stands on its card, and nowhere else
(``handlers/kit/partner.py``).
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from coinslot.access import keyring, rotation
from coinslot.access.keyring import SIGNING_PREFIX, SecretError, SecretRow
from coinslot.access.rotation import Advice
from coinslot.base import clock
from coinslot.games import games
from coinslot.games.games import COMMON_SECRETS, Game
from coinslot.operations import contacts
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.frame.pages import PageError, bp, page, see_other, the_game
from handlers.dashboard.integration.checklist import Facts, Light, Step, checklist, light
from handlers.kit import sending
from handlers.kit.partner import Address, Call, Key, Partner
from handlers.kit.receive import installation, partners

TEST_SECONDS = 5.0
LONGEST_KEY = 16 * 1024
SHOWN_HEADERS = ("Content-Type", "Location", "Retry-After", "Allow", "Server", "Via")
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
    """A secret as the page shows it. ``key`` is None of those that are no partner's: we sign deliveries with them."""

    name: str
    key: Key | None
    current: SecretRow | None
    previous: SecretRow | None
    age_days: int
    advice: list[Advice]
    doubt: str  # what is wrong with the form of the current value

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower())[:80]


@dataclass(frozen=True)
class SettingField:
    key: str
    about: str
    value: str


@bp.get("/games/<slug>/integration")
def integration(slug: str) -> Response:
    """The partners at a glance."""
    game = the_game(slug)
    house = installation()
    connection = house.database.read()
    rows = contacts.of_game(connection, game.id)
    told = rotation.advice(keyring.listing_of(connection, game.id, game.secrets), clock.now())
    summaries = [_summary(game, partner, rows) for partner in partners()]
    due = [name for name, advices in told.items() if any(advice.is_due for advice in advices)]
    under_way = [name for name, advices in told.items() if any(advice.step == "retire" for advice in advices)]
    return page("integration.html", game=game, summaries=summaries, due=due, under_way=under_way)


@bp.get("/games/<slug>/integration/<partner>")
def integration_partner(slug: str, partner: str) -> Response:
    """Everything that is pasted from here into a partner's dashboard, and from there into this page."""
    return _partner_page(the_game(slug), _partner(partner))


@bp.post("/games/<slug>/integration/<partner>/copied")
def note_copied(slug: str, partner: str) -> AnyResponse:
    """The owner says that an address is pasted at the partner's, or takes that back."""
    game, its = the_game(slug), _partner(partner)
    address = _address(its)
    is_copied = request.form.get("is_copied") == "1"

    def note(tx: Connection) -> None:
        (contacts.copied if is_copied else contacts.not_copied)(tx, game.id, its.name, address.endpoint)
        what = "address.copied" if is_copied else "address.not_copied"
        audit.record(tx, game.id, "owner", what, f"{its.name}/{address.endpoint}")

    installation().database.write(note)
    return see_other("integration_partner", said="saved", slug=slug, partner=partner)


@bp.post("/games/<slug>/integration/<partner>/test")
def send_test(slug: str, partner: str) -> Response:
    """Send a signed sample of the reserved player's through the real address, and show the real answer."""
    game, its = the_game(slug), _partner(partner)
    address = _address(its)
    house = installation()
    lacking = address.lacks(game)
    if lacking:
        raise PageError(409, f"Nothing can be signed yet: {' and '.join(lacking)} must be set first.")
    call = its.sample(game, address.endpoint)
    if call is None:
        raise PageError(409, address.unsent or "There is no sample for this address as it is set up now.")
    here = _here()
    base = here if request.form.get("where") == "here" and here else house.settings.public_url
    subject = f"{its.name}/{address.endpoint}"
    house.database.write(lambda tx: audit.record(tx, game.id, "owner", "address.test", subject))
    try:
        answer, trouble = sending.send(base, call, TEST_SECONDS), None
    except sending.UnreachableError as error:
        answer, trouble = None, str(error)
    return page(
        "integration_test.html",
        game=game,
        partner=its,
        address=address,
        base=base,
        sent=_sent(game, base, call),
        call=call,
        answer=answer,
        answer_headers=[] if answer is None else _headers(answer, game, call),
        body="" if answer is None else _text(answer.body, game, call),
        surprise=None if answer is None else call.expect(answer.status, answer.body),
        trouble=trouble,
        here=here if base != here else None,
        refusals=_refusals(game, its),
    )


@bp.post("/games/<slug>/integration/<partner>/settings")
def set_agreed(slug: str, partner: str) -> AnyResponse:
    """Change one of the settings that are agreed with the partner."""
    game, its = the_game(slug), _partner(partner)
    key, value = request.form.get("key", ""), request.form.get("value", "").strip()
    if key not in its.agreed:
        raise PageError(404, "There is no such setting on this page")
    house = installation()
    try:
        house.database.write(lambda tx: games.set_setting(tx, house.catalogue, slug, key, value, actor="owner"))
    except games.GameError as error:
        return _partner_page(game, its, 400, str(error), {key: value})
    return see_other("integration_partner", said="saved", slug=slug, partner=partner)


@bp.get("/games/<slug>/integration/keys")
def keys(slug: str) -> Response:
    """Every key of the game's: how old, last used, and what to do next."""
    return _keys_page(the_game(slug))


@bp.post("/games/<slug>/integration/keys/set")
def set_key(slug: str) -> AnyResponse:
    """Give a key its first or a new value; the old one stays valid as previous where callers may still use it."""
    game = the_game(slug)
    house = installation()
    key, name = _named_key(request.form.get("name", ""), request.form.get("suffix", "").strip())
    is_new = not game.keys(name)
    is_leaked = request.form.get("is_leaked") == "1"
    try:
        value = _checked_value(name, request.form.get("value", ""))

        def store(tx: Connection) -> str:
            row = games.find(tx, slug)
            if is_new or is_leaked or not key.is_proof:
                keyring.put(tx, house.vault, row, name, value, actor="owner")
                if is_leaked and len(game.keys(name)) > 1:
                    keyring.retire(tx, row, name, actor="owner")
                return "key-set" if is_new else "key-replaced"
            was_mistyped = keyring.rotate(tx, house.vault, row, name, value, actor="owner")
            return "key-mistyped" if was_mistyped else "key-rotated"

        said = house.database.write(store)
    except SecretError as error:
        return _back(game, 400, str(error))
    return _back(game, said=said)


@bp.post("/games/<slug>/integration/keys/retire")
def retire_key(slug: str) -> AnyResponse:
    """End the previous value of a key."""
    game = the_game(slug)
    name = request.form.get("name", "")
    if not game.keys(name):
        raise PageError(404, "There is no such key")
    try:
        installation().database.write(lambda tx: keyring.retire(tx, games.find(tx, slug), name, actor="owner"))
    except SecretError as error:
        return _back(game, 400, str(error))
    return _back(game, said="key-retired")


def _partner_page(
    game: Game, partner: Partner, status: int = 200, problem: str = "", entered: Mapping[str, str] | None = None
) -> Response:
    house = installation()
    connection = house.database.read()
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
        SettingField(key, house.catalogue[key].about, (entered or {}).get(key, game.settings[key]))
        for key in partner.agreed
    ]
    return page(
        "integration_partner.html",
        status,
        game=game,
        partner=partner,
        partners=partners(),
        addresses=[_address_field(game, partner, address, facts) for address in partner.addresses],
        fields=_key_fields(game, key_rows, _named(game, partner.keys)),
        families=[key for key in partner.keys if key.secret.endswith(".*")],
        settings=settings,
        troubles=[*partner.wrong(game), *partner.missing(game)],
        problem=problem,
        refusals=_refusals(game, partner),
    )


def _keys_page(game: Game, status: int = 200, problem: str = "") -> Response:
    rows = keyring.listing_of(installation().database.read(), game.id, game.secrets)
    owned: list[tuple[str, Partner | None, Sequence[tuple[str, Key | None]]]] = [
        *((partner.title, partner, _named(game, partner.keys)) for partner in partners()),
        ("The game's own addresses", None, _named(game, GAME_KEYS)),
    ]
    signing = [name for name in sorted(game.secrets) if name.startswith(SIGNING_PREFIX)]
    if signing:
        owned.append(("Deliveries to the game", None, [(name, None) for name in signing]))
    groups = [(title, partner, _key_fields(game, rows, names)) for title, partner, names in owned]
    return page("integration_keys.html", status, game=game, groups=groups, problem=problem)


def _back(game: Game, status: int = 303, problem: str = "", said: str = "") -> AnyResponse:
    """To the page whose form was sent: a partner's, or that of all keys."""
    its = next((partner for partner in partners() if partner.name == request.form.get("back")), None)
    if status == 303 and its is not None:
        return see_other("integration_partner", said=said, slug=game.slug, partner=its.name)
    if status == 303:
        return see_other("keys", said=said, slug=game.slug)
    return _keys_page(game, status, problem) if its is None else _partner_page(game, its, status, problem)


def _summary(game: Game, partner: Partner, rows: Mapping[tuple[str, str], object]) -> dict[str, object]:
    lights = [light(address.lacks(game), rows.get((partner.name, address.endpoint))) for address in partner.addresses]
    words = [each.word for each in lights]
    word = next((each for each in ("failing", "seen", "configured") if each in words), "not set up")
    return {
        "partner": partner,
        "word": word,
        "lights": list(zip(partner.addresses, lights, strict=True)),
        "last": max((each.at for each in lights if each.at is not None), default=None),
        "troubles": [*partner.wrong(game), *partner.missing(game)],
    }


def _address_field(game: Game, partner: Partner, address: Address, facts: Facts) -> AddressField:
    lacking = address.lacks(game)
    contact = facts.contacts.get(address.endpoint)
    return AddressField(
        address,
        installation().settings.public_url + address.path.format(game=game.slug),
        light(lacking, contact),
        checklist(address, lacking, facts),
        contact is not None and contact["copied_at"] is not None,
    )


def _key_fields(game: Game, rows: Sequence[SecretRow], names: Sequence[tuple[str, Key | None]]) -> list[KeyField]:
    now = clock.now()
    told = rotation.advice(rows, now)
    slots = {(row.name, row.slot): row for row in rows}
    fields = []
    for name, key in names:
        current, previous = slots.get((name, "current")), slots.get((name, "previous"))
        days = 0 if current is None else rotation.age_days(current, now)
        values = game.keys(name)
        doubt = key.doubt(values[0].value.decode()) if key is not None and values else ""
        fields.append(KeyField(name, key, current, previous, days, told.get(name, []), doubt))
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
        if games.declared(installation().secret_names, full) is None:
            raise PageError(400, "Give the webhook a name: letters, digits and the like.")
        return known[name], full
    if name in known:
        return known[name], name
    family = next(
        (key for secret, key in known.items() if secret.endswith(".*") and name.startswith(secret[:-1])), None
    )
    if family is None or games.declared(installation().secret_names, name) is None:
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


def _partner(name: str) -> Partner:
    found = next((partner for partner in partners() if partner.name == name), None)
    if found is None:
        raise PageError(404, "There is no such partner")
    return found


def _address(partner: Partner) -> Address:
    wanted = request.form.get("endpoint", "")
    found = next((address for address in partner.addresses if address.endpoint == wanted), None)
    if found is None:
        raise PageError(404, "There is no such address")
    return found


def _here() -> str | None:
    """Where this server listens on its own machine, past every proxy: the socket the request came in by."""
    name, port = request.environ.get("SERVER_NAME", ""), str(request.environ.get("SERVER_PORT", ""))
    if name == "localhost":
        name = "127.0.0.1"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    if not (address.is_loopback or address.is_private) or not port.isdigit():
        return None
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _sent(game: Game, base: str, call: Call) -> dict[str, object]:
    return {
        "line": f"{call.method} {sending.without_proofs(base + call.path, game, call)}",
        "headers": sorted(call.headers),
        "body": "" if call.body is None else _text(call.body, game, call),
    }


def _headers(answer: sending.Answered, game: Game, call: Call) -> list[tuple[str, str]]:
    given = {name.lower(): value for name, value in answer.headers.items()}
    found = [(name, given[name.lower()]) for name in SHOWN_HEADERS if name.lower() in given]
    return [
        (name, sending.without_proofs(_without_query(value) if name == "Location" else value, game, call))
        for name, value in found
    ]


def _without_query(address: str) -> str:
    """What opens something for whoever has it stands in the query."""
    parts = urlsplit(address)
    return parts._replace(query=sending.HIDDEN if parts.query else "", fragment="").geturl()


def _text(content: bytes, game: Game, call: Call) -> str:
    return sending.without_proofs(content.decode("utf-8", errors="replace"), game, call)


def _refusals(game: Game, partner: Partner) -> str:
    """The page of its refused calls."""
    return url_for("dashboard.refusals", slug=game.slug, partner=partner.name)
