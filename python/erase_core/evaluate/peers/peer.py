"""What every peer can do. The runner and all metrics know nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from erase_core.evaluate.measures.cost import Cost, add_cost, count_tokens_of, measured
from erase_core.evaluate.tasks.task import Scores
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

if TYPE_CHECKING:
    from erase_core.embedding.sentence import Embedder
    from erase_core.evaluate.adapters.adapted_model import AdaptedModel
    from erase_core.evaluate.adapters.checkpoints import Checkpoints
    from erase_core.llm.transformers import TransformersLLM

__all__ = ["Entry", "Exactness", "MakePeer", "Peer", "Tools", "cool", "warm"]

# "exact": bit for bit what a fit without the forgotten examples gives. "exact-on-fewer": the same for a fit that lacks
# further examples, since a part of the model is dropped and not trained again. "approximate": near it at best. "hides":
# the examples are kept, and only answers about them are suppressed. "leaks": what it keeps was computed from them.
Exactness = Literal["exact", "exact-on-fewer", "approximate", "hides", "leaks"]
Kind = Literal["prompt", "fine-tuning", "classifier", "ranker", "index"]


@dataclass
class Tools:
    """The models that all peers share, each loaded once.

    Parameters
    ----------
    llm : TransformersLLM
        Answers questions. Its weights are those of `adapted`, whose adapter is switched off for peers that only prompt.
    embedder : Embedder
    adapted : AdaptedModel
        The same model with an adapter that can be trained.
    checkpoints : Checkpoints
        Trained adapters.
    """

    llm: TransformersLLM
    embedder: Embedder
    adapted: AdaptedModel
    checkpoints: Checkpoints
    _vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _cost_of_vector: Cost = field(default_factory=Cost, repr=False)

    def __post_init__(self) -> None:
        count_tokens_of(self.llm.network)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of examples, shape (n, dim). A text that was embedded before is not embedded again.

        The vector of a text depends on nothing but the text. So does its cost, about: what a text took to embed, on
        average, is added to the costs that are being measured whenever its vector is asked for again. Vectors of
        queries are not kept: see `erase_core.backends.query_vectors`.
        """
        wanted = list(dict.fromkeys(text for text in texts if text not in self._vectors))
        again = len(texts) - len(wanted)
        if wanted:
            with measured() as meter:
                self._vectors.update(zip(wanted, self.embedder.embed(wanted), strict=True))
            if not self._cost_of_vector.wall_seconds:
                spent = meter.cost
                n = len(wanted)
                self._cost_of_vector = Cost(spent.processor_seconds / n, spent.wall_seconds / n)
        one = self._cost_of_vector
        add_cost(Cost(again * one.processor_seconds, again * one.wall_seconds))
        dim = self.embedder.dim
        return np.array([self._vectors[text] for text in texts], dtype=np.float32).reshape(len(texts), dim)


class Peer(Protocol):
    """A way to adapt a language model to examples, and to unlearn some of them."""

    name: str
    exactness: Exactness

    def fit(self, world: World) -> None:
        """Adapt to the examples of a world. What was fitted before is dropped."""

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the log-probability of each option, up to a constant for each question, shape (n, k)."""

    def forget(self, ids: Collection[int]) -> None:
        """Unlearn examples."""

    def kept_bytes(self) -> int:
        """Return the size of what is kept for later removals and queries, apart from the language model."""


def cool(peer: Peer, tools: Tools) -> None:
    """Drop what a peer and the language model have kept warm, so that the next query is a cold one.

    A peer that keeps more than the language model does has a method `cool` of its own, which drops that too.
    """
    own = getattr(peer, "cool", None)
    if own is not None:
        own()
    tools.llm.forget()


def warm(peer: Peer) -> None:
    """Let a peer read all that it can read before a query, if there is anything: it has a method `warm` then."""
    own = getattr(peer, "warm", None)
    if own is not None:
        own()


MakePeer = Callable[[Tools], Peer]


@dataclass(frozen=True)
class Entry:
    """A peer in the list of all: how it is made, and what the page says about it.

    Parameters
    ----------
    name : str
    make : callable
        Takes `Tools`.
    source : str
        Paper of its rule.
    exactness : {"exact", "exact-on-fewer", "approximate", "hides", "leaks"}
    kind : {"prompt", "fine-tuning", "classifier", "ranker", "index"}
    not_reproduced : str, default=""
        What the paper has and this peer does not, or where it does something else.
    after : str or None, default=None
        For approximate peers: the peer whose fitted state they start from.
    """

    name: str
    make: MakePeer
    source: str
    exactness: Exactness
    kind: Kind
    not_reproduced: str = ""
    after: str | None = None
