"""The warning that the precision of a `QKMeans` is too coarse for its rows.

The core computes the resolution, so it follows the rows through every update: docs/algorithm.md, section 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from erase_core.errors import DataWarning, warn_user

if TYPE_CHECKING:
    from erase_core._core import Coordinator, Model

__all__ = ["COARSE", "warn_if_coarse"]

# Measured on blobs: up to a resolution of 200, clusters are the same as those of centred rows; from 1000 on they are
# worse. By definition, 256 means that the spread of a coordinate is only four steps of the fixed point. Normalised
# embeddings have 1 to 4, centred data seldom more than 10.
COARSE = 256


def warn_if_coarse(model: Model | Coordinator, before: float = 0.0) -> None:
    """Warn if a model has become too coarse for its rows. The warning points to the user's line, not into a library.

    Parameters
    ----------
    model : Model or Coordinator
    before : float
        The resolution before the update. If it was too coarse already, no further warning is given.
    """
    if before <= COARSE < model.resolution:
        warn_user(
            "QKMeans: the precision is too coarse for the spread of the rows: resolution_ is "
            f"{model.resolution:.3g}, above {COARSE}. Give center= if the rows lie far from the origin, leave out or "
            "clip rows that are much larger than the others, or lower max_norm or epsilon.",
            DataWarning,
        )
