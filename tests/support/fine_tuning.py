"""A tiny task and tiny models with adapters, for peers that fine-tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from erase_core.evaluate.adapters.adapted_model import AdaptedModel, State
from erase_core.evaluate.adapters.checkpoints import Checkpoints
from erase_core.evaluate.peers.peer import Tools
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Template
from small_models import make_model

OPTIONS = ("yes", "no", "not now")
TEMPLATE = Template(instruction="Answer.")
WORDS = ("ice", "fire", "a stone", "the river bed", "snow", "a lamp that is lit", "soup", "iron")


def examples(n: int, start: int = 0) -> tuple[Example, ...]:
    places = range(start, start + n)
    return tuple(Example(i, f"Is {WORDS[i % len(WORDS)]} {i} cold?", OPTIONS[i % len(OPTIONS)]) for i in places)


def task(n: int = 12) -> Task:
    return Task("cold", examples(n), examples(5, 1000), OPTIONS, TEMPLATE)


def world(n: int = 12, seed: int = 3) -> World:
    return World(task(n), tuple(range(n)), seed)


def adapted(folder: Path, kind: str = "llama") -> AdaptedModel:
    return AdaptedModel(TransformersLLM(make_model(folder, kind)))


def tools(model: AdaptedModel, folder: Path) -> Tools:
    return Tools(model.llm, cast("Any", None), model, Checkpoints(folder))


def fill(model: AdaptedModel, seed: int = 0) -> None:
    """Give the adapter weights that change answers."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters().values():
            weight.normal_(std=0.1)


def same(a: State, b: State) -> bool:
    """Whether two adapters are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name].view(torch.int32), b[name].view(torch.int32)) for name in a)
