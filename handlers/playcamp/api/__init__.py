"""Calls of ours to PlayCamp, and what its answers mean.

It imports handlers.kit and coinslot.
"""
