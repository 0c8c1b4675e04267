"""What to paste where, whether it works, and why calls are refused.

It imports the frame of the pages, handlers.kit and coinslot.
"""
