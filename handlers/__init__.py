"""Who calls, one folder each: partners, the game's server, the owner's browser and the owner's commands.

Each imports coinslot and handlers.kit; none imports another.
"""
