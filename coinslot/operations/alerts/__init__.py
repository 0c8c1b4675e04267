"""Alerts: which troubles are sent to whom, the messages on their way, and the heartbeat.

``watch.py`` decides what is sent, ``targets.py`` has who gets it, ``outbox.py`` the messages, ``sending.py`` starts the
short-lived process (``child.py``) that sends one, ``heartbeat.py`` calls a watcher outside.
"""
