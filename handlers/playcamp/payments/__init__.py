"""The game's payments: polled, pushed or asked for, registered with PlayCamp, and refunded after.

It imports handlers.kit and coinslot.
"""
