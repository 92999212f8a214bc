"""`reference.fit` is the algorithm of docs/algorithm.md: it agrees with the golden vectors and with the core.

That it can disagree stands at the end: with a model that is not the one of the rows, whatever it is that differs.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import numpy as np
import oracle
import pytest
from blake3 import blake3
from checkout import VECTORS
from erase_core import _core
from erase_core.errors import DataError, DuplicateIdError, EraseError, IdKindError, ParameterError
from erase_core.verify import draws, reference
from erase_core.verify.blake3 import BATCH, extended_hashes, first_eight_bytes, hash_bytes
from erase_core.verify.reference import Params, fit
from fits import Config, Id, fresh, id_list, matrix
from golden import each_vector, golden_config, golden_rows
from hypothesis import given
from hypothesis import strategies as st
from model_bytes import sealed
from numpy.typing import NDArray
from problems import INT_IDS, TEXT_IDS, Problem, problems, random_config, random_rows, row_sets

Compared = tuple[bytes, list[int], str, list[list[Id]]]  # file, labels, digest and the nearest rows of each cluster
NEAREST = 3


def fitted(vectors: NDArray[Any], ids: Any, params: Params) -> Compared:
    """The reference's model."""
    model = fit(vectors, ids, params)
    return model.content, model.labels.tolist(), model.digest, model.nearest(NEAREST)


def refitted(rows: Mapping[Id, Sequence[float]], config: Config) -> Compared:
    """The reference's model of these rows."""
    return fitted(matrix(list(rows.values()), config.d), id_list(list(rows)), Params(**config.core()))


def body(model: _core.Model) -> Compared:
    """The core's, the file without its checksum."""
    return model.to_bytes()[:-32], model.labels().tolist(), model.digest(), model.nearest(NEAREST)


def unit_rows(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows as an embedder gives them: of norm 1, in float32, some of them twice."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[n // 2 :: 7] = x[n // 2]
    rows: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1)[:, None]).astype(np.float32)
    return rows


# ---- the golden vectors ----
@each_vector
def test_the_golden_models(vector: dict[str, Any]) -> None:
    content, labels, digest, nearest = refitted(golden_rows(vector), golden_config(vector))
    expected = vector["expected"]
    assert digest == expected["digest"]
    assert labels == (expected["result"]["labels"] if expected["result"] else [])
    assert [ids[0] if ids else None for ids in nearest] == (expected["exemplars"] if expected["result"] else [])
    if expected["file"] is not None:
        assert sealed(content).hex() == expected["file"]


def test_the_golden_draws() -> None:
    for case in json.loads((VECTORS / "philox.json").read_text("ascii")):
        (k0, k1), (c0, c1, c2, c3) = case["key"], case["counter"]
        words = draws._draws(k0 + (k1 << 32), np.array([c0 + (c1 << 32)], dtype=np.uint64), c2, c3)
        assert [int(word[0]) for word in words] == case["words"]
    known = json.loads((VECTORS / "race.json").read_text("ascii"))
    for case in known["race"]:
        keys = np.array([case["row_key"]], dtype=np.uint64)
        assert draws.race_keys(case["seed"], case["round"], keys, 8)[case["trial"], 0] == case["e"]
    for case in known["places"]:
        keys = np.array([case["row_key"]], dtype=np.uint64)
        assert draws.places(case["seed"], keys).tolist() == [case["place"]]
    logarithms = draws._log2(np.array([case["u"] for case in known["log2"]], dtype=np.uint64))
    assert logarithms.tolist() == [case["l"] for case in known["log2"]]
    for case in known["row_keys"]:
        id_ = case["id"]
        assert draws.row_keys([id_.encode() if isinstance(id_, str) else id_]).tolist() == [case["row_key"]]


# ---- what decides, where rows seldom lead ----
@given(values=st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_squares_of_64_bits(values: list[int]) -> None:
    top, bottom = draws._squared(np.array(values, dtype=np.uint64))
    assert [(int(t) << 64) + int(b) for t, b in zip(top, bottom, strict=True)] == [v * v for v in values]


@given(
    scale=st.integers(1, 2**22),
    factors=st.lists(st.tuples(st.integers(0, 2**10), st.integers(-1, 1)), min_size=1, max_size=9),
)
def test_the_race_is_decided_exactly_and_a_tie_goes_to_the_smaller_id(
    scale: int, factors: list[tuple[int, int]]
) -> None:
    weights = [factor * scale for factor, _ in factors] + [scale]
    keys = [max(1, factor * 2**44 + change) for factor, change in factors] + [2**44 + 1]
    winner = min((i for i, w in enumerate(weights) if w), key=lambda i: (Fraction(keys[i], weights[i]), i))
    assert reference._first(np.array(keys, dtype=np.uint64), np.array(weights)) == winner


def test_the_race_is_decided_exactly_where_floats_say_the_opposite() -> None:
    keys = np.array([13519920531088801, 11054632072926255], dtype=np.uint64)
    weights = np.array([1678983993, 1372829837])
    assert Fraction(int(keys[1]), int(weights[1])) < Fraction(int(keys[0]), int(weights[0]))
    assert np.argmin(keys / weights) == 0
    assert reference._first(keys, weights) == 1


@given(
    centre=st.lists(st.integers(-32767, 32767), min_size=1, max_size=4),
    count=st.integers(0, 5),
    b=st.integers(0, 8),
    e=st.sampled_from([2, 6, 700, 2**13, 2**14]),
    data=st.data(),
)
def test_new_centres_are_the_oracle_s_and_those_far_out_are_not_taken(
    centre: list[int], count: int, b: int, e: int, data: st.DataObject
) -> None:
    dim = len(centre)
    total = data.draw(st.lists(st.integers(-16640 * count, 16640 * count), min_size=dim, max_size=dim))
    phi = data.draw(st.lists(st.integers(0, e - 1), min_size=dim, max_size=dim))
    arrays = np.array([centre]), np.array([count]), np.array([total])
    new = reference._updated(*arrays, b, e, np.array(phi))
    assert new.tolist() == [oracle.new_centre(centre, count, total, b, e, phi)]


@pytest.mark.parametrize("entry", [-32769, -32768, -32767, 32767, 32768, 32769])
def test_an_entry_of_a_centre_has_16_bits(entry: int) -> None:
    # Pitch 2: the new centre of one row in a cell is the cell's middle. The old one is told by being 5.
    e, phi = 2, (1 - entry) % 2
    new = reference._updated(np.array([[5]]), np.array([1]), np.array([[entry]]), 0, e, np.array([phi]))
    assert new.tolist() == [[entry if abs(entry) <= 32767 else 5]]
    assert new.tolist() == [oracle.new_centre([5], 1, [entry], 0, e, [phi])]


# ---- BLAKE3 ----
def test_hashes_are_blake3_s_whatever_the_lengths() -> None:
    rng = np.random.default_rng(0)
    around = [b + s for b in (0, 64, 128, *range(1024, 9 * 1024, 1024), 33 * 1024) for s in (-1, 0, 1) if b + s >= 0]
    messages = [rng.bytes(size) for size in around]
    assert first_eight_bytes(messages).tolist() == [key(message) for message in messages]


def test_hashes_of_more_than_a_batch() -> None:
    messages = [b"%d" % number for number in range(BATCH + 2)]
    assert first_eight_bytes(messages).tolist() == [key(message) for message in messages]
    assert first_eight_bytes([]).tolist() == []


def test_whole_hashes_and_extendable_output() -> None:
    rng = np.random.default_rng(1)
    messages = [rng.bytes(size) for size in (0, 1, 63, 64, 65, 1023, 1024, 1025, 5000, 70_000)]
    assert [hash_bytes(message) for message in messages] == [blake3(message).digest() for message in messages]
    words = extended_hashes(messages, 32)
    for column, message in zip(words.T, messages, strict=True):
        assert column.astype("<u4").tobytes() == blake3(blake3(message).digest()).digest(length=2048)


def key(message: bytes) -> int:
    """The first 8 bytes of the hash."""
    return int.from_bytes(blake3(message).digest()[:8], "little")


# ---- the core ----
@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_a_fit_of_the_core(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    rows = data.draw(row_sets(problem, ids, 0, 24))
    assert body(fresh(rows, problem.config)) == refitted(rows, problem.config)


@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_what_removals_and_additions_leave(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    config = problem.config
    rows = data.draw(row_sets(problem, ids, 2, 16))
    model = fresh(rows, config)
    for _ in range(data.draw(st.integers(1, 3))):
        gone = data.draw(st.sets(st.sampled_from(list(rows)))) if rows else set()
        model.remove(id_list(list(gone)))
        rows = {id_: row for id_, row in rows.items() if id_ not in gone}
        assert body(model) == refitted(rows, config)
        added = data.draw(row_sets(problem, [id_ for id_ in ids if id_ not in rows], 0, 4))
        model.add(matrix(list(added.values()), config.d), id_list(list(added)))
        rows |= added
        assert body(model) == refitted(rows, config)


@pytest.mark.parametrize("seed", range(20))
def test_larger_models_through_many_updates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, n = int(rng.integers(1, 9)), int(rng.integers(200, 600))
    rows: dict[Id, list[float]] = dict(enumerate(random_rows(rng, n, d).tolist()))
    model = fresh(rows, config := random_config(rng, d))
    for _ in range(5):
        gone = rng.choice(list(rows), size=int(rng.integers(1, 20)), replace=False).tolist()
        model.remove(gone)
        for id_ in gone:
            del rows[id_]
    assert body(model) == refitted(rows, config)


def settings() -> Iterator[Config]:
    """Settings of stores: every pair of bound and projection, with pitches from the finest to the coarsest."""
    axes = tuple(map(tuple, np.linalg.qr(np.random.default_rng(1).normal(size=(48, 6)))[0].T.tolist()))
    pitches = [(1, 1000), (1, 2), (1, 1), (3, 1)]
    for bound in (1.0, None, 1.5):
        for number, projection in enumerate((None, 6, axes, 130)):
            yield Config(8, pitches[number], projection=projection, max_norm=bound, panel=64, seed=number, d=48)
            yield Config(8, pitches[3 - number], projection=projection, max_norm=bound, gamma=(1, 1), d=48)


@pytest.mark.parametrize("config", settings(), ids=str)
@pytest.mark.parametrize("text", [False, True], ids=["integer ids", "text ids"])
@pytest.mark.parametrize("n", [1, 5, 400])
def test_rows_as_a_store_holds_them(config: Config, text: bool, n: int) -> None:
    ids: list[Id] = [f"example {n - i}" if text else 7 * (n - i) - 30 for i in range(n)]
    rows = unit_rows(n, config.d)
    gone, left = ids[: n // 3], slice(n // 3, None)
    model = _core.Model.fit(rows, id_list(ids), n_threads=1, cache_bytes=None, **config.core())
    assert body(model) == fitted(rows, id_list(ids), Params(**config.core()))
    model.remove(id_list(gone))
    assert body(model) == fitted(rows[left], id_list(ids[left]), Params(**config.core()))


@given(row=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_one_row_of_any_floats(row: list[float]) -> None:
    config = Config(1, d=len(row))
    assert body(fresh({0: row}, config)) == refitted({0: row}, config)


@pytest.mark.parametrize("projection", [1, 2, 300, "matrix", None])
def test_the_widest_rows_whose_products_are_largest(projection: int | str | None) -> None:
    d = 2**16
    signs = draws.signs(5, 2, d)
    # Of norm 1.015, and along a row of the projection, where partial sums come as near to their bounds as they can.
    rows = np.stack([signs[0], -signs[0], signs[1], signs[0] + signs[1], np.ones(d)]) * 1.0153 / 2**8
    axes = signs if projection == "matrix" else projection
    keywords = Config(3, projection=None, seed=5, d=d).core() | {"projection": axes}
    model = _core.Model.fit(rows, None, n_threads=1, cache_bytes=None, **keywords)
    assert body(model) == fitted(rows, range(5), Params(**keywords))


def test_a_model_is_fitted_anew_by_the_matrix_that_it_tells() -> None:
    """Where the longest row is as long as an exponent allows, its rounding may cross that bound."""
    rng, rows = np.random.default_rng(0), unit_rows(20, 6)
    bound = math.sqrt(oracle.U) / 2**14
    crossed = 0
    for exponent in (-895, -3, 0, 5):
        for _ in range(60):
            drawn = rng.normal(size=(2, 6))
            drawn *= bound * rng.uniform(1 - 2e-4, 1 + 2e-4) * 2.0**exponent / np.linalg.norm(drawn, axis=1).max()
            keywords = Config(3, d=6).core() | {"projection": drawn}
            model = _core.Model.fit(rows, None, n_threads=1, cache_bytes=None, **keywords)
            own = np.asarray(model.params()["projection"])
            p, b = oracle.matrix_fixed_point(drawn.tolist(), 6)
            assert (own == np.ldexp(b, p - 14)).all()
            assert (p, b) == oracle.matrix_fixed_point(own.tolist(), 6)
            anew = _core.Model.fit(rows, None, n_threads=1, cache_bytes=None, **keywords | {"projection": own})
            assert body(anew) == body(model) == fitted(rows, range(20), Params(**keywords))
            crossed += p != oracle.smallest_exponent(drawn.tolist())
    assert crossed


def test_text_ids_of_several_kilobytes() -> None:
    rows: dict[Id, list[float]] = {"ab" * size: [size % 7, size % 5] for size in (1, 511, 512, 513, 1024, 5000, 9999)}
    assert body(fresh(rows, Config())) == refitted(rows, Config())


# ---- what it does not depend on ----
@given(seed=st.integers(0, 2**32), entries=st.integers(4, 300))
def test_neither_chunks_nor_the_order_of_rows_matter(seed: int, entries: int) -> None:
    rng = np.random.default_rng(seed)
    rows, ids, params = unit_rows(30, 5, seed), rng.permutation(30).tolist(), Params(**random_config(rng, 5).core())
    expected = fitted(rows, ids, params)
    order = rng.permutation(30)
    with (
        patch.object(reference, "CHUNK_ENTRIES", entries),
        patch.object(draws, "RACE_ROWS", entries),
        patch.object(reference, "HASHES", entries),
    ):
        assert fitted(rows[order], [ids[i] for i in order], params) == expected


def test_a_centre_with_an_entry_beyond_16_bits_is_not_taken() -> None:
    old, phases, counts = np.array([[5]]), (0, 1), np.array([1])
    for total in (32767, -32767, -32768):
        for phi in phases:
            new = reference._updated(old, counts, np.array([[total]]), 0, 2, np.array([phi]))
            assert new.tolist() == [oracle.new_centre([5], 1, [total], 0, 2, [phi])]


# ---- what it refuses ----
@given(
    max_norm=st.sampled_from([1.0, 0.75, 1.5, 2.0**-900, 3.0]),
    direction=st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(any),
    excess=st.one_of(st.floats(-3e-4, 3e-4), st.floats(-0.9, 1)),
)
def test_it_refuses_the_norms_that_the_core_refuses(max_norm: float, direction: list[float], excess: float) -> None:
    config = Config(1, max_norm=max_norm, d=3)
    limit = max_norm * np.sqrt(1 + 2**-5) * (1 + excess)
    row = (np.array(direction) / max(np.abs(direction)) * limit).tolist()
    norm = np.linalg.norm(np.array(row) / limit)
    rows: dict[Id, list[float]] = {0: [v / norm for v in row]}
    assert outcome(lambda: body(fresh(rows, config))) == outcome(lambda: refitted(rows, config))


@pytest.mark.parametrize("max_norm", [1.0, 0.75, 1.5])
def test_the_bound_of_a_norm_is_met_to_the_unit(max_norm: float) -> None:
    exponent = 1 if max_norm > 1 else 0
    bound = int(reference.U * (max_norm / 2**exponent) ** 2)
    for square, error in ((bound - 1, None), (bound, None), (bound + 1, DataError), (bound + 2, DataError)):
        row, left = [], square
        while left:
            row.append(math.isqrt(left))
            left -= row[-1] ** 2
        config = Config(1, max_norm=max_norm, d=len(row))
        rows: dict[Id, list[float]] = {0: [v * 2.0 ** (exponent - 14) for v in row]}
        seen = outcome(lambda rows=rows, config=config: refitted(rows, config))
        assert seen == outcome(lambda rows=rows, config=config: body(fresh(rows, config)))
        assert (seen is error) == (error is not None)


def outcome(fit: Any) -> object:
    """What it returns, or the type of the error."""
    try:
        return fit()
    except EraseError as error:
        return type(error)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_it_refuses_what_is_not_finite(value: float) -> None:
    params = Params(**Config(d=2).core())
    with pytest.raises(DataError, match="must be finite"):
        fitted(np.array([[1.0, 2.0], [value, 0.0]]), [1, 2], params)
    with pytest.raises(DataError, match="must be finite"):
        fitted(np.ones((2, 2)), [1, 2], dataclasses.replace(params, projection=np.array([[1.0, value]])))


def test_it_refuses_ids_and_axes_that_have_no_model() -> None:
    rows, params = np.ones((2, 2)), Params(**Config(d=2).core())
    mixed: Any = [1, "a"]
    with pytest.raises(IdKindError):
        fitted(rows, mixed, params)
    with pytest.raises(DuplicateIdError):
        fitted(rows, ["a", "a"], params)
    with pytest.raises(DataError, match="3 ids"):
        fitted(rows, [1, 2, 3], params)
    for axes in (np.zeros((1, 2)), np.ones((1, 3)), np.ones((0, 2)), np.ones(2)):
        with pytest.raises(ParameterError, match="projection"):
            fitted(rows, [1, 2], dataclasses.replace(params, projection=axes))


# ---- that it can fail ----
def test_a_row_that_is_still_there_is_found_out() -> None:
    rows: dict[Id, list[float]] = {id_: row.tolist() for id_, row in enumerate(unit_rows(40, 6))}
    model = fresh(rows, config := Config(d=6))
    for id_ in rows:
        left = {other: row for other, row in rows.items() if other != id_}
        assert body(model) != refitted(left, config)


def test_any_other_vector_id_or_parameter_is_found_out() -> None:
    rows: dict[Id, list[float]] = {id_: row.tolist() for id_, row in enumerate(unit_rows(40, 6))}
    config = Config(max_norm=1.5, d=6)
    honest = body(fresh(rows, config))
    others: dict[str, Any] = {"n_clusters": 4, "panel": 9, "epsilon": (1, 3), "gamma": (1, 6), "max_iter": 9, "seed": 1}
    others |= {"max_norm": None, "projection": 6}
    for name, value in others.items():
        assert refitted(rows, dataclasses.replace(config, **{name: value})) != honest
    moved = {id_: [v + 2**-13 * (id_ == 17) for v in row] for id_, row in rows.items()}
    assert refitted(moved, config) != honest
    renamed: dict[Id, list[float]] = {id_ if id_ != 17 else 41: row for id_, row in rows.items()}
    assert refitted(renamed, config) != honest
