"""Trained adapters on disk, each with what it cost: nothing is trained twice, by a resumed run or another peer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from erase_core.evaluate.adapted import AdaptedModel, State
from erase_core.evaluate.cost import Cost, add_cost, measured
from erase_core.evaluate.peer import World
from erase_core.evaluate.training import Loss, TrainingSettings, answer_loss, train

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
        from safetensors.torch import load_file, save_file

        texts = [(e.id, e.input, e.output) for e in world.examples]
        made_of = repr(
            (model.name, texts, world.task.template, world.seed, settings, *([] if loss is None else [loss]))
        )
        file = self.folder / f"adapter-{hashlib.sha256(made_of.encode()).hexdigest()[:24]}.safetensors"
        if file.exists():
            state = load_file(file)
            add_cost(Cost(**json.loads(file.with_suffix(".json").read_text())))
            model.load(state)
            return state
        with measured() as meter:
            model.reset(world.seed)
            train(model, world.examples, world.task.template, world.seed, settings, loss or answer_loss)
        state = model.state()
        self.folder.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".json").write_text(json.dumps(asdict(meter.cost)))
        unfinished = file.with_suffix(".unfinished")
        save_file(state, unfinished)
        unfinished.rename(file)
        return state
