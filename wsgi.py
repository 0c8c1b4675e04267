"""gunicorn wsgi:app"""

from app import create_app

try:
    app = create_app()
except ValueError as error:  # a variable of the environment is malformed; the message names it
    raise SystemExit(f"Coinslot does not start: {error}") from None
