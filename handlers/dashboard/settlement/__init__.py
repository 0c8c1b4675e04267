"""Months, statements and differences.

It imports the frame of the pages, handlers.kit and coinslot.
"""
