"""The frame of the peers that unlearn approximately: a fitted adapter, and a rule that changes it at each request.

Each rule is a frozen dataclass of its hyperparameters, in a file of its own. Every rule starts from the adapter that
fine-tuning gives (`Checkpoints.trained`). A request that names no example of the world changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch

from erase_core.evaluate.adapters.adapted_model import AdaptedModel, Encoded, State
from erase_core.evaluate.adapters.training import TrainingSettings, train
from erase_core.evaluate.peers.peer import Entry, Exactness, Tools
from erase_core.evaluate.peers.retraining import examples_bytes, state_bytes
from erase_core.evaluate.tasks.task import Scores, Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

__all__ = ["Objective", "Removal", "Rule", "Steps", "Unlearner", "descend", "entry", "gradients"]


@dataclass(frozen=True)
class Removal:
    """A request: what is to be forgotten, and all that a rule may use for it.

    Parameters
    ----------
    model : AdaptedModel
        Has the adapter as it was before the request, switched off. The rule changes its weights.
    task : Task
    forgotten, retained : tuple of Example
    seed : int
        Of all that the rule draws.
    kept : mapping from str to Tensor
        What `Rule.prepare` returned.
    """

    model: AdaptedModel
    task: Task
    forgotten: tuple[Example, ...]
    retained: tuple[Example, ...]
    seed: int
    kept: Mapping[str, torch.Tensor]

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Return the tokens of examples."""
        return [self.model.encode(example, self.task.template) for example in examples]

    def losses(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the mean negative log-probability per token of each answer, shape (n,)."""
        return self.model.losses(self.encode(examples))

    def mean_loss(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the mean of the losses of some examples, 0 for none."""
        return self.losses(examples).mean() if examples else torch.zeros(())

    def log_probabilities(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the log-probability of each whole answer, shape (n,)."""
        encoded = self.encode(examples)
        lengths = torch.tensor([len(each.tokens) - each.n_prompt for each in encoded])
        return -self.model.losses(encoded) * lengths


@dataclass(frozen=True)
class Rule:
    """How a request changes the model. Its fields are the hyperparameters."""

    def fitted(self, tools: Tools, world: World, training: TrainingSettings) -> State:
        """Return the adapter that unlearning starts from, and load it."""
        return tools.checkpoints.trained(tools.adapted, world, training)

    def prepare(self, fitted: Removal) -> dict[str, torch.Tensor]:
        """Return what is computed once after fitting and kept for requests. `fitted` forgets nothing."""
        return {}

    def weights(self, names: Iterable[str]) -> list[str]:
        """Return the names of the weights that the rule changes beside the adapter, of all in the network."""
        return []

    def __call__(self, removal: Removal) -> None:
        """Change the model's weights so that it forgets."""
        raise NotImplementedError

    def grid(self) -> list[Self]:
        """Return the rules to choose from in `tune`, this one among them. They differ in what requests use only."""
        return [self]


class Unlearner:
    """A peer that is fine-tuned, and that forgets by a rule.

    Parameters
    ----------
    tools : Tools
    name : str
    rule : Rule
    training : TrainingSettings or None, default=None
        Of the adapter that unlearning starts from.
    """

    exactness: Exactness = "approximate"

    def __init__(self, tools: Tools, name: str, rule: Rule, training: TrainingSettings | None = None) -> None:
        self.name = name
        self.rule = rule
        self.tools = tools
        self.training = training or TrainingSettings()
        self._kept: dict[str, torch.Tensor] = {}

    def fit(self, world: World) -> None:
        """Adapt to the examples of a world. What was fitted before is dropped."""
        self._first = world
        self._fitted = self.rule.fitted(self.tools, world, self.training)
        self.reset()
        self._kept = self.rule.prepare(self._removal(()))

    def reset(self) -> None:
        """Go back to the state after fitting."""
        self._world, self._state, self._requests = self._first, self._fitted, 0
        self._weights: State = {}

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the mean log-probability per token of each option, shape (n, k)."""
        task = self._world.task
        with self.loaded(), self.tools.adapted.active():
            return self.tools.adapted.scores(questions, task.options, task.template)

    def forget(self, ids: Collection[int]) -> None:
        """Unlearn examples by the rule."""
        forgotten = [example for example in self._world.examples if example.id in set(ids)]
        if not forgotten:
            return
        with self.loaded():
            self.rule(self._removal(forgotten))
            self._state = self.tools.adapted.state()
            weights = dict(self.tools.adapted.network.named_parameters())
            self._weights = {name: weights[name].detach().clone() for name in self.rule.weights(weights)}
        self._requests += 1
        self._world = self._world.without(ids)

    def kept_bytes(self) -> int:
        """Return the size of the adapter, of what the rule keeps, and of the examples, which later requests use."""
        return examples_bytes(self._world.examples) + sum(map(state_bytes, (self._state, self._weights, self._kept)))

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Have this peer's weights in the shared network within this context."""
        weights = dict(self.tools.adapted.network.named_parameters())
        shared = {name: weights[name].detach().clone() for name in self.rule.weights(weights)}
        self.tools.adapted.load(self._state)
        try:
            _copy(weights, self._weights)
            yield
        finally:
            _copy(weights, shared)

    def _removal(self, forgotten: Sequence[Example]) -> Removal:
        rest = self._world.without([int(example.id) for example in forgotten])
        seed = int(np.random.SeedSequence([self._world.seed, self._requests]).generate_state(1)[0])
        return Removal(self.tools.adapted, rest.task, tuple(forgotten), tuple(rest.examples), seed, self._kept)


def _copy(weights: Mapping[str, torch.Tensor], values: State) -> None:
    with torch.no_grad():
        for name, value in values.items():
            weights[name].copy_(value)


# Takes some of the forgotten and as many of the retained examples (fewer if there are not as many).
Objective = Callable[[Sequence[Example], Sequence[Example]], torch.Tensor]


def descend(removal: Removal, objective: Objective, settings: TrainingSettings, seed: int) -> None:
    """Make steps on an objective: passes over the forgotten examples, each batch with as many retained ones.

    Pairing a batch with a random one of the retained examples is what open-unlearning does.
    """
    examples = dict(zip(removal.encode(removal.forgotten), removal.forgotten, strict=True))
    draws = np.random.default_rng([seed, 1])

    def loss(_: AdaptedModel, batch: Sequence[Encoded]) -> torch.Tensor:
        others = draws.permutation(len(removal.retained))[: len(batch)]
        return objective([examples[each] for each in batch], [removal.retained[i] for i in others])

    train(removal.model, removal.forgotten, removal.task.template, seed, settings, loss)


@dataclass(frozen=True)
class Steps(Rule):
    """A rule that makes steps of AdamW on an objective.

    Parameters
    ----------
    passes : int, default=5
        Over the forgotten examples.
    batch : int, default=8
        Forgotten examples of a step.
    rate : float, default=3e-4
    """

    passes: int = 5
    batch: int = 8
    rate: float = 3e-4

    def objective(self, removal: Removal) -> Objective:
        """Return what is minimised."""
        raise NotImplementedError

    def __call__(self, removal: Removal) -> None:
        """Make the steps."""
        descend(removal, self.objective(removal), self.settings, removal.seed)

    @property
    def settings(self) -> TrainingSettings:
        """The steps as settings of a training."""
        return TrainingSettings(self.passes, self.batch, self.rate)

    def grid(self) -> list[Self]:
        """Return rules with a third and three times the rate, and with one pass and all passes."""
        return [
            replace(self, rate=self.rate * factor, passes=passes)
            for factor in (1 / 3, 1, 3)
            for passes in sorted({1, self.passes})
        ]


def gradients(
    removal: Removal, examples: Sequence[Example], output: Callable[[Example], torch.Tensor] | None = None
) -> Iterator[State]:
    """Yield for each example the gradient of its loss, or of another output, by the adapter's weights."""
    weights = removal.model.parameters()
    with removal.model.active():
        for example in examples:
            value = removal.losses([example])[0] if output is None else output(example)
            made = torch.autograd.grad(value, list(weights.values()))
            yield dict(zip(weights, made, strict=True))


def entry(
    name: str, rule: Rule, source: str, not_reproduced: str, exactness: Literal["approximate", "hides"] = "approximate"
) -> Entry:
    """Return the entry of a peer that forgets by a rule."""
    return Entry(
        name, lambda tools: Unlearner(tools, name, rule), source, exactness, "fine-tuning", not_reproduced, "fine-tuned"
    )
