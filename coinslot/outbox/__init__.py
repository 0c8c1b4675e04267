"""What is owed to the game: deliveries are written in the commit that causes them, and none is lost.

It imports coinslot.games and what is below it.
"""
