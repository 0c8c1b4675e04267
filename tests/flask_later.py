"""``flask`` as it will be some time from now: ``python -m tests.flask_later SECONDS relay --once``.

For what waits until a lease has run out, when the one who held it was killed.
"""

import sys

from flask.cli import main

from tests import databases

if __name__ == "__main__":
    seconds = float(sys.argv.pop(1))
    with databases.later(seconds):
        main()
