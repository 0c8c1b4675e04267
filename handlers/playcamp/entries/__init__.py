"""How players enter PlayCamp's pages, signed.

It imports handlers.kit and coinslot.
"""
