"""The one list of troubles, for the overview, ``flask doctor``, ``flask trouble``, ``/metrics`` and the alerts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from flask import current_app

from coinslot.games import games
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.operations import asides, contacts, doctor, follower, silence, troubles
from coinslot.operations.findings import LOOK, NOTE, WRONG, Checked, Trouble, guarded, in_order
from coinslot.operations.troubles import Found, State
from coinslot.store.db import DatabaseError, EngineError, Row
from handlers.kit import trouble_sentences
from handlers.kit.partner import Partner
from handlers.kit.receive import partners


class Listed(NamedTuple):
    """``well`` are sentences on what was checked; ``over`` the keys of what was set aside and is over."""

    troubles: list[Trouble]
    well: list[str]
    over: set[str]


UNREADABLE = Trouble(
    "unreadable",
    WRONG,
    "The database could not be read, so nobody knows what else is wrong.",
    "On the server, run flask doctor.",
)


def list_troubles(
    installation: Installation, outlines: Sequence[Game] | None = None, called: Sequence[Row] | None = None
) -> list[Trouble]:
    """Everything that is wrong and was not set aside, the worst first; what could not be checked is in it too.

    ``outlines`` are all games without the values of their secrets, as :func:`games.outlines` has them, and ``called``
    the rows of all addresses (:func:`contacts.of_all`); None: read here.
    """
    return list_checked(installation, outlines, called).troubles


def list_checked(
    installation: Installation, outlines: Sequence[Game] | None = None, called: Sequence[Row] | None = None
) -> Listed:
    """The same, and a sentence on each thing that was checked and is well."""
    checked: list[Checked] = []
    state: State | None = None
    try:
        connection = installation.database.read()
        known = games.outlines(connection, installation.catalogue) if outlines is None else outlines
        rows = contacts.of_all(connection) if called is None else called
        state = troubles.find(connection)
        checked += _of_games(state, known, rows)
    except (EngineError, DatabaseError, OSError) as error:
        current_app.logger.error("troubles could not be read: %s", error)
        checked.append(UNREADABLE)
    checked += check_machine(installation, state)
    found = [each for each in checked if isinstance(each, Trouble)]
    over: set[str] = set()
    if state is not None:
        over = set(state.asides) - {each.key for each in found}
        found = asides.without(state.asides, found)
    return Listed(in_order(found), [each for each in checked if isinstance(each, str)], over)


def check_machine(installation: Installation, state: State | None) -> Iterator[Checked]:
    """The checks of the machine and the files that take no time."""
    settings, database, vault = installation.settings, installation.database, installation.vault
    yield from guarded(doctor.engine, database, state is not None)
    yield from guarded(doctor.folder, settings, database, vault)
    yield from guarded(doctor.master_key, vault, None if state is None else state.facts)
    yield from guarded(doctor.disk_space, database)
    if settings.home.is_dir():
        yield from guarded(doctor.backups_disk, settings, database)
    yield from guarded(doctor.system_clock, None if state is None else state.newest)
    yield from guarded(doctor.public_url, settings)
    if state is not None:
        yield from guarded(doctor.public_certificate, state.facts, settings)
        yield from guarded(follower.check, state.facts, settings, database)


def is_begun(game: Game) -> bool:
    """Whether a key of a partner's has been entered."""
    return any(name in game.secrets for partner in partners() for name in partner.secrets)


def _of_games(state: State, outlines: Sequence[Game], called: Sequence[Row]) -> Iterator[Checked]:
    by_slug = {game.slug: game for game in outlines}
    if not any(found.kind == "no_password" for found in state.found):
        yield "the owner's password is set"
    for found in state.found:
        game = by_slug.get(found.game or "")
        if found.kind in ("no_players", "no_items") and (game is None or not is_begun(game)):
            continue  # a game nobody can credit yet has other things to do first
        yield trouble_sentences.say(found, game)
    for each in silence.find(called, outlines):
        found = Found(
            *("silence", each.game, None, each.limit, each.partner),
            since=each.since,
            endpoint=each.endpoint,
            usual_seconds=each.usual_seconds,
        )
        yield trouble_sentences.say(found, by_slug.get(each.game))
    seen = {(row["game_id"], row["partner"], row["endpoint"]) for row in called if row["first_at"]}
    for game in outlines:
        if game.settings["players.unknown"] == "lookup" and not game.settings["players.lookup_url"]:
            sentence = "players.unknown is lookup, but players.lookup_url is not set: every credit is refused."
            yield _of_game("no_lookup", WRONG, game, sentence, "/settings", "Set it")
        for partner in partners():
            yield from _of_partner(partner, game, state.job_errors.get(game.slug, {}), seen)


def _of_partner(
    partner: Partner, game: Game, errors: Mapping[str, str], seen: set[tuple[int, str, str]]
) -> Iterator[Checked]:
    """A partner that answers may still lack something; one that was begun and does not answer is wrong."""
    is_configured = partner.is_configured(game)
    page = f"/integration/{partner.name}"
    sentences = [(LOOK if is_configured else WRONG, each) for each in partner.missing(game)]
    sentences += [(WRONG, each) for each in partner.wrong(game, errors)]
    for severity, sentence in sentences:
        # The sentence may hold figures that change, and its first words do not.
        kind = f"lacking:{partner.name}:{'-'.join(re.findall('[a-z_.]+', sentence.lower())[:6])}"
        yield _of_game(kind, severity, game, f"{partner.title}: {sentence}.", page, "Look")
    if not is_configured:
        if not sentences:
            yield f"game {game.slug}: {partner.title} is not configured, its calls are answered 404"
        return
    yield f"game {game.slug}: {partner.title} is configured"
    optional = partner.unset(game)
    optional += [
        f"no call has come to {each.name} yet"
        for each in partner.addresses
        if (game.id, partner.name, each.endpoint) not in seen
    ]
    if not game.settings[f"allowlist.{partner.name}"]:
        optional.append(f"allowlist.{partner.name} is empty, so signed calls are taken from any address")
    if optional:
        sentence = f"{partner.title}, not set up or not used yet: {'; '.join(optional)}."
        yield _of_game(f"optional:{partner.name}", NOTE, game, sentence, page, "Look")


def _of_game(kind: str, severity: str, game: Game, sentence: str, page: str, label: str) -> Trouble:
    name, _, rest = kind.partition(":")
    key = ":".join(filter(None, (name, game.slug, rest)))
    return Trouble(key, severity, sentence, "", f"/games/{game.slug}{page}", label, game.slug)
