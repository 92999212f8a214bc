"""The learned ranker: its gradient, what reverse BPR does to forgotten examples, and the peer around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from erase_core.evaluate.peers import ranker
from erase_core.evaluate.peers.peer import Tools
from erase_core.evaluate.peers.prompts import N_SHOTS
from erase_core.evaluate.peers.ranker import BilinearRanker, RankedSelection, RankerPeer, bpr_gradient
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Template
from numpy.typing import NDArray
from small_stores import WordEmbedder

Floats = NDArray[np.float64]


def bpr_loss(W: Floats, Q: Floats, higher: Floats, lower: Floats) -> float:
    """The mean of -ln sigmoid(q^T W h - q^T W l), term by term."""
    return float(np.mean([-np.log(1 / (1 + np.exp(-(q @ W @ h - q @ W @ l)))) for q, h, l in zip(Q, higher, lower)]))  # noqa: B905, E741


def test_gradient_is_that_of_finite_differences() -> None:
    draws = np.random.default_rng(0)
    W, Q, higher, lower = draws.normal(size=(4, 4)), *draws.normal(size=(3, 5, 4))
    found = bpr_gradient(W, Q, higher, lower)
    for i in range(4):
        for j in range(4):
            step = np.zeros((4, 4))
            step[i, j] = 1e-5
            slope = (bpr_loss(W + step, Q, higher, lower) - bpr_loss(W - step, Q, higher, lower)) / 2e-5
            assert found[i, j] == pytest.approx(slope, abs=1e-7)


def test_a_step_raises_what_was_liked_and_the_reverse_lowers_it() -> None:
    draws = np.random.default_rng(1)
    W, (q, liked, other) = np.eye(6), draws.normal(size=(3, 1, 6))

    def ahead(weights: Floats) -> float:
        return float(q[0] @ weights @ (liked - other)[0])

    assert ahead(W - 0.1 * bpr_gradient(W, q, liked, other)) > ahead(W)
    assert ahead(W - 0.1 * bpr_gradient(W, q, other, liked)) < ahead(W)


def test_gradient_does_not_overflow() -> None:
    big = np.full((1, 2), 1e3)
    assert bpr_gradient(np.eye(2), big, big, -big).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert np.isfinite(bpr_gradient(np.eye(2), big, -big, big)).all()


def groups(n: int = 90, dim: int = 48) -> tuple[Floats, NDArray[np.int64]]:
    draws = np.random.default_rng(2)
    labels = np.arange(n) % 3
    made = draws.normal(size=(3, dim))[labels] + 1.6 * draws.normal(size=(n, dim))
    return made / np.linalg.norm(made, axis=1)[:, None], labels


def ranks(model: BilinearRanker, place: int) -> Floats:
    """The rank of an item for each question of the same answer, 0 for the first."""
    order = np.argsort(np.argsort(-model.scores(model.X), axis=1), axis=1)
    same = (model.labels == model.labels[place]) & (np.arange(len(model.X)) != place)
    return np.asarray(order[same, place], dtype=np.float64)


def test_fitting_ranks_items_with_the_same_answer_first() -> None:
    X, labels = groups()
    model = BilinearRanker(X, labels, 0)

    def precision() -> float:
        first = np.argsort(-model.scores(X), axis=1)[:, :10]
        return float((labels[first] == labels[:, None]).mean())

    before = precision()
    model.fit()
    assert precision() > before + 0.05


def test_forgotten_items_fall_below_the_median_rank_and_others_stay() -> None:
    X, labels = groups()
    model = BilinearRanker(X, labels, 0)
    model.fit()
    gone = [4, 31, 77]
    assert all(np.median(ranks(model, place)) < 45 for place in gone)
    model.unlearn(gone)
    assert all(np.median(ranks(model, place)) > 45 for place in gone)
    kept = [place for place in range(90) if place not in gone]
    assert np.mean([np.median(ranks(model, place)) for place in kept]) < 40


def test_fits_are_functions_of_the_seed() -> None:
    X, labels = groups()
    fitted = []
    for seed in (0, 0, 1):
        model = BilinearRanker(X, labels, seed)
        model.fit()
        fitted.append(model.W)
    assert fitted[0].tobytes() == fitted[1].tobytes()
    assert fitted[0].tobytes() != fitted[2].tobytes()


def test_unlearning_is_not_exact() -> None:
    """What the entry says: W keeps the influence of what was forgotten."""
    (entry,) = ranker.PEERS
    assert entry.exactness == "approximate"
    X, labels = groups()
    labels_of = dict(enumerate(labels.tolist()))
    selection, fresh = RankedSelection(4, labels_of), RankedSelection(4, labels_of)
    selection.fit(range(90), X.astype(np.float32), 0)
    selection.remove([5])
    fresh.fit([i for i in range(90) if i != 5], np.delete(X, 5, axis=0).astype(np.float32), 0)
    assert selection.ids == fresh.ids
    assert selection.ranker.X.tobytes() == fresh.ranker.X.tobytes()
    assert selection.ranker.W.tobytes() != fresh.ranker.W.tobytes()


# ---- the peer ----
WORDS = ("parcel", "refund", "invoice", "broken", "late", "colour")
OPTIONS = ("yes", "no")


def made_task() -> Task:
    draws = np.random.default_rng(0)
    every = [Example(i, f"{' '.join(draws.choice(WORDS, 3))} {i}", OPTIONS[i % 2]) for i in range(24)]
    return Task("some", tuple(every[:20]), tuple(every[20:]), OPTIONS, Template())


TASK = made_task()


@pytest.fixture
def peer(small: TransformersLLM) -> RankerPeer:
    unused: Any = None
    (entry,) = ranker.PEERS
    made = entry.make(Tools(small, WordEmbedder(), unused, unused))
    assert isinstance(made, RankerPeer)
    return made


def test_peer_shows_what_the_ranker_puts_first_and_never_what_was_forgotten(peer: RankerPeer) -> None:
    peer.fit(World(TASK, tuple(range(20)), 3))
    shown = peer.shown(TASK.test)
    assert all(len(ids) == len(set(ids)) == N_SHOTS for ids in shown)
    assert peer.scores(TASK.test).shape == (4, 2)
    gone = set(shown[0][-2:]) | {99}
    peer.forget(gone)
    peer.forget(gone)
    assert not gone & {id_ for ids in peer.shown(TASK.test) for id_ in ids}
    assert np.isfinite(peer.scores(TASK.test)).all()
    assert peer.kept_bytes() > 0


def test_peer_can_forget_everything(peer: RankerPeer) -> None:
    peer.fit(World(TASK, tuple(range(20)), 3))
    peer.forget(range(20))
    assert peer.shown(TASK.test) == [()] * 4
    assert np.isfinite(peer.scores(TASK.test)).all()
