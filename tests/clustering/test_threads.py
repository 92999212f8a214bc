"""Several Python threads at one model: the state is that of their calls in some order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from erase_core import QKMeans
from numpy.typing import NDArray


@pytest.fixture
def rows() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(600, 8))


def run_together(*calls: Callable[[], object]) -> None:
    """Run each in a thread of its own; an error in any of them is raised here."""
    errors: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_removals_additions_and_readers_at_once_end_at_the_fresh_fit(rows: NDArray[np.float64], tmp_path: Path) -> None:
    model = QKMeans(5, max_norm=16.0).fit(rows[:400])

    def remove(first: int) -> None:
        for id_ in range(first, first + 80):
            model.remove(id_)

    def add() -> None:
        for id_ in range(400, 600):
            model.add(rows[[id_]], ids=[id_])

    def read() -> None:
        for _ in range(60):
            assert len(model.predict(rows[:10])) == 10
            assert len(model.exemplars_) == 5
            assert model.labels_.max() < 5
            model.digest()

    def save() -> None:
        for _ in range(10):
            model.save(tmp_path / "model")
            QKMeans.load(tmp_path / "model")

    run_together(lambda: remove(0), lambda: remove(200), add, read, read, save, save)
    ids = np.setdiff1d(np.arange(600), np.r_[0:80, 200:280])
    assert model.digest() == QKMeans(5, max_norm=16.0).fit(rows[ids], ids=ids).digest()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_default_ids_of_additions_at_once_do_not_collide(rows: NDArray[np.float64]) -> None:
    model = QKMeans(5, max_norm=16.0).fit(rows[:100])

    def add() -> None:
        for _ in range(20):
            model.add(rows[100:105])

    run_together(add, add, add)
    assert list(model.ids_) == list(range(400))


def test_results_belong_to_the_model(rows: NDArray[np.float64]) -> None:
    model = QKMeans(5).fit(rows)
    labels = model.fit_predict(rows)
    labels[:] = 9
    model.exemplars_.clear()
    assert model.labels_.max() < 5
    assert len(model.exemplars_) == 5
    with pytest.raises(ValueError, match="read-only"):
        model.labels_[:] = 9
