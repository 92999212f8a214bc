"""The command `erase forget`: reads ids or subjects, asks for confirmation, and prints the result."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from erase_core.cli import output
from erase_core.cli.completion import one_of
from erase_core.cli.options import (
    STDIN,
    STORE,
    AsJson,
    Key,
    KeyFrom,
    PublicKeys,
    Receipts,
    Store,
    named_and_listed,
    open_store,
    text_of,
)
from erase_core.cli.output import show
from erase_core.erasure.request import Match, OnMissing
from erase_core.errors import ParameterError, ScrubError

if TYPE_CHECKING:
    from erase_core.erase import Erase
    from erase_core.reports import ForgetReport

__all__ = ["forget"]

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def forget(
    store: Store = STORE,
    id_: Annotated[
        list[str] | None, typer.Option("--id", help="Forget the example with this id; may be repeated.")
    ] = None,
    ids_from: Annotated[
        Path | None,
        typer.Option(help="A file with ids, one on each line; - for standard input. Blank lines are ignored."),
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Forget all examples about this subject; may be repeated.")
    ] = None,
    subject_from: Annotated[
        Path | None, typer.Option(help="A file that contains one subject and nothing else; - for standard input.")
    ] = None,
    subjects_from: Annotated[
        Path | None,
        typer.Option(help="A file with subjects, one on each line; - for standard input. Blank lines are ignored."),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(OnMissing), help="What to do if an id or subject is not in the store: refuse or skip."
        ),
    ] = "refuse",
    match: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(Match),
            help="How to compare subjects: exact; or normalised, which ignores case, kind and number of spaces, "
            "form of accents, and invisible characters.",
        ),
    ] = "exact",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would change, but forget nothing. An old copy is brought up to date anyway."
        ),
    ] = False,
    signing_key: Key = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Forget examples exactly, as if they had never been added. Shows what will change, asks, and writes a receipt."""
    of_ids, of_subjects = id_ is not None or ids_from is not None, subject is not None or subjects_from is not None
    if sum((of_ids, of_subjects, subject_from is not None)) != 1:
        raise ParameterError(
            "forget needs --id or --ids-from (or both), or --subject or --subjects-from (or both), or --subject-from"
        )
    if not (yes or dry_run or (output.is_terminal() and STDIN not in (ids_from, subject_from, subjects_from))):
        raise ParameterError("forget cannot ask for confirmation without a terminal. Give --yes or --dry-run.")
    given = named_and_listed(id_, "--ids-from", ids_from)
    subjects = None if of_ids else _subjects(subject, subject_from, subjects_from)
    _check_utf8("--id", id_ or ())
    _check_utf8("--subject", subject or ())
    with open_store(store, receipts, public_key, key_from, signing_key=signing_key) as erase:

        def forget_them(*, dry_run: bool = False) -> ForgetReport:
            return erase.forget(
                _ids(erase, given) if of_ids else None,
                subject=subjects,
                on_missing=cast("OnMissing", missing),  # `forget` checks these values
                match=cast("Match", match),
                dry_run=dry_run,
            )

        if dry_run or not yes:
            report = forget_them(dry_run=True)
        # If there is nothing to forget, do not ask.
        if not dry_run and (yes or not report.ids or _agreed(erase, report)):
            report = _forget(forget_them, as_json=as_json)
    declined = report.dry_run and not dry_run
    lines = ["nothing was forgotten"] if declined else _changes(report)
    show(report.to_dict(), lines, as_json=as_json, done=not report.dry_run)


def _check_utf8(option: str, texts: Sequence[str]) -> None:
    """Refuse arguments that are not in UTF-8. They could match nothing, and would be skipped as missing."""
    for text in texts:
        if any("\udc80" <= sign <= "\udcff" for sign in text):
            raise ParameterError(f"{option}: {text!r} is not in UTF-8. Give it in that encoding.")


def _ids(erase: Erase, given: Sequence[str]) -> Sequence[int | str]:
    """Return ids in the type of the store: texts of integers become integers if the store's ids are integers."""
    integers = {text: int(text) for text in given if INTEGER.fullmatch(text)}
    if integers and erase.id_type is int:
        return [integers.get(text, text) for text in given]
    return given


def _subjects(named: Sequence[str] | None, file: Path | None, files: Path | None) -> list[str]:
    if file is not None:
        return [text_of("--subject-from", file).removesuffix("\n").removesuffix("\r")]
    return named_and_listed(named, "--subjects-from", files)


def _forget(forget: Callable[[], ForgetReport], *, as_json: bool) -> ForgetReport:
    """Forget. If the removal is committed but its cleanup fails, show the report before the error."""
    try:
        with output.uninterrupted():
            return forget()
    except ScrubError as error:
        if error.report is not None:
            with suppress(OSError, KeyboardInterrupt):  # the error below is more important
                show(error.report.to_dict(), _changes(error.report), as_json=as_json)
        raise


def _agreed(erase: Erase, report: ForgetReport) -> bool:
    """Ask for confirmation. Check keys and receipts first, so that a confirmed removal does not fail for them."""
    erase.check_may_forget()
    print(*_changes(report), "Forget? [y/N] ", sep="\n", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _changes(report: ForgetReport) -> list[str]:
    rows = {} if report.receipt is None else {"receipt": f"{report.receipt.number}:{report.receipt.hash}"}
    if not report.ids:
        return [str(report)]
    rows["ids"] = _listed(report.ids)
    if not report.prompts.depend_on_query:
        prompt = "prompt" if len(report.prompts.after) == 1 else "prompts"
        rows[f"out of the {prompt}"] = _listed(report.prompts.removed)
        rows[f"into the {prompt}"] = _listed(report.prompts.added)
    return [str(report), *(f"{name:<18} {value}" for name, value in rows.items())]


def _listed(ids: Sequence[int | str]) -> str:
    return ", ".join(map(str, ids)) or "none"
