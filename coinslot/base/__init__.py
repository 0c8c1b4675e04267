"""Numbers, money, moments, expressions, signatures, addresses and calls out: no table and no file.

It imports the standard library and pinned packages only.
"""
