"""Secrets and people: what is sealed, which keys verify, who is signed in, and how guesses are slowed down.

It imports coinslot.store and what that imports.
"""
