"""Months: closed into lines that never change, compared with the partners' figures, and written as documents.

It imports coinslot.operations and what that may import.
"""
