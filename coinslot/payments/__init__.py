"""In-game payments on their way to the partner that settles them: each is registered once, with one content.

It imports coinslot.ledger and the folders below it.
"""
