"""What all pages share: who is signed in, addresses, words, charts, exports, masking.

It imports handlers.kit and coinslot.
"""
