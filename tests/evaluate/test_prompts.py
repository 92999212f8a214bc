"""Peers that show examples, and classifiers: after a removal each is what a fit without the examples gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from erase_core.calls.calibrating import CONTENT_FREE
from erase_core.evaluate.measures.cost import measured
from erase_core.evaluate.peers import classifiers, prompts
from erase_core.evaluate.peers.classifiers import ClassifierPeer
from erase_core.evaluate.peers.peer import Entry, Tools, cool
from erase_core.evaluate.peers.prompts import N_SHOTS, PromptPeer
from erase_core.evaluate.peers.selections import AutoCoTSelection, LeakingSelection, StoreSelection
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from small_stores import WordEmbedder

NOUNS = ("parcel", "refund", "invoice", "broken", "late", "colour", "size", "address")
OPTIONS = ("yes", "no", "perhaps")
PROMPTS = {entry.name: entry for entry in prompts.PEERS}
EVERY = {**PROMPTS, **{entry.name: entry for entry in classifiers.PEERS}}
EXACT = [name for name, entry in EVERY.items() if entry.exactness == "exact"]


def some_task(n: int = 40, n_test: int = 4) -> Task:
    draws = np.random.default_rng(0)
    made = [Example(i, f"{' '.join(draws.choice(NOUNS, 3))} {i}", OPTIONS[i % len(OPTIONS)]) for i in range(n + n_test)]
    return Task("some", tuple(made[:n]), tuple(made[n:]), OPTIONS, Template())


TASK = some_task()


@pytest.fixture
def tools(small: TransformersLLM) -> Tools:
    unused: Any = None
    return Tools(small, WordEmbedder(), unused, unused)


def made(entry: Entry, tools: Tools) -> PromptPeer:
    peer = entry.make(tools)
    assert isinstance(peer, PromptPeer)
    return peer


def world(n: int = 40, seed: int = 0) -> World:
    return World(TASK, tuple(range(n)), seed)


def some_shown(peer: PromptPeer) -> set[int]:
    return {id_ for ids in peer.shown(TASK.test) for id_ in ids}


# ---- exactness ----
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("gone", [(3,), (0, 1, 2, 5, 8, 13, 21, 34), tuple(range(38)), tuple(range(40))], ids=len)
def test_after_a_removal_scores_are_those_of_a_fit_without_the_examples(
    name: str, gone: tuple[int, ...], tools: Tools
) -> None:
    peer, fresh = EVERY[name].make(tools), EVERY[name].make(tools)
    assert peer.exactness == EVERY[name].exactness == "exact"
    peer.fit(world())
    peer.scores(TASK.test)  # what is kept of it must not matter
    if isinstance(peer, PromptPeer):
        gone = tuple({*gone, *list(some_shown(peer))[:1]})
    peer.forget(gone[:1])
    peer.forget(gone)  # some of them a second time
    scores = peer.scores(TASK.test)
    fresh.fit(world().without(gone))
    assert scores.shape == (len(TASK.test), len(OPTIONS))
    assert np.isfinite(scores).all()
    assert scores.tolist() == fresh.scores(TASK.test).tolist()
    if isinstance(peer, PromptPeer) and isinstance(fresh, PromptPeer):
        assert peer.prompts() == fresh.prompts()
        assert not some_shown(peer) & set(gone)


@pytest.mark.parametrize("name", ["erase", "routed", "windows", "knn"])
def test_after_a_removal_the_clustering_is_that_of_a_fit_without_the_examples(name: str, tools: Tools) -> None:
    peer, fresh = made(PROMPTS[name], tools), made(PROMPTS[name], tools)
    peer.fit(world())
    peer.forget([1, 4, 7])
    fresh.fit(world().without([1, 4, 7]))
    ours, theirs = peer._selection, fresh._selection
    assert isinstance(ours, StoreSelection)
    assert isinstance(theirs, StoreSelection)
    assert ours._clustering.digest() == theirs._clustering.digest()


def test_nearest_means_keep_the_sums_of_a_fit_without_the_examples(tools: Tools) -> None:
    peer, fresh = (EVERY["nearest-mean"].make(tools) for _ in range(2))
    assert isinstance(peer, ClassifierPeer)
    assert isinstance(fresh, ClassifierPeer)
    peer.fit(world())
    for id_ in (5, 0, 17):
        peer.forget([id_])
    fresh.fit(world().without([0, 5, 17]))
    for ours, theirs in zip(_sums(peer), _sums(fresh), strict=True):
        assert ours.tolist() == theirs.tolist()


def _sums(peer: ClassifierPeer) -> tuple[Any, Any]:
    classifier = peer._classifier
    assert isinstance(classifier, classifiers.NearestMean)
    return classifier._sums, classifier._counts


def test_the_reduced_space_leaks(tools: Tools) -> None:
    """Its prompt after a removal shows the removed examples' work, until it is fitted again."""
    assert PROMPTS["umap"].exactness == "leaks"
    differ = 0
    for seed in range(5):
        peer, fresh = made(PROMPTS["umap"], tools), made(PROMPTS["umap"], tools)
        assert peer.exactness == "leaks"
        peer.fit(world(seed=seed))
        gone = sorted(some_shown(peer))[:4]
        peer.forget(gone)
        fresh.fit(world(seed=seed).without(gone))
        assert not some_shown(peer) & set(gone)  # what it shows is clean, where it is chosen from is not
        ours, theirs = peer._selection, fresh._selection
        assert isinstance(ours, LeakingSelection)
        assert isinstance(theirs, LeakingSelection)
        assert ours._clustering.digest() != theirs._clustering.digest()
        differ += peer.prompts() != fresh.prompts()
        peer.fit(world(seed=seed).without(gone))
        assert peer.prompts() == fresh.prompts()
    assert differ


# ---- what is shown ----
def test_erase_shows_the_exemplars_of_the_products_clustering(tools: Tools) -> None:
    from erase_core import QKMeans

    peer = made(PROMPTS["erase"], tools)
    peer.fit(world(seed=7))
    X = tools.embedder.embed([e.input for e in TASK.pool])
    exemplars = QKMeans(N_SHOTS, max_norm=1.0, random_state=7).fit(X, ids=range(40)).exemplars_
    assert peer.prompts() == [tuple(id_ for id_ in exemplars if id_ is not None)]


def test_knn_shows_the_nearest_last(tools: Tools) -> None:
    X, Q = (tools.embedder.embed([e.input for e in part]) for part in (TASK.pool, TASK.test))
    wanted = [tuple(np.argsort(-(X @ q))[:N_SHOTS][::-1].tolist()) for q in Q]
    for name in ("knn", "windows"):
        peer = made(PROMPTS[name], tools)
        peer.fit(world())
        assert peer.shown(TASK.test) == wanted
        assert peer.prompts() == []


def test_auto_cot_shows_the_example_nearest_to_each_centre(tools: Tools) -> None:
    """On groups so far apart that k-means can only find them, it is the one in the middle of each."""
    groups = np.eye(N_SHOTS)
    offsets = np.array([[0.0] * N_SHOTS, [0.02] + [0.0] * (N_SHOTS - 1), [-0.02] + [0.0] * (N_SHOTS - 1)])
    X = np.concatenate([group + offsets for group in groups]).astype(np.float32)
    selection = AutoCoTSelection(N_SHOTS)
    selection.fit(range(len(X)), X, 0)
    assert set(selection.prompts()[0]) == set(range(0, len(X), 3))


def test_none_and_random(tools: Tools) -> None:
    none, random = made(PROMPTS["none"], tools), made(PROMPTS["random"], tools)
    none.fit(world())
    assert none.prompts() == [()]
    drawn = []
    for seed in range(4):
        random.fit(world(seed=seed))
        drawn.append(random.prompts()[0])
        unseen = next(i for i in range(40) if i not in drawn[-1])
        random.forget([unseen])
        assert random.prompts() == [drawn[-1]]  # an example that is not shown changes nothing
    assert len(set(drawn)) == 4
    assert all(len(set(ids)) == N_SHOTS for ids in drawn)


def test_scores_are_calibrated_as_the_product_does(tools: Tools) -> None:
    calibrated, plain = made(PROMPTS["erase"], tools), made(PROMPTS["erase-uncalibrated"], tools)
    calibrated.fit(world())
    plain.fit(world())
    shown = tuple(TASK.pool[id_] for id_ in plain.prompts()[0])
    free = np.array(
        [
            [tools.llm.choose(Prompt(Template(), shown, text), OPTIONS).scores[option] for option in OPTIONS]
            for text in CONTENT_FREE
        ]
    )
    prior = np.log(np.exp(free).mean(axis=0))
    assert np.allclose(calibrated.scores(TASK.test), plain.scores(TASK.test) - prior, atol=1e-6)


# ---- cold and warm ----
def tokens(call: Callable[[], object]) -> int:
    with measured() as meter:
        call()
    return meter.cost.tokens_forward


@pytest.mark.parametrize("name", ["erase", "erase-uncalibrated", "random", "auto-cot", "routed"])
def test_shared_prompts_are_warm_after_a_fit_and_after_a_removal(name: str, tools: Tools) -> None:
    peer = made(PROMPTS[name], tools)
    fit = tokens(lambda: peer.fit(world()))

    def query() -> int:
        return tokens(lambda: peer.scores(TASK.test[:1]))

    warm = query()
    assert warm == query() < fit
    cool(peer, tools)
    assert warm < query()
    assert warm == query()
    shown = peer.shown(TASK.test[:1])[0][0]
    assert tokens(lambda: peer.forget([shown])) > 0  # the prompt that changed is read
    assert query() == query()
    unseen = next(i for i in range(40) if not any(i in ids for ids in peer.prompts()))
    before = peer.prompts()
    spent = tokens(lambda: peer.forget([unseen]))
    assert (spent == 0) == (peer.prompts() == before)


def test_windows_are_read_by_the_fit_and_none_is_read_after_a_removal(tools: Tools) -> None:
    peer = made(PROMPTS["windows"], tools)

    def query() -> int:
        return tokens(lambda: peer.scores(TASK.test[:1]))

    def fit_and_query() -> tuple[int, int]:
        return tokens(lambda: peer.fit(world())), query()

    fit, warm = fit_and_query()
    assert 0 < warm == query() < fit
    cool(peer, tools)
    assert warm < query()
    assert warm == query()
    cool(peer, tools)
    assert isinstance(peer, PromptPeer)
    assert tokens(peer.warm) == fit
    near = peer.shown(TASK.test[:1])[0]
    assert tokens(lambda: peer.forget([near[-1]])) == 0
    assert query() == query()  # the neighbour in its place has been read, too
    assert peer.kept_bytes() > 0


def test_nothing_of_a_forgotten_example_is_kept(tools: Tools) -> None:
    peer = made(PROMPTS["erase"], tools)
    peer.fit(world())
    (shown,) = peer.prompts()
    before = peer.kept_bytes()
    assert before > tools.llm._memory.n_bytes > 0
    peer.forget(shown)
    kept_ids = {id_ for kept in tools.llm._memory._kept.values() for id_ in kept.ids}
    assert not kept_ids & set(shown)
    assert not [key for key in peer._priors._kept if set(key[0]) & set(shown)]
    peer.forget(range(40))
    assert peer.prompts() == [()]
    assert peer.kept_bytes() < before


# ---- embedding ----
def test_vectors_of_examples_are_computed_once_and_paid_each_time(tools: Tools) -> None:
    texts = [e.input for e in TASK.pool]
    embedder: Any = tools.embedder
    with measured() as first:
        X = tools.vectors(texts)
    with measured() as second:
        again = tools.vectors(texts[::-1])
    assert X.tolist() == again[::-1].tolist()
    assert len(embedder.texts) == len(texts)
    assert second.cost.wall_seconds >= first.cost.wall_seconds / 2
    assert tools.vectors([]).shape == (0, embedder.dim)
