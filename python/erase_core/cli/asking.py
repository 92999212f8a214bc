"""The commands that make prompts, and give them to the language model: `erase ask`, `choose`, `warm` and `prompt`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, cast

import typer

from erase_core.cli import output
from erase_core.cli.options import (
    STORE,
    AsJson,
    KeyFrom,
    KeyVariable,
    Model,
    Options,
    Parallel,
    Parameters,
    PublicKeys,
    Queries,
    Receipts,
    Store,
    open_store,
    queries_of,
    server_options,
)
from erase_core.cli.output import notes, show, show_each
from erase_core.examples.example import counted
from erase_core.progress import waiting
from erase_core.reports import WarmReport
from erase_core.settings import Settings

__all__ = ["ask", "choose", "prompt", "warm"]

Query = Annotated[str, typer.Argument(metavar="QUERY", help="The question to answer.")]
OptionalQuery = Annotated[str | None, typer.Argument(metavar="QUERY", help="The question to answer.")]


def ask(
    query: OptionalQuery = None,
    queries: Queries = None,
    store: Store = STORE,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of the answer.")] = 64,
    parallel: Parallel = 1,
    llm: Model = None,
    server: Options = None,
    llm_parameter: Parameters = None,
    api_key_env: KeyVariable = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print the language model's answer to a question, or to each question of a file."""
    asked = queries_of(query, queries)
    options = server_options(server, llm_parameter, api_key_env)
    with (
        notes(),
        waiting("Asking"),
        open_store(store, receipts, public_key, key_from, llm=llm, server=options) as erase,
    ):
        if asked is None:
            answers = [erase.ask(cast("str", query), max_tokens=max_tokens)]
        else:
            answers = erase.ask_many(asked, max_tokens=max_tokens, parallel=parallel, progress=True)
    if n_cut := sum(answer.cut_off for answer in answers):
        cut = "the answer was" if asked is None else f"{n_cut} of {counted(len(answers), 'answer')} were"
        output.note(f"{cut} cut off after {max_tokens} tokens. Raise --max-tokens to see the rest.")
    show_each(asked, list(map(asdict, answers)), [answer.text for answer in answers], as_json=as_json)


def choose(
    query: OptionalQuery = None,
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OPTION]...",
            help="Answers to choose from; by default, the options of the store. With --queries, all arguments are "
            "options.",
        ),
    ] = None,
    queries: Queries = None,
    parallel: Parallel = 1,
    store: Store = STORE,
    llm: Model = None,
    server: Options = None,
    llm_parameter: Parameters = None,
    api_key_env: KeyVariable = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print the option that the language model prefers as an answer, or as the answer to each question of a file."""
    asked = queries_of(query if queries is None else None, queries)
    named_options = [*([query] if asked is not None and query is not None else []), *(options or ())] or None
    named = server_options(server, llm_parameter, api_key_env)
    with waiting("Choosing"), open_store(store, receipts, public_key, key_from, llm=llm, server=named) as erase:
        if asked is None:
            choices = [erase.choose(cast("str", query), named_options)]
        else:
            choices = erase.choose_many(asked, named_options, parallel=parallel, progress=True)
    show_each(asked, list(map(asdict, choices)), [choice.option for choice in choices], as_json=as_json)


def warm(
    store: Store = STORE,
    llm: Model = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Compute the window of every example, for later questions (strategy knn, a model in this process).

    After Ctrl-C, run it again: it goes on where it was. With other strategies, or a model at a server, there is nothing
    to compute.
    """
    with waiting("Warming"), open_store(store, receipts, public_key, key_from, llm=llm) as erase:
        why = _why_no_windows(erase.settings)
        with output.resumable("finished windows"):
            report = WarmReport(0, 0, 0, 0, 0, 0, 0.0) if why else erase.warm(progress=True)
    if why:
        output.note(why)
    show(report.to_dict(), [str(report)], as_json=as_json, done=True)


def _why_no_windows(settings: Settings) -> str:
    """Return why a command has no windows of a store's examples to compute; empty if it may have some."""
    if settings.base_url is not None:
        return "the model is at a server, which reads no windows"
    if settings.strategy != "knn":
        return (
            f"with the strategy {settings.strategy} questions share prompts, which only a process that answers can "
            "keep: use Erase.warm there"
        )
    return ""


def prompt(
    query: Query,
    store: Store = STORE,
    messages: Annotated[bool, typer.Option("--messages", help="Print chat messages, as a JSON array.")] = False,
    show_route: Annotated[
        bool, typer.Option("--show-route", help="Say which of the store's prompts it is (strategy routed).")
    ] = False,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print the prompt for a question."""
    with open_store(store, receipts, public_key, key_from) as erase:
        made, route = erase.prompt_with_route(query) if show_route else (erase.prompt(query), None)
    if route is not None:
        output.note(str(route))
    ids = [example.id for example in made.demonstrations]
    result: dict[str, object] = {"text": made.text, "messages": made.messages, "demonstrations": ids}
    if route is not None:
        result["route"] = route.to_dict()
    show(result, [json.dumps(made.messages) if messages else made.text], as_json=as_json)
