"""The owner: setup, login, second factor, sessions, what was changed.

It imports the frame of the pages, handlers.kit and coinslot.
"""
