"""What needs attention, over all games."""
