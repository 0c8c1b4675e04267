"""How players sign in to the web store, and the calls with which the game takes part.

It imports handlers.kit and coinslot.
"""
