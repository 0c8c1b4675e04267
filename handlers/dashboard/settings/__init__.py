"""A game's settings, players and items.

It imports the frame of the pages, handlers.kit and coinslot.
"""
