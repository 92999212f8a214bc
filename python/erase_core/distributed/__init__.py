"""A `QKMeans` whose rows lie on the workers of a cluster, by dask.distributed or Ray.

>>> import numpy as np
>>> from erase_core import QKMeans
>>> from erase_core.distributed import DistributedQKMeans
>>> X = np.random.default_rng(0).normal(size=(1000, 16))
>>> parts = [(range(start, start + 250), X[start : start + 250]) for start in range(0, 1000, 250)]
>>> with DistributedQKMeans(n_clusters=4, engine="local") as model:
...     same = model.fit(parts).digest() == QKMeans(n_clusters=4).fit(X).digest()
...     n_removed = model.remove(17).n_removed
>>> same, n_removed
(True, 1)
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from erase_core.distributed.model import DistributedQKMeans

__all__ = ["DistributedQKMeans"]


def __getattr__(name: str) -> object:
    # Imported on first use: workers import this package, too, and do not need scikit-learn.
    if name != "DistributedQKMeans":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from erase_core.distributed.model import DistributedQKMeans

    globals()[name] = DistributedQKMeans
    return DistributedQKMeans
