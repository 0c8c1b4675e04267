"""The settings, players and items of a game."""
