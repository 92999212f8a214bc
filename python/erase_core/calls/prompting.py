"""The calls with queries: demonstrations, prompts, routes, answers and choices, for one query or for several.

A call with one query is a call with several that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from erase_core import checks
from erase_core.backends import query_vectors
from erase_core.calls.calibrating import CONTENT_FREE
from erase_core.calls.open_store import OpenStore
from erase_core.calls.queries import Queries
from erase_core.calls.stored_windows import with_windows
from erase_core.errors import ParameterError, StopWarning, warn_user
from erase_core.examples.control_tokens import check_texts
from erase_core.examples.example import Example
from erase_core.llm import LLM, Answer, Choice, TransformersLLM
from erase_core.llm.prompt import Prompt, check_query, fit_budget
from erase_core.llm.protocol import check_max_tokens, check_options, context_for
from erase_core.reports import Route
from erase_core.selection import SELECTORS, Routing, router_of, select_demonstrations
from erase_core.store.reads import Reads

__all__ = [
    "answers",
    "choices",
    "chooser",
    "demonstrations",
    "fitted",
    "prompt_with_route",
    "prompts",
    "route",
    "shared_prompt",
]

MAX_PARALLEL = 1024


def demonstrations(opened: OpenStore, queries: Queries) -> list[list[Example]]:
    """Return the examples that the prompt of each query shows. See `Erase.demonstrations`."""
    if SELECTORS[opened.settings.strategy].per_query:
        if not queries.are_several and queries.texts[0] is None:
            raise ParameterError("query is missing: the demonstrations depend on it. Give a query.")
        _check(opened, queries)
    return _selected(opened, queries)


def route(opened: OpenStore, queries: Queries) -> Route:
    """Return which prompt a query gets. See `Erase.route`."""
    return opened.read(_routed(opened, queries))


def prompt_with_route(opened: OpenStore, queries: Queries) -> tuple[Prompt, Route]:
    """Return the prompt of a query, and which one it is. See `Erase.prompt_with_route`."""
    routed = _routed(opened, queries)

    def found(reads: Reads) -> tuple[Route, list[Example]]:
        route = routed(reads)
        return route, reads.examples(route.demonstrations)

    route, shown = opened.read(found)
    _note_shown(opened, [shown])
    return _made(opened, [shown], queries)[0], route


def _routed(opened: OpenStore, queries: Queries) -> Callable[[Reads], Route]:
    """Check and embed a query, and return the function that finds its route in a state of the store."""
    router = router_of(opened.settings)
    _check(opened, queries)
    # Before the store is read, since a long read would block removals.
    vector = query_vectors(opened.backends.embedder, queries.texts)[0]

    def routed(reads: Reads) -> Route:
        prompts, model = opened.prompts(reads), opened.clustering.current(reads)
        routing = Routing(0, None, None) if model is None else router.route(model, vector)
        return Route(routing.prompt, len(prompts), prompts[routing.prompt], routing.distance, routing.margin)

    return routed


def prompts(opened: OpenStore, queries: Queries) -> list[Prompt]:
    """Return the prompt of each query. See `Erase.prompt`."""
    _check(opened, queries)
    return _made(opened, _selected(opened, queries), queries)


def shared_prompt(opened: OpenStore, shown: list[Example], query: str) -> Prompt:
    """Return a prompt that many queries share with one of them, as it fits beside the options of the store."""
    _note_shown(opened, [shown])
    queries, options = Queries.one(query), opened.settings.options
    (prompt,) = fitted(
        opened, _made(opened, [shown], queries), queries, _longest(options), also=partial(_also, opened, options)
    )
    return prompt


def answers(
    opened: OpenStore, queries: Queries, max_tokens: int, *, parallel: int = 1, progress: bool = False
) -> list[Answer]:
    """Return the language model's answer to each query. See `Erase.ask` and `Erase.ask_many`."""
    check_max_tokens(max_tokens)
    checks.integer("parallel", parallel, 1, MAX_PARALLEL)
    fitting = fitted(opened, prompts(opened, queries), queries, max_tokens)
    if not fitting:
        return []
    _warn_of_stop(fitting)
    llm = opened.backends.llm
    return queries.each(
        lambda place: llm.generate(with_windows(opened, fitting[place]), max_tokens=max_tokens),
        "Asking",
        parallel=_at_a_time(llm, parallel),
        progress=progress,
    )


def choices(
    opened: OpenStore,
    queries: Queries,
    options: Sequence[str] | None,
    *,
    parallel: int = 1,
    progress: bool = False,
) -> list[Choice]:
    """Return the option that the language model prefers for each query. See `Erase.choose` and `Erase.choose_many`."""
    if options is None and not opened.settings.options:
        raise ParameterError("options are missing: the store was created without any. Give options.")
    chosen = check_options(opened.settings.options if options is None else options)
    checks.integer("parallel", parallel, 1, MAX_PARALLEL)
    if opened.settings.on_control_tokens == "refuse":
        check_texts("options", chosen, opened.backends.control_tokens)
    fitting = fitted(opened, prompts(opened, queries), queries, _longest(chosen), also=partial(_also, opened, chosen))
    if not fitting:
        return []
    choose = chooser(opened)
    return queries.each(
        lambda place: choose(with_windows(opened, fitting[place]), chosen),
        "Choosing",
        parallel=_at_a_time(opened.backends.llm, parallel),
        progress=progress,
    )


def chooser(opened: OpenStore) -> Callable[[Prompt, Sequence[str]], Choice]:
    """Return the function that chooses one of several options after a prompt."""
    llm = opened.backends.llm
    return partial(opened.priors.calibrated, llm) if _calibrates(opened) else llm.choose


def _calibrates(opened: OpenStore) -> bool:
    """Whether choices are calibrated if their scores are log-probabilities."""
    return opened.settings.calibrate and SELECTORS[opened.settings.strategy].is_calibrated


def _longest(options: Sequence[str]) -> int:
    """Return the most tokens of an option and its end: it has at most as many tokens as bytes."""
    return max((len(option.encode()) for option in options), default=0) + 1


def _also(opened: OpenStore, options: Sequence[str], prompt: Prompt) -> Sequence[str]:
    """Return the other queries that a choice runs after the demonstrations of a prompt."""
    return CONTENT_FREE if options and _calibrates(opened) and not opened.priors.know(prompt, options) else ()


def _check(opened: OpenStore, queries: Queries) -> None:
    known = opened.backends.control_tokens if opened.settings.on_control_tokens == "refuse" else None
    for place, query in enumerate(queries.texts):
        with queries.at(place):
            check_query(query)
            if known is not None:
                check_texts("query", [query], known)


def _selected(opened: OpenStore, queries: Queries) -> list[list[Example]]:
    """Return the demonstrations of checked queries, all of one state of the store."""
    if not queries:
        return []
    vectors = None
    if SELECTORS[opened.settings.strategy].per_query:
        # Before the store is read, since a long read would block removals.
        vectors = query_vectors(opened.backends.embedder, queries.texts)

    def shown(reads: Reads) -> list[list[Example]]:
        model = opened.clustering.current(reads)
        if vectors is None:
            same = reads.examples(select_demonstrations(opened.settings, model))
            return [list(same) for _ in queries.texts]
        ids = [select_demonstrations(opened.settings, model, vector) for vector in vectors]
        # Each example is opened once, however many queries show it.
        known = {example.id: example for example in reads.examples(list({id_ for some in ids for id_ in some}))}
        return [[known[id_] for id_ in some] for some in ids]

    several = opened.read(shown)
    _note_shown(opened, several)
    return several


def _note_shown(opened: OpenStore, several: Sequence[Sequence[Example]]) -> None:
    opened.shown.update(example.id for some in several for example in some)


def _made(opened: OpenStore, several: Sequence[Sequence[Example]], queries: Queries) -> list[Prompt]:
    """Return the prompt of each query with its demonstrations."""
    template = opened.settings.prompt_template
    context = opened.settings.context
    if context == "auto" and SELECTORS[opened.settings.strategy].is_shared:
        context = "joint"  # such a prompt is kept as a whole
    return [Prompt(template, tuple(shown), query, context) for shown, query in zip(several, queries.texts, strict=True)]


def fitted(
    opened: OpenStore,
    made: list[Prompt],
    queries: Queries,
    answer_tokens: int,
    *,
    also: Callable[[Prompt], Sequence[str]] = lambda _: (),
) -> list[Prompt]:
    """Return prompts with as many of their demonstrations as fit beside the answer, also with other queries."""
    if not made:
        return made
    llm = opened.backends.llm
    made = [replace(prompt, context=context_for(llm, prompt.context)) for prompt in made]
    if llm.context_length is None:
        return made
    room = max(1, llm.context_length - answer_tokens)
    keep = SELECTORS[opened.settings.strategy].keeps

    def count(prompt: Prompt) -> int:
        others = [llm.count_tokens(replace(prompt, query=query)) for query in also(prompt)]
        return max([*others, llm.count_tokens(prompt)])  # the last one, so that the model need not tokenise it again

    fitting = []
    for place, prompt in enumerate(made):
        with queries.at(place):
            fitting.append(fit_budget(prompt, room, count, keep=keep))
    return fitting


def _warn_of_stop(fitting: Sequence[Prompt]) -> None:
    shown = {example.id: example for prompt in fitting for example in prompt.demonstrations}
    together = Prompt(fitting[0].template, tuple(shown.values()), fitting[0].query)
    if together.n_cut_answers:
        cut = f"{together.n_cut_answers} of {len(shown)} demonstrations"
        warn_user(
            f"the template's stop {together.template.stop!r} is in the answers of {cut}, and cuts the model's "
            "answer too. Create the store with another stop (template, or --stop).",
            StopWarning,
        )


def _at_a_time(llm: LLM, parallel: int) -> int:
    """Return how many calls of a language model to make at a time: one, if the model is in this process."""
    return 1 if isinstance(llm, TransformersLLM) else parallel
