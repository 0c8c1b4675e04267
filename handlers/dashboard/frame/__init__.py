"""What every page stands in: addresses, words, charts, exports, masking.

It imports handlers.kit and coinslot.
"""
