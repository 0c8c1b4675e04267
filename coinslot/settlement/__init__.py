"""A month: closed into lines that never change, held against the partners' figures, and written out.

It imports coinslot.operations and what that may import.
"""
