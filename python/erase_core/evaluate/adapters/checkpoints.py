"""Trained adapters on disk, each with what it cost: nothing is trained twice, by a resumed run or another peer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

from erase_core.evaluate.adapters.adapted_model import AdaptedModel, State
from erase_core.evaluate.adapters.training import Loss, Stage, TrainingSettings
from erase_core.evaluate.measures.cost import Cost, add_cost, measured
from erase_core.evaluate.tasks.world import World
from erase_core.llm.prompt import Template

__all__ = ["Checkpoints"]


class Checkpoints:
    """A folder of adapters, each a function of the model, the world and the settings.

    Parameters
    ----------
    folder : Path
        Made if it is missing. It has weights trained on the examples, so delete it with them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trained(self, model: AdaptedModel, world: World, settings: TrainingSettings, loss: Loss | None = None) -> State:
        """Return the adapter that training on a world gives, and load it into the model.

        If it is there already, what its training cost is added to the costs that are being measured.

        Parameters
        ----------
        model : AdaptedModel
        world : World
        settings : TrainingSettings
        loss : callable or None, default=None
            What is minimised, such as a frozen dataclass whose repr names all that it depends on. None: the loss of
            the answers.
        """
        stage = Stage(tuple(world.examples), world.seed, settings, loss=loss)
        return self.stages(model, world.task.template, world.seed, [stage])[-1]

    def stages(
        self,
        model: AdaptedModel,
        template: Template,
        seed: int,
        stages: Sequence[Stage],
        done: Sequence[State] = (),
    ) -> list[State]:
        """Return the adapter after each of some stages of training, and load the last one into the model.

        Those that are there already are treated as in `trained`.

        Parameters
        ----------
        model : AdaptedModel
        template : Template
        seed : int
            Of the adapter before the first stage.
        stages : sequence of Stage
        done : sequence of State, default=()
            The adapters after the first stages, if they are known. They cost nothing.
        """
        states = list(done)
        if states:
            model.load(states[-1])
        else:
            model.reset(seed)
        for n in range(len(states) + 1, len(stages) + 1):
            made_of = repr((model.name, template, seed, [stage.made_of for stage in stages[:n]]))
            states.append(self._kept(made_of, model, template, stages[n - 1]))
        return states

    def _kept(self, made_of: str, model: AdaptedModel, template: Template, stage: Stage) -> State:
        from safetensors.torch import load_file, save_file

        file = self.folder / f"adapter-{hashlib.sha256(made_of.encode()).hexdigest()[:24]}.safetensors"
        if file.exists():
            state = load_file(file)
            add_cost(Cost(**json.loads(file.with_suffix(".json").read_text())))
            model.load(state)
            return state
        with measured() as meter:
            stage.train(model, template)
        state = model.state()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Another process may be writing the same files. The cost comes first: whoever sees the weights reads it.
        unfinished = file.with_suffix(f".{uuid4().hex}")
        unfinished.write_text(json.dumps(asdict(meter.cost)))
        unfinished.replace(file.with_suffix(".json"))
        save_file(state, unfinished)
        unfinished.replace(file)
        return state
