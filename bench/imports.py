"""How long ``import wsgi`` takes, against importing alone all third-party libraries that it loads."""

import json
import os
import subprocess
import sys
import time
from statistics import median

from bench.server import ROOT

MOST_TIMES = 1.5
RUNS = 9
LIBRARIES = """
import json, sys, sysconfig
import wsgi
places = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
print(json.dumps([name for name, file in files.items() if file.startswith(places)]))
"""


def measure() -> tuple[float, float]:
    """Median seconds of a process that imports the libraries, and of one that imports ``wsgi``; run in turn."""
    libraries = json.loads(_run(LIBRARIES)[0])  # and whatever was not compiled yet is now
    alone = f"import importlib\nfor name in {libraries!r}: importlib.import_module(name)"
    times = [(_run(alone)[1], _run("import wsgi")[1]) for _ in range(RUNS)]
    return median(libraries for libraries, _ in times), median(whole for _, whole in times)


def _run(code: str) -> tuple[str, float]:
    # Compiled code is kept, as in production, whatever the developer's shell says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout, time.perf_counter() - began
