"""Who may ask for which page. An address that stands in no list below is for owners alone.

Support reads everything except keys, settings and backups, and mends what needs no decision about money. What is
personal stays hidden from them until they press Show, and each press is a line in Activity.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, current_app, g
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from coinslot.access.people import OWNER, SUPPORT, Person

# Without signing in. The setup pages and the invitation prove themselves by the token in their link; the documents are
# as public as the files they are made of.
OPEN = frozenset(
    """
    static login sign_in login_code sign_in_with_code setup complete_setup invitation join
    documents document picture api_document
    """.split()
)

_READ = """
    overview game_overview search_everything transactions transaction conflicts refunds players player items events
    event deliveries delivery payments payment integration integration_partner snippets refusals refusal strays stray
    settlements month differences month_print month_creators month_purchases activity
"""
_SHOW = "show_page reveal_transaction show_refusal_body show_stray_body reveal_event"
_ACT = """
    redrive_deliveries redrive_delivery redrive_payments redeliver_transaction set_refusal_aside
    register_player add_player
"""
_OWN_ACCOUNT = """
    sign_out account change_password end_browser offer_second_factor new_second_factor switch_second_factor_on
    switch_second_factor_off new_recovery_codes
"""
SUPPORT_MAY = frozenset(f"{_READ} {_SHOW} {_ACT} {_OWN_ACCOUNT}".split())


def may(person: Person | None, endpoint: str) -> bool:
    """Whether a person may ask for the address of this function; None: nobody is signed in."""
    if endpoint in OPEN:
        return True
    if person is None:
        return False
    return person.role == OWNER or (person.role == SUPPORT and endpoint in SUPPORT_MAY)


def words_of(person: Person | None, address: str) -> Mapping[str, Any] | None:
    """The words in the path of a page, such as its ``slug``; None where it is no page of ours, or none for this person.

    ``address`` is a path with or without a query. Nothing is asked for.
    """
    if not address.startswith("/") or address.startswith(("//", "/\\")) or not address.isprintable():
        return None
    try:
        found, words = current_app.url_map.bind("").match(urlsplit(address).path, "GET")
    except (HTTPException, RequestRedirect, ValueError):
        return None
    blueprint, _, endpoint = found.partition(".")
    return words if blueprint == "dashboard" and endpoint not in OPEN and may(person, endpoint) else None


def register(bp: Blueprint) -> None:
    """``may("settings")`` and ``may_open("/games/demo/settings")``, for templates: of who is signed in."""
    bp.add_app_template_global(lambda endpoint: may(g.get("person"), endpoint), "may")
    bp.add_app_template_global(lambda address: words_of(g.get("person"), address) is not None, "may_open")
