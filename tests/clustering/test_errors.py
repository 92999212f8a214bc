"""Bad input: one error of the right class, which names the parameter, the value and the bound, and changes nothing.

`ids` of parameters are written out, so that a failure names what was given. Bad files are test_files' business.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from typing import Any

import erase_core
import numpy as np
import pytest
from erase_core import (
    DataError,
    DuplicateIdError,
    EmptyModelError,
    EraseError,
    IdKindError,
    ParameterError,
    QKMeans,
    UnknownIdError,
)
from numpy.typing import NDArray
from problems import Stranger
from sklearn.exceptions import NotFittedError

X: NDArray[np.float64] = np.random.default_rng(0).normal(size=(12, 3))
NAN, INF = float("nan"), float("inf")
sparse: Any = import_module("scipy.sparse")  # scipy has no type hints


@pytest.fixture
def model() -> QKMeans:
    return QKMeans(3, max_norm=8.0).fit(X)


def check_refused(model: QKMeans, call: Callable[[], object], error: type[Exception], *words: str) -> None:
    """The call raises this very class with these words, and the model is as it was."""
    before = (model.digest(), model.n_features_in_, model.seed_, model.labels_.tolist())
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert (model.digest(), model.n_features_in_, model.seed_, model.labels_.tolist()) == before


# ---- the classes ----
def test_every_error_is_an_erase_error_and_the_builtin_it_is_like() -> None:
    builtins = {
        ParameterError: ValueError,
        DataError: ValueError,
        IdKindError: TypeError,
        DuplicateIdError: ValueError,
        UnknownIdError: KeyError,
        EmptyModelError: ValueError,
        erase_core.ModelFileError: ValueError,
        erase_core.SourceError: ValueError,
        erase_core.ExampleError: ValueError,
        erase_core.EmbedderError: ValueError,
        erase_core.LLMError: ValueError,
        erase_core.PromptTooLongError: ValueError,
        erase_core.ServerError: ConnectionError,
        erase_core.MissingPackageError: ImportError,
        erase_core.NotPicklableError: TypeError,
        erase_core.PlatformError: NotImplementedError,
        erase_core.PartError: ValueError,
        erase_core.WorkerLostError: ConnectionError,
        erase_core.StoreError: ValueError,
        erase_core.StoreVersionError: ValueError,
        erase_core.StoreLockedError: ValueError,
        erase_core.ScrubError: ValueError,
        erase_core.UncertainError: ValueError,
        erase_core.ReceiptError: ValueError,
        erase_core.KeyFileError: ValueError,
        erase_core.ForgottenError: ValueError,
        erase_core.UnknownSubjectError: KeyError,
    }
    exported = {value for name, value in vars(erase_core).items() if name.endswith("Error")}
    assert exported == {*builtins, EraseError}
    assert all(issubclass(error, EraseError) and issubclass(error, builtin) for error, builtin in builtins.items())


# ---- rows ----
BAD_ROWS: dict[str, tuple[Any, type[Exception], str]] = {
    "NaN": ([[0.0, NAN, 0.0]] * 4, ValueError, "NaN"),
    "infinity": ([[0.0, INF, 0.0]] * 4, ValueError, "infinity"),
    "minus infinity float32": (np.full((4, 3), -INF, dtype=np.float32), ValueError, "infinity"),
    "no rows": (np.empty((0, 3)), ValueError, "0 sample(s)"),
    "no features": (np.empty((4, 0)), ValueError, "0 feature(s)"),
    "empty list": ([], ValueError, "1D array"),
    "one-dimensional": (np.zeros(3), ValueError, "1D array"),
    "three-dimensional": (np.zeros((4, 3, 2)), ValueError, "dim 3"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], ValueError, "inhomogeneous"),
    "a number": (1.0, ValueError, "scalar"),
    "None": (None, ValueError, "scalar"),
    "words": ([["a", "b", "c"]] * 4, ValueError, "'a'"),
    "objects": (np.full((4, 3), object()), TypeError, "object"),
    "complex": (np.ones((4, 3)) * 1j, ValueError, "Complex"),
    "sparse": (sparse.csr_matrix(X), TypeError, "Sparse"),
}


@pytest.mark.parametrize("method", ["fit", "fit_predict", "add", "predict", "transform", "score"])
@pytest.mark.parametrize(("rows", "error", "word"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows(model: QKMeans, method: str, rows: Any, error: type[Exception], word: str) -> None:
    check_refused(model, lambda: getattr(model, method)(rows), error, word)


@pytest.mark.parametrize("method", ["add", "predict", "transform", "score"])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_rows_of_another_width(model: QKMeans, method: str, width: int) -> None:
    words = (f"X has {width} features", "expecting 3 features")
    check_refused(model, lambda: getattr(model, method)(np.zeros((4, width))), ValueError, *words)


@pytest.mark.parametrize("method", ["fit", "fit_predict", "add"])
def test_a_norm_above_max_norm(model: QKMeans, method: str) -> None:
    rows = np.vstack([X[:5], [[8.0, 8.0, 8.0]], X[5:]])
    check_refused(model, lambda: getattr(model, method)(rows), DataError, "row 5", "max_norm=8")


# ---- ids ----
BAD_IDS: dict[str, tuple[Any, type[Exception], tuple[str, ...]]] = {
    "twice the same": ([100, 101, 100], DuplicateIdError, ("100",)),
    "integer and string": ([100, "b", 102], IdKindError, ("ids", "integers or all strings")),
    "string and integer": (["a", 101, 102], IdKindError, ("ids", "integers or all strings")),
    "booleans": ([True, False, True], IdKindError, ("ids", "True")),
    "numpy boolean": ([np.True_, 101, 102], IdKindError, ("ids", "True")),
    "float": ([100, 101.0, 102], IdKindError, ("ids", "101.0")),
    "array of floats": (np.array([100.0, 101.0, 102.0]), IdKindError, ("ids", "100.0")),
    "array of narrow floats": (np.array([100, 101, 2**24], np.float32), IdKindError, ("ids", "100.0")),
    "narrow float": ([100, np.float16(101), 102], IdKindError, ("ids", "101")),
    "masked": (np.ma.array([100, 101, 102], mask=[False, True, False]), IdKindError, ("ids", "masked")),
    "NaN": ([NAN, NAN, NAN], IdKindError, ("ids", "nan")),
    "None among them": ([100, None, 102], IdKindError, ("ids", "None")),
    "bytes": ([b"a", b"b", b"c"], IdKindError, ("ids", "b'a'")),
    "tuple": ([(1,), (2,), (3,)], IdKindError, ("ids", "(1,)")),
    "2**63": ([100, 101, 2**63], IdKindError, ("ids", str(2**63), "64 bits")),
    "-2**63 - 1": ([-(2**63) - 1, 101, 102], IdKindError, ("ids", str(-(2**63) - 1), "64 bits")),
    "2**100": ([100, 101, 2**100], IdKindError, ("ids", str(2**100), "64 bits")),
    "array of uint64": (np.array([1, 2, 2**63], dtype=np.uint64), IdKindError, (str(2**63), "64 bits")),
    "not UTF-8": (["a", "\ud800", "c"], IdKindError, ("ids", "ud800")),
    "too few": ([100, 101], DataError, ("ids", "2", "3")),
    "too many": ([100, 101, 102, 103], DataError, ("ids", "4", "3")),
    "none at all": ([], DataError, ("ids", "0", "3")),
    "one string": ("abc", IdKindError, ("ids", "'abc'")),
    "one number": (100, IdKindError, ("ids", "100")),
    "two-dimensional": (np.zeros((3, 1), dtype=np.int64), IdKindError, ("ids", "(3, 1)")),
}


@pytest.mark.parametrize("method", ["fit", "fit_predict", "add"])
@pytest.mark.parametrize(("ids", "error", "words"), BAD_IDS.values(), ids=BAD_IDS)
def test_bad_ids_of_rows(model: QKMeans, method: str, ids: Any, error: type[Exception], words: tuple[str, ...]) -> None:
    check_refused(model, lambda: getattr(model, method)(X[:3], ids=ids), error, *words)


@pytest.mark.parametrize("ids", [[100, 101, 7], [7, 101, 102], [0, 1, 2]], ids=str)
def test_ids_that_are_in_the_model_already(model: QKMeans, ids: list[int]) -> None:
    clash = next(id_ for id_ in ids if id_ < 12)
    check_refused(model, lambda: model.add(X[:3], ids=ids), DuplicateIdError, str(clash), "already")


def test_ids_of_the_other_kind(model: QKMeans) -> None:
    check_refused(model, lambda: model.add(X[:1], ids=["a"]), IdKindError, "ids", "integers", "strings")
    check_refused(model, lambda: model.remove("a"), IdKindError, "ids", "integers", "strings")
    check_refused(model, lambda: model.remove(["a", "b"]), IdKindError, "ids", "integers", "strings")
    model.fit(X, ids=list("abcdefghijkl"))
    check_refused(model, lambda: model.add(X[:1], ids=[1]), IdKindError, "ids", "integers", "strings")
    check_refused(model, lambda: model.add(X[:1]), IdKindError, "ids", "strings")
    check_refused(model, lambda: model.remove(1), IdKindError, "ids", "integers", "strings")


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (99, "99"),
        ([99], "99"),
        ([99, 98], "99, 98"),
        ([0, 99, 1, -1], "99, -1"),
        (-1, "-1"),
        (2**63 - 1, str(2**63 - 1)),
    ],
    ids=str,
)
def test_ids_that_are_not_in_the_model(model: QKMeans, ids: Any, named: str) -> None:
    check_refused(model, lambda: model.remove(ids), UnknownIdError, named, "unknown", "nothing was removed")


def test_unknown_strings_are_shown_as_they_are() -> None:
    model = QKMeans(3).fit(X, ids=list("abcdefghijkl"))
    check_refused(model, lambda: model.remove(["a", "zz", "\u00e9"]), UnknownIdError, '"zz"', '"\u00e9"')


def test_a_thousand_unknown_ids_make_a_short_message(model: QKMeans) -> None:
    check_refused(model, lambda: model.remove(range(12, 1012)), UnknownIdError, "12, 13, 14", "990 more")


BAD_TO_REMOVE = [True, np.True_, 1.0, np.float64(1), None, b"a", 1j, Stranger(), [1.0], [True], [None], [[1]], [1, "a"]]
BAD_TO_REMOVE += [2**63, -(2**63) - 1, [2**63], np.zeros((2, 2), dtype=np.int64), np.array(3), "\ud800", ["\ud800"]]


@pytest.mark.parametrize("ids", BAD_TO_REMOVE, ids=ascii)
def test_what_cannot_be_an_id_cannot_be_removed(model: QKMeans, ids: Any) -> None:
    check_refused(model, lambda: model.remove(ids), IdKindError, "id")


# ---- parameters ----
COMMON: list[Any] = [True, np.True_, "3", b"3", None, NAN, INF, -INF, 1j, [3], Stranger()]
NO_INTEGER: list[Any] = [1.0, 2.5, np.float32(3), Fraction(3), -1, -(2**70), 2**64]
BAD_PARAMETERS: dict[str, tuple[str, list[Any]]] = {
    "n_clusters": ("1 to 65536", [*COMMON, *NO_INTEGER, 0, 65537]),
    "max_iter": ("1 to 1024", [*COMMON, *NO_INTEGER, 0, 1025]),
    "panel": ("from n_clusters=", [*(v for v in COMMON if v is not None), *NO_INTEGER, 0, 2**31, "all"]),
    "n_threads": ("1 to 1024", [*(v for v in COMMON if v is not None), *NO_INTEGER, 0, 1025]),
    "epsilon": (
        "above 0 and at most 3",
        [*COMMON, 0, 0.0, -0.0, -1, -1e-9, 3.0000001, 4, 1e300, Fraction(-1, 3)],
    ),
    "gamma": ("from 0 to 1", [*COMMON, -1, -1e-9, 1.0000001, 2, 1e300, 2**70, Fraction(4, 3)]),
    "max_norm": ("positive finite", [*(v for v in COMMON if v is not None), 0, 0.0, -1, -0.5]),
    "random_state": ("0 to 2**64 - 1", [*(v for v in COMMON if v is not None), *NO_INTEGER]),
    "projection": ("1 to 65536", [True, "3", NAN, INF, -INF, *NO_INTEGER, 0, 65537]),
}


@pytest.mark.parametrize(
    ("name", "bound", "value"),
    [(name, bound, value) for name, (bound, values) in BAD_PARAMETERS.items() for value in values],
    ids=ascii,
)
def test_parameters_out_of_bounds(model: QKMeans, name: str, bound: str, value: Any) -> None:
    model.set_params(**{name: value})
    check_refused(model, lambda: model.fit(X[:, :2]), ParameterError, name, bound, repr(value))


@pytest.mark.parametrize("value", [5e-324, 2.0**-901])
def test_a_bound_of_the_norms_below_the_smallest_exponent(model: QKMeans, value: float) -> None:
    model.set_params(max_norm=value)
    check_refused(model, lambda: model.fit(0 * X), ParameterError, "max_norm", repr(value))


@pytest.mark.parametrize("value", [*COMMON, *NO_INTEGER, 0, 65], ids=ascii)
def test_a_number_of_nearest_rows_out_of_bounds(model: QKMeans, value: Any) -> None:
    check_refused(model, lambda: model.nearest(value), ParameterError, "n must", "1 to 64", repr(value))


BAD_PROJECTIONS: dict[str, tuple[Any, str]] = {
    "too narrow": (np.ones((2, 2)), "n_features=3"),
    "too wide": (np.ones((2, 4)), "n_features=3"),
    "one row": (np.ones(3), "n_features=3"),
    "three-dimensional": (np.ones((1, 2, 3)), "n_features=3"),
    "no rows": (np.ones((0, 3)), "n_features=3"),
    "zeros": (np.zeros((2, 3)), "zeros"),
    "zeros as lists": ([[0.0, -0.0, 0]], "zeros"),
    "NaN": ([[1.0, NAN, 0.0]], "row 0, column 1"),
    "infinity": ([[1.0, 0.0, 0.0], [0.0, 0.0, -INF]], "row 1, column 2"),
    "words": ([["a", "b", "c"]], "'a'"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], "inhomogeneous"),
    "complex": (np.ones((2, 3)) * (1 + 1j), "omplex"),
    "too many rows": (np.ones((65537, 3)), "65536"),
    "numpy boolean": (np.True_, "n_features=3"),
    "complex number": (1j, "omplex"),
    "an object": (object(), "'object'"),
}


@pytest.mark.parametrize(("value", "word"), BAD_PROJECTIONS.values(), ids=BAD_PROJECTIONS)
def test_bad_matrices(model: QKMeans, value: Any, word: str) -> None:
    model.set_params(projection=value)
    check_refused(model, lambda: model.fit(X), ParameterError, "projection", word)


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_rows_than_clusters(model: QKMeans, n: int) -> None:
    words = (f"n_samples={n}", "n_clusters=3")
    check_refused(model, lambda: model.fit(X[:n]), ParameterError, *words)
    check_refused(model, lambda: model.fit_predict(X[:n]), ParameterError, *words)


def test_a_failed_refit_leaves_the_names_of_features_too() -> None:
    frame: Any = import_module("pandas").DataFrame(X, columns=["a", "b", "c"])
    model = QKMeans(3).fit(frame)
    check_refused(model, lambda: model.fit(frame[["a", "b"]], ids=[1, 1] * 6), DuplicateIdError, "1")
    assert list(model.feature_names_in_) == ["a", "b", "c"]


def test_a_failed_first_fit_leaves_the_estimator_unfitted() -> None:
    model = QKMeans(13)
    with pytest.raises(ParameterError, match="n_samples=12"):
        model.fit(X)
    assert not hasattr(model, "n_features_in_")
    with pytest.raises(NotFittedError):
        model.digest()


# ---- not fitted, and emptied ----
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "add": (X,), "remove": (1,), "predict": (X,), "transform": (X,), "score": (X,), "digest": (), "save": ("nowhere",),
    "get_feature_names_out": (), "kneighbors": (X,), "nearest": (1,),
}  # fmt: skip


def test_arguments_cover_every_method() -> None:
    own = {name for name, value in vars(QKMeans).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert own - {"fit", "fit_predict"} <= set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_methods_need_a_fit(name: str) -> None:
    with pytest.raises(NotFittedError, match=re.escape("Call 'fit'")):
        getattr(QKMeans(), name)(*ARGUMENTS[name])


@pytest.mark.parametrize("name", ["predict", "transform", "score"])
def test_an_emptied_model_predicts_nothing(model: QKMeans, name: str) -> None:
    model.remove(range(12))
    check_refused(model, lambda: getattr(model, name)(X), EmptyModelError, "empty")
    check_refused(model, lambda: model.remove(0), UnknownIdError, "0")
    model.add(X[:1])
    getattr(model, name)(X)
