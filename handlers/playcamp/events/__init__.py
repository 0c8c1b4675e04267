"""PlayCamp's webhooks, and how events become the game's own format.

It imports handlers.kit and coinslot.
"""
