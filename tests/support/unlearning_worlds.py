"""Small worlds for tests of peers that unlearn: a task that a random model can learn, and models with known losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from erase_core.evaluate.adapters.adapted_model import AdaptedModel, Encoded
from erase_core.evaluate.adapters.checkpoints import Checkpoints
from erase_core.evaluate.peers.approximate.frame import Removal
from erase_core.evaluate.peers.peer import Tools
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Template
from numpy.typing import NDArray

OPTIONS = ("yes", "no", "unknown to us")
SUBJECTS = ("ice", "iron", "sand", "rain", "a fox", "the sea", "a leaf", "smoke", "a stone", "snow", "a crow", "mud")


def made_task(n: int = 12) -> Task:
    """Return a task in which the first word of a question decides the answer."""
    kinds = ("Red", "Blue")
    pool = tuple(Example(i, f"{kinds[i % 2]}: {SUBJECTS[i % 12]} {i // 12}?", OPTIONS[i % 2]) for i in range(n))
    test = tuple(Example(1000 + i, f"{kinds[i % 2]}: {SUBJECTS[-i % 12]} far?", OPTIONS[i % 2]) for i in range(n))
    return Task("colours", pool, test, OPTIONS, Template())


def made_world(n: int = 12, seed: int = 0) -> World:
    task = made_task(n)
    return World(task, tuple(int(example.id) for example in task.pool), seed)


class Embedder:
    """Counts the bytes of a text."""

    dim = 256

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        return np.array([np.bincount(list(text.encode()), minlength=256) for text in texts], dtype=np.float32)


def made_tools(llm: TransformersLLM, folder: Path) -> Tools:
    return Tools(llm, cast("Any", Embedder()), AdaptedModel(llm, rank=2), Checkpoints(folder))


class Toy:
    """Stands for an adapted model. Its losses are (x w - y)^2 / 2 for the rows x of a matrix, in double precision."""

    def __init__(self, rows: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        self.rows, self.targets = torch.tensor(rows), torch.tensor(targets)
        self.weights = torch.nn.Parameter(torch.tensor(weights))

    def encode(self, example: Example, _: Template) -> Encoded:
        return Encoded((int(example.id),), 0)

    def losses(self, batch: Sequence[Encoded]) -> torch.Tensor:
        places = [each.tokens[0] for each in batch]
        return (self.rows[places] @ self.weights - self.targets[places]) ** 2 / 2

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {"w": self.weights}

    def state(self) -> dict[str, torch.Tensor]:
        return {"w": self.weights.detach().clone()}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            self.weights.copy_(state["w"])

    @contextmanager
    def active(self) -> Iterator[None]:
        yield


class Fixed:
    """Stands for an adapted model. The loss of each answer is an entry of a tensor; answers have one to four tokens."""

    def __init__(self, losses: torch.Tensor) -> None:
        self.values = losses
        self.seen: list[Example] = []

    def encode(self, example: Example, _: Template) -> Encoded:
        self.seen.append(example)
        return Encoded((int(example.id),) * (1 + int(example.id) % 4), 0)

    def losses(self, batch: Sequence[Encoded]) -> torch.Tensor:
        return self.values[[each.tokens[0] for each in batch]]

    @contextmanager
    def active(self) -> Iterator[None]:
        yield


def removal_of(model: object, n_forgotten: int, n: int, kept: dict[str, torch.Tensor] | None = None) -> Removal:
    """Return a request to forget the first of n examples, whose ids are their places."""
    examples = tuple(Example(i, f"question {i}", OPTIONS[i % 3]) for i in range(n))
    task = SimpleNamespace(template=Template(), options=OPTIONS)
    return Removal(cast("Any", model), cast("Any", task), examples[:n_forgotten], examples[n_forgotten:], 0, kept or {})
