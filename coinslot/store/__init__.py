"""The database: a write is committed and fsynced when its caller hears of it, and commits never overlap.

It imports coinslot.base only, and is the one place that imports sqlite3.
"""
