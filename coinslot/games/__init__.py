"""Games, their settings, players and items: who may receive, and what there is to give.

It imports coinslot.access and what that imports.
"""
