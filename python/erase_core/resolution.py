"""When a `QKMeans` is too coarse for its rows to be of use, and the warning that says so.

The figure is the core's, so that it follows the rows as the model does: docs/algorithm.md, section 8.
"""

from __future__ import annotations

import sys
import warnings

from erase_core._core import Model
from erase_core.errors import DataWarning

__all__ = ["COARSE", "warn_if_coarse"]

# Measured on blobs: up to 200 the clusters are those of the same rows about the origin, from 1000 on they are worse. By
# definition of the figure it means four steps of the fixed point for the spread of a coordinate. Normalised embeddings
# have 1 to 4, centred data seldom more than 10.
COARSE = 256


def warn_if_coarse(model: Model, before: float = 0.0) -> None:
    """Warn of a model that is too coarse for its rows and was not before, at the user's line, not one of scikit-learn.

    Parameters
    ----------
    model : Model
    before : float
        Its resolution before an update, so that only the update that made it coarse warns, not every one that follows.
    """
    if before <= COARSE < model.resolution:
        warnings.warn(
            "QKMeans: the model's steps are coarse against the spread of the rows: resolution_ is "
            f"{model.resolution:.3g}, above {COARSE}; give center= if the rows lie far from the origin, leave out or "
            "clip rows that are much larger than the others, or lower max_norm or epsilon",
            DataWarning,
            stacklevel=_level_of_user(),
        )


def _level_of_user() -> int:
    """Return how many frames above the caller of this function the user's code is: not ours, and not scikit-learn's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("erase_core.", "sklearn.")):
        level, frame = level + 1, frame.f_back
    return level
