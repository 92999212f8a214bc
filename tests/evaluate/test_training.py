"""Training is a function of examples, settings and seed, and goes down the gradient of the answers' loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from erase_core.errors import ParameterError
from erase_core.evaluate.adapters.adapted_model import AdaptedModel, Encoded, State, layer_of
from erase_core.evaluate.adapters.checkpoints import Checkpoints
from erase_core.evaluate.adapters.seta import SeTa
from erase_core.evaluate.adapters.training import Stage, TrainingSettings, answer_loss, train
from erase_core.evaluate.measures.cost import measured
from erase_core.libraries import torch_threads
from fine_tuning import TEMPLATE, adapted, examples, fill, same, world

EXAMPLES = examples(10)
SHORT = TrainingSettings(passes=1, batch=4)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AdaptedModel:
    return adapted(tmp_path_factory.mktemp("model"))


def trained(model: AdaptedModel, seed: int, settings: TrainingSettings = SHORT) -> State:
    model.reset(seed)
    train(model, EXAMPLES, TEMPLATE, seed, settings)
    return model.state()


def test_the_same_seed_gives_the_same_bits_and_another_does_not(model: AdaptedModel) -> None:
    assert same(trained(model, 1), trained(model, 1))
    assert not same(trained(model, 1), trained(model, 2))


def test_a_step_is_that_of_adamw_on_the_mean_loss_of_the_answers(model: AdaptedModel) -> None:
    """Against a loop that runs each example alone and takes one step over all, without packing."""
    settings = TrainingSettings(passes=1, batch=len(EXAMPLES), rate=1e-3)
    fill(model)
    before = model.state()
    train(model, EXAMPLES, TEMPLATE, 0, settings)
    found = model.state()
    model.load(before)
    encoded = [model.encode(each, TEMPLATE) for each in EXAMPLES]
    weights = model.parameters()
    with model.active():
        losses = []
        for each in encoded:
            log_p = model.network(input_ids=torch.tensor([each.tokens])).logits[0].log_softmax(1)
            places = range(each.n_prompt, len(each.tokens))
            losses.append(-sum(log_p[place - 1, each.tokens[place]] for place in places) / len(places))
        gradients = torch.autograd.grad(torch.stack(losses).mean(), list(weights.values()))
    for (name, weight), gradient in zip(before.items(), gradients, strict=True):
        # The first step of Adam: both moments are corrected to the gradient itself and its square.
        expected = weight - 1e-3 * gradient / (gradient.abs() + 1e-8)
        clear = gradient.abs() > 1e-5  # near zero, rounding decides the sign
        torch.testing.assert_close(found[name][clear], expected[clear], rtol=0, atol=2e-5)


def test_training_lowers_the_loss(model: AdaptedModel) -> None:
    batch = [model.encode(each, TEMPLATE) for each in EXAMPLES]
    model.reset(0)
    with model.active(), torch.no_grad():
        before = float(model.losses(batch).mean())
    train(model, EXAMPLES, TEMPLATE, 0, TrainingSettings(passes=5))
    with model.active(), torch.no_grad():
        assert float(model.losses(batch).mean()) < before - 0.1


@pytest.mark.parametrize("passes", [0.5, 1, 2.4, 3])
def test_each_pass_has_every_example_once_and_the_last_may_be_cut_short(model: AdaptedModel, passes: float) -> None:
    seen: list[Encoded] = []

    def counted(model: AdaptedModel, batch: Sequence[Encoded]) -> torch.Tensor:
        seen.extend(batch)
        return answer_loss(model, batch)

    train(model, EXAMPLES, TEMPLATE, 0, TrainingSettings(passes, batch=8), counted)
    assert len(seen) == round(passes * len(EXAMPLES))
    for start in range(0, len(seen), len(EXAMPLES)):
        assert max(Counter(seen[start : start + len(EXAMPLES)]).values()) == 1


def test_only_the_layers_of_a_stage_change(model: AdaptedModel) -> None:
    model.reset(0)
    before = model.state()
    Stage(EXAMPLES, 0, SHORT, (1,)).train(model, TEMPLATE)
    after = model.state()
    assert {layer_of(name) for name in after if not torch.equal(after[name], before[name])} == {1}
    with model.active():
        assert all(weight.requires_grad for weight in model.parameters().values())


@pytest.mark.parametrize("bad", [{"passes": 0}, {"batch": 0}, {"rate": -1.0}, {"passes": 1.5, "pruning": SeTa()}])
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="must be"):
        TrainingSettings(**bad)  # type: ignore[arg-type]


def test_pruning_needs_the_losses_of_examples(model: AdaptedModel) -> None:
    settings = TrainingSettings(passes=1, pruning=SeTa())
    with pytest.raises(ParameterError, match="pruning must have the loss of answers"):
        train(model, EXAMPLES, TEMPLATE, 0, settings, lambda model, batch: -answer_loss(model, batch))


# ---- checkpoints ----
def test_what_is_on_disk_is_not_trained_again_and_is_charged(
    model: AdaptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with measured() as first:
        state = Checkpoints(tmp_path).trained(model, world(), SHORT)
    fill(model)

    def refuse(*_: object) -> None:
        pytest.fail("trained again")

    monkeypatch.setattr("erase_core.evaluate.adapters.training.train", refuse)
    with measured() as second:
        again = Checkpoints(tmp_path).trained(model, world(), TrainingSettings(passes=1.0, batch=4))
    assert same(state, again)
    assert same(state, model.state())
    tokens = sum(len(model.encode(each, TEMPLATE).tokens) for each in world().examples)
    for cost in (first.cost, second.cost):
        assert (cost.tokens_forward, cost.tokens_backward) == (tokens, tokens)
    with pytest.raises(pytest.fail.Exception):  # another seed is trained
        Checkpoints(tmp_path).trained(model, world(seed=4), SHORT)


def test_two_processes_may_finish_the_same_training(
    model: AdaptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one finishes between the first one's writing of weights and its renaming of the file."""
    import safetensors.torch

    save = safetensors.torch.save_file

    def interrupted(state: State, file: Path) -> None:
        save(state, file)
        monkeypatch.setattr("safetensors.torch.save_file", save)
        Checkpoints(tmp_path).trained(model, world(), SHORT)

    monkeypatch.setattr("safetensors.torch.save_file", interrupted)
    state = Checkpoints(tmp_path).trained(model, world(), SHORT)
    assert same(Checkpoints(tmp_path).trained(model, world(), SHORT), state)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_stages_go_on_from_what_is_known(model: AdaptedModel, tmp_path: Path) -> None:
    stages = [Stage(EXAMPLES[:4], 0, SHORT), Stage(EXAMPLES, 1, SHORT), Stage(EXAMPLES[5:], 2, SHORT)]
    whole = Checkpoints(tmp_path / "a").stages(model, TEMPLATE, 7, stages)
    with measured() as meter:
        rest = Checkpoints(tmp_path / "b").stages(model, TEMPLATE, 7, stages, whole[:2])
    assert all(same(a, b) for a, b in zip(whole, rest, strict=True))
    assert same(model.state(), whole[2])
    assert meter.cost.tokens_backward == sum(len(model.encode(each, TEMPLATE).tokens) for each in EXAMPLES[5:])
    other = Checkpoints(tmp_path / "a").stages(model, TEMPLATE, 8, stages)
    assert not any(same(a, b) for a, b in zip(whole, other, strict=True))


def test_pruned_training_is_a_function_of_its_arguments_and_sees_fewer(model: AdaptedModel) -> None:
    settings = TrainingSettings(passes=4, batch=4, pruning=SeTa(keep=1.0, groups=4, window=1, until=0.75))
    assert same(trained(model, 1, settings), trained(model, 1, settings))
    model.reset(1)
    with measured() as pruned:
        train(model, EXAMPLES, TEMPLATE, 1, settings)
    with measured() as whole:
        train(model, EXAMPLES, TEMPLATE, 1, TrainingSettings(passes=4, batch=4))
    assert whole.cost.tokens_backward / 2 <= pruned.cost.tokens_backward < whole.cost.tokens_backward
    assert np.isfinite(pruned.cost.processor_seconds)
