"""What needs attention, over all games.

It imports the frame of the pages, handlers.kit and coinslot.
"""
