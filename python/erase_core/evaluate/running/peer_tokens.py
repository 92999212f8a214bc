"""What attacks read of a peer: the log-probabilities of tokens, by the model that it has at the moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from erase_core.evaluate.attacks.log_probabilities import PromptedTokens
from erase_core.evaluate.peers.peer import Peer, Tools
from erase_core.evaluate.tasks.task import Task
from erase_core.examples.example import Example

__all__ = ["adapter_of", "reading"]


@contextmanager
def reading(peer: Peer, tools: Tools, task: Task) -> Iterator[PromptedTokens | None]:
    """Yield what reads tokens as the peer answers at the moment; None if several models do, or no language model.

    Parameters
    ----------
    peer : Peer
        Fitted. A peer that shows examples has a method `shown`, one that has trained an adapter an attribute `state`,
        or a context manager `loaded` that loads what it has changed.
    tools : Tools
    task : Task
    """
    model: Any = peer
    with ExitStack() as stack:
        if hasattr(model, "shown"):
            yield (
                None
                if model._context == "windows"
                else PromptedTokens(tools.llm, task.template, _shown_by(model, task))
            )
            return
        if hasattr(model, "loaded"):
            stack.enter_context(model.loaded())
        elif hasattr(model, "state"):
            tools.adapted.load(model.state)
        else:
            yield None
            return
        stack.enter_context(tools.adapted.active())
        yield PromptedTokens(tools.llm, task.template)


def adapter_of(peer: Any) -> Any:
    """Return the weights of the adapter that a peer answers with; None if it has changed others, too, or has none."""
    if hasattr(peer, "loaded"):
        return None if peer._weights else peer._state
    return getattr(peer, "state", None)


def _shown_by(peer: Any, task: Task) -> Any:
    """Return the demonstrations of a question, in the order in which they are shown."""
    of = {example.id: example for example in task.pool}

    def shown(question: Example) -> Sequence[Example]:
        return [of[id_] for id_ in peer.shown([question])[0]]

    return shown
