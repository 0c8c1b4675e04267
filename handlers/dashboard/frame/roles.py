"""Who may ask for which page. An address that stands in no list below is for owners alone.

Support reads everything except keys, settings and backups, and mends what needs no decision about money. What is
personal stays hidden from them until they press Show, and each press is a line in Activity.
"""

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
    overview game_overview search_everything transactions transaction conflicts refunds players player deliveries
    delivery payments payment integration integration_partner snippets refusals refusal strays stray settlements month
    differences month_print month_creators month_purchases activity
"""
_SHOW = "show_page reveal_transaction show_refusal_body show_stray_body"
_ACT = """
    redrive_deliveries redrive_delivery redrive_payments redeliver_transaction set_refusal_aside register_player
"""
_OWN_ACCOUNT = """
    sign_out account change_password end_browser offer_second_factor new_second_factor switch_second_factor_on
    switch_second_factor_off new_recovery_codes
"""
SUPPORT_MAY = frozenset(f"{_READ} {_SHOW} {_ACT} {_OWN_ACCOUNT}".split())


def may(person: Person | None, endpoint: str) -> bool:
    """Whether a person may ask for the address of this function; None is somebody who has not signed in."""
    if endpoint in OPEN:
        return True
    if person is None:
        return False
    return person.role == OWNER or (person.role == SUPPORT and endpoint in SUPPORT_MAY)
