"""Programs in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# In seconds. However busy the machine, only what hangs takes so long.
HANG = 1200


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
