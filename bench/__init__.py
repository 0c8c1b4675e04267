"""Coinslot's budgets, measured: ``python -m bench credits``, ``memory``, ``size`` (``--help`` says more).

Nothing here is a test. Machines are noisy, so every figure that decides is a ratio of runs that took turns on one
machine, median of several rounds. Needs wrk on the PATH; everything stays on the loopback and in a temporary folder.
"""
