"""Sanity of the oracle by itself: each part against a second, cruder definition of the same thing."""

from __future__ import annotations

import itertools
import json
import math
import random
import struct
from collections import Counter
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import make_vectors
import oracle
import pytest
from blake3 import blake3
from oracle import Params

# The quantile of chi-square at 1 - 1e-4 with 11 degrees of freedom.
CHI2_11 = 37.37
# The same with 107, and with 255.
CHI2_107 = 170.12
CHI2_255 = 347.65


def read(name: str) -> Any:
    """One file of golden vectors."""
    return json.loads((make_vectors.OUT / name).read_text(encoding="ascii"))


def blob_rows(seed: int, n: int, d: int, k: int) -> dict[int, list[float]]:
    """Rows in a few blobs."""
    return dict(enumerate(make_vectors.blobs(random.Random(seed), n, d, k)))


# ---- draws ----
def test_philox_known_answers() -> None:
    """The three published vectors of Random123."""
    assert len(make_vectors.philox_vectors()) == 3


def exact_log2(u: int) -> Decimal:
    """log2(u) in units of 2^-48, to about 60 digits."""
    with localcontext() as context:
        context.prec = 80
        return Decimal(u).ln() / Decimal(2).ln() * 2**48


def test_logarithm_is_the_floor_but_for_its_own_rounding() -> None:
    """0 <= log2(u) - L(u) < 1 + 2^-13, in units of 2^-48; powers of two are exact."""
    rng = random.Random(1)
    us = [
        1,
        3,
        2**63 + 1,
        2**64 - 1,
        2**64 - 2**17 + 1,
        *(rng.getrandbits(rng.randrange(1, 65)) | 1 for _ in range(500)),
    ]
    for u in us:
        error = exact_log2(u) - oracle.log2_fixed(u)
        assert -(Decimal(10) ** -50) <= error < 1 + Decimal(2) ** -13
    assert [oracle.log2_fixed(2**k) for k in range(64)] == [k * 2**48 for k in range(64)]


def test_race_key_is_an_exponential() -> None:
    """E is -log2 of the drawn uniform to a relative 2^-40, and within its stated range."""
    for key, trial in itertools.product(range(200), range(3)):
        w = oracle.philox((77, 0), (key, 0, 3, oracle.RACE))
        text = "".join(f"{word:032b}" for word in reversed(w))[2:]  # the 126 lowest bits, the highest first
        u = int(text[84 - 42 * trial : 126 - 42 * trial] + "1" + "0" * 21, 2)
        true = 64 * 2**48 - exact_log2(u)
        got = oracle.race_key(77, 3, key, trial)
        assert abs(got - true) <= true * Decimal(2) ** -40 + 2
        assert 1 <= got <= 2**54
    assert 64 * 2**48 - oracle.log2_fixed(2**21) == 43 * 2**48
    assert 64 * 2**48 - oracle.log2_fixed(2**64 - 2**21) >= 1


def test_race_key_uses_all_of_seed_round_row_and_trial() -> None:
    """Neighbouring draws differ in the high and the low half of every argument; trial 0 is the default."""
    arguments = list(itertools.product((0, 1, 2**32), (0, 1), (0, 1, 2**32), (0, 1, 2)))
    assert len({oracle.race_key(*a) for a in arguments}) == len(arguments)
    assert oracle.race_key(1, 2, 3) == oracle.race_key(1, 2, 3, 0)


def test_row_keys() -> None:
    """Integers wrap, strings are hashed."""
    assert oracle.row_key(-1) == 2**64 - 1
    assert oracle.row_key(-(2**63)) == 2**63
    assert oracle.row_key("") == int.from_bytes(bytes.fromhex("af1349b9f5f9a1a6"), "little")  # published BLAKE3 of b""


def test_phase_is_uniform() -> None:
    """256 cells of phi, each coordinate and update its own draw."""
    e = 2**14
    values = [v for t in range(1, 201) for v in oracle.phase(5, t, e, 64)]
    assert all(0 <= v < e for v in values)
    cells, expected = Counter(v // 64 for v in values), len(values) / 256
    assert sum((cells[c] - expected) ** 2 / expected for c in range(256)) < CHI2_255


# ---- rows ----
def brute_fixed_point(x: list[float]) -> tuple[int, list[int]]:
    """Section 1 by counting exponents up from -900, halves decided by hand."""
    for p in range(-900, 1100):
        a = []
        for v in x:
            exact = Fraction(v) * Fraction(2) ** (14 - p)
            low = exact.numerator // exact.denominator
            rest = exact - low
            up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1)
            a.append(low + 1 if up else low)
        if sum(v * v for v in a) <= 2**28 + 2**23:
            return p, a
    raise AssertionError


def test_fixed_point_against_brute_force() -> None:
    """The rows of the vectors, counted up from -900."""
    rows = [row for row in make_vectors.fixed_point_rows(random.Random(2)) if len(row) < 20]
    for row in rows[::2]:
        assert oracle.fixed_point(row) == brute_fixed_point(row)


def test_mantissas_fit_and_are_not_wasteful() -> None:
    """Every entry fits 16 bits, and no smaller exponent would do (brute force at p - 1)."""
    for row in make_vectors.fixed_point_rows(random.Random(3)):
        p, a = oracle.fixed_point(row)
        assert max(abs(v) for v in a) <= math.isqrt(oracle.U)
        assert p == -900 or oracle.square(oracle.at_exponent(row, p - 1)) > oracle.U


def test_clipping() -> None:
    """A clipped vector has a norm in (2^14 - sqrt(D) - 2, 2^14], and its signs."""
    rng = random.Random(4)
    for _ in range(200):
        y = [rng.randrange(-60000, 60000) for _ in range(rng.randrange(1, 9))]
        got = oracle.clipped(y)
        if oracle.square(y) <= oracle.U:
            assert got == y
        else:
            assert 2**14 - math.sqrt(len(y)) - 2 < math.sqrt(oracle.square(got)) <= 2**14
            assert all(v * w >= 0 for v, w in zip(y, got, strict=True))


@pytest.mark.parametrize(
    ("norm", "exponent"), [(1.0, 0), (0.75, 0), (0.5, -1), (1.5, 1), (2.0**-3, -3), (math.nextafter(4.0, 9.0), 3)]
)
def test_max_norm(norm: float, exponent: int) -> None:
    """The smallest power of two not below it."""
    assert oracle.model_exponent(norm, []) == exponent


@pytest.mark.parametrize(
    "params", [Params(max_norm=1.0), Params(projection=[[0.0, -0.0]]), Params(projection=[[math.inf, 1.0]])]
)
def test_refusals(params: Params) -> None:
    """A row beyond max_norm, a matrix of zeros, a matrix that is not finite."""
    with pytest.raises(ValueError, match=r"max_norm|zeros|finite"):
        oracle.fit({1: [3.0, 4.0]}, params, 2)


# ---- seeding ----
FOUR, FOUR_IDS = [[-4, 2], [1, 5], [6, 0], [-2, -4]], [-5, 0, 9, 2**40]


def chi_square(seen: Counter[Any], chances: dict[Any, Fraction]) -> float:
    """Pearson's statistic, where every class is expected at least five times."""
    runs = sum(seen.values())
    assert sum(chances.values()) == 1
    assert min(chances.values()) * runs >= 5
    assert seen.keys() <= chances.keys()
    return sum(float((seen[o] - p * runs) ** 2 / (p * runs)) for o, p in chances.items())


def test_the_trials_are_kmeans_plus_plus_and_the_choice_is_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial of round 1 by itself, three together, and the row chosen: against their exact probabilities."""
    monkeypatch.setattr(oracle, "TRIALS", 3)
    trials: dict[tuple[int, int], Fraction] = {}
    triples: dict[tuple[int, ...], Fraction] = {}
    greedy = dict.fromkeys(itertools.permutations(range(4), 2), Fraction(0))
    for first in range(4):
        weights = [oracle.distance(x, FOUR[first]) for x in FOUR]
        others = [c for c in range(4) if c != first]
        left = {c: sum(min(w, oracle.distance(x, FOUR[c])) for x, w in zip(FOUR, weights, strict=True)) for c in others}
        assert len(set(left.values())) == 3, "no two rows tie"
        chance = {c: Fraction(weights[c], sum(weights)) for c in others}
        trials.update({(first, c): p / 4 for c, p in chance.items()})
        for triple in itertools.product(others, repeat=3):
            p = Fraction(1, 4) * math.prod(chance[c] for c in triple)
            triples[(first, *triple)] = p
            greedy[first, min(triple, key=lambda c: left[c])] += p
    runs = [oracle.seeding(FOUR_IDS, FOUR, 2, seed) for seed in range(6000)]
    proposals = [(chosen[0], *(c for c, _ in rounds[1])) for chosen, rounds in runs]
    for trial in range(3):
        assert chi_square(Counter((p[0], p[1 + trial]) for p in proposals), trials) < CHI2_11
    assert chi_square(Counter(proposals), triples) < CHI2_107
    assert chi_square(Counter((chosen[0], chosen[1]) for chosen, _ in runs), greedy) < CHI2_11


def test_potentials_and_choices() -> None:
    """A potential is the loss to the seeds with the proposal; the smallest wins, the first trial of those."""
    ties = 0
    for seed in range(60):
        rows = [[x, y] for x in range(4) for y in range(3)] if seed % 2 else [[7 * x % 40, x] for x in range(15)]
        chosen, rounds = oracle.seeding(range(len(rows)), rows, 6, seed)
        assert [len(proposals) for proposals in rounds] == [1, 8, 8, 8, 8, 8]
        assert rounds[0] == [(chosen[0], 0)]
        for r in range(1, 6):
            for c, potential in rounds[r]:
                assert potential == sum(min(oracle.distance(x, rows[o]) for o in [*chosen[:r], c]) for x in rows)
            best = min(potential for _, potential in rounds[r])
            winners = [c for c, potential in rounds[r] if potential == best]
            assert chosen[r] == winners[0]
            ties += len(set(winners)) > 1
    assert ties > 10


def test_seeding_without_distinct_rows_left() -> None:
    """Equal rows are chosen once each, by the race of trial 0 alone, for all potentials are 0."""
    chosen, rounds = oracle.seeding([1, 2, 3, 4], [[7]] * 4, 4, 0)
    assert sorted(chosen) == [0, 1, 2, 3]
    for r, proposals in enumerate(rounds):
        rest = [i for i in range(4) if i not in chosen[:r]]
        raced = [min(rest, key=lambda i: oracle.race_key(0, r, i + 1, trial)) for trial in range(len(proposals))]
        assert len(proposals) == (8 if r else 1)
        assert proposals == [(i, 0) for i in raced]
        assert chosen[r] == raced[0]


# ---- models ----
@pytest.mark.parametrize("projection", [None, 3, [[1.0, 0.0, 2.0, 0.5], [0.0, -1.0, 0.0, 0.5]]])
def test_no_order_of_rows_matters(projection: int | list[list[float]] | None) -> None:
    """Shuffled rows give the same bytes."""
    rows, rng = blob_rows(6, 25, 4, 4), random.Random(6)
    params = Params(n_clusters=4, projection=projection, seed=6)
    expected = oracle.encode(oracle.fit(rows, params, 4))
    for _ in range(5):
        items = list(rows.items())
        rng.shuffle(items)
        assert oracle.encode(oracle.fit(dict(items), params, 4)) == expected


def test_labels_counts_and_sums_belong_together() -> None:
    """All updates are run on the panel; the result is of all rows, by the better of the first and last centres."""
    kept = set()
    for seed in range(40):
        params = Params(n_clusters=5, epsilon=Fraction(1, 1 + seed), seed=seed, max_iter=6, panel=5 + seed)
        fitted = oracle.fit(blob_rows(seed, 30, 3, 5), params, 3)
        on_panel = [x for i, x in zip(fitted.ids, fitted.rows, strict=True) if i in fitted.panel]
        assert len(on_panel) == min(30, 5 + seed)
        assert len(fitted.steps) == 7
        assert fitted.result is not None
        for step, rows in zip([*fitted.steps, fitted.result], [on_panel] * 7 + [fitted.rows], strict=True):
            assert step.loss == sum(min(oracle.distance(x, c) for c in step.centres) for x in rows)
            assert sum(step.counts) == len(rows)
            assert [sum(s) for s in zip(*step.sums, strict=True)] == [sum(x) for x in zip(*rows, strict=True)]
        first, last = fitted.steps[0], fitted.steps[-1]
        assert fitted.centres == (last if last.loss < first.loss else first).centres
        kept.add(last.loss < first.loss)
        for j, exemplar in enumerate(fitted.exemplars):
            assert (exemplar is None) == (fitted.result.counts[j] == 0)
            assert exemplar is None or fitted.labels[fitted.ids.index(exemplar)] == j
    assert kept == {False, True}


def test_equal_losses_keep_the_seeds() -> None:
    step = oracle.Step([[1]], [], [], [], 5)
    assert oracle.kept_centres([step, replace(step, centres=[[2]])]) == [[1]]
    assert oracle.kept_centres([step, replace(step, centres=[[2]], loss=4)]) == [[2]]


def test_the_panel_does_not_depend_on_rows_that_are_not_on_it() -> None:
    """Removing a row off the panel changes no centre; one on it lets the next by place in."""
    rows, params = blob_rows(3, 30, 3, 5), Params(n_clusters=3, panel=10, seed=3)
    whole = oracle.fit(rows, params, 3)
    in_order = sorted(whole.ids, key=lambda i: oracle.place(3, oracle.row_key(i)))
    assert sorted(in_order[:10]) == whole.panel
    for i in rows:
        left = oracle.fit({other: row for other, row in rows.items() if other != i}, params, 3)
        assert (left.panel == whole.panel) == (i not in whole.panel)
        assert set(left.panel) <= set(in_order[:11]) - {i}
        assert i in whole.panel or left.centres == whole.centres


def test_new_centres_lie_on_the_lattice_next_to_the_mean() -> None:
    """Within e / 2 of the mean, and off the phase by half a pitch."""
    rng = random.Random(8)
    for _ in range(300):
        e, count = 2 * rng.randrange(1, 2**13), rng.randrange(1, 9)
        phi, total = [rng.randrange(e) for _ in range(3)], [rng.randrange(-9000, 9000) * count + 1 for _ in range(3)]
        new = oracle.new_centre([0, 0, 0], count, total, 0, e, phi)
        for c, f, s in zip(new, phi, total, strict=True):
            assert (c - e // 2 + f) % e == 0
            assert -Fraction(e, 2) <= Fraction(s, count) - c < Fraction(e, 2)


def test_the_balance_pulls_toward_the_old_centre() -> None:
    """A cluster of one under a balance of four moves a quarter of the way, up to the pitch of 2."""
    assert abs(oracle.new_centre([0], 1, [400], 4, 2, [0])[0] - 100) <= 1
    assert abs(oracle.new_centre([80], 0, [0], 4, 2, [1])[0] - 80) <= 1
    assert oracle.new_centre([80], 0, [0], 0, 2, [1]) == [80]


def test_a_centre_with_an_entry_beyond_16_bits_is_not_taken() -> None:
    assert oracle.new_centre([5], 1, [32767], 0, 2, [0]) == [32767]
    assert oracle.new_centre([5], 1, [32767], 0, 2, [1]) == [5]
    assert oracle.new_centre([5], 1, [-32767], 0, 2, [0]) == [-32767]
    assert oracle.new_centre([5], 1, [-32768], 0, 2, [1]) == [5]


def test_pitch_and_balance() -> None:
    """Hand-computed."""
    assert [oracle.pitch(Params(epsilon=Fraction(1)), d) for d in (1, 4, 256, 257, 1024)] == [1024] * 3 + [1022, 512]
    assert oracle.pitch(Params(epsilon=Fraction(1), projection=4), 4) == 512
    assert oracle.pitch(Params(epsilon=Fraction(3)), 1) == 3072
    assert oracle.pitch(Params(epsilon=Fraction(1, 10**6)), 1) == 2
    graded = [oracle.pitch(Params(epsilon=Fraction(1, 4)), 4, t) for t in (1, 2, 3, 4, 5, 9)]
    assert graded == [1024, 768, 512, 256, 256, 256]
    assert [oracle.pitch(Params(epsilon=Fraction(3)), 1, t) for t in (1, 2)] == [12288, 9216]
    assert [oracle.balance(Fraction(1, 5), n, 4) for n in (1, 20, 21, 40)] == [1, 1, 2, 2]
    assert oracle.balance(Fraction(0), 100, 3) == 0


# ---- the file ----
def test_file_of_an_empty_model() -> None:
    """Byte by byte, from docs/file-format.md."""
    body = b"eraseqkm" + bytes.fromhex(
        "02000000 08000000 05000000 00000000"  # version, n_clusters, max_iter, panel
        "01000000 02000000 01000000 05000000"  # epsilon, gamma
        "0900000000000000 01 000000000000f03f"  # seed, max_norm
        "02 01000000 02000000 01000000 0020 00e0"  # projection: m, d, p_M, B
        "02000000 00 0000000000000000"  # n_features, id kind, n
    )
    fitted = oracle.fit({}, Params(seed=9, max_norm=1.0, projection=[[1.0, -1.0]]), 2)
    assert oracle.encode(fitted) == body + blake3(body).digest()
    assert oracle.digest(fitted) == blake3(body + bytes(2048)).hexdigest()


def test_file_of_a_small_model() -> None:
    """Its end: ids, exponents, rows."""
    fitted = oracle.fit({"b": [0.5], "a": [-1.0]}, Params(n_clusters=1, panel=7), 1)
    data = oracle.encode(fitted)
    assert data[20:24] == b"\7\0\0\0"
    tail = "01 0200000000000000 01000000 61 01000000 62 0000 ffff 00c0 0040"
    assert data[:-32].endswith(bytes.fromhex(tail))
    assert data[-32:] == blake3(data[:-32]).digest()


def test_digest_of_a_small_model() -> None:
    """Byte by byte, from docs/algorithm.md, section 9."""
    fitted = oracle.fit({2: [0.5], -1: [-1.0]}, Params(n_clusters=1, max_iter=1, max_norm=1.0), 1)
    rows = [
        b"eraserow" + bytes.fromhex(f"00 {id_} 0000 {x}") for id_, x in (("ff" * 8, "00c0"), ("02" + "00" * 7, "0020"))
    ]
    lanes = [struct.unpack("<1024H", blake3(blake3(row).digest()).digest(length=2048)) for row in rows]
    total = struct.pack("<1024H", *((a + b) % 2**16 for a, b in zip(*lanes, strict=True)))
    text = oracle.encode_header(fitted.params, 1) + bytes.fromhex("00 0200000000000000") + total
    text += struct.pack("<q", fitted.seeds[0])
    losses = []
    for step in fitted.steps:
        ((centre,),) = step.centres
        text += struct.pack("<hQ", centre, 2)
        losses.append({-1: (centre + 2**14) ** 2, 2: (centre - 2**13) ** 2})
    first, last = (sum(loss.values()) for loss in losses)
    kept = losses[last < first]
    text += struct.pack("<QQ", first, last) + struct.pack("<QQ", 2, sum(kept.values()))
    text += struct.pack("<Bq", 1, min(kept, key=lambda i: kept[i]))
    assert oracle.digest(fitted) == blake3(text).hexdigest()


def test_digest_keeps_the_proposals() -> None:
    """Round 0 an id; round 1 eight ids, each with its potential (the third row is 2^13 away)."""
    for seed in range(20):
        fitted = oracle.fit({"c": [1.0], "a": [0.0], "b": [0.5]}, Params(n_clusters=2, seed=seed, max_norm=1.0), 1)
        ((first, _),), later = fitted.rounds
        assert [p for _, p in later] == [2**26] * 8
        whole = oracle.digest(fitted)
        for changed in ([[(first, 0)], [*later[:-1], (later[-1][0], 5)]], [[(first, 0)], later[1:] + later[:1]]):
            differs = changed != fitted.rounds
            fitted.rounds = changed
            assert (oracle.digest(fitted) != whole) == differs
            fitted.rounds = [[(first, 0)], later]


def test_file_under_max_norm_keeps_the_aligned_rows() -> None:
    """(pR, x), from which rows that differ before alignment alone cannot be told apart."""
    params = Params(n_clusters=1, max_norm=4.0)
    fitted = oracle.fit({1: [0.5], 2: [-3.0]}, params, 1)
    assert (fitted.exponents, fitted.mantissas, fitted.rows) == ([-1, 2], [[16384], [-12288]], [[2048], [-12288]])
    assert bytes.fromhex("0200 0200 0008 00d0") in oracle.encode(fitted)
    other = oracle.fit({1: [0.5 + 2.0**-14], 2: [-3.0]}, params, 1)
    assert other.mantissas != fitted.mantissas
    assert oracle.digest(other) == oracle.digest(fitted)


# ---- the vectors ----
def test_vectors_are_what_the_oracle_says() -> None:
    """The files are those that make_vectors.py writes, and the models cover what they should."""
    models = read("models.json")
    makers = (make_vectors.small_cases, make_vectors.scale_cases, make_vectors.projection_cases)
    cases = [case for k, maker in enumerate(makers) for case in maker(random.Random(k))]
    assert models[: len(cases)] == json.loads(json.dumps([make_vectors.model_vector(case) for case in cases]))
    assert read("philox.json") == make_vectors.philox_vectors()
    assert read("race.json") == make_vectors.race_vectors(random.Random(1))
    assert read("rows.json") == make_vectors.row_vectors(random.Random(2))
    covered = Counter(name for model in models for name in model["covers"])
    assert covered["exception of section 6"] >= 3
    assert covered["fallback of several rounds"] >= 3
    assert covered["equal losses of other centres"] >= 2
    trials = [f"trial {trial} wins" for trial in range(8)]
    panels = ["rows off the panel", "exemplar off the panel", "seeds kept", "last centres kept"]
    for name in (*trials, *panels, "two trials propose one row", "potentials of two rows tie"):
        assert covered[name] >= 5
