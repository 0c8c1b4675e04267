"""How many examples the attacks try: few and always the same ones, or many new ones by hand.

``ATTACKS=50 pytest -n 0 -m long tests/attacks`` tries fifty times as many, other ones in every run.
"""

import os
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("ATTACKS", "0"))


def examples(number: int, **more: Any) -> settings:
    """Settings for a test of ``number`` examples; nothing is kept between runs or picked out of the source."""
    return settings(
        max_examples=number * max(TIMES, 1),
        derandomize=not TIMES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        **more,
    )
