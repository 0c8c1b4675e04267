"""The real server under load while something goes wrong, and a judge of what is left: ``python -m chaos``.

Nothing here decides by Coinslot's own code what is right. ``docs/chaos.md`` says what is done and how it is judged.
"""
