"""Where things are: the checkout, the golden vectors, and BIG-bench tasks where there are any."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
TASKS = Path(os.environ.get("ERASE_CORE_TASKS", ROOT.parent / "shared/data/bbii"))
