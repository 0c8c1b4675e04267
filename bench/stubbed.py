"""Coinslot with its storage stubbed out: how fast the same app could be if nothing had to last.

Address, signature, parsing, mapping and every read stay as they are. Only the write is left out: whoever waits for one
is handed an answer at once, and the disk never hears of it. Never to be served to anyone.
"""

from typing import Any

from app import create_app
from coinslot.ledger.reports import Credited

CREDITED = Credited("stubbed", 200, '{"publisherPurchaseId": "00000000-0000-5000-8000-000000000000"}', is_new=True)


def write_nothing(function: Any) -> Credited:
    return CREDITED


app = create_app()
app.extensions["coinslot"].database.write = write_nothing
