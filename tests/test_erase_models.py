"""The facade and the models beneath it: what they are asked, what they may return, and when they have to forget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.erase import Erase
from erase_core.errors import (
    DataError,
    DuplicateIdError,
    EmbedderError,
    LLMError,
    ParameterError,
    PromptTooLongError,
    ScrubError,
    StoreError,
)
from erase_core.examples.example import Example
from erase_core.kmeans import QKMeans
from numpy.typing import NDArray
from small_stores import (
    DIM,
    QUERIES,
    CountingLLM,
    WordEmbedder,
    check_refused,
    create,
    example,
    found,
    fresh,
    parts_of,
    refused,
    reopened,
    seen,
    seen_anew,
    some,
)

Vectors = NDArray[np.float32]


# ---- the language model ----
def test_the_language_model_is_asked_what_the_prompt_shows(path: Path) -> None:
    llm = CountingLLM()
    erase = create(path, some(10), llm=llm, options=("yes", "no"))
    for query in QUERIES:
        assert erase.ask(query).text == erase.demonstrations(query)[-1].output
        assert erase.choose(query).option == "yes"
        assert erase.choose(query, ["no", "maybe"]).scores.keys() == {"no", "maybe"}
        assert llm.prompts[-3:] == [erase.prompt(query)] * 3


def test_demonstrations_that_do_not_fit_are_left_out_from_the_last_on(path: Path) -> None:
    whole = create(path, some(10)).prompt(QUERIES[0])
    answer_tokens, seen_counts = 4, set()
    for context in range(1, 60):
        llm = CountingLLM(context)
        with Erase.open(path, embedder=WordEmbedder(), llm=llm) as erase:
            try:
                erase.ask(QUERIES[0], max_tokens=answer_tokens)
            except PromptTooLongError:
                assert context < answer_tokens + 6  # the query with its prefixes
                continue
            sent = llm.prompts[0]
            kept = len(sent.demonstrations)
            assert sent.demonstrations == whole.demonstrations[:kept]
            assert llm.count_tokens(sent) + answer_tokens <= context
            seen_counts.add(kept)
    assert seen_counts == {0, 1, 2, 3}


def change_here(erase: Erase) -> object:
    return erase.forget(erase.demonstrations(QUERIES[0])[0].id)


def change_elsewhere(erase: Erase) -> object:
    with reopened(parts_of(erase).store.folder) as other:
        return change_here(other)


def ingest_elsewhere(erase: Erase) -> object:
    with reopened(parts_of(erase).store.folder) as other:
        return other.ingest(some(30, 100))


CHANGES: list[Callable[[Erase], object]] = [change_here, change_elsewhere, ingest_elsewhere]
USES: list[Callable[[Erase], object]] = [
    lambda erase: erase.ask(QUERIES[0]),
    lambda erase: erase.choose(QUERIES[0], ["yes"]),
    lambda erase: erase.choose_many(QUERIES, ["yes"]),
    lambda erase: erase.prompt(QUERIES[0]),
    lambda erase: erase.demonstrations(QUERIES[0]),
    Erase.status,
    Erase.verify,
]


@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", USES)
def test_the_language_model_forgets_before_a_changed_prompt(
    path: Path, strategy: str, change: Callable[[Erase], object], use: Callable[[Erase], object]
) -> None:
    llm = CountingLLM()
    erase = create(path, some(20), strategy=strategy, llm=llm)
    erase.ask(QUERIES[0])
    before = llm.forgotten
    erase.ask(QUERIES[1])
    erase.forget([1, 2], dry_run=True)
    assert llm.forgotten == before, "what is kept between queries is lost"
    change(erase)
    if change is change_here:
        assert llm.forgotten > before
    use(erase)
    assert llm.forgotten > before


def test_the_language_model_forgets_when_the_store_is_closed(path: Path) -> None:
    llm = CountingLLM()
    erase = create(path, some(5), llm=llm)
    erase.ask(QUERIES[0])
    before = llm.forgotten
    erase.close()
    assert llm.forgotten > before


@pytest.mark.parametrize("error", [LLMError("out of memory"), KeyboardInterrupt(), RuntimeError("a bug of its own")])
def test_a_language_model_that_fails_changes_nothing(path: Path, error: BaseException) -> None:
    llm = CountingLLM()
    erase = create(path, some(10), llm=llm)
    llm.error = error
    check_refused(erase, lambda: erase.ask(QUERIES[0]), type(error))
    check_refused(erase, lambda: erase.choose(QUERIES[0], ["yes"]), type(error))
    llm.error = None
    erase.ask(QUERIES[0])


def test_a_language_model_that_cannot_forget_does_not_keep_the_store_from_it(path: Path) -> None:
    class Stubborn(CountingLLM):
        stubborn = False

        def forget(self) -> None:
            super().forget()
            if self.stubborn:
                raise LLMError("the device is gone")

    llm = Stubborn()
    erase = create(path, [*some(10), Example(50, "canary input", "yes")], llm=llm)
    llm.stubborn = True
    with pytest.raises(ScrubError, match=r"the removal is done, .* the device is gone") as caught:
        erase.forget(50)
    assert caught.value.report is not None
    assert caught.value.report.ids == [50]
    assert found(path, {"canary": b"canary"}) == {}
    before = llm.forgotten
    with pytest.raises(LLMError):
        erase.ask(QUERIES[0])
    assert llm.forgotten > before, "a prompt was sent to a model that still keeps the one before"
    llm.stubborn = False
    assert seen(erase) == fresh(some(10))
    llm.stubborn = True
    with pytest.raises(LLMError):
        erase.close()
    refused(erase.examples, StoreError, "closed")


@pytest.mark.parametrize("missing", ["count_tokens", "generate", "choose", "forget", "context_length"])
def test_a_language_model_that_lacks_something_is_refused_before_a_store_is_made(path: Path, missing: str) -> None:
    has = {
        "name": "some",
        "context_length": None,
        **dict.fromkeys(("count_tokens", "generate", "choose", "forget"), min),
    }
    llm = type("Model", (), {name: value for name, value in has.items() if name != missing})()
    refused(lambda: create(path, llm=llm), LLMError, missing, "some")
    refused(lambda: create(path, llm=CountingLLM), ParameterError, "CountingLLM(...)")
    assert not path.exists()
    create(path).close()
    refused(lambda: Erase.open(path, llm=llm), LLMError, missing)


# ---- the clustering ----
AXES = np.eye(3, DIM) - 0.25
SETTINGS: list[dict[str, Any]] = [{"seed": 2**64 - 1}, {"n_shots": 5}, {"epsilon": 0.03}, {"projection": 3}]


@pytest.mark.parametrize("settings", [{}, *SETTINGS, {"projection": AXES}], ids=str)
def test_the_model_is_that_of_the_settings(path: Path, settings: dict[str, Any]) -> None:
    examples, keywords = some(30), {"n_shots": 3, "epsilon": 1.0, "seed": 0, **settings}
    model = QKMeans(keywords.pop("n_shots"), max_norm=1.0, random_state=keywords.pop("seed"), **keywords)
    model.fit(WordEmbedder().embed([e.input for e in examples]), ids=list(range(30)))
    erase = create(path, some(40), **settings)
    erase.forget(range(30, 40))
    assert erase.status().digest == model.digest()
    assert erase.status().prompts == [[id_ for id_ in model.exemplars_ if id_ is not None]]


# ---- the embedder ----
class Bent(WordEmbedder):
    """An embedder whose vectors are bent into something else."""

    bend: Callable[[Vectors], Any] = staticmethod(lambda vectors: vectors)

    def embed(self, texts: Any, *, progress: bool = False) -> Any:
        return type(self).bend(super().embed(texts, progress=progress))


BENDS: dict[str, Callable[[Vectors], Any]] = {
    "narrow": lambda x: x[:, 1:],
    "fewer": lambda x: x[1:],
    "more": lambda x: np.vstack([x, x]),
    "flat": lambda x: x.ravel(),
    "deep": lambda x: x[:, :, None],
    "nan": lambda x: x * np.float32("nan"),
    "infinite": lambda x: x * np.float32("inf"),
    "long": lambda x: 2 * x,
    "none": lambda x: None,
    "texts": lambda x: [["a"] * DIM for _ in x],
    "ragged": lambda x: [[1.0], [1.0, 2.0]],
}


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("count", [0, 10], ids=["first", "later"])
def test_vectors_that_are_none_are_refused(path: Path, bend: str, count: int) -> None:
    class Wrong(Bent):
        pass

    erase = create(path, some(count), embedder=Wrong(), strategy="knn")
    before = seen(erase)
    Wrong.bend = staticmethod(BENDS[bend])
    with pytest.raises((EmbedderError, DataError)) as caught:
        erase.ingest(some(4, 50))
    assert "\n" not in str(caught.value)
    if count and bend != "long":
        with pytest.raises(EmbedderError):
            erase.prompt(QUERIES[0])
    Wrong.bend = staticmethod(lambda vectors: vectors)
    assert seen(erase) == before == seen_anew(path)


@pytest.mark.parametrize("kind", ["float64", "float16", "list", "fortran", "reversed", "read-only"])
def test_vectors_of_another_kind_are_those_that_are_stored(path: Path, kind: str) -> None:
    def bend(vectors: Vectors) -> Any:
        # Between two float32, where the lattice may tell one from the other.
        exact = vectors.astype(np.float64) * (1 - 3e-8)
        exact.flags.writeable = False
        kinds = {"float64": exact, "float16": exact.astype(np.float16), "list": exact.tolist()}
        kinds |= {"fortran": np.asfortranarray(exact), "reversed": exact[:, ::-1], "read-only": exact}
        return kinds[kind]

    class Other(Bent):
        pass

    Other.bend = staticmethod(bend)
    erase = create(path, some(2000), embedder=Other(), epsilon=0.001)
    erase.ingest(some(2000, 5000))
    erase.forget(range(5000, 6200))
    before = erase.verify()
    assert before.ok
    assert before.n_examples == 2800
    with Erase.open(path, embedder=Other(), llm=CountingLLM()) as again:
        assert (again.verify().digest, again.verify().ok) == (before.digest, True)


def test_the_embedder_sees_new_texts_and_queries_only(path: Path) -> None:
    embedder = WordEmbedder()
    erase = create(path, some(6), embedder=embedder, strategy="knn")
    erase.forget([1, 2])
    erase.verify()
    erase.prompt(QUERIES[0])
    check_refused(erase, lambda: erase.ingest([example(3)]), DuplicateIdError)
    assert [text for text in embedder.texts if text not in QUERIES] == [e.input for e in some(6)]


class Apart(WordEmbedder):
    """An embedder with a way of its own for queries."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []

    def embed_queries(self, texts: Any) -> Any:
        self.queries += texts
        return WordEmbedder().embed(texts)


def test_queries_are_embedded_as_queries_and_nothing_else_is(path: Path) -> None:
    embedder = Apart()
    with create(path, some(6), embedder=embedder, strategy="knn") as erase, create_plain(path) as plain:
        for query in QUERIES:
            assert erase.prompt(query) == plain.prompt(query)
            assert erase.ask(query).text == plain.ask(query).text
        assert set(embedder.queries) == set(QUERIES)
        assert embedder.texts == [e.input for e in some(6)]
        erase.verify(absent=["nothing of this"])  # the bits that would be stored are searched for
        assert embedder.texts[6:] == ["nothing of this"]
    with Erase.open(path, embedder=Apart(), llm=CountingLLM()) as again:
        assert again.demonstrations(QUERIES[0])


def create_plain(path: Path) -> Erase:
    """A store beside it, of the same examples, whose embedder has one way for all."""
    return create(path.with_name("plain"), some(6), strategy="knn")


class Overriding(Apart):
    """Its author knows of no other way: all texts are to be embedded by this."""

    def embed(self, texts: Any, *, progress: bool = False) -> Any:
        return super().embed(texts, progress=progress)


class Wrapping:
    """Passes on what it does not know."""

    def __init__(self, inner: WordEmbedder) -> None:
        self.inner = inner

    def embed(self, texts: Any, *, progress: bool = False) -> Any:
        return self.inner.embed(texts, progress=progress)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("kind", ["subclass", "wrapper", "object"])
def test_a_way_for_queries_that_was_not_meant_is_not_used(path: Path, kind: str) -> None:
    inner = Overriding() if kind == "subclass" else Apart()
    embedder: Any = Wrapping(inner) if kind == "wrapper" else inner
    if kind == "object":
        embed = inner.embed
        embedder.embed = lambda texts, *, progress=False: embed(texts, progress=progress)
    with create(path, some(6), embedder=embedder, strategy="knn") as erase:
        erase.prompt(QUERIES[0])
    assert inner.queries == []
    assert inner.texts[6:] == [QUERIES[0]]


@pytest.mark.parametrize("bend", ["narrow", "fewer", "flat", "nan", "infinite", "long", "none", "ragged"])
def test_vectors_of_queries_are_checked_as_those_of_examples_are(path: Path, bend: str) -> None:
    class Wrong(WordEmbedder):
        def embed_queries(self, texts: Any) -> Any:
            return BENDS[bend](self.embed(texts))

    with create(path, some(6), embedder=Wrong(), strategy="knn") as erase:
        words = ["embed_queries"] if bend in ("long", "ragged") else []
        refused(lambda: erase.demonstrations(QUERIES[0]), EmbedderError, "the embedding model words", *words)


def test_a_way_for_queries_that_takes_no_texts_is_refused_at_once(path: Path) -> None:
    class Wrong(WordEmbedder):
        def embed_queries(self) -> None: ...

    refused(lambda: create(path, embedder=Wrong()), EmbedderError, "words", "embed_queries(texts)")
    assert not path.exists()


def test_what_another_writes_during_the_embedding_is_noticed(path: Path) -> None:
    class Slow(WordEmbedder):
        def embed(self, texts: Any, *, progress: bool = False) -> Vectors:
            with reopened(path) as other:
                other.ingest([example(50)], on_forgotten="allow")
            return super().embed(texts, progress=progress)

    create(path, some(6)).close()
    with Erase.open(path, embedder=Slow(), llm=CountingLLM()) as slow:
        refused(lambda: slow.ingest(some(3, 49)), DuplicateIdError, "50")
        assert seen(slow) == seen_anew(path) == fresh([*some(6), example(50)])
        slow.forget(50)
        slow.ingest([{"input": "late parcel", "output": "yes"}])
        assert [e.id for e in slow.examples()] == [0, 1, 2, 3, 4, 5, 50, 51]


def test_of_neighbours_the_nearest_are_kept_where_not_all_fit(path: Path) -> None:
    llm = CountingLLM()
    erase = create(path, some(12), strategy="knn", n_shots=4, llm=llm)
    whole = erase.prompt("where is my parcel")
    assert len(whole.demonstrations) == 4
    llm.context_length = llm.count_tokens(whole) - 1 + 8
    erase.ask("where is my parcel", max_tokens=8)
    assert llm.prompts[-1].demonstrations == whole.demonstrations[1:]
