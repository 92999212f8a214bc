"""The commands that read a store as a whole: `erase status`, `verify` and `export`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from erase_core.cli import output
from erase_core.cli.options import (
    STORE,
    AbsentFrom,
    AsJson,
    KeyFrom,
    Known,
    PublicKeys,
    Receipts,
    Store,
    named_and_listed,
    open_store,
    receipt_ref_of,
    stdout_bytes,
)
from erase_core.cli.output import show
from erase_core.errors import ParameterError
from erase_core.examples.example import counted
from erase_core.progress import waiting

if TYPE_CHECKING:
    from erase_core.reports import Status

__all__ = ["export", "status", "verify"]


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
        **_server(found),
        "options": ", ".join(found.options) or "none",
        "template": json.dumps(found.template, ensure_ascii=False),
        "digest": found.digest or "none",
        "receipts": f"{found.n_receipts} in {found.receipts}",
        "size": f"{found.bytes / 1e6:.2f} MB",
    }
    if not found.scrubbed:
        rows["removals"] = "not finished; the next command finishes them"
    show(found.to_dict(), [f"{name:<16} {value}" for name, value in rows.items()], as_json=as_json)


def _server(found: Status) -> dict[str, str]:
    """Return a row on the model server; none if the model is in this process."""
    if found.base_url is None:
        return {}
    options = {name: value for name, value in (found.server or {}).items() if value not in (None, {})}
    return {"model server": ", ".join([found.base_url, *(f"{name} {value}" for name, value in options.items())])}


def _shown(prompts: Sequence[Sequence[int | str]]) -> str:
    """Return a line on all prompts: the demonstrations of a single one, or how many there are."""
    if not prompts:
        return "a choice for each question"
    if len(prompts) == 1:
        return ", ".join(map(str, prompts[0])) or "none"
    fewest, most = min(map(len, prompts)), max(map(len, prompts))
    return f"{len(prompts)} prompts of {counted(most, 'example') if fewest == most else f'{fewest} to {most} examples'}"


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
    from erase_core.verify.forms import SHORTEST

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
