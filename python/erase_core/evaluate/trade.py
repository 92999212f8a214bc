"""What a removal with its queries costs, and from how many queries on one peer is cheaper than another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from erase_core.evaluate.figures import figure

if TYPE_CHECKING:
    from erase_core.evaluate.report import Measured

__all__ = ["break_evens"]
