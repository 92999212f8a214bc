"""Rows in parts, for distributed models, and the one-process model that they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from erase_core import QKMeans
from numpy.typing import NDArray

SETTINGS: dict[str, Any] = {"n_clusters": 4, "panel": 40}


def made_rows(n_rows: int, width: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Rows in four clumps, as float32."""
    generator = np.random.default_rng(seed)
    clumps = generator.normal(size=(4, width)) * 3
    rows = clumps[generator.integers(4, size=n_rows)] + generator.normal(size=(n_rows, width))
    return np.asarray(rows, dtype=np.float32)


def digest_of(rows: dict[Any, NDArray[np.float32]], **settings: Any) -> str:
    """The digest of a `QKMeans` of these rows, by id."""
    ids = list(rows)
    model = QKMeans(**(SETTINGS | settings))
    return model._fit(np.array([rows[id_] for id_ in ids]), ids, at_least=1).digest()


def write_part(file: Path, ids: Iterable[Any], rows: NDArray[Any]) -> Path:
    """A .npy file, with its ids beside it."""
    np.save(file, rows)
    np.save(file.with_suffix(".ids.npy"), np.array([*ids]))
    return file
