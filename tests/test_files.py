"""Model files and pickles: what is saved comes back whole, equal models are equal bytes, and a bad file is refused.

The bytes themselves are pinned by the golden vectors (test_against_oracle). Here a forged file, whose checksum was made
anew, must be refused or give a model whose bytes are the file: never crash, hang or repair.
"""

from __future__ import annotations

import copy
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from erase_core import ModelFileError, QKMeans
from erase_core._core import Model
from numpy.typing import NDArray
from support import state

X: NDArray[np.float64] = np.random.default_rng(0).normal(size=(40, 3))
MATRIX = [[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bound": {"max_norm": 7.5},
    "signs": {"projection": 2, "max_norm": 8.0},
    "matrix": {"projection": MATRIX, "gamma": 0.0},
    "odd ratios": {"epsilon": 1 / 3, "gamma": 0.123456, "max_iter": 3, "random_state": 2**64 - 1},
}


def small(kind: str, n: int = 6, text: bool = False) -> QKMeans:
    """A model of a few rows."""
    ids = [f"row {i}" for i in range(n)] if text else list(range(-2, n - 2))
    return QKMeans(3, n_threads=1, **KINDS[kind]).fit(X[:n], ids=ids)


def sealed(body: bytes) -> bytes:
    """A file with the checksum of its body."""
    return body + blake3(body).digest()


def load(data: bytes) -> Model:
    return Model.from_bytes(data, 1)


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
    model.remove(list(model.ids_))
    model.save(tmp_path / "model")
    loaded = QKMeans.load(tmp_path / "model")
    assert state(loaded) == state(model)
    loaded.add(X[:6], ids=small(kind).ids_)
    assert state(loaded) == state(small(kind))


@each_kind
@both_ids
def test_equal_models_reached_differently_are_equal_bytes(kind: str, text: bool, tmp_path: Path) -> None:
    straight, detour = small(kind, 10, text), small(kind, 30, text)
    detour.remove(list(set(detour.ids_) - set(straight.ids_)))
    for number, model in enumerate((straight, detour, copy.deepcopy(detour), pickle.loads(pickle.dumps(detour)))):
        model.save(tmp_path / str(number))
    assert len({(tmp_path / str(number)).read_bytes() for number in range(4)}) == 1


@each_kind
def test_the_digest_is_the_hash_at_the_end_of_the_file(kind: str, tmp_path: Path) -> None:
    small(kind).save(tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    assert data[-32:].hex() == small(kind).digest() == blake3(data[:-32]).hexdigest()


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


def test_appended_bytes_are_refused() -> None:
    data = small("plain")._model.to_bytes()
    for tail in (b"\0", b"x" * 32, data):
        for forged in (data + tail, sealed(data + tail), sealed(data[:-32] + tail)):
            with pytest.raises(ModelFileError):
                load(forged)


@pytest.mark.parametrize("version", [0, 2, 7, 2**32 - 1])
def test_another_version_is_named(version: int) -> None:
    data = small("plain")._model.to_bytes()
    for forged in (data[:8] + version.to_bytes(4, "little") + data[12:],):
        for each in (forged, sealed(forged[:-32])):
            with pytest.raises(ModelFileError, match=f"version is {version}, this software reads 1") as caught:
                load(each)
            assert ("newer" in str(caught.value)) == (version > 1)


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
    model, before = small("plain"), small("plain").digest()
    for path in ("file/model", "missing/model", "directory"):
        with pytest.raises(OSError, match="os error"):
            model.save(tmp_path / path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["directory", "file"]
    assert model.digest() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_directory_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        small("plain").save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


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


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


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


def survives(forged: bytes) -> bool:
    """Whether the file is taken. Then its bytes are kept, and the model can be asked, emptied and filled."""
    try:
        model = load(forged)
    except ModelFileError:
        return False
    assert model.to_bytes() == forged
    assert model.digest() == forged[-32:].hex()
    zeros = np.zeros((2, model.params()["n_features"]))
    if model.n_rows:
        model.predict(zeros)
    seeds, ids = model.seeds(), model.ids()
    model.remove(seeds[0]) if seeds else None
    text = isinstance(ids, list) and len(ids) > 1
    model.add(zeros, ["\0new", "\0newer"] if text else [-(2**62) - 1, -(2**62) - 2])
    assert load(model.to_bytes()).digest() == model.digest()
    model.remove(list(model.ids()))
    assert load(model.to_bytes()).digest() == model.digest()
    return True


@each_kind
@both_ids
def test_forged_files_are_refused_or_taken_at_their_bytes(kind: str, text: bool) -> None:
    data = small(kind, 5, text)._model.to_bytes()
    assert survives(data)
    results = [survives(sealed(body)) for body in forgeries(data, 3000)]
    assert 0 < sum(results) < len(results) / 2


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
    place = body.index(bytes.fromhex("01 01000000 01000000"), 44)  # projection, m, n_features
    body[place + 1 : place + 9] = bytes.fromhex("00000100 00000100")
    (tmp_path / "model").write_bytes(sealed(bytes(body)))
    result = run(LOAD_IN_LITTLE_MEMORY, tmp_path / "model")
    assert result.returncode == 0, result.stderr[:300]


# ---- pickles and copies ----
UNPICKLE = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    model = pickle.load(file)
print(model.digest(), model.get_params())
model.remove(model.ids_[0])
print(model.digest())
"""


@each_kind
def test_a_pickle_is_the_model_in_another_process(kind: str, tmp_path: Path) -> None:
    model = small(kind)
    (tmp_path / "pickle").write_bytes(pickle.dumps(model))
    result = run(UNPICKLE, tmp_path / "pickle")
    expected = f"{model.digest()} {model.get_params()}\n"
    model.remove(model.ids_[0])
    assert result.stdout == f"{expected}{model.digest()}\n", result.stderr


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@each_kind
def test_a_pickle_of_any_protocol_is_the_model(kind: str, protocol: int) -> None:
    model = small(kind)
    assert state(pickle.loads(pickle.dumps(model, protocol))) == state(model)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
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


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_an_unfitted_estimator_is_unfitted(duplicate: Any) -> None:
    model = duplicate(QKMeans(5, epsilon=0.25))
    assert (model.n_clusters, model.epsilon) == (5, 0.25)
    assert not hasattr(model, "digest_")
    assert not hasattr(model, "labels_")
