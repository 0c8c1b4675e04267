"""What handlers share: the card of a partner, who may call, errors, simulated calls, why a call was refused.

It imports coinslot, and no other folder of handlers.
"""
