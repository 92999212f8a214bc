"""A DSPy program whose demonstrations come from a store at each call, and stay in no part of DSPy."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from erase_core.erase import Erase
from erase_core.errors import ParameterError
from erase_core.examples.example import Example
from erase_core.integrations import checked, extra

with extra("dspy"):
    import dspy  # type: ignore[import-untyped]
    from dspy.adapters.utils import parse_value  # type: ignore[import-untyped]
    from dspy.dsp.utils.settings import main_thread_config  # type: ignore[import-untyped]

__all__ = ["Demonstrated"]

RATIONALE = "reasoning"


class Demonstrated(dspy.Module):  # type: ignore[misc]
    """A predictor that is shown a store's demonstrations, chosen for each call's input.

    The demonstrations are given to the predictor with the call, after those of its own. They are never in `demos`, so
    neither `save` nor an optimiser finds them. DSPy records no history of these calls, which would keep their prompts.
    It does not keep the answers, which may quote: they are not cached, and traced only if an optimiser asks for it. A
    copy of the module has the same store handle; a pickle opens the store by its path.

    Parameters
    ----------
    program : dspy.Predict or dspy.ChainOfThought
        In a larger program, wrap its predictors: ``program.answer = Demonstrated(program.answer, erase)``.
    erase : Erase
        An open store. An example's input is shown as the field `query`, its output as the field `answer`, and its
        rationale as the output field ``reasoning``, if there is one. DSPy says in the prompt which fields are missing.
        An output that is not a value of its field's type is shown as text.
    query, answer : str or None, default=None
        An input field, whose text chooses the demonstrations, and an output field. None: the only one there is.
    cache : bool, default=False
        Let DSPy cache the answers, in memory and on the disk. An answer may repeat the text of a demonstration.

    Raises
    ------
    ParameterError
        An argument is of another kind, or a field is not in the signature or has to be named. When called: the query is
        missing, blank or not a text.
    """

    def __init__(
        self,
        program: dspy.Predict | dspy.ChainOfThought,
        erase: Erase,
        *,
        query: str | None = None,
        answer: str | None = None,
        cache: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(program, dspy.Predict | dspy.ChainOfThought):
            raise ParameterError(
                f"program must be a dspy.Predict or dspy.ChainOfThought, got {type(program).__name__}. "
                "Wrap the predictors that it has: program.answer = Demonstrated(program.answer, erase)."
            )
        self.program, self.erase, self.cache = program, checked(erase), cache
        fields = self._predictor.signature
        self.query = _field("query", query, list(fields.input_fields))
        self.answer = _field("answer", answer, [name for name in fields.output_fields if name != RATIONALE])

    def forward(self, **inputs: Any) -> Any:
        """Call the program with the demonstrations for its input."""
        with _unrecorded():
            return self.program(**self._demonstrated(inputs))

    async def aforward(self, **inputs: Any) -> Any:
        """Call the program with the demonstrations for its input, which are looked up in a thread."""
        with _unrecorded():
            return await self.program.acall(**await asyncio.to_thread(self._demonstrated, inputs))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        # Optimisers copy programs: a handle for each copy would keep rows in memory that this one has forgotten.
        memo[id(self.erase)] = self.erase
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    @property
    def _predictor(self) -> dspy.Predict:
        return self.program if isinstance(self.program, dspy.Predict) else self.program.predict

    def _demonstrated(self, inputs: dict[str, Any]) -> dict[str, Any]:
        shown = [self._demo(example) for example in self.erase.demonstrations(inputs.get(self.query))]
        config = inputs.get("config", {})
        return {
            **inputs,
            "demos": [*inputs.get("demos", self._predictor.demos), *shown],
            "config": config if self.cache else {"cache": False, **config},
        }

    def _demo(self, example: Example) -> dspy.Example:
        fields = self._predictor.signature.output_fields
        demo = {self.query: example.input, self.answer: _value(example.output, fields[self.answer].annotation)}
        if example.rationale is not None and RATIONALE in fields:
            demo[RATIONALE] = example.rationale
        return dspy.Example(**demo)


@contextmanager
def _unrecorded() -> Iterator[None]:
    """Let DSPy record no prompts, and answers only for who has asked for a trace, as optimisers do."""
    # By default DSPy keeps a trace of the last 10,000 answers for the whole process.
    traced = dspy.settings.trace is not main_thread_config["trace"]
    with dspy.context(disable_history=True, **({} if traced else {"trace": None})):
        yield


def _field(name: str, given: str | None, names: list[str]) -> str:
    """Return the name of a field of the signature: the given one, or the only one."""
    if given in names:
        return given
    if given is None and len(names) == 1:
        return names[0]
    raise ParameterError(f"{name} must be one of the fields {', '.join(names)} of the signature, got {given!r}")


def _value(text: str, kind: Any) -> Any:
    """Return an output as the type of its field, as DSPy reads it in a model's answer."""
    with suppress(Exception):
        return parse_value(text, kind)
    # DSPy does not check demonstrations. Its own decision types are shown by labels, which are not their values.
    return text
