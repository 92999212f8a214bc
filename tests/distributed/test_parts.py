"""Parts: every kind is read as it is, and what is wrong with one is said with its name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import DuplicateIdError, IdKindError, ParameterError, PartError
from erase_core.distributed import DistributedQKMeans, duplicates, parts
from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.parts import FilePart, parts_of
from made_parts import SETTINGS, digest_of, made_rows, write_part

X = made_rows(120)
COLUMNS = ("id", "vector")


def fit(given: Any, **more: Any) -> DistributedQKMeans:
    return DistributedQKMeans(**SETTINGS, engine=LocalEngine(3)).fit(given, **more)


def table(ids: Any, rows: Any, vectors: Any = None) -> Any:
    arrow = pytest.importorskip("pyarrow")
    return arrow.table({"id": ids, "vector": [*map(list, rows)] if vectors is None else vectors})


def write_table(file: Path, *given: Any) -> Path:
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(table(*given), file)
    return file


# ---- every kind ----
def test_npy_files_with_and_without_ids(tmp_path: Path) -> None:
    with_ids = [write_part(tmp_path / f"{a}.npy", range(a, a + 40), X[a : a + 40]) for a in (80, 0, 40)]
    assert fit(with_ids).digest() == digest_of(dict(enumerate(X)))
    for at in range(3):
        np.save(tmp_path / f"bare-{at}.npy", X[at * 40 : at * 40 + 40])
    assert fit([tmp_path / f"bare-{at}.npy" for at in range(3)]).digest() == digest_of(dict(enumerate(X)))


def test_npz_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", key=np.arange(60), row=X[:60])
    np.savez(tmp_path / "b.npz", key=np.arange(60, 120), row=X[60:])
    model = fit([tmp_path / "a.npz", tmp_path / "b.npz"], columns=("key", "row"))
    assert model.digest() == digest_of(dict(enumerate(X)))


def test_parquet_files_in_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "READ", 1000)
    arrow = pytest.importorskip("pyarrow")
    strings = [f"row {number}" for number in range(120)]
    fixed = arrow.FixedSizeListArray.from_arrays(X[60:].ravel(), 8)
    files = [
        write_table(tmp_path / "a.parquet", strings[:60], X[:60]),
        write_table(tmp_path / "b.parquet", strings[60:], None, fixed),
    ]
    assert len(list(FilePart(files[0], COLUMNS).batches())) > 1
    assert fit(files).digest() == digest_of(dict(zip(strings, X, strict=True)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_numbers_are_taken_at_their_value(tmp_path: Path, dtype: Any) -> None:
    rows = (X * 4).astype(dtype)
    files = [write_part(tmp_path / f"{a}.npy", range(a, a + 60), rows[a : a + 60]) for a in (0, 60)]
    assert fit(files).digest() == digest_of(dict(enumerate(rows.astype(np.float64))))


def test_rows_may_be_in_any_order_in_memory() -> None:
    assert fit([np.asfortranarray(X)]).digest() == digest_of(dict(enumerate(X)))
    assert fit([X[::-1]]).digest() == digest_of(dict(enumerate(X[::-1])))


def test_one_part_need_not_be_in_a_list(tmp_path: Path) -> None:
    want = digest_of(dict(enumerate(X)))
    for given in (X, (range(120), X), write_part(tmp_path / "x.npy", range(120), X), str(tmp_path / "x.npy")):
        assert fit(given).digest() == want


def test_rows_without_ids_are_numbered_after_the_largest_id() -> None:
    model = fit([X[:50], X[50:100]])
    model.add([X[100:110], X[110:]])
    assert model.digest() == digest_of(dict(enumerate(X)))


# ---- what is wrong ----
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "not a list": (3, ParameterError, "parts must be a list of parts, got int"),
    "no part": ([X, 3], ParameterError, "part 1 is of the type int"),
    "another file": (["rows.csv"], ParameterError, r"part 0: rows\.csv is not a \.npy, \.npz or \.parquet file"),
    "no file": (["rows.npy"], PartError, r"rows\.npy cannot be read: No such file"),
    "no rows": ([X[:0]], ParameterError, "the 1 parts have no rows"),
    "few rows": ([X[:3]], ParameterError, r"n_samples=3 should be >= n_clusters=4"),
    "a vector": ([X[0]], PartError, "rows must be a matrix, got an array of 1 dimensions"),
    "text": ([np.array([["a"]])], PartError, "rows must be numbers"),
    "masked": ([np.ma.array(X, mask=True)], PartError, "masked values"),
    "ids for other rows": ([(range(3), X)], PartError, "part 0 has 3 ids for 120 rows"),
    "some without ids": ([(range(3), X[:3]), X], PartError, "Give ids to all, or to none"),
    "other widths": (
        [X, made_rows(9, 3)],
        PartError,
        "part 1, an array: its rows have 3 numbers",
    ),
    "the same id": ([(range(60), X[:60]), (range(59, 119), X[60:])], DuplicateIdError, "in different parts: 59$"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.chdir(tmp_path)
    given, error, message = WRONG[wrong]
    with pytest.raises(error, match=message) as caught:
        fit(given)
    assert type(caught.value) is error


def test_a_file_that_is_no_table_of_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"nothing")
    np.save(tmp_path / "b.npy", X)
    np.save(tmp_path / "b.ids.npy", np.arange(3))
    np.savez(tmp_path / "c.npz", other=X)
    for name, words in (
        ("a.npy", "cannot be read"),
        ("b.npy", "3 ids for 120 rows"),
        ("c.npz", "there is no column 'vector'"),
    ):
        with pytest.raises(PartError, match=rf"{name}.*{words}"):
            fit([tmp_path / name])


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], "different lengths"),
        ([[1.0], [1.0, 2.0, 3.0]], "different lengths"),
        ([[1.0, None], [1.0, 2.0]], "null"),
        ([None, [1.0, 2.0]], "null"),
    ],
)
def test_ragged_and_missing_vectors_are_refused(tmp_path: Path, vectors: Any, words: str) -> None:
    with pytest.raises(PartError, match=rf"x\.parquet.*{words}"):
        fit([write_table(tmp_path / "x.parquet", [1, 2], None, vectors)])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(PartError, match=r"there is no column 'embedding'. Name the columns"):
        fit([write_table(tmp_path / "x.parquet", [1, 2], X[:2])], columns=("id", "embedding"))
    with pytest.raises(ParameterError, match="columns must be"):
        fit([X], columns="id")


# ---- ids in several shards ----
@pytest.mark.parametrize("window", [7, 2**20])
def test_ids_that_shards_share_are_found(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In windows of the keys' range: each key is in exactly one."""
    monkeypatch.setattr(duplicates, "WINDOW", window)
    generator = np.random.default_rng(3)
    ids = generator.permutation(np.concatenate([generator.integers(-(2**63), 2**63 - 1, 110), [-(2**63), 2**63 - 1]]))
    spread = [(ids[at::3].tolist(), X[: len(ids[at::3])]) for at in range(3)]
    assert fit(spread).n_rows_ == len(ids)
    for twice in ids[:8].tolist():
        where = next(at for at in range(3) if twice not in spread[at][0])
        again = [*spread, ([twice], X[:1])]
        again[where], again[3] = ([*spread[where][0], twice], X[: len(spread[where][0]) + 1]), ([0], X[:1])
        with pytest.raises(DuplicateIdError, match=f"in different parts: {twice}$"):
            fit(again)


def test_strings_that_shards_share_are_found() -> None:
    with pytest.raises(DuplicateIdError, match="in different parts: 'b', 'c'"):
        fit([(["a", "b", "c"], X[:3]), (["c", "d", "b"], X[3:6])])


def test_a_list_of_two_arrays_is_two_parts() -> None:
    assert len(parts_of([X[:60], X[60:]], COLUMNS)) == 2


def test_rows_are_not_numbered_if_their_ids_may_have_another_name(tmp_path: Path) -> None:
    """A removal by id would remove other rows."""
    np.savez(tmp_path / "a.npz", vector=X, key=np.arange(1000, 1000 + len(X)))
    np.savez(tmp_path / "b.npz", vector=X)
    with pytest.raises(PartError, match=r"a\.npz: there is no column 'id', but 'key'\. Name the columns"):
        fit([tmp_path / "a.npz"])
    with pytest.raises(PartError, match=r"b\.npz: there is no column 'key'\. Name the columns"):
        fit([tmp_path / "b.npz"], columns=("key", "vector"))
    assert fit([tmp_path / "b.npz"]).digest() == digest_of(dict(enumerate(X)))


def test_a_file_of_ids_is_not_taken_for_rows(tmp_path: Path) -> None:
    write_part(tmp_path / "a.npy", range(len(X)), X)
    with pytest.raises(PartError, match=r"a\.ids\.npy: these are ids.* Leave this file out"):
        fit(sorted(tmp_path.glob("*.npy")))


def test_a_column_of_texts_is_refused(tmp_path: Path) -> None:
    """Their bytes would be rows."""
    file = write_table(tmp_path / "a.parquet", [*range(len(X))], X, ["1.5"] * len(X))
    with pytest.raises(PartError, match="must be lists of numbers, got a column of the type string"):
        fit([file])


def test_rows_of_this_process_are_not_kept_as_a_dask_collection() -> None:
    """A collection of arrays has them in its graph."""
    array = pytest.importorskip("dask.array")
    blocks = array.from_array(X, chunks=(50, -1))
    model = fit([blocks * 2])
    assert model.digest() == digest_of(dict(enumerate(X * 2)))
    kept = pickle.dumps(model._clustering._shards.parts)
    assert X[7].tobytes() not in kept
    assert len(kept) < 4000
    made = array.random.default_rng(0).normal(size=X.shape, chunks=(50, -1))
    parts = parts_of(made, ("id", "vector"))
    assert [part.rereadable for part in parts] == [True] * 3
    assert fit([made]).digest() == digest_of(dict(enumerate(made.compute())))


def test_none_is_no_id() -> None:
    with pytest.raises(IdKindError, match="an id must be an integer or text, got None"):
        fit([X]).remove(None)  # type: ignore[arg-type]
