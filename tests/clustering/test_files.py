"""Model files and pickles: what is saved comes back whole, equal models are equal bytes, and a bad file is refused.

A forged file, with a checksum made anew, is refused or gives a model whose bytes are the file: no crash, no repair.
"""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from erase_core import ModelFileError, QKMeans
from erase_core._core import Model
from fits import state
from model_bytes import forgeries, sealed
from numpy.typing import NDArray
from processes import run

X: NDArray[np.float64] = np.random.default_rng(0).normal(size=(40, 3))
MATRIX = [[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "panel": {"panel": 4, "max_iter": 2},
    "bound": {"max_norm": 7.5},
    "signs": {"projection": 2, "max_norm": 8.0},
    "matrix": {"projection": MATRIX, "gamma": 0.0},
    "odd ratios": {"epsilon": 1 / 3, "gamma": 0.123456, "max_iter": 3, "random_state": 2**64 - 1},
}


def small(kind: str, n: int = 6, text: bool = False) -> QKMeans:
    """A model of a few rows, which stand in the order of their ids."""
    ids = [f"row {i:02}" for i in range(n)] if text else list(range(-2, n - 2))
    return QKMeans(3, n_threads=1, **KINDS[kind]).fit(X[:n], ids=ids)


def load(data: bytes) -> Model:
    return Model.from_bytes(data, 1, None)


each_kind = pytest.mark.parametrize("kind", KINDS)
both_ids = pytest.mark.parametrize("text", [False, True], ids=["int", "str"])


# ---- there and back ----
@each_kind
@both_ids
@pytest.mark.parametrize("n", [3, 40])
def test_a_loaded_model_is_the_saved_one(kind: str, text: bool, n: int, tmp_path: Path) -> None:
    """Also in what it does next, and in its parameters: the same fit gives the same model."""
    model = small(kind, n, text)
    model.save(tmp_path / "model")
    loaded = QKMeans.load(str(tmp_path / "model"))
    assert state(loaded) == state(model)
    assert (loaded.seed_, loaded.n_features_in_) == (model.seed_, 3)
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
    again = QKMeans(**loaded.get_params()).fit(X[:n], ids=model.ids_)
    assert state(again) == state(model)
    for each in (model, loaded):
        each.remove(list(each.ids_)[:2])
        each.add(X[:1], ids=["new"] if text else [99])
    assert state(loaded) == state(model)


@each_kind
def test_an_emptied_model_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    model = small(kind)
    model.remove(model.ids_)
    model.save(tmp_path / "model")
    assert state(QKMeans.load(tmp_path / "model")) == state(model)


@each_kind
@both_ids
def test_equal_models_reached_differently_are_equal_bytes(kind: str, text: bool, tmp_path: Path) -> None:
    straight, detour = small(kind, 10, text), small(kind, 30, text)
    detour.remove(list(set(detour.ids_) - set(straight.ids_)))
    for number, model in enumerate((straight, detour, copy.deepcopy(detour), pickle.loads(pickle.dumps(detour)))):
        model.save(tmp_path / str(number))
    assert len({(tmp_path / str(number)).read_bytes() for number in range(4)}) == 1


@each_kind
def test_the_checksum_is_the_hash_of_all_before_it(kind: str, tmp_path: Path) -> None:
    small(kind).save(tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    assert data[-32:] == blake3(data[:-32]).digest()
    assert small(kind).digest() != data[-32:].hex()


# ---- files that are no models ----
@each_kind
@both_ids
def test_every_change_of_one_byte_is_refused(kind: str, text: bool) -> None:
    data = small(kind, 3, text)._model.to_bytes()
    for place in range(len(data)):
        for value in range(1, 256):
            with pytest.raises(ModelFileError):
                load(data[:place] + bytes([data[place] ^ value]) + data[place + 1 :])


@each_kind
def test_every_truncation_is_refused(kind: str) -> None:
    data = small(kind)._model.to_bytes()
    for length in range(len(data)):
        for part in (
            data[:length],
            data[length + 1 :],
            sealed(data[:-32][:length]) if length < len(data) - 32 else b"",
        ):
            with pytest.raises(ModelFileError):
                load(part)


@pytest.mark.parametrize("tail", [b"\0", b"x" * 32, small("plain")._model.to_bytes()], ids=len)
def test_appended_bytes_are_refused(tail: bytes) -> None:
    data = small("plain")._model.to_bytes()
    for forged in (data + tail, sealed(data + tail), sealed(data[:-32] + tail)):
        with pytest.raises(ModelFileError):
            load(forged)


@pytest.mark.parametrize("version", [0, 1, 3, 7, 2**32 - 1])
def test_another_version_is_named(version: int) -> None:
    data = small("plain")._model.to_bytes()
    forged = data[:8] + version.to_bytes(4, "little") + data[12:]
    for each in (forged, sealed(forged[:-32])):
        with pytest.raises(ModelFileError, match=f"version is {version}, this software reads 2") as caught:
            load(each)
        assert ("newer" in str(caught.value)) == (version > 2)


@pytest.mark.parametrize(
    "data", [b"", b"e", b"eraseqkm", b"\0" * 500, pickle.dumps(X), sealed(b""), sealed(b"eraseqkm")]
)
def test_what_is_no_model_at_all_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(data)
    with pytest.raises(ModelFileError, match="not a valid model file"):
        QKMeans.load(tmp_path / "model")


def test_a_path_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        QKMeans.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        QKMeans.load(tmp_path)


# ---- writing: whole or not at all ----
def test_a_path_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    (tmp_path / "locked").mkdir(0o500)
    locked = ["locked/model"] if os.geteuid() else []  # root writes everywhere
    model, before = small("plain"), small("plain").digest()
    for path in ["file/model", "missing/model", "directory", *locked]:
        with pytest.raises(OSError):  # noqa: PT011
            model.save(tmp_path / path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["directory", "file", "locked"]
    assert model.digest() == before


SAVE_BEYOND_THE_LIMIT = """
import resource, sys
from erase_core import QKMeans
model = QKMeans.load(sys.argv[1])
model.remove(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    model.save(sys.argv[1])
except OSError:
    print(model.digest())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file")
def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    model = small("plain")
    model.save(tmp_path / "model")
    result = run(SAVE_BEYOND_THE_LIMIT, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert QKMeans.load(tmp_path / "model").digest() == model.digest()
    model.remove(0)
    assert result.stdout.strip() == model.digest()


def test_a_save_replaces_a_longer_file(tmp_path: Path) -> None:
    small("plain", 40).save(tmp_path / "model")
    small("plain", 3).save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == small("plain", 3)._model.to_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# ---- forged files ----
def survives(forged: bytes) -> bool:
    """Whether the file is taken. Then its bytes are kept, and the model can be asked, emptied and filled."""
    try:
        model = load(forged)
    except ModelFileError:
        return False
    assert model.to_bytes() == forged
    zeros, ids = np.zeros((2, model.params()["n_features"])), list(model.ids())
    if ids:
        model.predict(zeros)
        model.remove(model.seeds()[0])
    text = bool(ids) and isinstance(ids[0], str)
    model.add(zeros, ["row 9a", "row 9b"] if text else [5**9, 7**9])
    assert load(model.to_bytes()).digest() == model.digest()
    model.remove(list(model.ids()))
    assert load(model.to_bytes()).digest() == model.digest()
    return True


@each_kind
@both_ids
def test_forged_files_are_refused_or_taken_at_their_bytes(kind: str, text: bool) -> None:
    data = small(kind, 5, text)._model.to_bytes()
    assert survives(data)
    assert 0 < sum(survives(sealed(body)) for body in forgeries(data, 3000)) < 1500


def test_every_change_of_one_byte_under_a_new_checksum_is_refused_or_taken_at_its_bytes() -> None:
    body = small("plain", 4)._model.to_bytes()[:-32]
    flips = ((place, value) for place in range(len(body)) for value in range(1, 256))
    results = [survives(sealed(body[:i] + bytes([body[i] ^ v]) + body[i + 1 :])) for i, v in flips]
    assert 0 < sum(results) < len(results) / 2


LOAD_IN_LITTLE_MEMORY = """
import resource, sys
from erase_core import ModelFileError, QKMeans
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    QKMeans.load(sys.argv[1], n_threads=1)
except (ModelFileError, MemoryError) as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory")
def test_a_tiny_file_does_not_ask_for_gigabytes(tmp_path: Path) -> None:
    """No rows, and random signs of the largest size there is: 65536 x 65536."""
    model = QKMeans(1, projection=1).fit([[1.0]])
    model.remove(0)
    body = bytearray(model._model.to_bytes()[:-32])
    place = body.index(bytes.fromhex("01 01000000 01000000"), 48)  # projection, m, n_features
    body[place + 1 : place + 9] = bytes.fromhex("00000100 00000100")
    (tmp_path / "model").write_bytes(sealed(bytes(body)))
    result = run(LOAD_IN_LITTLE_MEMORY, tmp_path / "model")
    assert result.returncode == 0, result.stderr[:300]


# ---- pickles and copies ----
PICKLES = [lambda model, p=p: pickle.loads(pickle.dumps(model, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)]
UNPICKLE = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    model = pickle.load(file)
print(model.digest(), model.get_params())
model.remove(model.ids_[0])
print(model.digest())
"""


@pytest.mark.parametrize("kind", ["bound", "matrix"])
def test_a_pickle_is_the_model_in_another_process(kind: str, tmp_path: Path) -> None:
    model = small(kind)
    (tmp_path / "pickle").write_bytes(pickle.dumps(model))
    result = run(UNPICKLE, tmp_path / "pickle")
    expected = f"{model.digest()} {model.get_params()}\n"
    model.remove(model.ids_[0])
    assert result.stdout == f"{expected}{model.digest()}\n", result.stderr


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, *PICKLES])
@each_kind
def test_a_copy_forgets_for_itself(kind: str, duplicate: Any) -> None:
    model = small(kind)
    other, before = duplicate(model), state(model)
    assert state(other) == before
    other.remove(list(other.ids_)[:2])
    after = state(other)
    assert after != before
    assert state(model) == before
    model.remove(list(model.ids_))
    assert state(other) == after
