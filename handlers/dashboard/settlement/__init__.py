"""Months, statements and differences."""
