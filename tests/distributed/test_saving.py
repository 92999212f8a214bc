"""The folder of a model: one that dies is made again with the same digest, or an error names the part that differs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import ModelFileError, ParameterError, PartError
from erase_core.distributed import DistributedQKMeans
from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.saving import Folder
from made_parts import SETTINGS, digest_of, made_rows, write_part

X = made_rows(150)


def rows(*gone: int, up_to: int = 120) -> dict[int, Any]:
    return {id_: X[id_] for id_ in range(up_to) if id_ not in gone}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_part(tmp_path / f"{a}.npy", range(a, a + 40), X[a : a + 40]) for a in (0, 40, 80)]


@pytest.fixture
def model(files: list[Path], tmp_path: Path) -> DistributedQKMeans:
    model = DistributedQKMeans(**SETTINGS, engine=LocalEngine(3)).fit(files)
    model.remove(5)
    model.save(tmp_path / "saved")
    return model


def resumed(folder: Path, **more: Any) -> DistributedQKMeans:
    """Resume from a copy: a folder is that of one model."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    if (folder / "saved").exists():
        shutil.copytree(folder / "saved", copy)
    return DistributedQKMeans.resume(copy, LocalEngine(1), **more)


def test_every_update_is_in_the_folder(model: DistributedQKMeans, tmp_path: Path) -> None:
    model.remove([6, 50])
    assert resumed(tmp_path).digest() == digest_of(rows(5, 6, 50))
    model.add([write_part(tmp_path / "new.npy", range(120, 150), X[120:])])
    assert resumed(tmp_path).digest() == digest_of(rows(5, 6, 50, up_to=150))
    with pytest.raises(KeyError):
        model.remove(1000)
    model.redistribute(2)
    again = resumed(tmp_path)
    assert again.digest() == model.digest()
    again.remove(130)
    assert DistributedQKMeans.resume(tmp_path / "copy", "local").digest() == digest_of(rows(5, 6, 50, 130, up_to=150))


def test_what_a_removal_appends_does_not_depend_on_the_rows(model: DistributedQKMeans, tmp_path: Path) -> None:
    journal = tmp_path / "saved" / "journal.jsonl"
    sizes = [journal.stat().st_size]
    for id_ in (10, 11, 12, 13):
        model.remove(id_)
        sizes.append(journal.stat().st_size)
    assert max(np.diff(sizes)) < 400


def test_the_folder_has_no_rows(model: DistributedQKMeans, tmp_path: Path) -> None:
    model.add([(range(120, 150), X[120:])])
    content = b"".join(file.read_bytes() for file in (tmp_path / "saved").iterdir())
    assert not [row for row in X if row.tobytes() in content or str(float(row[0])).encode() in content]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_removal_that_was_interrupted_is_completed(model: DistributedQKMeans, tmp_path: Path, cut: int) -> None:
    """The journal has the removal, but not all of the line that says it is complete."""
    model.remove(7)
    journal = tmp_path / "saved" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][: cut - 1])
    assert resumed(tmp_path).digest() == digest_of(rows(5, 7))


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_removal_that_was_not_noted_is_absent(model: DistributedQKMeans, tmp_path: Path, cut: int) -> None:
    model.remove(7)
    journal = tmp_path / "saved" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]) + lines[-2][:cut])
    assert resumed(tmp_path).digest() == digest_of(rows(5))


def test_a_crash_between_state_and_journal_is_none(model: DistributedQKMeans, tmp_path: Path) -> None:
    model.remove(7)
    journal = tmp_path / "saved" / "journal.jsonl"
    old = journal.read_bytes()
    model.save(tmp_path / "saved")
    journal.write_bytes(old)
    assert resumed(tmp_path).digest() == digest_of(rows(5, 7))


def test_a_folder_that_cannot_be_written_stops_a_removal_before_it_begins(
    model: DistributedQKMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Folder, "append", full)
    with pytest.raises(OSError, match="disk full"):
        model.remove(7)
    assert model.digest() == digest_of(rows(5))


def test_arrays_are_given_again(files: list[Path], tmp_path: Path) -> None:
    model = DistributedQKMeans(**SETTINGS, engine=LocalEngine(3)).fit([files[0], (range(40, 80), X[40:80]), files[2]])
    model.save(tmp_path / "saved")
    model.remove([3, 44])
    with pytest.raises(ParameterError, match="parts must be the 1 parts that are missing, in their order: part 1"):
        resumed(tmp_path)
    with pytest.raises(PartError, match="part 1, an array are not those that the model had"):
        resumed(tmp_path, parts=[(range(40, 80), X[41:81])])
    assert resumed(tmp_path, parts=[(range(40, 80), X[40:80])]).digest() == digest_of(rows(3, 44))


def test_a_part_that_changed_is_named(model: DistributedQKMeans, files: list[Path], tmp_path: Path) -> None:
    write_part(files[1], range(40, 80), X[41:81])
    with pytest.raises(PartError, match=r"the rows of .*40\.npy are not those") as caught:
        resumed(tmp_path)
    assert str(files[2]) not in str(caught.value)
    os.unlink(files[1])
    with pytest.raises(PartError, match=r"40\.npy cannot be read: No such file"):
        resumed(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"format": "other"}', b'{"format": "erase-core distributed model, version 1"}']
)
def test_other_files_are_refused(model: DistributedQKMeans, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved" / "model.json").write_bytes(content)
    with pytest.raises(ModelFileError):
        resumed(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="copy cannot be read: No such file"):
        resumed(tmp_path)


def test_damage_is_an_error(model: DistributedQKMeans, tmp_path: Path) -> None:
    file = tmp_path / "saved" / "model.json"
    content = json.loads(file.read_bytes())
    for name in ("settings", "parts", "shards", "digest", "gone", "columns", "limits"):
        file.write_text(json.dumps({key: each for key, each in content.items() if key != name}))
        with pytest.raises(ModelFileError):
            resumed(tmp_path)


def test_a_folder_is_that_of_one_model(model: DistributedQKMeans, tmp_path: Path) -> None:
    """The coordinator that was thought to be dead goes on, after another one has taken its model up."""
    again = DistributedQKMeans.resume(tmp_path / "saved", LocalEngine(1))
    refused = pytest.raises(ModelFileError, match=r"saved is the folder of another model.* Save this one to another")
    with refused:
        model.add([X[120:]])
    with refused:
        model.remove(7)
    with refused:
        model.remove(8)
    assert model.digest() == digest_of(rows(5))
    assert again.remove(9).n_removed == 1
    assert resumed(tmp_path).digest() == digest_of(rows(5, 9))
    model.save(tmp_path / "other")
    model.remove(7)
    assert DistributedQKMeans.resume(tmp_path / "other", "local").digest() == digest_of(rows(5, 7))
