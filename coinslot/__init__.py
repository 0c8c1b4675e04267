"""The core: it knows no partner and no HTTP request.

Each folder imports only those below it: base, store, access, games, outbox, ledger, payments, relay, operations,
settlement; ``installation.py`` puts the parts together.
"""

__version__ = "0.9.0"
