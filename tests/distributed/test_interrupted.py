"""Ctrl-C at any line of an update: it is whole or absent, later updates are right, and so is the saved model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from erase_core import DuplicateIdError
from erase_core.distributed import DistributedQKMeans, clustering
from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.saving import Folder
from made_parts import SETTINGS, digest_of, made_rows, write_part

X = made_rows(150)
X[140] *= 64  # a larger exponent: all rows are assigned again
ROWS = dict(enumerate(X))
SOURCE = os.path.dirname(clustering.__file__)
INTERRUPTED = {os.path.join(SOURCE, name) for name in ("clustering.py", "shards.py", "saving.py")}
Line = tuple[str, int]


def some(ids: Any) -> dict[int, Any]:
    return {id_: ROWS[id_] for id_ in ids}


class Tracer:
    """Notes which lines run, and raises KeyboardInterrupt at the first time of one of them."""

    def __init__(self, fatal: Line | None = None) -> None:
        self.lines: dict[Line, None] = {}
        self._fatal = fatal

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename in INTERRUPTED else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        line = frame.f_code.co_filename, frame.f_lineno
        if event == "line":
            self.lines[line] = None
            if line == self._fatal:
                self._fatal = None
                raise KeyboardInterrupt
        return self._line

    def run(self, call: Callable[[], object]) -> None:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)


def fitted(folder: Path) -> DistributedQKMeans:
    files = [write_part(folder / f"{a}.npy", range(a, b), X[a:b]) for a, b in ((0, 50), (50, 60), (60, 120))]
    model = DistributedQKMeans(**SETTINGS, engine=LocalEngine(), n_shards=3).fit(files)
    model.save(folder / "saved")
    return model


def more(folder: Path) -> list[Path]:
    return [write_part(folder / f"{a}.npy", range(a, b), X[a:b]) for a, b in ((120, 130), (130, 150))]


UPDATES: dict[str, tuple[Callable[[DistributedQKMeans, Path], object], set[int]]] = {
    "a removal": (lambda model, _: model.remove(range(40, 75)), {*range(120)} - {*range(40, 75)}),
    "files that come": (lambda model, folder: model.add(more(folder)), {*range(150)}),
    "rows that come": (lambda model, _: model.add([(range(120, 150), X[120:])]), {*range(150)}),
}


@pytest.mark.parametrize("update", UPDATES)
def test_an_interrupted_update_is_whole_or_absent(tmp_path: Path, update: str) -> None:
    call, after = UPDATES[update]
    options = {digest_of(some(ids)): ids for ids in ({*range(120)}, after)}
    every = Tracer()
    model = fitted(tmp_path)
    every.run(lambda: call(model, tmp_path))
    assert len(every.lines) > 50
    # In shards.py, where most lines only read, some of them.
    for line in [line for at, line in enumerate(every.lines) if not line[0].endswith("shards.py") or at % 3 == 0]:
        model = fitted(tmp_path)
        Tracer(line).run(lambda: call(model, tmp_path))  # noqa: B023
        left = options[model.digest()]
        # An addition that fails takes out what it brought, and nothing else.
        with pytest.raises(DuplicateIdError):
            model.add([write_part(tmp_path / "bad.npy", [1, 500], X[:2])])
        model.remove(20)
        assert model.digest() == digest_of(some(left - {20})), line
        assert model.gather().digest() == model.digest(), line
        arrays = [(range(120, 150), X[120:])] if update == "rows that come" and 120 in left else []
        again = DistributedQKMeans.resume(tmp_path / "saved", "local", parts=arrays)
        assert again.digest() == model.digest(), line


def test_an_update_that_could_not_be_noted_is_noted_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the line is written that says that a removal is complete, and later it is not."""
    model = fitted(tmp_path)
    append = Folder.append

    def full(folder: Folder, line: Any) -> None:
        if "done" in line:
            with open(tmp_path / "saved" / "journal.jsonl", "ab") as stream:
                stream.write(b'{"done": {"0"')
            raise OSError("disk full")
        append(folder, line)

    monkeypatch.setattr(Folder, "append", full)
    with pytest.raises(OSError, match="disk full"):
        model.remove(7)
    monkeypatch.undo()
    model.remove(8)
    assert model.digest() == digest_of(some({*range(120)} - {7, 8}))
    assert DistributedQKMeans.resume(tmp_path / "saved", "local").digest() == model.digest()


def test_a_long_request_of_a_caller_that_was_interrupted_is_forgotten() -> None:
    """Its first pieces are with the worker, which must not read them as the beginning of the next request."""
    engine = LocalEngine(1, limit=700)
    model = DistributedQKMeans(**SETTINGS, engine=engine).fit([X[:100]])
    place = model._clustering._shards.records[0].place
    engine._send(place, b"*" + bytes(700))
    model.add([(range(100, 150), X[100:])])
    assert model.digest() == digest_of(ROWS)


def test_results_may_be_asked_for_while_rows_are_hashed() -> None:
    """Replies in pieces, if they are long: one that is read late must not be that of a later call."""
    model = DistributedQKMeans(**SETTINGS, engine=LocalEngine(2, limit=200)).fit([X[:70], X[70:]])
    assert np.array(model.nearest(20)).shape == (4, 20)
    assert model.digest() == digest_of(ROWS)
