"""The definition of docs/algorithm.md, executed: slow, obvious, in Python integers.

It is written from docs/algorithm.md and docs/file-format.md alone, one function or a few per section, and shares no
code with the implementation it judges. Floats appear only where they are turned into exact fractions.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from blake3 import blake3

Id = int | str
Vector = list[int]
Round = list[tuple[int, int]]  # position and potential of every trial's proposal

U = 2**28 + 2**23
LOWEST_EXPONENT = -900
MASK32 = 2**32 - 1
RACE, PHASE, SIGNS, PLACE = 1, 2, 3, 4
TRIALS = 8
GRADES = (4, 3, 2)


@dataclass(frozen=True)
class Params:
    """What the caller chooses."""

    n_clusters: int = 8
    epsilon: Fraction = Fraction(1, 2)
    gamma: Fraction = Fraction(1, 5)
    max_iter: int = 5
    panel: int | None = None
    projection: int | list[list[float]] | None = None
    max_norm: float | None = None
    center: list[float] | None = None
    seed: int = 0


@dataclass
class Step:
    """One assignment, of the panel or of all rows: the centres and what came out, labels in the order of the ids."""

    centres: list[Vector]
    labels: list[int]
    counts: list[int]
    sums: list[Vector]
    loss: int


@dataclass
class Fitted:
    """A model: everything algorithm.md says about one set of rows under one set of parameters."""

    params: Params
    n_features: int
    exponent: int
    ids: list[Id]
    exponents: list[int]
    mantissas: list[Vector]
    rows: list[Vector]
    rounds: list[list[tuple[Id, int]]] = field(default_factory=list)  # every trial's proposal and its potential
    panel: list[Id] = field(default_factory=list)  # ascending
    seeds: list[Id] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)  # of the panel
    result: Step | None = None  # all rows, by the centres that are kept
    exemplars: list[Id | None] = field(default_factory=list)

    @property
    def centres(self) -> list[Vector]:
        """The centres that are kept."""
        return self.result.centres if self.result else []

    @property
    def labels(self) -> list[int]:
        """The labels of all rows, in the order of the ids."""
        return self.result.labels if self.result else []

    @property
    def inertia(self) -> int:
        """The loss of the result, in squared integer units."""
        return self.result.loss if self.result else 0

    @property
    def n_iter(self) -> int:
        """The number of updates."""
        return max(0, len(self.steps) - 1)


# ---- Notation ----
def rhe(value: Fraction) -> int:
    """The nearest integer, halves to the even one (which is what Python's round of a Fraction is)."""
    return round(value)


def square(x: Sequence[int]) -> int:
    """The squared norm."""
    return sum(v * v for v in x)


def distance(x: Sequence[int], y: Sequence[int]) -> int:
    """The squared distance."""
    return sum((v - w) ** 2 for v, w in zip(x, y, strict=True))


# ---- 1. Fixed point ----
def given_center(params: Params) -> list[float] | None:
    """The center, with zeros of one sign; None for one of zeros."""
    center = params.center
    return None if center is None or not any(center) else [c + 0.0 for c in center]


def shifted(x: Sequence[float], params: Params) -> list[float]:
    """The row less the center: each entry the float64 nearest to the difference."""
    center = given_center(params)
    return list(x) if center is None else [v - c for v, c in zip(x, center, strict=True)]


def at_exponent(x: Sequence[float], p: int) -> Vector:
    """x^(p): each float at its exact value, times 2^(14 - p), rounded."""
    return [rhe(Fraction(v) * Fraction(2) ** (14 - p)) for v in x]


def smallest_exponent(vectors: Sequence[Sequence[float]]) -> int:
    """The smallest p >= -900 at which every vector has a squared norm of at most U."""
    if not all(math.isfinite(v) for x in vectors for v in x):
        raise ValueError("not finite")
    largest = max(abs(v) for x in vectors for v in x)
    # 2^(e - 1) <= largest < 2^e. At any exponent below e - 2 the largest entry alone is 2^16 or more: too large.
    p = max(LOWEST_EXPONENT, math.frexp(largest)[1] - 2) if largest > 0 else LOWEST_EXPONENT
    while any(square(at_exponent(x, p)) > U for x in vectors):
        p += 1
    return p


def fixed_point(x: Sequence[float]) -> tuple[int, Vector]:
    """The row's own exponent and its mantissa."""
    p = smallest_exponent([x])
    return p, at_exponent(x, p)


# ---- 2. Projection ----
def matrix_fixed_point(matrix: Sequence[Sequence[float]], d: int) -> tuple[int, list[Vector]]:
    """p_M and B."""
    if not matrix or any(len(row) != d for row in matrix):
        raise ValueError("a projection matrix must have the shape (m, n_features)")
    p = smallest_exponent(matrix)
    if all(v == 0 for row in matrix for v in row):
        raise ValueError("a projection matrix of zeros")
    b = [at_exponent(row, p) for row in matrix]
    while p > LOWEST_EXPONENT and all(square([2 * v for v in row]) <= U for row in b):
        p, b = p - 1, [[2 * v for v in row] for row in b]
    return p, b


def clipped(y: Vector) -> Vector:
    """y, or y shortened to a norm of at most 2^14 if its squared norm is above U."""
    q = square(y)
    if q <= U:
        return y
    size = math.isqrt(q) + 1
    return [abs(v) * 2**14 // size * (1 if v >= 0 else -1) for v in y]


def projected(a: list[Vector], params: Params, n_features: int) -> list[Vector]:
    """The row y of every mantissa a."""
    projection = params.projection
    if projection is None:
        return a
    if isinstance(projection, int):
        matrix = [[sign(params.seed, i, j) for j in range(n_features)] for i in range(projection)]
        factor = Fraction(math.isqrt(2**58 // projection), 2**30)
    else:
        matrix, factor = matrix_fixed_point(projection, n_features)[1], Fraction(1, 2**14)
    products = [[sum(v * w for v, w in zip(row, x, strict=True)) for row in matrix] for x in a]
    return [clipped([rhe(z * factor) for z in zs]) for zs in products]


# ---- 3. Alignment ----
def model_exponent(max_norm: float | None, exponents: Sequence[int]) -> int:
    """The model's exponent pR."""
    if max_norm is None:
        return max(exponents, default=LOWEST_EXPONENT)
    p = math.frexp(max_norm)[1]  # max_norm < 2^p
    while Fraction(max_norm) <= Fraction(2) ** (p - 1):
        p -= 1
    if any(q > p for q in exponents):
        raise ValueError("a row is larger than max_norm")
    return p


def aligned(y: Vector, p: int, model_p: int) -> Vector:
    """The row as the rest of the algorithm sees it."""
    return [rhe(Fraction(v, 2 ** (model_p - p))) for v in y]


# ---- 4. Keyed draws ----
def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Philox4x32 with 10 rounds."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1 = (product1 >> 32) ^ c1 ^ k0, product1 & MASK32
        c2, c3 = (product0 >> 32) ^ c3 ^ k1, product0 & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


@lru_cache(maxsize=65536)
def draw(seed: int, a: int, b: int, purpose: int) -> tuple[int, int, int, int]:
    """The four words of one keyed draw."""
    return philox((seed % 2**32, seed // 2**32), (a % 2**32, a // 2**32, b, purpose))


def row_key(id_: Id) -> int:
    """A row's 64-bit key."""
    if isinstance(id_, int):
        return id_ % 2**64
    return int.from_bytes(blake3(id_.encode("utf-8")).digest()[:8], "little")


def log2_fixed(u: int) -> int:
    """L(u): the base-2 logarithm of a 64-bit u >= 1, in units of 2^-48."""
    b = u.bit_length() - 1
    v = u * 2 ** (63 - b)
    log = b
    for _ in range(48):
        v = v * v // 2**63
        log, v = (2 * log + 1, v // 2) if v >= 2**64 else (2 * log, v)
    return log


def race_key(seed: int, round_: int, row_key: int, trial: int = 0) -> int:
    """E_(r,l) of the row with that key."""
    w = draw(seed, row_key, round_ + 2**17 * (trial // 3), RACE)
    bits = (w[0] + 2**32 * w[1] + 2**64 * w[2] + 2**96 * w[3]) // 2 ** (42 * (trial % 3))
    return 64 * 2**48 - log2_fixed(2**22 * (bits % 2**42) + 2**21)


def place(seed: int, row_key: int) -> int:
    """The place of the row with that key."""
    w = draw(seed, row_key, 0, PLACE)
    return w[0] + 2**32 * w[1]


def phase(seed: int, t: int, e: int, dim: int) -> Vector:
    """The phase phi of update t, one entry in [0, e) per coordinate."""
    return [draw(seed, i // 4, t, PHASE)[i % 4] * e // 2**32 for i in range(dim)]


def sign(seed: int, i: int, j: int) -> int:
    """P_ij."""
    word = draw(seed, i, j // 128, SIGNS)[j % 128 // 32]
    return -1 if word >> (j % 32) & 1 else 1


# ---- 5. Panel and seeding ----
def id_order(id_: Id) -> int | bytes:
    """What ids are sorted by: integers as integers, strings by their UTF-8 bytes."""
    return id_ if isinstance(id_, int) else id_.encode("utf-8")


def panel_of(ids: Sequence[Id], panel: int | None, seed: int) -> list[int]:
    """The positions of the rows on the panel, ascending. Ids ascend, so a smaller position is a smaller id."""
    in_order = sorted(range(len(ids)), key=lambda i: (place(seed, row_key(ids[i])), i))
    return sorted(in_order if panel is None else in_order[:panel])


def proposed(ids: Sequence[Id], weights: Sequence[int], chosen: Sequence[int], seed: int, r: int, trial: int) -> int:
    """The position that one trial proposes. Ids ascend, so a smaller position is a smaller id."""
    keys = [race_key(seed, r, row_key(i), trial) for i in ids]
    if any(weights):
        return min((i for i, w in enumerate(weights) if w > 0), key=lambda i: (Fraction(keys[i], weights[i]), i))
    return min((i for i in range(len(ids)) if i not in chosen), key=lambda i: (keys[i], i))


def seeding(ids: Sequence[Id], rows: Sequence[Vector], k: int, seed: int) -> tuple[list[int], list[Round]]:
    """The positions of the rows chosen, round by round, and all proposals; the one of round 0 has the potential 0."""
    first = proposed(ids, [1] * len(ids), [], seed, 0, 0)
    chosen, rounds = [first], [[(first, 0)]]
    for r in range(1, k):
        weights = [min(distance(x, rows[c]) for c in chosen) for x in rows]
        proposals = [proposed(ids, weights, chosen, seed, r, trial) for trial in range(TRIALS)]
        potentials = [sum(min(w, distance(x, rows[c])) for x, w in zip(rows, weights, strict=True)) for c in proposals]
        chosen.append(proposals[potentials.index(min(potentials))])  # index: the first of several
        rounds.append(list(zip(proposals, potentials, strict=True)))
    return chosen, rounds


# ---- 6. Steps ----
def pitch(params: Params, dim: int, t: int | None = None) -> int:
    """The lattice pitch e, or e_t of update t."""
    if t is not None:
        return min(2**14, (GRADES[t - 1] if t <= len(GRADES) else 1) * pitch(params, dim))
    h = 13 if isinstance(params.projection, int) else 14
    p_e, q_e = params.epsilon.numerator, params.epsilon.denominator
    return min(2**14, 2 * max(1, math.isqrt(p_e**2 * 2 ** (2 * h) // (4 * q_e**2 * max(dim, 256)))))


def balance(gamma: Fraction, n: int, k: int) -> int:
    """The balance b."""
    return math.ceil(Fraction(gamma.numerator * n, gamma.denominator * k))


def assign(rows: Sequence[Vector], centres: list[Vector]) -> Step:
    """Every row to its nearest centre, ties to the lowest index."""
    counts = [0] * len(centres)
    sums = [[0] * len(c) for c in centres]
    labels: list[int] = []
    loss = 0
    for x in rows:
        d, j = min((distance(x, c), j) for j, c in enumerate(centres))
        labels.append(j)
        counts[j] += 1
        sums[j] = [s + v for s, v in zip(sums[j], x, strict=True)]
        loss += d
    return Step(centres, labels, counts, sums, loss)


def new_centre(old: Vector, count: int, total: Vector, b: int, e: int, phi: Vector) -> Vector:
    """One cluster's centre after an update."""
    den = max(count, b)
    if den == 0:
        return old
    num = [s + max(0, b - count) * c for s, c in zip(total, old, strict=True)]
    new = [(v + f * den) // (e * den) * e - f + e // 2 for v, f in zip(num, phi, strict=True)]
    outside = any(abs(v) > 32767 for v in new) or square(new) > 33 * 2**26
    return old if outside else new


def run(panel: Sequence[Vector], centres: list[Vector], params: Params) -> list[Step]:
    """Steps 0, 1, ..., T of the panel."""
    dim = len(centres[0])
    b = balance(params.gamma, len(panel), len(centres))
    steps: list[Step] = []
    for t in range(params.max_iter):
        step = assign(panel, centres)
        steps.append(step)
        e = pitch(params, dim, t + 1)
        phi = phase(params.seed, t + 1, e, dim)
        clusters = zip(step.centres, step.counts, step.sums, strict=True)
        centres = [new_centre(c, count, total, b, e, phi) for c, count, total in clusters]
    return [*steps, assign(panel, centres)]


def kept_centres(steps: Sequence[Step]) -> list[Vector]:
    """The last centres if their loss is below that of the seeds, else the seeds."""
    return steps[-1].centres if steps[-1].loss < steps[0].loss else steps[0].centres


# ---- 7. Result ----
def nearest(ids: Sequence[Id], rows: Sequence[Vector], step: Step, n: int) -> list[list[Id]]:
    """Per cluster the n rows nearest to the centre among the rows of its label, ties to the smaller id."""
    members = [[i for i, label in enumerate(step.labels) if label == j] for j in range(len(step.centres))]
    in_order = [
        sorted(own, key=lambda i: (distance(rows[i], centre), i))
        for own, centre in zip(members, step.centres, strict=True)
    ]
    return [[ids[i] for i in own[:n]] for own in in_order]


def fit(rows: Mapping[int, Sequence[float]] | Mapping[str, Sequence[float]], params: Params, n_features: int) -> Fitted:
    """The model of a set of rows."""
    given: dict[Id, Sequence[float]] = dict(rows.items())
    ids = sorted(given, key=id_order)
    if n_features < 1 or any(len(row) != n_features for row in given.values()):
        raise ValueError("every row must have n_features entries, at least one")
    points = [fixed_point(shifted(given[i], params)) for i in ids]
    exponents = [p for p, _ in points]
    mantissas = projected([a for _, a in points], params, n_features)
    exponent = model_exponent(params.max_norm, exponents)
    xs = [aligned(y, p, exponent) for y, p in zip(mantissas, exponents, strict=True)]
    fitted = Fitted(params, n_features, exponent, ids, exponents, mantissas, xs)
    if ids:
        panel = panel_of(ids, params.panel, params.seed)
        names, points_on = [ids[i] for i in panel], [xs[i] for i in panel]
        chosen, rounds = seeding(names, points_on, min(params.n_clusters, len(ids)), params.seed)
        fitted.panel = names
        fitted.rounds = [[(names[i], potential) for i, potential in proposals] for proposals in rounds]
        fitted.seeds = [names[i] for i in chosen]
        fitted.steps = run(points_on, [points_on[i] for i in chosen], params)
        fitted.result = assign(xs, kept_centres(fitted.steps))
        fitted.exemplars = [own[0] if own else None for own in nearest(ids, xs, fitted.result, 1)]
    return fitted


# ---- 8. Resolution ----
def resolution(fitted: Fitted) -> float:
    """The figure: of two integers, each rounded to a float, then divided, and of that the root."""
    n = len(fitted.ids)
    step = fitted.result
    if n < 2 or step is None:
        return 0.0
    dim = len(step.centres[0])
    largest = step.counts.index(max(step.counts))
    squares = [distance(c, step.centres[largest]) for c in step.centres]
    near = next(
        s for s in sorted(squares) if 8 * sum(c for c, q in zip(step.counts, squares, strict=True) if q <= s) >= 7 * n
    )
    coarser = max(pitch(fitted.params, dim, fitted.n_iter), 1024)
    spread = near * n + step.loss
    return math.sqrt(float(coarser**2 * dim * n) / float(spread)) if spread else math.inf


# ---- 9. Digest ----
def encode_id(id_: Id) -> bytes:
    """An id as i64, or as its length and its UTF-8 bytes."""
    if isinstance(id_, int):
        return struct.pack("<q", id_)
    text = id_.encode("utf-8")
    return struct.pack("<I", len(text)) + text


def kept(fitted: Fitted) -> list[tuple[int, Vector]]:
    """What is kept of each row: (p, y), or (pR, x) with `max_norm` given."""
    if fitted.params.max_norm is not None:
        return [(fitted.exponent, x) for x in fitted.rows]
    return list(zip(fitted.exponents, fitted.mantissas, strict=True))


def hash_of_rows(fitted: Fitted) -> bytes:
    """The sum of the rows' hashes."""
    total = [0] * 1024
    for id_, (p, entries) in zip(fitted.ids, kept(fitted), strict=True):
        text = b"eraserow" + bytes([isinstance(id_, str)]) + encode_id(id_)
        text += struct.pack("<h", p) + struct.pack(f"<{len(entries)}h", *entries)
        numbers = struct.unpack("<1024H", blake3(blake3(text).digest()).digest(length=2048))
        total = [(a + b) % 2**16 for a, b in zip(total, numbers, strict=True)]
    return struct.pack("<1024H", *total)


def digest(fitted: Fitted) -> str:
    """The digest, in hex."""
    n = len(fitted.ids)
    out = encode_header(fitted.params, fitted.n_features)
    out += struct.pack("<BQ", n > 0 and isinstance(fitted.ids[0], str), n) + hash_of_rows(fitted)
    for r, proposals in enumerate(fitted.rounds):
        for id_, potential in proposals:
            out += encode_id(id_) + (struct.pack("<Q", potential) if r > 0 else b"")
    for step in fitted.steps:
        out += b"".join(struct.pack(f"<{len(c)}h", *c) for c in step.centres)
        out += struct.pack(f"<{len(step.counts)}Q", *step.counts)
    if fitted.result:
        out += struct.pack("<QQ", fitted.steps[0].loss, fitted.steps[-1].loss)
        out += struct.pack(f"<{len(fitted.result.counts)}Q", *fitted.result.counts)
        out += struct.pack("<Q", fitted.result.loss)
    for exemplar in fitted.exemplars:
        out += b"\0" if exemplar is None else b"\1" + encode_id(exemplar)
    return blake3(out).hexdigest()


# ---- docs/file-format.md ----
def encode_header(params: Params, n_features: int) -> bytes:
    """The parameters, up to and including n_features and the center."""
    out = b"eraseqkm" + struct.pack("<IIII", 2, params.n_clusters, params.max_iter, params.panel or 0)
    for ratio in (params.epsilon, params.gamma):
        out += struct.pack("<II", ratio.numerator, ratio.denominator)
    out += struct.pack("<Q", params.seed)
    out += struct.pack("<Bd", 0, 0.0) if params.max_norm is None else struct.pack("<Bd", 1, params.max_norm)
    center = given_center(params)
    more = 0 if center is None else 4
    if params.projection is None:
        out += struct.pack("<B", more)
    elif isinstance(params.projection, int):
        out += struct.pack("<BI", 1 + more, params.projection)
    else:
        p, b = matrix_fixed_point(params.projection, n_features)
        out += struct.pack("<BIIi", 2 + more, len(b), n_features, p)
        out += b"".join(struct.pack(f"<{n_features}h", *row) for row in b)
    return out + struct.pack("<I", n_features) + struct.pack(f"<{len(center or ())}d", *(center or ()))


def encode(fitted: Fitted) -> bytes:
    """The model file, with its checksum."""
    n = len(fitted.ids)
    out = encode_header(fitted.params, fitted.n_features)
    out += struct.pack("<BQ", n > 0 and isinstance(fitted.ids[0], str), n)
    out += b"".join(map(encode_id, fitted.ids))
    out += b"".join(struct.pack("<h", p) for p, _ in kept(fitted))
    out += b"".join(struct.pack(f"<{len(entries)}h", *entries) for _, entries in kept(fitted))
    return out + blake3(out).digest()
