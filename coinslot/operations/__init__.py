"""What keeps an installation healthy: troubles, refused calls, backups, restores, forgetting a player.

It imports coinslot.relay and what is below it.
"""
