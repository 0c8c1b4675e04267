"""The owner's pages: what came in, what was credited, what is stuck and why, and how to fix it.

They are rendered on the server from the tables that everything else uses, and work without JavaScript.
:data:`PAGES` lists all addresses. ``frame/pages.py`` checks who is signed in and renders; each other folder has the
pages of one subject. A page's module is imported at its first request: commands and partners' calls need none.
"""

from collections.abc import Callable
from importlib import import_module

from flask import g
from flask.typing import ResponseReturnValue

from coinslot.base.errors import CoinslotError
from handlers.dashboard.frame.pages import bp, find_game, refuse, refuse_elsewhere

__all__ = ["PAGES", "ROOTS", "bp", "refuse", "refuse_elsewhere"]

# Method, rule, module and function. The function's name is the endpoint.
PAGES = (
    ("GET", "/", "overview.home:overview"),
    ("GET", "/search", "records.search:search_everything"),
    ("POST", "/troubles/aside", "overview.home:set_trouble_aside"),
    ("GET", "/games/<slug>", "overview.home:game_overview"),
    ("GET", "/games/<slug>/figures.csv", "overview.home:figures_csv"),
    ("GET", "/games/<slug>/transactions", "records.transactions:transactions"),
    ("GET", "/games/<slug>/transactions.csv", "records.transactions:transactions_csv"),
    ("GET", "/games/<slug>/transactions/<public_id>", "records.transactions:transaction"),
    ("POST", "/games/<slug>/transactions/<public_id>/reveal", "records.transactions:reveal_transaction"),
    ("POST", "/games/<slug>/transactions/<public_id>/reversal", "records.transactions:reverse_transaction"),
    ("POST", "/games/<slug>/transactions/<public_id>/redelivery", "records.transactions:redeliver_transaction"),
    ("GET", "/games/<slug>/transactions/<public_id>/refund", "records.refund:refund_order"),
    ("POST", "/games/<slug>/transactions/<public_id>/refund", "records.refund:send_refund"),
    ("GET", "/games/<slug>/transactions/<public_id>/dispute.zip", "records.transactions:dispute_pack"),
    ("GET", "/games/<slug>/conflicts", "records.conflicts:conflicts"),
    ("GET", "/games/<slug>/conflicts.csv", "records.conflicts:conflicts_csv"),
    ("GET", "/games/<slug>/refunds", "records.conflicts:refunds"),
    ("GET", "/games/<slug>/refunds.csv", "records.conflicts:refunds_csv"),
    ("GET", "/games/<slug>/players", "records.players:players"),
    ("GET", "/games/<slug>/players.csv", "records.players:players_csv"),
    ("POST", "/games/<slug>/players", "records.player_entry:add_player"),
    ("POST", "/games/<slug>/players/import", "records.player_entry:import_players"),
    ("GET", "/games/<slug>/players/<path:player_id>", "records.players:player"),
    ("GET", "/games/<slug>/edit-player", "records.player_entry:edit_player"),
    ("POST", "/games/<slug>/edit-player", "records.player_entry:save_player"),
    ("GET", "/games/<slug>/player.json", "records.player_entry:export_player"),
    ("POST", "/games/<slug>/forgotten-players", "records.players:forget_player"),
    ("GET", "/games/<slug>/items", "records.items:items"),
    ("GET", "/games/<slug>/items.csv", "records.items:items_csv"),
    ("POST", "/games/<slug>/items", "records.items:add_item"),
    ("POST", "/games/<slug>/items/name", "records.items:rename_item"),
    ("POST", "/games/<slug>/items/remove", "records.items:remove_item"),
    ("POST", "/games/<slug>/items/import", "records.items:import_items"),
    ("GET", "/games/<slug>/events", "records.events:events"),
    ("GET", "/games/<slug>/events.csv", "records.events:events_csv"),
    ("GET", "/games/<slug>/events/<int:event_id>", "records.events:event"),
    ("POST", "/games/<slug>/events/<int:event_id>", "records.events:reveal_event"),
    ("GET", "/games/<slug>/deliveries", "records.deliveries:deliveries"),
    ("GET", "/games/<slug>/deliveries.csv", "records.deliveries:deliveries_csv"),
    ("POST", "/games/<slug>/deliveries/redrive", "records.deliveries:redrive_deliveries"),
    ("GET", "/games/<slug>/deliveries/<int:delivery_id>", "records.deliveries:delivery"),
    ("POST", "/games/<slug>/deliveries/<int:delivery_id>/redrive", "records.deliveries:redrive_delivery"),
    ("POST", "/games/<slug>/deliveries/destinations/<name>/<verb>", "records.deliveries:switch_destination"),
    ("GET", "/games/<slug>/settings/destinations", "records.destinations:destination_list"),
    ("POST", "/games/<slug>/settings/destinations", "records.destinations:add_destination"),
    ("POST", "/games/<slug>/settings/destinations/<name>/state", "records.destinations:change_destination"),
    ("POST", "/games/<slug>/settings/destinations/<name>/secret", "records.destinations:rotate_destination"),
    (
        "POST",
        "/games/<slug>/settings/destinations/<name>/secret/retire",
        "records.destinations:retire_destination_secret",
    ),
    ("POST", "/games/<slug>/settings/destinations/<name>/grade", "records.destinations:grade_destination"),
    ("GET", "/games/<slug>/payments", "records.payments:payments"),
    ("GET", "/games/<slug>/payments.csv", "records.payments:payments_csv"),
    ("GET", "/games/<slug>/payments/<path:transaction_id>", "records.payments:payment"),
    ("POST", "/games/<slug>/payments/redrive", "records.payments:redrive_payments"),
    ("GET", "/games/<slug>/integration", "integration.addresses:integration"),
    ("GET", "/games/<slug>/integration/<partner>", "integration.addresses:integration_partner"),
    ("POST", "/games/<slug>/integration/<partner>/settings", "integration.addresses:set_agreed"),
    ("GET", "/games/<slug>/integration/keys", "integration.addresses:keys"),
    ("POST", "/games/<slug>/integration/keys/set", "integration.addresses:set_key"),
    ("POST", "/games/<slug>/integration/keys/retire", "integration.addresses:retire_key"),
    ("GET", "/games/<slug>/mapping", "integration.mapping:mapping"),
    ("POST", "/games/<slug>/mapping", "integration.mapping:preview_mapping"),
    ("GET", "/games/<slug>/mapping/payments", "integration.payment_mapping:payment_mapping"),
    ("POST", "/games/<slug>/mapping/payments", "integration.payment_mapping:save_payment_mapping"),
    ("POST", "/games/<slug>/mapping/window", "integration.payment_mapping:try_window"),
    ("GET", "/games/<slug>/refusals", "integration.refusals:refusals"),
    ("GET", "/games/<slug>/refusals/<int:refusal_id>", "integration.refusals:refusal"),
    ("POST", "/games/<slug>/refusals/<int:refusal_id>", "integration.refusals:show_refusal_body"),
    ("POST", "/games/<slug>/refusals/<int:refusal_id>/mend", "integration.refusals:mend_refusal"),
    ("POST", "/games/<slug>/refusals/<int:refusal_id>/player", "integration.refusals:register_player"),
    ("POST", "/games/<slug>/refusals/<int:refusal_id>/aside", "integration.refusals:set_refusal_aside"),
    ("GET", "/refusals", "integration.refusals:strays"),
    ("GET", "/refusals/<int:refusal_id>", "integration.refusals:stray"),
    ("POST", "/refusals/<int:refusal_id>", "integration.refusals:show_stray_body"),
    ("POST", "/games/<slug>/integration/<partner>/copied", "integration.send_test:note_copied"),
    ("POST", "/games/<slug>/integration/<partner>/test", "integration.send_test:send_test"),
    ("GET", "/games/<slug>/integration/snippets", "integration.snippets:snippets"),
    ("GET", "/games/<slug>/settings", "settings.game:settings"),
    ("POST", "/games/<slug>/settings", "settings.game:save_settings"),
    ("GET", "/games/<slug>/settings/family", "settings.game:setting_family"),
    ("POST", "/games/<slug>/settings/family", "settings.game:add_to_family"),
    ("POST", "/games/<slug>/settings/family/remove", "settings.game:remove_from_family"),
    ("POST", "/games/<slug>/settings/token", "settings.game:replace_token"),
    ("POST", "/games/<slug>/settings/token/retire", "settings.game:retire_tokens"),
    ("GET", "/games/<slug>/settlements", "settlement.months:settlements"),
    ("GET", "/games/<slug>/settlements/<name>", "settlement.months:month"),
    ("POST", "/games/<slug>/settlements/<name>/close", "settlement.months:close_month"),
    ("POST", "/games/<slug>/settlements/<name>/steps", "settlement.months:advance_month"),
    ("POST", "/games/<slug>/settlements/<name>/reopen", "settlement.months:reopen_month"),
    ("GET", "/games/<slug>/settlements/<name>/differences", "settlement.differences:differences"),
    ("GET", "/games/<slug>/settlements/<name>/differences.csv", "settlement.differences:differences_csv"),
    ("POST", "/games/<slug>/settlements/<name>/differences/ask", "settlement.differences:ask_partner"),
    ("POST", "/games/<slug>/settlements/<name>/differences/accept", "settlement.differences:accept_differences"),
    ("GET", "/games/<slug>/settlements/<name>/files/<document>", "settlement.documents:month_file"),
    ("GET", "/games/<slug>/settlements/<name>/print", "settlement.documents:month_print"),
    ("GET", "/games/<slug>/settlements/<name>/creators", "settlement.documents:month_creators"),
    ("GET", "/games/<slug>/settlements/<name>/purchases", "settlement.documents:month_purchases"),
    ("POST", "/games/<slug>/settlements/<name>/differences/upload", "settlement.uploads:upload_report"),
    ("GET", "/games/<slug>/settlements/<name>/differences/<partner>/<upload_id>", "settlement.uploads:report_columns"),
    (
        "POST",
        "/games/<slug>/settlements/<name>/differences/<partner>/<upload_id>",
        "settlement.uploads:hold_against_report",
    ),
    ("GET", "/login", "account.login:login"),
    ("POST", "/login", "account.login:sign_in"),
    ("GET", "/login/code", "account.login:login_code"),
    ("POST", "/login/code", "account.login:sign_in_with_code"),
    ("POST", "/logout", "account.login:sign_out"),
    ("GET", "/setup", "account.setup:setup"),
    ("POST", "/setup", "account.setup:complete_setup"),
    ("GET", "/invitation", "account.invitation:invitation"),
    ("POST", "/invitation", "account.invitation:join"),
    ("POST", "/show", "account.show:show_page"),
    ("GET", "/account", "account.security:account"),
    ("POST", "/account/password", "account.security:change_password"),
    ("POST", "/account/browsers/end", "account.security:end_browser"),
    ("POST", "/account/second-factor/offer", "account.security:offer_second_factor"),
    ("GET", "/account/second-factor", "account.security:new_second_factor"),
    ("POST", "/account/second-factor", "account.security:switch_second_factor_on"),
    ("POST", "/account/second-factor/off", "account.security:switch_second_factor_off"),
    ("POST", "/account/recovery-codes", "account.security:new_recovery_codes"),
    ("POST", "/account/zone", "account.security:choose_zone"),
    ("POST", "/account/games", "account.security:add_game"),
    ("POST", "/account/master-key", "account.security:rotate_master_key"),
    ("POST", "/account/backup", "account.security:download_backup"),
    ("GET", "/account/people", "account.people:people_page"),
    ("POST", "/account/people", "account.people:invite_person"),
    ("POST", "/account/people/remove", "account.people:remove_person"),
    ("POST", "/account/people/browsers/end", "account.people:end_browsers_of"),
    ("GET", "/account/alerts", "account.alerts:alerts"),
    ("POST", "/account/alerts", "account.alerts:add_alert"),
    ("POST", "/account/alerts/<name>/test", "account.alerts:test_alert"),
    ("POST", "/account/alerts/<name>/remove", "account.alerts:remove_alert"),
    ("POST", "/account/heartbeat", "account.alerts:set_heartbeat"),
    ("POST", "/account/heartbeat/off", "account.alerts:end_heartbeat"),
    ("GET", "/activity", "account.activity:activity"),
    ("GET", "/activity.csv", "account.activity:activity_csv"),
    ("GET", "/docs", "documents.pages:documents"),
    ("GET", "/docs/api", "documents.api:api_document"),
    ("GET", "/docs/<name>", "documents.pages:document"),
    ("GET", "/docs/pictures/<name>", "documents.pages:picture"),
)
ROOTS = {rule.split("/")[1] for _, rule, _ in PAGES} | {"static"}  # the first words of the addresses


def _import_late(place: str) -> Callable[..., ResponseReturnValue]:
    """A view that imports its function when it is called. ``<slug>`` in the rule becomes the argument ``game``."""
    module, _, name = place.partition(":")

    def view(**values: object) -> ResponseReturnValue:
        if "slug" in values:
            values["game"] = g.game = find_game(str(values.pop("slug")))
        answer: ResponseReturnValue
        try:
            answer = getattr(import_module(f"{__name__}.{module}"), name)(**values)
        except CoinslotError as error:
            if "form" not in g:
                raise
            answer = g.form(status=getattr(error, "status", 400), problem=str(error))
        return answer

    return view


for method, rule, place in PAGES:
    bp.add_url_rule(rule, place.partition(":")[2], _import_late(place), methods=[method])
