"""Principal axes of the vectors of public texts, for `QKMeans(projection=...)`.

The texts must never have to be forgotten: axes keep information about the data that they were computed from, even after
the data has been removed. Turning texts into vectors is left to `sentence`.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.errors import DataError, ParameterError, SourceError, os_reason
from erase_core.examples.example import counted

__all__ = ["principal_axes", "read_public_texts"]


def principal_axes(vectors: NDArray[np.float32], n_components: int) -> NDArray[np.float64]:
    """Return the orthonormal directions along which vectors of public texts have the largest mean squares.

    Compared with clustering in all 384 dimensions, clustering along 64, 32 or 16 axes of public words kept 91, 84 or
    80 % of the gain; along random directions, 87, 75 or 58 %. The axes are computed about the origin, not about the
    mean, since `QKMeans` does not subtract a mean. This changed the gain by at most 3 %.

    Parameters
    ----------
    vectors : ndarray of shape (n_texts, n_features)
        Vectors of public texts: best similar to the texts to be clustered, and many times `n_components` of them.
    n_components : int
        Number of axes, 1 to n_features.

    Returns
    -------
    ndarray of shape (n_components, n_features)
        The axes, strongest first. The sign of each axis makes its largest component positive.

    Raises
    ------
    DataError
        There are fewer vectors than axes, the vectors span fewer directions than axes, or a value is not finite.
    ParameterError
        `n_components` is out of range, or `vectors` is a set, which has no order.
    """
    if checks.is_unordered(vectors):
        raise ParameterError(
            f"vectors must have an order, got a {type(vectors).__name__}, which has none. Give a list."
        )
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise DataError(f"vectors of public texts must be a finite matrix, got an array of shape {rows.shape}")
    n_components = checks.integer("n_components", n_components, 1, rows.shape[1])
    if len(rows) < n_components:
        raise DataError(
            f"{n_components} {'axis needs' if n_components == 1 else 'axes need'} at least as many public texts, "
            f"got {len(rows)}. Give more texts, or ask for fewer components."
        )
    squares, axes = np.linalg.eigh(rows.T @ rows)
    rank = int(np.sum(squares > squares[-1] * rows.shape[1] * np.finfo(np.float64).eps))
    if rank < n_components:
        raise DataError(
            f"the public texts span only {counted(rank, 'direction')}, fewer than {n_components} components. Give "
            "texts that differ more, or ask for fewer components."
        )
    strongest = axes[:, : -n_components - 1 : -1].T
    largest = np.abs(strongest).argmax(axis=1, keepdims=True)
    return np.ascontiguousarray(strongest * np.sign(np.take_along_axis(strongest, largest, axis=1)))


def read_public_texts(path: str | os.PathLike[str]) -> list[str]:
    """Read a text file with one public text on each line. Blank lines are skipped.

    Parameters
    ----------
    path : str or path
        A file in UTF-8.

    Returns
    -------
    list of str
        The texts, without the white space around them.

    Raises
    ------
    SourceError
        The file cannot be read, is not in UTF-8, or contains no text.
    ParameterError
        `path` is not a path.
    """
    place = checks.path("path", path)
    try:
        # str.splitlines would split at other characters, too.
        with place.open(encoding="utf-8-sig") as file:
            texts = [text for line in file if (text := line.strip())]
    except UnicodeDecodeError as error:
        raise SourceError(f"{str(place)!r} is not a text file in UTF-8 ({error.reason}). Convert it.") from None
    except OSError as error:
        raise SourceError(f"cannot read public texts from {str(place)!r}: {os_reason(error)}") from error
    if not texts:
        raise SourceError(f"{str(place)!r} contains no text. Give a file with one public text on each line.")
    return texts
