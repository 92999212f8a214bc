"""The calls with a query: `demonstrations`, `prompt`, `route`, `ask` and `choose`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erase_core.backends import checked_vectors
from erase_core.calls.open_store import OpenStore
from erase_core.errors import ParameterError, StopWarning, level_of_user
from erase_core.examples.control_tokens import check_texts
from erase_core.examples.example import Example
from erase_core.llm import Answer, Choice
from erase_core.llm.prompt import Prompt, Template, check_query, fit_budget
from erase_core.llm.protocol import check_max_tokens, check_options
from erase_core.reports import Route
from erase_core.selection import SELECTORS, Routing, router_of, select_demonstrations
from erase_core.store.reads import Reads

__all__ = ["answer", "choice", "demonstrations_for", "prompt_for", "route_for"]


def demonstrations_for(opened: OpenStore, query: str | None) -> list[Example]:
    """Return the examples that the prompt shows. See `Erase.demonstrations`."""
    vector = None
    if SELECTORS[opened.settings.strategy].per_query:
        if query is None:
            raise ParameterError("query is missing: the demonstrations depend on it. Give a query.")
        vector = _vector(opened, query)

    def shown(reads: Reads) -> list[Example]:
        return reads.examples(select_demonstrations(opened.settings, opened.clustering.current(reads), vector))

    return opened.read(shown)


def route_for(opened: OpenStore, query: str) -> Route:
    """Return which prompt a query gets. See `Erase.route`."""
    router = router_of(opened.settings)
    vector = _vector(opened, query)

    def route(reads: Reads) -> Route:
        prompts, model = opened.prompts(reads), opened.clustering.current(reads)
        routing = Routing(0, None, None) if model is None else router.route(model, vector)
        return Route(routing.prompt, len(prompts), prompts[routing.prompt], routing.distance, routing.margin)

    return opened.read(route)


def prompt_for(opened: OpenStore, query: str) -> Prompt:
    """Return the prompt for a query. See `Erase.prompt`."""
    _check(opened, query)
    template = opened.settings.template or Template()
    return Prompt(template, tuple(demonstrations_for(opened, query)), query)


def answer(opened: OpenStore, query: str, max_tokens: int) -> Answer:
    """Return the language model's answer. See `Erase.ask`."""
    check_max_tokens(max_tokens)
    prompt = _fitting(opened, query, max_tokens)
    if prompt.n_cut_answers:
        cut = f"{prompt.n_cut_answers} of {len(prompt.demonstrations)} demonstrations"
        warnings.warn(
            f"the template's stop {prompt.template.stop!r} is in the answers of {cut}, and cuts the model's "
            "answer too. Create the store with another stop (template, or --stop).",
            StopWarning,
            stacklevel=level_of_user(),
        )
    return opened.backends.llm.generate(prompt, max_tokens=max_tokens)


def choice(opened: OpenStore, query: str, options: Sequence[str] | None) -> Choice:
    """Return the option that the language model prefers. See `Erase.choose`."""
    if options is None and not opened.settings.options:
        raise ParameterError("options are missing: the store was created without any. Give options.")
    chosen = check_options(opened.settings.options if options is None else options)
    if opened.settings.on_control_tokens == "refuse":
        check_texts("options", chosen, opened.backends.control_tokens)
    # An option has at most as many tokens as bytes.
    longest = max(len(option.encode()) for option in chosen) + 1
    return opened.backends.llm.choose(_fitting(opened, query, longest), chosen)


def _vector(opened: OpenStore, query: str) -> NDArray[np.float32]:
    """Return the vector of a query. To be called before the store is read, since a long read would block removals."""
    _check(opened, query)
    vector: NDArray[np.float32] = checked_vectors(opened.backends.embedder, [query])[0]
    return vector


def _check(opened: OpenStore, query: str) -> None:
    check_query(query)
    if opened.settings.on_control_tokens == "refuse":
        check_texts("query", [query], opened.backends.control_tokens)


def _fitting(opened: OpenStore, query: str, answer_tokens: int) -> Prompt:
    """Return the prompt for a query, with as many demonstrations as fit beside the answer."""
    llm = opened.backends.llm
    prompt = prompt_for(opened, query)
    if llm.context_length is None:
        return prompt
    room = max(1, llm.context_length - answer_tokens)
    keep = SELECTORS[opened.settings.strategy].keeps
    return fit_budget(prompt.demonstrations, query, prompt.template, room, llm.count_tokens, keep=keep)
