"""Peak memory of a process of its own.

Read as Linux's VmHWM and not from `getrusage`: what that says of a process that another one started begins with the
*other* one's peak, however small the new one is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def own_peak() -> int:
    """The most bytes of memory that this process has held at once."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run_alone(script: Path, *arguments: object) -> Any:
    """What a script that runs in a fresh process prints on its last line, as JSON."""
    # large blocks straight from the system, so that the peak is what was in use and not what the heap kept
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])
