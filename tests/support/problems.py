"""Random problems: ids, rows and parameters, drawn by a generator or by hypothesis, and a value that fits nowhere.

It judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import oracle
from fits import Config, Id, Matrix, Row
from hypothesis import strategies as st
from numpy.typing import NDArray

INT_IDS: list[Id] = [-(2**63), -(2**32), -7, -2, -1, *range(14), 2**31, 2**32, 2**53 + 1, 10**18, 2**63 - 1]
TEXT_IDS: list[Id] = ["", "a", "b", "Z", "aa", "row-10", "row-9", "\u00e9", "e\u0301", "\u65e5", "\uffff", "\U00010000"]
TEXT_IDS += ["\U0001f600", "a\u0000b", " ", "-1", "0", "1", "\u00df", "\u0416", "x" * 70, "y", "z", "zz"]


class Stranger:
    """Nothing that any call expects. Its repr is the same in every process, as pytest-xdist wants names to be."""

    def __repr__(self) -> str:
        return "a stranger"


# ---- plain random problems ----
def random_rows(rng: np.random.Generator, count: int, d: int) -> NDArray[np.float64]:
    """Rows of one of six families."""
    x = rng.normal(size=(count, d))
    scales = 2.0 ** rng.integers(-3, 4, size=(count, 1))
    middles = rng.normal(size=(5, d))[rng.integers(5, size=count)]
    directions = x / np.linalg.norm(x, axis=1)[:, None]
    families = [x, np.round(2 * x), x * scales, np.round(x) * scales, middles + x / 8, directions]
    chosen: NDArray[np.float64] = families[rng.integers(len(families))]
    return chosen


def random_config(rng: np.random.Generator, d: int) -> Config:
    """Parameters; the bound fits all families of at most 8 features."""
    some_matrix = tuple(tuple(map(float, row)) for row in rng.normal(size=(2, d)))
    projections = [None, None, None, int(rng.integers(1, 5)), some_matrix]
    n_clusters = int(rng.integers(1, 9))
    # As many rows as clusters, some more, about as many as there are, more than there are, and all.
    panel = [None, n_clusters, n_clusters + int(rng.integers(1, 40)), int(rng.integers(30, 120)), 1000]
    return Config(
        n_clusters=n_clusters,
        epsilon=(int(rng.integers(1, 10 ** rng.integers(1, 4) * 3)), 1000),
        gamma=[(0, 1), (1, 5), (1, 1)][rng.integers(3)],
        max_iter=int(rng.integers(1, 9)),
        panel=panel[rng.integers(len(panel))],
        projection=projections[rng.integers(len(projections))],
        max_norm=[None, 200.0][rng.integers(2)],
        center=[None, None, tuple(map(float, rng.normal(size=d)))][rng.integers(3)],
        seed=int(rng.integers(2**63)),
        d=d,
    )


# ---- strategies ----
@dataclass(frozen=True)
class Problem:
    """Parameters, and where rows for them come from."""

    config: Config
    family: str

    def rows(self) -> st.SearchStrategy[Row]:
        """One row. All families make ties and duplicates likely."""
        d = self.config.d
        grid = st.lists(st.integers(-2, 2).map(float), min_size=d, max_size=d)
        powers = st.builds(lambda row, j: [v * 2.0**j for v in row], grid, st.integers(-6, 6))
        if self.family == "grid":
            return grid
        if self.family == "powers":
            return st.one_of(st.sampled_from([[0.0] * d, [-0.0] * d]), powers)
        if self.family == "floats":
            return st.lists(st.floats(-1, 1), min_size=d, max_size=d)
        corners = [self._corners(c) for c in oracle.phase(self.config.seed, 1, self._pitch(), d)]
        return st.tuples(*(st.sampled_from(values) for values in corners)).map(list)

    def _pitch(self) -> int:
        return oracle.pitch(self.config.oracle(), self.config.d)

    def _corners(self, phase: int) -> list[float]:
        """Coordinates on the cell boundaries of the first update and next to them, for `max_norm` 1."""
        e = self._pitch()
        inside = [q * e - phase for q in range(-(2**13) // e, 2**13 // e + 2) if abs(q * e - phase) <= 2**13]
        near_zero = sorted(inside, key=abs)[:4]
        return [(c + step) / 2**14 for c in near_zero for step in (-2, -1, 0, 1, 2)]


# No row of the family has a larger norm, whatever its width up to 4.
_BOUNDS = {"grid": 4.0, "powers": 256.0, "floats": 2.0, "boundaries": 1.0}
_RATIOS = [(1, 10**6), (1, 100), (1, 10), (1, 2), (1, 1), (7, 3), (3, 1)]


def _not_tiny(matrix: Matrix) -> bool:
    """Whether it cannot round to zeros, which are refused."""
    return any(abs(v) > 1e-3 for row in matrix for v in row)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Any parameters with rows of up to 4 features."""
    family = draw(st.sampled_from(sorted(_BOUNDS)))
    d = draw(st.integers(1, 4))
    bound = _BOUNDS[family]
    entry = st.one_of(st.sampled_from([1.0, -1.0, 0.5]), st.floats(-3, 3))
    some_matrix = st.lists(st.tuples(*[entry] * d), min_size=1, max_size=3).map(tuple).filter(_not_tiny)
    on_boundaries = family == "boundaries"
    n_clusters = draw(st.integers(1, 6))
    far = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 0.1, -3.0, 1e-3]), st.floats(-8, 8))
    center = None if on_boundaries else draw(st.one_of(st.none(), st.none(), st.tuples(*[far] * d)))
    away = float(np.linalg.norm(center or 0.0))
    config = Config(
        n_clusters=n_clusters,
        epsilon=draw(st.one_of(st.sampled_from(_RATIOS), st.tuples(st.integers(1, 3000), st.just(1000)))),
        gamma=draw(st.sampled_from([(0, 1), (1, 5), (1, 1)])),
        max_iter=draw(st.integers(1, 8)),
        panel=draw(st.one_of(st.none(), st.integers(n_clusters, 16))),
        projection=None if on_boundaries else draw(st.one_of(st.none(), st.integers(1, 5), some_matrix)),
        max_norm=bound if on_boundaries else draw(st.sampled_from([None, None, bound + away, 1.7 * bound + away])),
        center=center,
        seed=draw(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))),
        d=d,
    )
    return Problem(config, family)


@st.composite
def row_sets(draw: st.DrawFn, problem: Problem, ids: Sequence[Id], least: int, most: int) -> dict[Id, Row]:
    """From `least` to `most` rows under some of the ids, in any order."""
    chosen = draw(st.lists(st.sampled_from(ids), unique=True, min_size=least, max_size=most))
    return {id_: draw(problem.rows()) for id_ in chosen}
