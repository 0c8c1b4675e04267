"""Calls of ours to Appcharge: its catalogue, reports, checkout sessions and store refresh.

It imports handlers.kit and coinslot.
"""
