"""The command `erase forget`: asks for confirmation, removes what is named, and prints the result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from erase_core.cli import output, report, streams
from erase_core.cli.completion import one_of
from erase_core.cli.options import STORE, AsJson, Key, KeyFrom, PublicKeys, Receipts, Store, open_store
from erase_core.cli.output import show
from erase_core.cli.request import Ids, IdsFrom, MatchBy, Naming, SubjectFrom, Subjects, SubjectsFrom
from erase_core.erasure.request import Match, OnMissing
from erase_core.errors import ParameterError, ScrubError

if TYPE_CHECKING:
    from erase_core.cli.report import Pages
    from erase_core.erase import Erase
    from erase_core.reports import ForgetReport

__all__ = ["forget"]


def forget(
    store: Store = STORE,
    id_: Ids = None,
    ids_from: IdsFrom = None,
    subject: Subjects = None,
    subject_from: SubjectFrom = None,
    subjects_from: SubjectsFrom = None,
    missing: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(OnMissing), help="What to do if an id or subject is not in the store: refuse or skip."
        ),
    ] = "refuse",
    match: MatchBy = "exact",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would change, but forget nothing. An old copy is brought up to date anyway."
        ),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="A new file: write an erasure report (HTML) when the removal is done. See `erase report`.",
        ),
    ] = None,
    signing_key: Key = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Forget examples exactly, as if they had never been added. Shows what will change, asks, and writes a receipt."""
    naming = Naming("forget", id_, ids_from, subject, subject_from, subjects_from)
    if not (yes or dry_run or (output.is_terminal() and not naming.reads_stdin)):
        raise ParameterError("forget cannot ask for confirmation without a terminal. Give --yes or --dry-run.")
    if page is not None:
        if dry_run:
            raise ParameterError("--report is for a removal, but with --dry-run there is none. Leave one of them out.")
        report.check_new("--report", page)
    named = naming.read()
    with open_store(store, receipts, public_key, key_from, signing_key=signing_key) as erase:
        ids = named.ids_for(erase)

        def forget_them(*, dry_run: bool = False) -> ForgetReport:
            return erase.forget(
                ids,
                subject=named.subjects,
                on_missing=cast("OnMissing", missing),  # `forget` checks these values
                match=cast("Match", match),
                dry_run=dry_run,
            )

        if dry_run or not yes:
            done = forget_them(dry_run=True)
        pages = None if page is None else report.Pages(erase, ids, named.subjects, match, page)
        # If there is nothing to forget, do not ask.
        if not dry_run and (yes or not done.ids or _agreed(erase, done)):
            done = _forget(forget_them, pages, as_json=as_json)
        declined = done.dry_run and not dry_run
        lines = ["nothing was forgotten"] if declined else _changes(done)
        show(done.to_dict(), lines, as_json=as_json, done=not done.dry_run)
        if pages is not None and not declined:
            pages.write(done)


def _forget(forget: Callable[[], ForgetReport], pages: Pages | None, *, as_json: bool) -> ForgetReport:
    """Forget. If the removal is committed but its cleanup fails, show and write the reports before the error."""
    if pages is not None:
        pages.collect()
    try:
        with output.uninterrupted():
            return forget()
    except ScrubError as error:
        if error.report is not None:
            with suppress(OSError, KeyboardInterrupt):  # the error below is more important
                show(error.report.to_dict(), _changes(error.report), as_json=as_json)
            with suppress(typer.Exit, streams.Unprinted):
                if pages is not None:
                    pages.write(error.report)
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
