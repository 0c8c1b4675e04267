"""What every handler stands on. Nothing in here knows a partner, Flask or an HTTP request."""
