"""What has no order is refused where order means something, and taken where it means nothing."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import QKMeans
from erase_core.embedding.projection import principal_axes
from erase_core.embedding.sentence import _check
from erase_core.errors import EraseError, IdKindError, ParameterError, SourceError
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from erase_core.llm.prompt import Prompt, Template
from erase_core.llm.protocol import check_options
from erase_core.settings import Settings
from small_stores import create, some

X = np.random.default_rng(0).normal(size=(6, 3))
IDS = [11, 3, 70, 8, 25, 41]
UNORDERED: dict[str, Callable[[list[Any]], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "iterator of a set": lambda items: iter(set(items)),
    "subclass": type("Bag", (set,), {}),
}
ORDERED: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda items: (item for item in items),
    "keys of a dict": lambda items: dict.fromkeys(items).keys(),
    "values of a dict": lambda items: dict(enumerate(items)).values(),
    "keys of an ordered dict": lambda items: OrderedDict.fromkeys(items).keys(),
    "array": np.array,
}
ALL = {**UNORDERED, **ORDERED}
unordered = pytest.mark.parametrize("make", UNORDERED.values(), ids=UNORDERED)


def refused(call: Callable[[], object], error: type[EraseError], name: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(name)
    assert "order" in str(caught.value)
    assert "list" in str(caught.value)


@unordered
def test_ids_that_belong_to_rows_are_in_their_order(make: Callable[[list[int]], Any]) -> None:
    refused(lambda: QKMeans(2).fit(X, ids=make(IDS)), IdKindError, "ids")
    refused(lambda: QKMeans(2).fit_predict(X, ids=make(IDS)), IdKindError, "ids")
    model = QKMeans(2, max_norm=8.0).fit(X, ids=IDS)
    digest = model.digest()
    refused(lambda: model.add(X, ids=make([id_ + 100 for id_ in IDS])), IdKindError, "ids")
    assert model.digest() == digest


@pytest.mark.parametrize("make", ORDERED.values(), ids=ORDERED)
def test_ids_in_any_ordered_collection_are_those_of_a_list(make: Callable[[list[int]], Any]) -> None:
    assert QKMeans(2).fit(X, ids=make(IDS)).digest() == QKMeans(2).fit(X, ids=IDS).digest()


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_ids_that_go_may_be_in_any_order(tmp_path: Path, make: Callable[[list[int]], Any]) -> None:
    model, other = (QKMeans(2, max_norm=8.0).fit(X, ids=IDS) for _ in range(2))
    model.remove(make(IDS[1:4]))
    other.remove(IDS[1:4])
    assert model.digest() == other.digest()
    with create(tmp_path / "store", some(6)) as erase:
        assert sorted(erase.forget(make([4, 1])).ids) == [1, 4]


REPORTED = """
from erase_core.checks import distinct_ids
print(distinct_ids(set("abcdefghij")), distinct_ids(frozenset([3, 1, -2])))
"""


def test_a_set_of_ids_is_reported_in_the_same_order_by_every_process() -> None:
    """Hashes of text differ from process to process."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", REPORTED],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert outputs == {f"{list('abcdefghij')} {[-2, 1, 3]}\n"}


@unordered
def test_examples_are_in_an_order(tmp_path: Path, make: Callable[[list[Example]], Any]) -> None:
    refused(lambda: read_examples(make(some(5))), SourceError, "examples")
    with create(tmp_path / "store", some(3)) as erase:
        before = erase.status()
        refused(lambda: erase.ingest(make(some(5, 10)), skip_bad=True), SourceError, "examples")
        assert erase.status() == before


@unordered
def test_options_are_in_an_order(tmp_path: Path, make: Callable[[list[str]], Any]) -> None:
    options = ["yes", "no", "perhaps"]
    refused(lambda: check_options(make(options)), ParameterError, "options")
    refused(lambda: Settings(options=make(options)), ParameterError, "options")
    refused(lambda: create(tmp_path / "new", options=make(options)), ParameterError, "options")
    assert not (tmp_path / "new").exists()
    with create(tmp_path / "store", some(3)) as erase:
        refused(lambda: erase.choose("which", make(options)), ParameterError, "options")


@unordered
def test_vectors_of_public_texts_are_in_an_order(make: Callable[[list[Any]], Any]) -> None:
    refused(lambda: principal_axes(make([(1.0, 0.0), (0.0, 1.0)]), 1), ParameterError, "vectors")


def test_public_texts_are_in_an_order() -> None:
    for make in UNORDERED.values():
        with pytest.raises(ParameterError, match="list of strings"):
            _check(make(["a", "b"]))


@unordered
def test_demonstrations_are_in_an_order(make: Callable[[list[Example]], Any]) -> None:
    refused(lambda: Prompt(Template(), make(some(3)), "which"), ParameterError, "demonstrations")
