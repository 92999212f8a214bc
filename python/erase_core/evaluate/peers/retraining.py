"""Fine-tuning that forgets by training again on the examples that are left: exact, and as dear as the first time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from erase_core.evaluate.adapters.adapted_model import State
from erase_core.evaluate.adapters.seta import SeTa
from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.peers.peer import Entry, Exactness, Tools
from erase_core.evaluate.tasks.task import Scores
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

__all__ = ["PEERS", "FineTuned", "examples_bytes", "state_bytes"]


def state_bytes(state: State) -> int:
    """Return the size of an adapter's weights."""
    return sum(weight.numel() * weight.element_size() for weight in state.values())


def examples_bytes(examples: Iterable[Example]) -> int:
    """Return the size of the texts of examples."""
    return sum(len(each.input.encode()) + len(each.output.encode()) for each in examples)


class FineTuned:
    """One LoRA adapter, trained on all examples.

    Parameters
    ----------
    tools : Tools
    settings : TrainingSettings or None, default=None
        None: the default ones.
    name : str, default="fine-tuned"
    """

    exactness: Exactness = "exact"

    def __init__(self, tools: Tools, settings: TrainingSettings | None = None, name: str = "fine-tuned") -> None:
        self.name = name
        self._model, self._checkpoints = tools.adapted, tools.checkpoints
        self._settings = settings or TrainingSettings()

    def fit(self, world: World) -> None:
        """Train the adapter on the examples of a world."""
        self.world = world
        self.state = self._checkpoints.trained(self._model, world, self._settings)

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the mean log-probability per token of each option, shape (n, k)."""
        self._model.load(self.state)
        with self._model.active():
            return self._model.scores(questions, self.world.task.options, self.world.task.template)

    def forget(self, ids: Collection[int]) -> None:
        """Train a new adapter on the other examples."""
        survivors = self.world.without(ids)
        if survivors != self.world:
            self.fit(survivors)

    def kept_bytes(self) -> int:
        """Return the size of the adapter, and of the examples, which have to be kept for training again."""
        return state_bytes(self.state) + examples_bytes(self.world.examples)


PEERS = [
    Entry("fine-tuned", FineTuned, "Hu et al., LoRA, ICLR 2022; forgets by training again", "exact", "fine-tuning"),
    Entry(
        "fine-tuned-seta",
        lambda tools: FineTuned(tools, TrainingSettings(passes=6, pruning=SeTa()), "fine-tuned-seta"),
        "Zhou, Gao and Wang, SeTa, CVPR 2025, in the trainer; forgets by training again",
        "exact",
        "fine-tuning",
        "Losses are grouped by quantised k-means. As in the authors' code, the first pass has all groups.",
    ),
]
