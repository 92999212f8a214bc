"""What the tests share: parameters, fresh fits of any number of rows, the whole visible state, forgeries, strategies.

It judges nothing. A fit here goes through `erase_core._core.Model.fit`, since `QKMeans.fit` refuses fewer rows than
clusters while a removal never does.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import oracle
from blake3 import blake3
from erase_core import QKMeans
from erase_core._core import Model
from hypothesis import strategies as st
from numpy.typing import NDArray

Id = int | str
Row = list[float]
Matrix = tuple[tuple[float, ...], ...]

# In seconds. However busy the machine, only what hangs takes so long.
HANG = 1200

# The checkout, the golden vectors, and BIG-bench tasks where there are any.
ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
TASKS = Path(os.environ.get("ERASE_CORE_TASKS", ROOT.parent / "shared/data/bbii"))

INT_IDS: list[Id] = [-(2**63), -(2**32), -7, -2, -1, *range(14), 2**31, 2**32, 2**53 + 1, 10**18, 2**63 - 1]
TEXT_IDS: list[Id] = ["", "a", "b", "Z", "aa", "row-10", "row-9", "\u00e9", "e\u0301", "\u65e5", "\uffff", "\U00010000"]
TEXT_IDS += ["\U0001f600", "a\u0000b", " ", "-1", "0", "1", "\u00df", "\u0416", "x" * 70, "y", "z", "zz"]


@dataclass(frozen=True)
class Config:
    """The parameters of a model and the width of its rows; ratios as numerator and denominator."""

    n_clusters: int = 3
    epsilon: tuple[int, int] = (1, 2)
    gamma: tuple[int, int] = (1, 5)
    max_iter: int = 5
    panel: int | None = None
    projection: int | Matrix | None = None
    max_norm: float | None = None
    center: tuple[float, ...] | None = None
    seed: int = 0
    d: int = 2

    def core(self) -> dict[str, Any]:
        """The keywords of `_core.Model.fit`, without `n_threads` and `cache_bytes`."""
        keywords = {name: value for name, value in vars(self).items() if name != "d"}
        if isinstance(self.projection, tuple):
            keywords["projection"] = np.array(self.projection, dtype=np.float64)
        keywords["center"] = None if self.center is None else list(self.center)
        return keywords

    def estimator(self, n_threads: int | None = 1) -> QKMeans:
        """An unfitted estimator of these parameters."""
        return QKMeans(
            self.n_clusters,
            epsilon=cast("float", Fraction(*self.epsilon)),
            gamma=cast("float", Fraction(*self.gamma)),
            max_iter=self.max_iter,
            panel=self.panel,
            projection=self.projection,
            max_norm=self.max_norm,
            center=self.center,
            random_state=self.seed,
            n_threads=n_threads,
        )

    def oracle(self) -> oracle.Params:
        """The same for the oracle."""
        projection = self.projection
        return oracle.Params(
            n_clusters=self.n_clusters,
            epsilon=Fraction(*self.epsilon),
            gamma=Fraction(*self.gamma),
            max_iter=self.max_iter,
            panel=self.panel,
            projection=[list(row) for row in projection] if isinstance(projection, tuple) else projection,
            max_norm=self.max_norm,
            center=None if self.center is None else list(self.center),
            seed=self.seed,
        )


def matrix(rows: Sequence[Sequence[float]], d: int) -> NDArray[np.float64]:
    """Rows as an array of shape (n, d), also without rows."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), d)


def id_list(ids: Sequence[Id]) -> list[int] | list[str]:
    """Ids all of one kind, as the signatures want them."""
    return cast("list[int] | list[str]", list(ids))


def fresh(rows: Mapping[Id, Sequence[float]], config: Config, n_threads: int = 1) -> Model:
    """A fit on these rows and no others, of any number."""
    x = matrix(list(rows.values()), config.d)
    # Without scores, with those of some steps, or of all: a fresh fit has not what it is compared with has.
    cache_bytes = (None, 0, 4000)[len(rows) % 3]
    return Model.fit(x, id_list(list(rows)), n_threads=n_threads, cache_bytes=cache_bytes, **config.core())


def oracle_fit(rows: Mapping[Id, Sequence[float]], config: Config) -> oracle.Fitted:
    """The oracle's model of them."""
    return oracle.fit(cast("Mapping[int, Sequence[float]]", rows), config.oracle(), config.d)


class State(NamedTuple):
    """Everything that can be seen of a model, floats by their bits."""

    digest: str
    ids: list[Id]
    labels: list[int]
    centres: bytes
    shape: tuple[int, ...]
    exemplars: list[Id | None]
    nearest: list[list[Id]]
    seeds: list[Id]
    inertia: str
    resolution: str
    n_iter: int


def state(model: QKMeans | Model) -> State:
    """The state, read from the public attributes where it is an estimator."""
    core = model._model if isinstance(model, QKMeans) else model
    centres = model.cluster_centers_ if isinstance(model, QKMeans) else model.centres()
    return State(
        digest=model.digest(),
        ids=list(model.ids_ if isinstance(model, QKMeans) else model.ids()),
        labels=(model.labels_ if isinstance(model, QKMeans) else model.labels()).tolist(),
        centres=centres.tobytes(),
        shape=centres.shape,
        exemplars=list(model.exemplars_ if isinstance(model, QKMeans) else model.exemplars()),
        nearest=core.nearest(18),
        seeds=list(core.seeds()),
        inertia=(model.inertia_ if isinstance(model, QKMeans) else model.inertia).hex(),
        resolution=(model.resolution_ if isinstance(model, QKMeans) else model.resolution).hex(),
        n_iter=model.n_iter_ if isinstance(model, QKMeans) else model.n_iter,
    )


class Stranger:
    """Nothing that any call expects. Its repr is the same in every process, as pytest-xdist wants names to be."""

    def __repr__(self) -> str:
        return "a stranger"


# ---- files and processes ----
def sealed(body: bytes) -> bytes:
    """A file with the checksum of its body."""
    return body + blake3(body).digest()


def forgeries(data: bytes, count: int) -> Iterator[bytes]:
    """Bodies with fields of 1 to 8 bytes set to extremes, bytes flipped, parts cut, doubled and moved."""
    rng, body = random.Random(0), data[:-32]
    extremes = [b"\0", b"\1", b"\xff", b"\x7f", b"\x80"]
    for _ in range(count):
        forged = bytearray(body)
        for _ in range(rng.choice([1, 1, 2, 4])):
            a, width = rng.randrange(len(forged)), rng.choice([1, 2, 4, 8])
            b = rng.randrange(len(forged))
            change = rng.randrange(5)
            if change == 0:
                forged[a : a + width] = rng.choice(extremes) * width
            elif change == 1:
                forged[a : a + width] = rng.choice([0, 1, 2, 3, 2**15, 2**31, 2**16]).to_bytes(8, "little")[:width]
            elif change == 2:
                forged[a] ^= 1 << rng.randrange(8)
            elif change == 3:
                forged[a : a + width] = forged[b : b + width]
            else:
                forged[a : a + rng.choice([0, width])] = forged[b : b + rng.choice([0, width])]
        yield bytes(forged)


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)


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
