"""Coinslot with its storage stubbed out: how fast the same app could be if nothing had to last.

Address, signature, parsing, mapping and every read stay as they are. Only the write of a credit is left out: whoever
waits for one is handed an answer at once, and the disk never hears of it. Never to be served to anyone.
"""

from typing import Any

from app import create_app
from coinslot.ledger.reports import Credited

CREDITED = Credited("stubbed", 200, '{"publisherPurchaseId": "00000000-0000-5000-8000-000000000000"}', is_new=True)

app = create_app()
database = app.extensions["coinslot"].database
write = database.write


def write_no_credit(function: Any, **options: Any) -> Any:
    return CREDITED if function.__qualname__ == "report.<locals>.write" else write(function, **options)


database.write = write_no_credit
