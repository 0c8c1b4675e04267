"""``flask`` as it will be some time from now: ``python -m tests.flask_later SECONDS relay --once``.

For what waits until a lease has run out, when the one who held it was killed.
"""

import sys
import time

import time_machine
from flask.cli import main

if __name__ == "__main__":
    seconds = float(sys.argv.pop(1))
    with time_machine.travel(time.time() + seconds, tick=True):
        main()
