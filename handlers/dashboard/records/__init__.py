"""Transactions, players, deliveries, destinations and payments, each with what mends it.

It imports the frame of the pages, handlers.kit and coinslot.
"""
