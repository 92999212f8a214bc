"""Peak memory of a fitted model beyond its input, in a process of its own: `python benches/memory.py n dim`.

The input is made in place, so that what the process held before the fit is the input and the libraries.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def _status(name: str) -> int:
    """Bytes that the kernel has for this process (proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"the kernel does not tell {name}")


def bound(n: int, dim: int) -> int:
    """The aim: the quantised rows and 64 bytes for each."""
    return n * (2 * dim + 64)


def measure(n: int, dim: int) -> dict[str, float]:
    """Fit in a fresh process, which prints what it took."""
    out = subprocess.run([sys.executable, __file__, str(n), str(dim)], check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(out.stdout)
    return figures


def main() -> None:
    """Fit, and print bytes beyond the input: the peak, what stays, and the time."""
    from erase_core import QKMeans
    from measure import around_directions, seconds

    n, dim = int(sys.argv[1]), int(sys.argv[2])
    QKMeans().fit(around_directions(1000, dim))  # libraries and threads are there
    X = around_directions(n, dim)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    model = QKMeans(max_norm=1.0)
    taken = seconds(lambda: model.fit(X), repeats=1)
    peak, stays = _status("VmHWM") - before, _status("VmRSS") - before
    print(json.dumps({"n": n, "dim": dim, "seconds": taken, "peak": peak, "stays": stays, "bound": bound(n, dim)}))


if __name__ == "__main__":
    main()
