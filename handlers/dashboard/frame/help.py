"""Which part of which document explains a page: the Help link of every page leads there."""

from collections.abc import Mapping

from flask import request, url_for

THE_PAGES = "dashboard#the-pages"
# Endpoint -> document and section.
HELP: Mapping[str, str] = {
    "overview": THE_PAGES,
    "game_overview": THE_PAGES,
    "search_everything": THE_PAGES,
    "transactions": "midnight",
    "transaction": "dashboard#i-paid-and-got-nothing",
    "refund_order": "appcharge#refunding-an-order",
    "conflicts": "appcharge#what-an-order-becomes",
    "refunds": "appcharge#events-refunds-disputes",
    "players": "midnight",
    "player": "midnight",
    "edit_player": "midnight",
    "items": THE_PAGES,
    "events": THE_PAGES,
    "event": THE_PAGES,
    "deliveries": "deliveries",
    "delivery": "deliveries#retries",
    "destination_list": "deliveries#what-counts-as-delivered",
    "payments": "playcamp#payments-out",
    "payment": "playcamp#payments-out",
    "integration": "dashboard#connecting-a-partner",
    "integration_partner": "dashboard#connecting-a-partner",  # or the partner's own document
    "keys": "architecture#a-key-is-rotated",
    "mapping": "playcamp#payments-out",
    "payment_mapping": "playcamp#payments-out",
    "refusals": "dashboard#i-paid-and-got-nothing",
    "refusal": "architecture#a-refused-call-is-explained",
    "strays": "dashboard#i-paid-and-got-nothing",
    "stray": "architecture#a-refused-call-is-explained",
    "snippets": "readme#read-the-grants-in-your-game",
    "settings": "readme#settings",
    "setting_family": "readme#settings",
    "settlements": "settlement",
    "month": "settlement#close-a-month",
    "differences": "settlement#compare-it-with-the-partners-figures",
    "month_print": "settlement#documents",
    "month_creators": "settlement#what-counts-when",
    "month_purchases": "settlement#what-counts-when",
    "report_columns": "settlement#the-report-as-a-file",
    "account": "dashboard#signing-in",
    "people_page": "dashboard#people",
    "new_second_factor": "dashboard#signing-in",
    "alerts": "alerts",
    "activity": "dashboard#signing-in",
}


def help_address() -> str:
    """The address of what explains this page; of a page without a section, what explains the pages."""
    endpoint = (request.endpoint or "").removeprefix("dashboard.")
    if endpoint in ("documents", "document", "api_document"):
        return url_for("dashboard.documents")
    place = HELP.get(endpoint, THE_PAGES)
    if endpoint == "integration_partner":  # each partner has a document of its name
        place = str((request.view_args or {})["partner"])
    name, _, anchor = place.partition("#")
    return url_for("dashboard.document", name=name) + (f"#{anchor}" if anchor else "")
