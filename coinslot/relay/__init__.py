"""The loop that sends deliveries and runs what is due: at least once, with a lease, outside of any write.

It imports coinslot.payments and what is below it.
"""
