"""The model test with as many examples as there is time for: ``python -m tests.model --minutes 15``.

Each round is ten examples with a seed of its own. Ends with 1 when anything was not as the model says; the steps that
led there are printed, and ``--seed N --rounds 1`` does the round again.
"""

import argparse
import random
import sys
import time
import traceback

from hypothesis import Verbosity, seed
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine
from tests.model.steps import settings_of

EXAMPLES = 10  # of a round; the first of them is always the simplest there is


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="no round begins after that (15)")
    parser.add_argument("--rounds", type=int, default=10**9, help="at most")
    parser.add_argument("--steps", type=int, default=60, help="per example (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the first round; any by default")
    parser.add_argument("--verbose", action="store_true", help="print every step")
    options = parser.parse_args()
    began = time.monotonic()
    is_over = False
    rounds = 0
    while rounds < options.rounds and not is_over:
        number = options.seed + rounds
        seed(number)(Machine)
        try:
            verbosity = Verbosity.debug if options.verbose else Verbosity.normal
            run_state_machine_as_test(Machine, settings=settings_of(EXAMPLES, options.steps, verbosity=verbosity))
        except BaseException:
            traceback.print_exc()
            print(f"seed {number} after {rounds} good rounds: not as the model says")
            return 1
        rounds += 1
        minutes = (time.monotonic() - began) / 60
        print(f"seed {number}: as the model says; {rounds * EXAMPLES} examples in {minutes:.1f} min", flush=True)
        is_over = minutes >= options.minutes
    print(", ".join(f"{count:,} {what}" for what, count in sorted(Machine.counts.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
