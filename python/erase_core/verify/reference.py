"""A second implementation of docs/algorithm.md, in numpy: computes the model of vectors, ids and parameters.

`verify` compares the core's result with it. So it contains no maintenance (no certificate, no replay, no cached scores,
no shards), and shares no code with the core. The sections below are those of docs/algorithm.md, then those of
docs/file-format.md. Section 4 is in `draws`.

Integers are multiplied as float64, which is fast in numpy. This is exact as long as all partial sums, in any order, are
below 2^53; a comment at each such place gives the bound. There are at most 2^16 features and dimensions, and at most
2^31 rows. Rows are processed in chunks, so the memory needed is little more than twice the rows in fixed point.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import DataError, DuplicateIdError, IdKindError, ParameterError
from erase_core.verify.blake3 import extended_hashes, hash_bytes
from erase_core.verify.draws import phase, places, race_keys, row_keys, signs

__all__ = ["Fitted", "Params", "fit"]

Floats = NDArray[np.float64]
Int16s = NDArray[np.int16]
Int64s = NDArray[np.int64]
Proposals = list[tuple[int, int]]  # the position of each trial's row, and its potential

U = 2**28 + 2**23
LOWEST_EXPONENT = -900
CHUNK_ENTRIES = 2**20
TRIALS = 8
PITCH_DIM = 256  # below, the pitch is that of this dimension
GRADES = (4, 3, 2)
HASHES = 1024  # rows at a time


@dataclass(frozen=True)
class Params:
    """The parameters of a model, within the ranges of docs/algorithm.md.

    Parameters
    ----------
    n_clusters : int
    epsilon, gamma : tuple of int
        Numerator and denominator.
    max_iter : int
    panel : int or None
    seed : int
        0 to 2**64 - 1.
    max_norm : float or None
    projection : None, int or float64 array of shape (m, n_features)
        An int: the number of dimensions of a random-sign projection. An array: the axes.
    center : sequence of float or None
        The vector subtracted from every row, one number for each feature.
    """

    n_clusters: int
    epsilon: tuple[int, int]
    gamma: tuple[int, int]
    max_iter: int
    panel: int | None
    seed: int
    max_norm: float | None = None
    projection: int | NDArray[np.float64] | None = None
    center: Sequence[float] | None = None


@dataclass(frozen=True)
class Fitted:
    """What is compared with the model of the core.

    Parameters
    ----------
    content : bytes
        What `model.to_bytes()[:-32]` is: the file without its checksum.
    labels : ndarray of shape (n,)
        In the order of the ids.
    digest : str
    ids : list of int or str
        Ascending.
    rows : int16 array of shape (n, D)
        The rows as section 3 aligns them, in the order of the ids.
    exponent : int
        Their exponent.
    result : Step or None
        The result of section 7; None if there are no rows.
    params : Params
    """

    content: bytes
    labels: NDArray[np.uint16]
    digest: str
    ids: list[int | str]
    rows: Int16s
    exponent: int
    result: Step | None
    params: Params

    def nearest(self, count: int) -> list[list[int | str]]:
        """Return for each cluster the ids of the `count` rows nearest to its centre, or of all of fewer."""
        if self.result is None:
            return []
        return [[self.ids[i] for i in nearest] for nearest in _nearest(self.rows, self.result, count)]

    def neighbours(self, place: int, count: int) -> list[int | str]:
        """Return the ids of the `count` rows nearest to one of the rows, the nearest first, on a tie the smaller id."""
        row = self.rows[place][None].astype(np.float64)
        parts = [_distances(self.rows[part].astype(np.float64), row)[:, 0] for part in _chunks(*self.rows.shape)]
        return [self.ids[i] for i in np.argsort(np.concatenate(parts), kind="stable")[:count]]

    def routes(self, vectors: NDArray[np.float32] | NDArray[np.float64]) -> list[int]:
        """Return the route of each vector: the index of the centre nearest to it."""
        if self.result is None:
            raise DataError("a model without rows has no centres")
        params = replace(self.params, max_norm=None)
        exponents, rows = _fixed_rows(vectors, np.arange(len(vectors), dtype=np.int64), params)
        return _routes(rows, exponents - self.exponent, self.result.centres)


@dataclass(frozen=True)
class Step:
    """One assignment."""

    centres: Int64s
    labels: NDArray[np.uint16]
    counts: Int64s
    sums: Int64s
    loss: int


def fit(
    vectors: NDArray[np.float32] | NDArray[np.float64], ids: Sequence[int] | Sequence[str], params: Params
) -> Fitted:
    """Return the model of these rows.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features)
    ids : sequence of int or of str
        One unique id for each row, in any order.
    params : Params

    Returns
    -------
    Fitted

    Raises
    ------
    DataError, DuplicateIdError, IdKindError, ParameterError
        The rows, ids or parameters are invalid.
    """
    if vectors.ndim != 2 or vectors.shape[1] == 0 or len(vectors) != len(ids):
        raise DataError(f"vectors must have one row for each of {len(ids)} ids, got an array of shape {vectors.shape}")
    (n, d), is_text = vectors.shape, _is_text(ids)
    names = [id_.encode() if isinstance(id_, str) else id_ for id_ in ids]
    order = sorted(range(n), key=names.__getitem__)
    names = [names[i] for i in order]
    exponents, rows = _fixed_rows(vectors, np.array(order, dtype=np.int64), params)
    head, each = _header(params, d), [_id_bytes(name) for name in names]
    kind = struct.pack("<BQ", is_text, n)
    content = [head, kind, *each, exponents.astype("<i2").tobytes(), rows.astype("<i2", copy=False).tobytes()]
    state = [head, kind, _hash_of_rows(is_text, each, exponents, rows)]
    labels, aligned, result = np.empty(0, dtype=np.uint16), rows, None
    exponent = int(exponents.max(initial=LOWEST_EXPONENT))
    if n:
        aligned, keys = _aligned(rows, exponents, exponent), row_keys(names)
        panel = _panel(keys, params)
        on_panel = aligned[panel]
        chosen, rounds = _seeding(on_panel, keys[panel], min(params.n_clusters, n), params.seed)
        steps = _steps(on_panel, on_panel[chosen].astype(np.int64), params)
        first, last = steps[0], steps[-1]
        result = _assign(aligned, (last if last.loss < first.loss else first).centres)
        labels = result.labels
        state += [_round_bytes(rounds, [each[i] for i in panel]), *map(_step_bytes, steps)]
        state += [struct.pack("<QQ", first.loss, last.loss), result.counts.astype("<u8").tobytes()]
        state += [struct.pack("<Q", result.loss), *_exemplar_bytes(aligned, result, each)]
    digest, sorted_ids = hash_bytes(b"".join(state)).hex(), [ids[i] for i in order]
    return Fitted(b"".join(content), labels, digest, sorted_ids, aligned, exponent, result, params)


def _is_text(ids: Sequence[int] | Sequence[str]) -> bool:
    """Whether the ids are strings, not integers; False if there are no ids."""
    kinds = {type(id_) for id_ in ids}
    if kinds not in (set(), {int}, {str}):
        raise IdKindError("ids must all be integers or all be strings")
    if len(set(ids)) < len(ids):
        raise DuplicateIdError("ids must be unique, but one occurs twice")
    return kinds == {str}


def _chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows, so short that float64 arrays of that width take little memory."""
    step = max(1, CHUNK_ENTRIES // width)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


# ---- 1. Fixed point ----
def _center(params: Params, d: int) -> Floats:
    """The center, with all zeros positive; a zero vector if there is no center."""
    return np.zeros(d) if params.center is None else np.array(params.center, dtype=np.float64) + 0.0


def _at_exponent(x: Floats, p: NDArray[np.int32]) -> Floats:
    """x^(p), row by row. `ldexp` is exact, or its result is tiny and rounds to 0; `rint` rounds halves to even."""
    return np.rint(np.ldexp(x, (14 - p)[:, None]))


def _squares(x: Floats) -> Floats:
    """The squared norms."""
    squares: Floats = np.einsum("ij,ij->i", x, x)
    return squares


def _fixed_point(x: Floats) -> tuple[NDArray[np.int32], Floats]:
    """The exponent of each row, and the mantissas."""
    if not np.isfinite(x).all():
        raise DataError("vectors must be finite, but a value is not")
    # 2^(top - 1) <= largest < 2^top. With exponent top - 2, this entry would be at least 2^15, and its square above U.
    # So the search begins at top - 1. There, entries are at most 2^15, and sums of 2^16 squares at most 2^46.
    largest = np.abs(x).max(axis=1)
    top = np.where(largest > 0, np.frexp(largest)[1], LOWEST_EXPONENT)
    p = np.maximum(top - 1, LOWEST_EXPONENT).astype(np.int32)
    a = _at_exponent(x, p)
    while (too_large := np.flatnonzero(_squares(a) > U)).size:
        p[too_large] += 1
        a[too_large] = _at_exponent(x[too_large], p[too_large])
    return p, a


def _fixed_rows(vectors: NDArray[np.floating], order: Int64s, params: Params) -> tuple[Int64s, Int16s]:
    """The stored form of the rows, in that order: `(p, y)`; or `(pR, x)` if `max_norm` is given."""
    n, d = vectors.shape
    axes = _axes(params, d)
    width = d if axes is None else len(axes[0])
    exponents, rows = np.empty(n, dtype=np.int64), np.empty((n, width), dtype=np.int16)
    for part in _chunks(n, d + width):
        p, a = _fixed_point(vectors[order[part]].astype(np.float64) - _center(params, d))
        y = a if axes is None else _projected(a, *axes)
        if params.max_norm is not None:
            _check_norms(p, a, params.max_norm)
        exponents[part], rows[part] = p, y
    if params.max_norm is None:
        return exponents, rows
    fixed = _norm_exponent(params.max_norm)
    return np.full(n, fixed), _aligned(rows, exponents, fixed)


# ---- 2. Projection ----
def _axes(params: Params, d: int) -> tuple[Floats, float] | None:
    """The matrix to multiply mantissas with, and the factor for the products; None without a projection."""
    if params.projection is None:
        return None
    if isinstance(params.projection, int):
        # s <= 2^29: the factor is exact.
        return signs(params.seed, params.projection, d), math.isqrt(2**58 // params.projection) / 2**30
    return _matrix(params.projection, d)[1], 1 / 2**14


def _matrix(matrix: Floats, d: int) -> tuple[int, Floats]:
    """`p_M` and `B`. A row that is within bounds for one exponent is so for all larger exponents."""
    if matrix.ndim != 2 or matrix.shape[1] != d or len(matrix) == 0:
        raise ParameterError(f"projection must have the shape (m, n_features={d}), got {matrix.shape}")
    p = _fixed_point(matrix)[0].max()
    fixed = _at_exponent(matrix, np.full(len(matrix), p))
    if not fixed.any():
        raise ParameterError("projection must be a matrix that is not all zeros")
    while p > LOWEST_EXPONENT and _squares(2 * fixed).max() <= U:
        p, fixed = p - 1, 2 * fixed
    return int(p), fixed


def _projected(a: Floats, matrix: Floats, factor: float) -> Floats:
    """The rows y.

    |a| < 2^14.03. Under random signs |z_i| <= 2^8 |a|, hence |z_i s| < 2^52, and |y_i| < 2^21.03 / sqrt(m) + 1/2, hence
    |y|^2 < 2^43. Under a matrix |z_i| <= U, and |y_i| < 2^14.1, hence |y|^2 < 2^45.
    """
    y = np.rint(a @ matrix.T * factor)
    squares = _squares(y)
    for i in np.flatnonzero(squares > U):
        y[i] = np.sign(y[i]) * (np.abs(y[i]).astype(np.int64) * 2**14 // (math.isqrt(int(squares[i])) + 1))
    return y


# ---- 3. Alignment ----
def _norm_exponent(max_norm: float) -> int:
    """The smallest integer with max_norm <= 2^pR."""
    fraction, exponent = math.frexp(max_norm)
    return exponent - 1 if fraction == 0.5 else exponent


def _check_norms(p: NDArray[np.int32], a: Floats, max_norm: float) -> None:
    """Refuse rows above the bound. Rows with exponents below pR are below it: the bound is at least U / 4."""
    fixed = _norm_exponent(max_norm)
    bound = math.floor(U * (Fraction(max_norm) / Fraction(2) ** fixed) ** 2)
    if (p > fixed).any() or (_squares(a)[p == fixed] > bound).any():
        raise DataError(f"vectors must have norms of at most max_norm={max_norm!r}, but one is larger")


def _aligned(rows: Int16s, exponents: Int64s, exponent: int) -> Int16s:
    """The rows with a common exponent, as all later sections use them."""
    if (exponents == exponent).all():
        return rows
    aligned = np.empty_like(rows)
    for part in _chunks(*rows.shape):
        shifts = (exponents[part] - exponent).astype(np.int32)
        aligned[part] = np.rint(np.ldexp(rows[part].astype(np.float64), shifts[:, None]))
    return aligned


# ---- 5. Panel and seeding ----
def _panel(keys: NDArray[np.integer[Any]], params: Params) -> Int64s:
    """The positions of the rows on the panel, ascending. A stable sort: of one place the smaller id comes first."""
    in_order = np.argsort(places(params.seed, keys), kind="stable")
    return np.sort(in_order if params.panel is None else in_order[: params.panel])


def _distances(x: Floats, centres: Floats) -> Floats:
    """Squared distances, all below 2^32. Partial sums of a product of x and C are at most |x| |C| < 2^30."""
    distances: Floats = _squares(x)[:, None] - 2 * (x @ centres.T) + _squares(centres)
    return distances


def _first(race: NDArray[np.integer[Any]], weights: Int64s) -> int:
    """The position of the smallest E / w among rows with w > 0. Ids ascend, so a smaller position is a smaller id."""
    with np.errstate(divide="ignore"):
        ratios = race / weights
    # The relative rounding error is below 2^-51. All candidates for the smallest are compared exactly.
    near = np.flatnonzero(ratios <= ratios.min() * (1 + 2.0**-48))
    return min(map(int, near), key=lambda i: (Fraction(int(race[i]), int(weights[i])), i))


def _seeding(rows: Int16s, keys: NDArray[np.integer[Any]], k: int, seed: int) -> tuple[list[int], list[Proposals]]:
    """The positions of the chosen rows, round by round, and all proposals."""
    chosen: list[int] = []
    rounds: list[Proposals] = []
    n = len(rows)
    weights, free = np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64)
    for r in range(k):
        eligible = weights if weights.any() else free
        races = race_keys(seed, r, keys, 1 if r == 0 else TRIALS)
        proposals = [_first(race, eligible) for race in races]
        proposed = rows[proposals].astype(np.float64)
        nearest = np.empty((n, len(proposals)), dtype=np.int64)
        for part in _chunks(n, rows.shape[1]):
            nearest[part] = _distances(rows[part].astype(np.float64), proposed)
        if r > 0:
            np.minimum(nearest, weights[:, None], out=nearest)
        potentials = nearest.sum(axis=0)
        best = int(potentials.argmin())  # on a tie, the first
        weights = nearest[:, best].copy()
        free[proposals[best]] = 0
        chosen.append(proposals[best])
        rounds.append(list(zip(proposals, potentials.tolist(), strict=True)))
    return chosen, rounds


# ---- 6. Steps ----
def _pitch(params: Params, dim: int) -> int:
    """The lattice pitch e."""
    h = 13 if isinstance(params.projection, int) else 14
    p_e, q_e = params.epsilon
    return min(2**14, 2 * max(1, math.isqrt(p_e**2 * 2 ** (2 * h) // (4 * q_e**2 * max(dim, PITCH_DIM)))))


def _assign(rows: Int16s, centres: Int64s) -> Step:
    """One step. Sums over a chunk are below 2^20 * 2^15, its loss below 2^20 * 2^32."""
    k, centres_as_floats = len(centres), centres.astype(np.float64)
    labels, sums, loss = np.empty(len(rows), dtype=np.uint16), np.zeros_like(centres), 0
    for part in _chunks(len(rows), k + centres.shape[1]):
        x = rows[part].astype(np.float64)
        distances = _distances(x, centres_as_floats)
        own = distances.argmin(axis=1)  # on a tie, the lowest index
        member = (own == np.arange(k)[:, None]).astype(np.float64)
        sums += (member @ x).astype(np.int64)
        loss += int(distances.min(axis=1).sum())
        labels[part] = own
    return Step(centres, labels, np.bincount(labels, minlength=k), sums, loss)


def _updated(centres: Int64s, counts: Int64s, sums: Int64s, b: int, e: int, phi: Int64s) -> Int64s:
    """The centres after an update. All fits int64: num < 2^31 * 2^17, phi den < 2^14 * 2^31."""
    den = np.maximum(counts, b)[:, None]
    num = sums + np.maximum(0, b - counts)[:, None] * centres
    divisor = np.maximum(den, 1)  # the result is not used if den = 0
    new = (num + phi * den) // (e * divisor) * e - phi + e // 2
    inside = (np.abs(new) <= 32767).all(axis=1) & ((new**2).sum(axis=1) <= 33 * 2**26)
    return np.where((den > 0) & inside[:, None], new, centres)


def _steps(panel: Int16s, centres: Int64s, params: Params) -> list[Step]:
    """Steps 0, 1, ..., T of the panel."""
    dim = panel.shape[1]
    pitch = _pitch(params, dim)
    b = math.ceil(Fraction(*params.gamma) * len(panel) / len(centres))
    steps: list[Step] = []
    for t in range(params.max_iter):
        steps.append(_assign(panel, centres))
        e = min(2**14, (GRADES[t] if t < len(GRADES) else 1) * pitch)
        phi = phase(params.seed, t + 1, e, dim)
        centres = _updated(centres, steps[t].counts, steps[t].sums, b, e, phi)
    return [*steps, _assign(panel, centres)]


# ---- 7. Result: the nearest rows, and routes ----
def _nearest(rows: Int16s, step: Step, count: int) -> Iterator[Int64s]:
    """The positions of each label's rows nearest to its centre. Stable: of one distance the smaller id comes first."""
    for j, centre in enumerate(step.centres):
        own = np.flatnonzero(step.labels == j)
        distances = [np.empty(0)] + [
            _distances(rows[own[p]].astype(np.float64), centre[None].astype(np.float64))[:, 0]
            for p in _chunks(len(own), rows.shape[1])
        ]
        yield own[np.argsort(np.concatenate(distances), kind="stable")[:count]]


def _routes(rows: Int16s, shifts: Int64s, centres: Int64s) -> list[int]:
    """The centre nearest to each row, whose exponent is that of the model's rows plus the shift."""
    routes = np.empty(len(rows), dtype=np.int64)
    for part in _chunks(*rows.shape):
        aligned = _aligned(rows[part], np.minimum(shifts[part], 0), 0).astype(np.float64)
        routes[part] = _distances(aligned, centres.astype(np.float64)).argmin(axis=1)  # on a tie, the lowest index
    for i in np.flatnonzero(shifts > 0):
        routes[i] = _far_route(rows[i].tolist(), int(shifts[i]), centres.tolist())
    return routes.tolist()


def _far_route(row: list[int], shift: int, centres: list[list[int]]) -> int:
    """The centre nearest to a row that is beyond the scale of the model's rows, in unbounded integers."""
    keys = []
    for centre in centres:
        product = sum(x * c for x, c in zip(row, centre, strict=True))
        keys.append(sum(c * c for c in centre) - (product << shift + 1))
    return keys.index(min(keys))


# ---- 9. Digest ----
def _hash_of_rows(is_text: bool, ids: Sequence[bytes], exponents: Int64s, rows: Int16s) -> bytes:
    """The sum of the rows' hashes."""
    kind, total = b"eraserow" + struct.pack("<B", is_text), np.zeros(1024, dtype=np.uint16)
    for start in range(0, len(ids), HASHES):
        part = range(start, min(start + HASHES, len(ids)))
        kept = [struct.pack("<h", exponents[i]) + rows[i].astype("<i2").tobytes() for i in part]
        words = extended_hashes([kind + ids[i] + row for i, row in zip(part, kept, strict=True)], 32)
        total += np.ascontiguousarray(words.T).astype("<u4").view("<u2").sum(axis=0, dtype=np.uint16)
    return total.astype("<u2").tobytes()


def _round_bytes(rounds: Sequence[Proposals], ids: Sequence[bytes]) -> bytes:
    """The id of every row proposed, after round 0 with its potential."""
    first = [ids[position] for proposals in rounds[:1] for position, _ in proposals]
    later = [ids[i] + struct.pack("<Q", potential) for proposals in rounds[1:] for i, potential in proposals]
    return b"".join(first + later)


def _step_bytes(step: Step) -> bytes:
    """The centres and counts of a step."""
    return step.centres.astype("<i2").tobytes() + step.counts.astype("<u8").tobytes()


def _exemplar_bytes(rows: Int16s, step: Step, ids: Sequence[bytes]) -> Iterator[bytes]:
    """The exemplar of each label."""
    for nearest in _nearest(rows, step, 1):
        yield b"\1" + ids[nearest[0]] if len(nearest) else b"\0"


# ---- docs/file-format.md ----
def _header(params: Params, d: int) -> bytes:
    """The parameters, up to and including n_features and the center."""
    center = _center(params, d)
    more = 4 if center.any() else 0
    ratios = [Fraction(*params.epsilon), Fraction(*params.gamma)]  # in lowest terms
    out = b"eraseqkm" + struct.pack("<IIII", 2, params.n_clusters, params.max_iter, params.panel or 0)
    out += b"".join(struct.pack("<II", ratio.numerator, ratio.denominator) for ratio in ratios)
    out += struct.pack("<QBd", params.seed, params.max_norm is not None, params.max_norm or 0.0)
    if params.projection is None:
        out += struct.pack("<B", more)
    elif isinstance(params.projection, int):
        out += struct.pack("<BI", 1 + more, params.projection)
    else:
        p, matrix = _matrix(params.projection, d)
        out += struct.pack("<BIIi", 2 + more, len(matrix), d, p) + matrix.astype("<i2").tobytes()
    return out + struct.pack("<I", d) + (center.astype("<f8").tobytes() if more else b"")


def _id_bytes(name: int | bytes) -> bytes:
    """An id: an integer, or the length of a text and the text."""
    return struct.pack("<q", name) if isinstance(name, int) else struct.pack("<I", len(name)) + name
