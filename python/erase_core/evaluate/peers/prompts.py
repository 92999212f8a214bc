"""Peers that show examples to the language model and train nothing: ERASE, its strategies, and others.

Scores are those of the product's `choose`: calibrated where the product calibrates. After `fit` and `forget`, prompts
that queries share are warm, so their reading counts as part of the fit or of the removal, and not of a later query.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import numpy as np

from erase_core.backends import query_vectors
from erase_core.calls.calibrating import CONTENT_FREE, Priors
from erase_core.evaluate.peers.peer import Entry, Exactness, Peer, Tools
from erase_core.evaluate.peers.selections import (
    AutoCoTSelection,
    Ids,
    LeakingSelection,
    NoSelection,
    RandomSelection,
    Selection,
    StoreSelection,
)
from erase_core.evaluate.tasks.task import Scores, Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm.prompt import Context, Prompt, fit_budget
from erase_core.llm.protocol import context_for

__all__ = ["N_SHOTS", "PEERS", "PromptPeer"]

# The product's default.
N_SHOTS = 8


class PromptPeer:
    """Shows selected examples before each question.

    Parameters
    ----------
    tools : Tools
    name : str
    select : callable
        Makes a `Selection` that has not been fitted.
    calibrated : bool, default=False
        Whether scores are calibrated, as the product does for prompts that all queries share (Zhao et al., ICML 2021).
    context : {"auto", "joint", "windows"}, default="joint"
        See `Prompt`. "auto": windows, if the language model can read them.
    exactness : {"exact", "leaks"}, default="exact"
    """

    def __init__(
        self,
        tools: Tools,
        name: str,
        select: Callable[[], Selection],
        *,
        calibrated: bool = False,
        context: Context = "joint",
        exactness: Exactness = "exact",
    ) -> None:
        self.name, self.exactness = name, exactness
        self._tools, self._llm = tools, tools.llm
        self._select, self._calibrated = select, calibrated
        self._selection = select()
        self._context = context_for(tools.llm, context)
        self._priors = Priors()
        self._examples: dict[int, Example] = {}
        self._task: Task | None = None

    def fit(self, world: World) -> None:
        """Select among the examples of a world, and read the prompts that queries share, or all windows."""
        self.cool()
        self._task, self._selection = world.task, self._select()
        self._examples = {id_: example for example in world.examples if isinstance(id_ := example.id, int)}
        if self._examples:
            vectors = self._tools.vectors([example.input for example in self._examples.values()])
            self._selection.fit(list(self._examples), vectors, world.seed)
        self.warm()

    def prompts(self) -> list[Ids]:
        """Return the ids of all prompts that queries share; none if each query gets one of its own."""
        return self._selection.prompts() if self._examples else [()]

    def shown(self, questions: Sequence[Example]) -> list[Ids]:
        """Return the ids of the demonstrations of each question, in their order."""
        return [ids for _, ids in self._selected(questions)]

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the log-probability of each option, shape (n, k). The questions are asked one after the other."""
        options = self._fitted.options
        rows = [self._choose(ids, question.input) for question, ids in self._selected(questions)]
        return np.array(rows, dtype=np.float64).reshape(len(questions), len(options))

    def forget(self, ids: Collection[int]) -> None:
        """Remove examples from the selection, and drop all that was kept of prompts that showed them.

        Prompts that changed are read. Examples that are not there are ignored.
        """
        gone = [id_ for id_ in ids if id_ in self._examples]
        before = set(self.prompts())
        for id_ in gone:
            del self._examples[id_]
        if gone:
            self._selection.remove(gone)
        self._llm.forget_examples(gone)
        self._priors.forget(gone)
        self._read([prompt for prompt in self.prompts() if prompt not in before])

    def warm(self) -> None:
        """Read the prompts that queries share, or all windows, as far as they are not kept."""
        # A window is that of one example, whatever it is shown with.
        self._read([(id_,) for id_ in self._examples] if self._context == "windows" else self.prompts())

    def cool(self) -> None:
        """Drop all that is kept of prompts, so that the next query is a cold one."""
        self._priors.forget()
        self._llm.forget()

    def kept_bytes(self) -> int:
        """Return the size of the examples, of what the selection keeps, and of keys and values of prompts."""
        texts = sum(len(f"{e.input}{e.output}{e.rationale or ''}".encode()) for e in self._examples.values())
        return texts + (self._selection.kept_bytes() if self._examples else 0) + self._llm._memory.n_bytes

    @property
    def _fitted(self) -> Task:
        if self._task is None:
            raise RuntimeError(f"{self.name} has not been fitted")
        return self._task

    def _selected(self, questions: Sequence[Example]) -> Iterator[tuple[Example, Ids]]:
        """Yield each question with its demonstrations, selected when it is its turn."""
        for question in questions:
            if not self._examples:
                yield question, ()
            elif self._selection.per_query:
                yield question, self._selection.select(query_vectors(self._tools.embedder, [question.input])[0])
            else:
                yield question, self._selection.select(None)

    def _prompt(self, ids: Ids, query: str) -> Prompt:
        prompt = Prompt(self._fitted.template, tuple(self._examples[id_] for id_ in ids), query, self._context)
        if self._llm.context_length is None:
            return prompt
        longest = max(len(option.encode()) for option in self._fitted.options) + 1
        room, count = max(1, self._llm.context_length - longest), self._llm.count_tokens
        return fit_budget(prompt, room, count, keep=self._selection.keeps)

    def _choose(self, ids: Ids, query: str) -> list[float]:
        options = self._fitted.options
        choose = partial(self._priors.calibrated, self._llm) if self._calibrated else self._llm.choose
        scores = choose(self._prompt(ids, query), options).scores
        return [scores[option] for option in options]

    def _read(self, prompts: Sequence[Ids]) -> None:
        for ids in prompts:
            self._choose(ids, CONTENT_FREE[0])


def _make(
    name: str, select: Callable[[int], Selection], tools: Tools, *, calibrated: bool, context: Context = "joint"
) -> Peer:
    exactness: Exactness = "leaks" if select is LeakingSelection else "exact"
    selection = partial(select, N_SHOTS)
    return PromptPeer(tools, name, selection, calibrated=calibrated, context=context, exactness=exactness)


def _entry(
    name: str,
    select: Callable[[int], Selection],
    source: str,
    *,
    calibrated: bool = False,
    context: Context = "joint",
    not_reproduced: str = "",
) -> Entry:
    make = partial(_make, name, select, calibrated=calibrated, context=context)
    exactness: Exactness = "leaks" if select is LeakingSelection else "exact"
    return Entry(name, make, source, exactness, "prompt", not_reproduced)


_OURS = "ERASE, as docs/algorithm.md defines it"
_SIZE = "the language model and the sizes of the pool are ours"
_PRODUCT = partial(partial, StoreSelection)

PEERS: list[Entry] = [
    _entry("none", NoSelection, "no examples", calibrated=True),
    _entry("random", RandomSelection, "the product's strategy random", calibrated=True),
    _entry("erase", _PRODUCT("kmeans"), _OURS, calibrated=True, not_reproduced=_SIZE),
    _entry("erase-uncalibrated", _PRODUCT("kmeans"), _OURS, not_reproduced=_SIZE),
    _entry("routed", _PRODUCT("routed"), "the product's strategy routed"),
    _entry("windows", _PRODUCT("knn"), "the product's default: Ratner et al., ACL 2023", context="auto"),
    _entry("knn", _PRODUCT("knn"), "Liu et al., What Makes Good In-Context Examples for GPT-3, 2022"),
    _entry(
        "auto-cot",
        AutoCoTSelection,
        "Zhang et al., Auto-CoT, ICLR 2023",
        calibrated=True,
        not_reproduced="rationales by zero-shot chains of thought, and the filter on their length: the answers are "
        "given. Calibrated, as ours is.",
    ),
    _entry(
        "umap",
        LeakingSelection,
        "ERASE with a reduction fitted to the data",
        calibrated=True,
        not_reproduced="UMAP: the spectral embedding that it starts from is used; its dimensions are ours",
    ),
]
