"""What an adversary can do to whole peers, and how attacks read them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from erase_core.evaluate.adapters.checkpoints import Checkpoints
from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.attacks.canaries import with_canaries
from erase_core.evaluate.peers import classifiers, prompts
from erase_core.evaluate.peers.peer import Entry, Tools
from erase_core.evaluate.peers.retraining import FineTuned
from erase_core.evaluate.running.adversaries import (
    attack_with_shadows,
    hard_forget_set,
    worst_removals,
)
from erase_core.evaluate.running.peer_tokens import reading
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.libraries import torch_threads
from erase_core.llm import TransformersLLM
from fine_tuning import OPTIONS, TEMPLATE, adapted, examples
from small_stores import WordEmbedder

PROMPTS = {entry.name: entry for entry in prompts.PEERS}
SETTINGS = TrainingSettings(passes=40, rate=2e-2)
CANARIES = with_canaries(Task("cold", examples(6), (), OPTIONS, TEMPLATE), 6, seed=0, n_words=2)
WORLD = World(CANARIES.task, tuple(int(example.id) for example in CANARIES.task.pool), 3)


class DoesNothing(FineTuned):
    """Ignores requests."""

    def forget(self, ids: object) -> None:
        """Do nothing."""


def tuned(kind: type[FineTuned], name: str) -> Entry:
    return Entry(name, lambda tools: kind(tools, SETTINGS, name), "", "exact", "fine-tuning")


RETRAINED, IDLE = tuned(FineTuned, "fine-tuned"), tuned(DoesNothing, "do-nothing")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    folder = tmp_path_factory.mktemp("audits")
    model = adapted(folder / "model")
    return Tools(model.llm, WordEmbedder(), model, Checkpoints(folder / "checkpoints"))


def test_prompts_are_read_with_what_they_show(tools: Tools) -> None:
    peer = PROMPTS["knn"].make(tools)
    peer.fit(WORLD)
    (asked,) = WORLD.task.examples(CANARIES.inserted[:1])

    def seen() -> tuple[int, list[float]]:
        # The nearest neighbour of a question is itself, while it is there.
        with reading(peer, tools, WORLD.task) as reader:
            assert reader is not None
            text = tools.llm._tokenizer.decode(reader.tokens(asked).tokens)
            return int(text.count(asked.input)), reader.token_logprobs([asked])[0].lp.tolist()

    n_before, before = seen()
    peer.forget(CANARIES.inserted[:1])
    n_after, after = seen()
    assert (n_before, n_after) == (2, 1)
    assert before != after


def test_peers_without_one_model_are_not_read(tools: Tools) -> None:
    peer = next(each for each in classifiers.PEERS if each.name == "vote").make(tools)
    peer.fit(WORLD)
    with reading(peer, tools, WORLD.task) as reader:
        assert reader is None


def test_shadow_worlds_find_what_was_memorised_until_it_is_forgotten(tools: Tools) -> None:
    pool = CANARIES.task.pool
    half = World(CANARIES.task, tuple(int(example.id) for example in pool[:9]), 3)  # 3 canaries are in it, 3 are not
    members = list(CANARIES.inserted[:3])
    with torch_threads(1):
        found = attack_with_shadows(RETRAINED, tools, half, members)
        idle = attack_with_shadows(IDLE, tools, half, members, never=RETRAINED)
    assert found.name == "LiRA, 4 shadow worlds"
    assert found.after == found.target
    assert idle.after == idle.before == found.before
    assert found.before.value > found.target.value


def test_hard_forget_set_is_of_the_world_and_beside_random_ones(tools: Tools) -> None:
    found = hard_forget_set(tools, WORLD, 3, settings=SETTINGS, n_candidates=10, steps=5, n_random=3)
    assert len(set(found["ids"])) == 3
    assert set(found["ids"]) <= set(WORLD.ids)
    assert len(found["random"]) == 3
    assert found["loss"] <= np.mean(found["random"])
    assert found["ids"] == hard_forget_set(tools, WORLD, 3, settings=SETTINGS, n_candidates=10, steps=5)["ids"]


def test_worst_removals_have_a_row_for_each_strategy_and_kind(small: TransformersLLM) -> None:
    rows = worst_removals(Tools(small, WordEmbedder(), None, None), WORLD, n_random=5)  # type: ignore[arg-type]
    assert {row["strategy"] for row in rows} == {"kmeans", "routed"}
    for row in rows:
        assert row["mean_work"] <= row["worst_work"]
        assert sum(row["paths"].values()) == row["requests"]
    assert {row["kind"] for row in rows} >= {"any row", "seed", "exemplar", "all rows of a cluster"}
    json.dumps(rows)
