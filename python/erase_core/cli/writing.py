"""The commands that write a store: `erase init`, `ingest` and `rekey`. See `forget` for the fourth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from erase_core.cli.completion import one_of
from erase_core.cli.options import (
    OF_SERVER,
    OF_STORE,
    STORE,
    AsJson,
    KeyFrom,
    KeyVariable,
    Options,
    Parameters,
    PublicKeys,
    Receipts,
    Store,
    open_store,
    server_options,
    stdin_bytes,
    unescaped,
)
from erase_core.cli.output import show
from erase_core.erasure.admission import OnDuplicate, OnForgotten
from erase_core.errors import ParameterError
from erase_core.examples.control_tokens import OnControlTokens
from erase_core.examples.formats import FORMATS
from erase_core.llm.prompt import Context
from erase_core.progress import waiting
from erase_core.settings import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ingest", "init", "rekey"]

# Sections of the help of `init`.
DEMONSTRATIONS = "Demonstrations"
CLUSTERS = "Clustering"
MODELS = "Models"
TEXTS = "Texts and options"
DEFAULT_AXES = 64
CONTROL_TOKENS = (
    "What to do with control tokens such as <|im_start|> in examples, questions and options: keep (as text) or refuse"
)


def init(
    store: Store = STORE,
    shots: Annotated[
        int, typer.Option(rich_help_panel=DEMONSTRATIONS, help="Number of demonstrations in a prompt.")
    ] = 8,
    strategy: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(Strategy),
            rich_help_panel=DEMONSTRATIONS,
            help="How to choose demonstrations: knn, routed, kmeans or random.",
        ),
    ] = "knn",
    n_prompts: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=DEMONSTRATIONS, help="Number of prompts; only for the strategy routed, 16 by default."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(rich_help_panel=DEMONSTRATIONS, help="Seed of all random draws.")] = 0,
    epsilon: Annotated[
        float, typer.Option(rich_help_panel=CLUSTERS, help="Pitch of the lattice of the centres.")
    ] = 1.0,
    projection: Annotated[
        int | None,
        typer.Option(rich_help_panel=CLUSTERS, help="Cluster after projection to this number of random directions."),
    ] = None,
    public_texts: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=CLUSTERS,
            help="Cluster along the principal axes of public texts: a file with one text on each line.",
        ),
    ] = None,
    axes: Annotated[
        int | None,
        typer.Option(rich_help_panel=CLUSTERS, help=f"Number of axes of --public-texts; {DEFAULT_AXES} by default."),
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(rich_help_panel=MODELS, help="Embedding model: hub id or folder.")
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=MODELS, help="Language model: hub id, folder, GGUF file, or its name at --base-url."
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(rich_help_panel=OF_SERVER, help="Address of an OpenAI-compatible model server.")
    ] = None,
    server: Options = None,
    llm_parameter: Parameters = None,
    api_key_env: KeyVariable = None,
    chat: Annotated[
        bool, typer.Option("--chat", rich_help_panel=MODELS, help="Use the model's chat template.")
    ] = False,
    context: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(Context),
            rich_help_panel=MODELS,
            help="How the model reads demonstrations: joint, windows (each by itself), or auto.",
        ),
    ] = "auto",
    calibrate: Annotated[
        bool,
        typer.Option(
            rich_help_panel=MODELS, help="With kmeans and random: take out of choices what the prompt alone prefers."
        ),
    ] = True,
    on_control_tokens: Annotated[
        str, typer.Option(autocompletion=one_of(OnControlTokens), rich_help_panel=TEXTS, help=f"{CONTROL_TOKENS}.")
    ] = "keep",
    option: Annotated[
        list[str] | None, typer.Option(rich_help_panel=TEXTS, help="An answer that `choose` may give; may be repeated.")
    ] = None,
    task: Annotated[
        Path | None,
        typer.Option(rich_help_panel=TEXTS, help="A BIG-bench task file: use its prompt texts and its options."),
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=TEXTS,
            help=r"Text at which an answer ends: \n by default; use \n\n if answers have several lines.",
        ),
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(
            envvar="ERASE_RECEIPTS",
            rich_help_panel=OF_STORE,
            help="Folder for receipts. It should lie outside the store.",
        ),
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
            autocompletion=one_of(FORMATS),
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
        str,
        typer.Option(
            autocompletion=one_of(OnForgotten),
            help="What to do with examples that were forgotten earlier: refuse, skip or allow.",
        ),
    ] = "refuse",
    on_control_tokens: Annotated[
        str | None,
        typer.Option(
            autocompletion=one_of(OnControlTokens), help=f"{CONTROL_TOKENS}; by default, the setting of the store."
        ),
    ] = None,
    duplicate: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(OnDuplicate),
            help="What to do with examples that the store has already, with the same id and content: refuse or skip.",
        ),
    ] = "refuse",
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Embed on the workers of a cluster, to the same bits: dask://host:port, ray or ray://host:port.",
        ),
    ] = None,
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
            engine=engine,
            progress=True,
        )
    unseen = [report.unseen] if report.unseen else []
    lines = [str(report), *unseen, *(f"left out: {row}" for row in report.skipped)]
    show(report.to_dict(), lines, as_json=as_json, done=True)


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
