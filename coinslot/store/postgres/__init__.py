"""PostgreSQL as the engine, where COINSLOT_DATABASE names one. Without that setting nothing here is imported.

It promises what ``coinslot/store`` promises.
"""
