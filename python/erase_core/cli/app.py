"""The command line `erase`: each command calls a method of `Erase` and prints its result.

Printing results and turning errors into exit codes is left to `output`. Modules that are slow to import are imported
when a command runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from erase_core.cli import forget, output, receipts, report, scan
from erase_core.cli.options import (
    STORE,
    AbsentFrom,
    AsJson,
    KeyFrom,
    KeyVariable,
    Known,
    Model,
    Options,
    Parallel,
    Parameters,
    PublicKeys,
    Queries,
    Receipts,
    Store,
    named_and_listed,
    open_store,
    queries_of,
    receipt_ref_of,
    server_options,
    stdin_bytes,
    stdout_bytes,
    unescaped,
)
from erase_core.cli.output import notes, show, show_each
from erase_core.errors import ParameterError
from erase_core.examples.example import counted
from erase_core.progress import waiting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase_core.erasure.admission import OnDuplicate, OnForgotten
    from erase_core.examples.control_tokens import OnControlTokens
    from erase_core.llm.prompt import Context
    from erase_core.settings import Strategy

__all__ = ["app", "main"]

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")

Query = Annotated[str, typer.Argument(metavar="QUERY", help="The question to answer.")]
OptionalQuery = Annotated[str | None, typer.Argument(metavar="QUERY", help="The question to answer.")]
Shots = Annotated[int, typer.Option(help="Number of demonstrations in a prompt.")]
DEFAULT_AXES = 64
CONTROL_TOKENS = (
    "What to do with control tokens such as <|im_start|> in examples, questions and options: keep (as text) or refuse"
)


app = typer.Typer(
    cls=output.Commands,
    help="Keep examples that adapt a language model through its prompt, and forget them exactly.\n\n"
    "If a command opens a copy of a store from before a removal, it does the removal again, using the receipts.",
    epilog=output.exit_codes_help(),
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from erase_core._core import __version__

        print(f"erase-core {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    store: Store = STORE,
    shots: Shots = 8,
    strategy: Annotated[str, typer.Option(help="How to choose demonstrations: knn, routed, kmeans or random.")] = "knn",
    n_prompts: Annotated[
        int | None, typer.Option(help="Number of prompts; only for the strategy routed, 16 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    epsilon: Annotated[float, typer.Option(help="Pitch of the lattice of the centres.")] = 1.0,
    projection: Annotated[
        int | None, typer.Option(help="Cluster after projection to this number of random directions.")
    ] = None,
    public_texts: Annotated[
        Path | None,
        typer.Option(help="Cluster along the principal axes of public texts: a file with one text on each line."),
    ] = None,
    axes: Annotated[
        int | None, typer.Option(help=f"Number of axes of --public-texts; {DEFAULT_AXES} by default.")
    ] = None,
    embedder: Annotated[str | None, typer.Option(help="Embedding model: hub id or folder.")] = None,
    llm: Annotated[
        str | None, typer.Option(help="Language model: hub id, folder, GGUF file, or its name at --base-url.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible model server.")] = None,
    server: Options = None,
    llm_parameter: Parameters = None,
    api_key_env: KeyVariable = None,
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
    context: Annotated[
        str, typer.Option(help="How the model reads demonstrations: joint, windows (each by itself), or auto.")
    ] = "auto",
    calibrate: Annotated[
        bool,
        typer.Option(help="With kmeans and random: take out of choices what the prompt alone prefers."),
    ] = True,
    on_control_tokens: Annotated[str, typer.Option(help=f"{CONTROL_TOKENS}.")] = "keep",
    option: Annotated[list[str] | None, typer.Option(help="An answer that `choose` may give; may be repeated.")] = None,
    task: Annotated[
        Path | None, typer.Option(help="A BIG-bench task file: use its prompt texts and its options.")
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option(help=r"Text at which an answer ends: \n by default; use \n\n if answers have several lines."),
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(envvar="ERASE_RECEIPTS", help="Folder for receipts. It should lie outside the store."),
    ] = None,
    key_from: KeyFrom = None,
    as_json: AsJson = False,
) -> None:
    """Create a store. Without --embedder and --llm, it uses the packaged models."""
    if projection is not None and public_texts is not None:
        raise ParameterError("--projection and --public-texts exclude each other. Give only one of them.")
    if axes is not None and public_texts is None:
        raise ParameterError("--axes is only for --public-texts, which is missing. Give both, or neither.")
    from erase_core.erase import Erase
    from erase_core.examples.reading import read_examples

    reading = read_examples(task) if task else None
    template = dict((reading.template if reading else None) or {})
    if stop is not None:
        template["stop"] = unescaped(stop)

    with waiting("Creating the store"):
        along = _axes(public_texts, axes or DEFAULT_AXES, embedder) if public_texts else projection
        erase = Erase.create(
            store,
            n_shots=shots,
            strategy=cast("Strategy", strategy),  # `create` checks these values
            n_prompts=n_prompts,
            seed=seed,
            epsilon=epsilon,
            projection=along,
            template=template or None,
            options=option or (reading.options if reading else ()),
            embedder=embedder,
            llm=llm,
            base_url=base_url,
            chat=chat,
            context=cast("Context", context),
            calibrate=calibrate,
            server=server_options(server, llm_parameter, api_key_env),
            on_control_tokens=cast("OnControlTokens", on_control_tokens),
            receipts=receipts,
            key=key_from,
        )
    with erase:
        status = erase.status()
    show(status.to_dict(), [f"{status} (empty)"], as_json=as_json, done=True)


@app.command()
def ingest(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file of JSONL, CSV, TSV or Parquet, or a BIG-bench task, plain or as .gz; - for standard input.",
        ),
    ],
    store: Store = STORE,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of the file: jsonl, json, csv, tsv, parquet or openai-chat; by default, by its name.",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="Column of a field, such as input=question; may be repeated."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help=r"Character between the cells of CSV or TSV; \t for a tab.")
    ] = None,
    quotechar: Annotated[
        str | None, typer.Option(help="Character around cells of CSV or TSV; '' if quotes are part of the text.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that are wrong, and list them.")] = False,
    forgotten: Annotated[
        str, typer.Option(help="What to do with examples that were forgotten earlier: refuse, skip or allow.")
    ] = "refuse",
    on_control_tokens: Annotated[
        str | None, typer.Option(help=f"{CONTROL_TOKENS}; by default, the setting of the store.")
    ] = None,
    duplicate: Annotated[
        str,
        typer.Option(
            help="What to do with examples that the store has already, with the same id and content: refuse or skip."
        ),
    ] = "refuse",
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Add the examples of a file to the store: all of them, or none if one is wrong."""
    with open_store(store, receipts, public_key, key_from) as erase:
        report = erase.ingest(
            file if file != "-" else stdin_bytes("FILE"),
            format=form,
            fields=_fields(field or ()),
            skip_bad=skip_bad,
            delimiter="\t" if delimiter == r"\t" else delimiter,
            quotechar=quotechar,
            on_forgotten=cast("OnForgotten", forgotten),  # `ingest` checks these values
            on_control_tokens=cast("OnControlTokens | None", on_control_tokens),
            on_duplicate=cast("OnDuplicate", duplicate),
            progress=True,
        )
    unseen = [report.unseen] if report.unseen else []
    lines = [str(report), *unseen, *(f"left out: {row}" for row in report.skipped)]
    show(report.to_dict(), lines, as_json=as_json, done=True)


app.command()(forget.forget)
app.command()(report.report)


@app.command()
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


@app.command()
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


@app.command()
def warm(
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
    """Compute the window of every example, for later questions (strategy knn, a model in this process).

    After Ctrl-C, run it again: it goes on where it was. With other strategies nothing is kept when the command ends.
    """
    options = server_options(server, llm_parameter, api_key_env)
    with waiting("Warming"), open_store(store, receipts, public_key, key_from, llm=llm, server=options) as erase:
        report = erase.warm(progress=True)
    show(report.to_dict(), [str(report)], as_json=as_json, done=True)


@app.command()
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
        route = erase.route(query) if show_route else None
        made = erase.prompt(query)
    if route is not None:
        output.note(str(route))
    ids = [example.id for example in made.demonstrations]
    result: dict[str, object] = {"text": made.text, "messages": made.messages, "demonstrations": ids}
    if route is not None:
        result["route"] = route.to_dict()
    show(result, [json.dumps(made.messages) if messages else made.text], as_json=as_json)


@app.command()
def status(
    store: Store = STORE,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print the contents and settings of the store."""
    with open_store(store, receipts, public_key, key_from) as erase:
        found = erase.status()
    rows = {
        "store": found.folder,
        "examples": f"{found.n_examples}, of {counted(found.n_subjects, 'subject')}",
        "selection": f"{found.n_shots} by {found.strategy}, context {found.context}",
        "demonstrations": _shown(found.prompts),
        "embedding model": found.embedder,
        "language model": found.llm,
        "digest": found.digest or "none",
        "receipts": f"{found.n_receipts} in {found.receipts}",
        "size": f"{found.bytes / 1e6:.2f} MB",
    }
    if not found.scrubbed:
        rows["removals"] = "not finished; the next command finishes them"
    show(found.to_dict(), [f"{name:<16} {value}" for name, value in rows.items()], as_json=as_json)


def _shown(prompts: Sequence[Sequence[int | str]]) -> str:
    """Return a line on all prompts: the demonstrations of a single one, or how many there are."""
    if not prompts:
        return "a choice for each question"
    if len(prompts) == 1:
        return ", ".join(map(str, prompts[0])) or "none"
    fewest, most = min(map(len, prompts)), max(map(len, prompts))
    return f"{len(prompts)} prompts of {counted(most, 'example') if fewest == most else f'{fewest} to {most} examples'}"


@app.command()
def verify(
    store: Store = STORE,
    absent: Annotated[
        list[str] | None,
        typer.Option(help="A text that no file of the store may contain, as text or as its vector; may be repeated."),
    ] = None,
    absent_from: AbsentFrom = None,
    known: Known = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Check the store: compare its model with a fit by a second implementation; check examples, receipts and files."""
    from erase_core.verify.scan import SHORTEST

    texts = named_and_listed(absent, "--absent-from", absent_from, SHORTEST)
    known_receipts = [receipt_ref_of("--known", each) for each in known or ()]
    with waiting("Verifying"), open_store(store, receipts, public_key, key_from) as erase:
        verification = erase.verify(texts, known=known_receipts, progress=True)
    lines = [str(verification)]
    if not verification.detects_old_copies:
        lines.append(
            "note: the receipts lie within the store, so an old copy of the whole folder would not be detected"
        )
    show(verification.to_dict(), lines, as_json=as_json)
    if not verification.ok:
        raise typer.Exit(1)


app.command()(scan.scan)


@app.command()
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new file; - for standard output.")],
    store: Store = STORE,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Write all examples to a new file as JSON lines, which `ingest` can read."""
    if file == "-" and as_json:
        raise ParameterError("--json and - both write to standard output. Leave --json out, or name a file.")
    with open_store(store, receipts, public_key, key_from) as erase:
        count = erase.export(stdout_bytes() if file == "-" else file)
    if file == "-":
        output.note(f"{counted(count, 'example')} written to standard output")
        return
    lines = [f"{counted(count, 'example')} written to {file}"]
    show({"file": str(file), "n_examples": count}, lines, as_json=as_json, done=True)


@app.command()
def rekey(
    new_key_from: Annotated[
        str | None, typer.Option(metavar="FILE|env:NAME", help="The new key: a file, or an environment variable.")
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="The store then needs no key.")] = False,
    store: Store = STORE,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Wrap the keys of the examples with another key of yours. Older copies of the key file then need the older key."""
    if no_key == (new_key_from is not None):
        raise ParameterError("rekey needs either --new-key-from or --no-key. Give one of them.")
    with open_store(store, receipts, public_key, key_from) as erase:
        erase.rekey(new_key_from)
    needs = "needs no key" if no_key else "needs the new key. Destroy the older one"
    show({"store": str(store), "has_key": not no_key}, [f"{store} {needs}"], as_json=as_json, done=True)


@app.command()
def demo(
    store: Annotated[
        Path | None, typer.Option("--store", "-s", help="Folder to keep the store in; by default, it is deleted.")
    ] = None,
    questions: Annotated[int, typer.Option(help="Number of test questions to answer with each strategy.")] = 25,
    shots: Shots = 10,
    seed: Annotated[int, typer.Option(help="Seed of the store and of the sample of questions.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a demonstration (about a minute): ingest 320 examples, answer, forget a customer, and prove it."""
    from erase_core.demo import run_demo

    outcome = run_demo(store, n_questions=questions, n_shots=shots, seed=seed, quiet=as_json)
    if as_json:
        show(outcome.to_dict(), (), as_json=True)
    if not outcome.ok:
        raise typer.Exit(1)


app.add_typer(receipts.app, name="receipts")


def main() -> None:
    """Run the command `erase`."""
    app()


def _axes(texts: Path, count: int, embedder: str | None) -> NDArray[np.float64]:
    from erase_core.embedding.projection import principal_axes, read_public_texts
    from erase_core.embedding.sentence import SentenceEmbedder

    public = read_public_texts(texts)
    return principal_axes(SentenceEmbedder(embedder).embed(public), count)


def _fields(given: Sequence[str]) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise ParameterError(f"--field must have the form FIELD=COLUMN, such as input=question, got {text!r}")
    return dict(text.split("=", 1) for text in given)


if __name__ == "__main__":
    main()
