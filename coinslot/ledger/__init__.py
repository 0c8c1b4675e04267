"""Exactly once: a transaction is credited once, its grants and lines are never changed, and each is hashed.

It imports coinslot.outbox and what that imports.
"""
