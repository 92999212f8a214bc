"""Audits of whole peers: exact peers meet their targets to the bit, and what only hides or does nothing does not."""

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
    PeerTokens,
    attack_with_shadows,
    audit,
    hard_forget_set,
    worst_removals,
)
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.llm import TransformersLLM
from fine_tuning import OPTIONS, TEMPLATE, adapted, examples, one_thread
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


def test_an_exact_peer_meets_its_targets_and_doing_nothing_does_not(tools: Tools) -> None:
    with one_thread():
        exact = audit(RETRAINED, tools, WORLD, CANARIES.inserted[:4], CANARIES.held_out[:4])
        idle = audit(IDLE, tools, WORLD, CANARIES.inserted[:4], CANARIES.held_out[:4], never=RETRAINED)
    for part in ("answer", "text"):
        for row in exact["membership"][part]:
            assert row["after"] == row["target"]
            assert row["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    by_name = {row["name"]: row for row in idle["membership"]["answer"]}
    assert by_name["loss"]["after"] == by_name["loss"]["before"]
    assert by_name["loss"]["difference"]["value"] > 0
    for kind in ("paraphrases", "probes"):
        assert all(row["after"] == row["never"] for row in exact[kind])
        assert all(row["after"] == row["before"] for row in idle[kind])
    # Without a change, the pair of models is of no use; with one it gives away what was learned by heart.
    assert idle["extraction"]["forgotten"]["guided"] == idle["extraction"]["forgotten"]["after_alone"]
    assert exact["extraction"]["forgotten"]["guided"] > exact["extraction"]["forgotten"]["after_alone"]
    assert exact["linear probe"]["after"] == exact["linear probe"]["never"]
    assert idle["linear probe"]["after"] == idle["linear probe"]["before"]
    text = json.dumps([exact, idle])
    assert not any(example.input in text for example in (*CANARIES.task.pool, *CANARIES.held_out))


def test_a_prompt_that_forgot_is_attacked_as_one_that_never_had_the_examples(tools: Tools) -> None:
    found = audit(PROMPTS["erase"], tools, WORLD, CANARIES.inserted[:2], CANARIES.held_out[:2])
    assert all(row["after"] == row["target"] for row in found["membership"]["answer"])
    assert all(row["after"] == row["never"] for row in found["paraphrases"])
    assert "linear probe" not in found


def test_prompts_are_read_with_what_they_show(tools: Tools) -> None:
    peer = PROMPTS["knn"].make(tools)
    peer.fit(WORLD)
    reader = PeerTokens(peer, tools, WORLD.task)
    asked = WORLD.task.examples(CANARIES.inserted[:1])

    def n_demonstrations() -> int:
        read = reader.tokens(asked[0])
        decoded = tools.llm._tokenizer.decode(read.tokens)
        # The nearest neighbour of a question that is there is the question itself, with its answer.
        return int(decoded.count(asked[0].input))

    before = reader.token_logprobs(asked)[0].lp
    assert n_demonstrations() == 2
    peer.forget(CANARIES.inserted[:1])
    assert n_demonstrations() == 1
    assert reader.token_logprobs(asked)[0].lp.tolist() != before.tolist()


def test_peers_without_a_readable_model_are_probed_only(tools: Tools) -> None:
    entry = next(each for each in classifiers.PEERS if each.name == "vote")
    found = audit(entry, tools, WORLD, CANARIES.inserted, CANARIES.held_out)
    assert set(found) == {"peer", "paraphrases", "probes"}
    peer = entry.make(tools)
    peer.fit(WORLD)
    with pytest.raises(ValueError, match="vote has no single model"):
        PeerTokens(peer, tools, WORLD.task).token_logprobs(WORLD.examples)


def test_shadow_worlds_find_what_was_memorised_until_it_is_forgotten(tools: Tools) -> None:
    pool = CANARIES.task.pool
    half = World(CANARIES.task, tuple(int(example.id) for example in pool[:9]), 3)  # 3 canaries are in it, 3 are not
    members = list(CANARIES.inserted[:3])
    with one_thread():
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
