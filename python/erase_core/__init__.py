"""Exact unlearning for the examples that adapt an LLM.

`QKMeans` is quantised k-means whose state after any removals and additions is, bit for bit, that of a fit on the rows
that remain.
"""

import warnings as _warnings

from erase_core import _core
from erase_core._core import UpdateReport, __version__
from erase_core.errors import (
    DataError,
    DuplicateIdError,
    EmptyModelError,
    EraseError,
    IdKindError,
    ModelFileError,
    ParameterError,
    UnknownIdError,
)
from erase_core.kmeans import QKMeans

__all__ = [
    "DataError",
    "DuplicateIdError",
    "EmptyModelError",
    "EraseError",
    "IdKindError",
    "ModelFileError",
    "ParameterError",
    "QKMeans",
    "UnknownIdError",
    "UpdateReport",
    "__version__",
]

if _core.DEBUG_BUILD:
    _warnings.warn(
        "erase_core was built without optimisation and is many times slower; build it with `maturin develop --release`",
        RuntimeWarning,
        stacklevel=2,
    )
