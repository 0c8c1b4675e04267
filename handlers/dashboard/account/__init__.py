"""The owner: setup, login, second factor, sessions, and what was changed."""
