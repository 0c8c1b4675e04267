"""How long ``import wsgi`` takes, against importing alone all third-party libraries that it loads."""

import json
import os
import subprocess
import sys
import time

from bench.server import ROOT

MOST_TIMES = 1.5
LIBRARIES = """
import json, sys, sysconfig
import wsgi
places = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
print(json.dumps([name for name, file in files.items() if file.startswith(places)]))
"""


def alone() -> str:
    """Code that imports the libraries and nothing of ours. Afterwards everything is compiled."""
    libraries = json.loads(_output(LIBRARIES))
    return f"import importlib\nfor name in {libraries!r}: importlib.import_module(name)"


def seconds(code: str) -> float:
    """What a process that runs ``code`` takes, from start to end."""
    began = time.perf_counter()
    _output(code)
    return time.perf_counter() - began


def compiling() -> dict[str, str]:
    """The environment of a process that keeps compiled code, as in production, whatever the developer's shell says."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _output(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=compiling(), stdout=subprocess.PIPE, text=True, check=True).stdout
