"""gunicorn wsgi:app"""

import gc

gc.disable()  # nearly all that is made while importing stays: looking through it is a tenth of the start

from app import create_app  # noqa: E402

try:
    app = create_app()
except ValueError as error:  # a variable of the environment is malformed; the message names it
    raise SystemExit(f"Coinslot does not start: {error}") from None
gc.freeze()  # and is never looked through again: by the collector, at the end of a process, after a fork
gc.enable()
