"""The studio of a demo: two games, what they sell, who plays them, and how their partners are set up."""

import secrets
from dataclasses import dataclass
from random import Random

from coinslot.access import keyring
from coinslot.games import games, registry
from coinslot.installation import Installation
from coinslot.outbox import destinations
from coinslot.store.db import Connection
from handlers.commands.demo.stage import ACTOR, Stage
from handlers.kit.demo_world import GAMES, GONE

MINER, KINGDOMS = "space-miner", "tiny-kingdoms"
API = f"api.{MINER}{GAMES}"
CREATORS = ("NOVA7", "KIMCHI", "LUNAR", "TORVALD")


@dataclass(frozen=True)
class Pack:
    """What is sold: ``prices`` are minor units by currency, ``lines`` items and quantities."""

    sku: str
    name: str
    prices: dict[str, int]
    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Person:
    player_id: str
    name: str
    country: str
    currency: str


def _prices(usd: int, eur: int, gbp: int, krw: int, jpy: int, brl: int) -> dict[str, int]:
    return {"USD": usd, "EUR": eur, "GBP": gbp, "KRW": krw, "JPY": jpy, "BRL": brl}


SMALL = _prices(499, 549, 449, 6500, 750, 2690)
MIDDLE = _prices(999, 1099, 899, 13000, 1500, 5490)
LARGE = _prices(2499, 2699, 2199, 33000, 3800, 12990)
HUGE = _prices(9999, 10999, 8999, 129000, 15000, 49990)
PACKS = {
    MINER: (
        Pack("pocket-of-crystals", "Pocket of Crystals", SMALL, (("crystals", 500),)),
        Pack("crate-of-crystals", "Crate of Crystals", MIDDLE, (("crystals", 1200), ("fuel", 10))),
        Pack("mining-drone", "Mining Drone", LARGE, (("drone", 1), ("crystals", 2500))),
        Pack("captains-chest", "Captain's Chest", HUGE, (("crystals", 14000), ("skin-nebula", 1), ("fuel", 100))),
    ),
    KINGDOMS: (
        Pack("bag-of-gold", "Bag of Gold", SMALL, (("gold", 1000),)),
        Pack("knights-oath", "Knight's Oath", MIDDLE, (("knight", 1), ("gold", 1500))),
        Pack("royal-treasury", "Royal Treasury", LARGE, (("gold", 8000), ("gems", 40))),
    ),
}
ITEMS = {
    MINER: {
        "crystals": "Crystals",
        "fuel": "Fuel cell",
        "drone": "Mining drone",
        "skin-nebula": "Nebula skin",
        "season-pass": "Season pass",
    },
    KINGDOMS: {"gold": "Gold", "gems": "Gems", "knight": "Knight", "castle-frost": "Frost castle"},
}
NAMES = """
    Mia Ben Hana Yuki Lucas Sofia Noah Emma Jisoo Minjun Haruto Aoi Beatriz Rafael Olivia Leon Clara Hugo Chloe Oskar
    Seoyeon Ines Mateo Freya Tomas Amelie Kenta Dario Nadia Elif Piotr Zofia Arthur Maeve Anton Luisa Tariq Ayla Bruno
    Greta
""".split()
COUNTRIES = (
    *(("US", "USD"), ("DE", "EUR"), ("US", "USD"), ("KR", "KRW"), ("FR", "EUR"), ("GB", "GBP"), ("JP", "JPY")),
    *(("US", "USD"), ("KR", "KRW"), ("BR", "BRL"), ("CA", "USD"), ("ES", "EUR")),
)
SETTINGS = {
    MINER: {
        "refunds.revoke": "on",
        "appcharge.base_url": f"https://appcharge{GAMES}",
        "playcamp.base_url": f"https://playcamp{GAMES}",
        "playcamp.campaigns": "autumn-expedition",
        "settlement.share": "5",
        "settlement.share.creator.NOVA7": "8",
    },
    KINGDOMS: {"refunds.revoke": "on", "appcharge.base_url": f"https://appcharge{GAMES}", "playtem.app_id": "4711"},
}
KEYS = {
    MINER: (
        "appcharge.main_key appcharge.publisher_token xsolla.secret playtem.secret playcamp.api_key "
        "playcamp.webhook_secret playcamp.shared_key"
    ).split(),
    KINGDOMS: ["appcharge.main_key", "appcharge.publisher_token", "playtem.secret"],
}


def people(slug: str, random: Random) -> list[Person]:
    """Who plays a game; the first play most."""
    names = random.sample(NAMES, len(NAMES) if slug == MINER else 24)
    first = 1001 if slug == MINER else 70001
    return [
        Person(f"{slug[:1]}{first + number * 7}", name, *COUNTRIES[number % len(COUNTRIES)])
        for number, name in enumerate(names)
    ]


def found(stage: Stage, slug: str, name: str) -> None:
    """Add a game with its keys, settings, items and destinations, as the owner would on the pages."""
    installation = stage.installation
    database = installation.database
    stage.tokens[slug] = database.write_here(lambda tx: games.add(tx, slug, name, ACTOR))
    row = games.find(database.read(), slug)

    def set_up(tx: Connection) -> None:
        for key in KEYS[slug]:
            value = f"demo:{secrets.token_hex(20)}" if key == "playcamp.api_key" else f"demo-{secrets.token_hex(20)}"
            keyring.put(tx, installation.vault, row, key, value, ACTOR)
        for key, value in SETTINGS[slug].items():
            games.set_setting(tx, installation.catalogue, slug, key, value, ACTOR)
        for partner in ("appcharge", "playtem", "playcamp", "xsolla"):  # a demo that is left alone is not silent
            games.set_setting(tx, installation.catalogue, slug, f"silence.{partner}", "off", ACTOR)
        for sku, title in ITEMS[slug].items():
            registry.put_item(tx, row["id"], sku, title)

    database.write_here(set_up)
    if slug == MINER:
        _add_destination(installation, "game-server", f"https://{API}/coinslot", "grant.*,player.*,sponsor.*")
        _add_destination(installation, "statistics", f"https://{GONE}/grants", "grant.*", retry="5,60,300")


def _add_destination(installation: Installation, name: str, url: str, events: str, retry: str | None = None) -> None:
    installation.database.write_here(
        lambda tx: destinations.add(tx, installation.vault, MINER, name, url, actor=ACTOR, events=events, retry=retry)
    )
