"""The database: a write is committed and fsynced when the call returns, and commits never overlap.

It imports coinslot.base only, and is the one place that imports sqlite3.
"""
