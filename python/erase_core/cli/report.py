"""The command `erase report`, which writes an erasure report, and the report that `erase forget` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from erase_core.cli import output
from erase_core.cli.options import (
    STDIN,
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
)
from erase_core.cli.output import show
from erase_core.cli.request import Ids, IdsFrom, MatchBy, Naming, SubjectFrom, Subjects, SubjectsFrom
from erase_core.cli.streams import Unprinted
from erase_core.errors import EraseError, ParameterError, os_reason
from erase_core.fs.status import exists, is_dir
from erase_core.progress import waiting

if TYPE_CHECKING:
    from erase_core.erase import Erase
    from erase_core.erasure.request import Match
    from erase_core.erasure_report.facts import Verdict
    from erase_core.erasure_report.trace import Traces
    from erase_core.reports import ForgetReport

__all__ = ["CODES", "Pages", "check_new", "report"]

# Exit codes.
CODES: dict[Verdict, int] = {"forgotten": 0, "not forgotten": 1, "problems": 1, "unknown": 4}


def report(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write, as HTML.")],
    store: Store = STORE,
    id_: Ids = None,
    ids_from: IdsFrom = None,
    subject: Subjects = None,
    subject_from: SubjectFrom = None,
    subjects_from: SubjectsFrom = None,
    match: MatchBy = "exact",
    absent_from: AbsentFrom = None,
    scan: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Another folder to search, such as a vector store; may be repeated."),
    ] = None,
    known: Known = None,
    no_picture: Annotated[
        bool,
        typer.Option("--no-picture", help="Leave out the picture, which has a dot for each example that stays."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Write a page for a privacy officer: what was forgotten, how that can be checked, and what lies outside.

    Nothing is removed. The removals are found in the receipts, from the ids or subjects that are named; the page has
    none of them. The exit code is 1 if something named is still in the store, or a check found something, and 4 if
    neither an example nor a receipt names it. The page is written in any case.
    """
    naming = Naming("report", id_, ids_from, subject, subject_from, subjects_from)
    if naming.reads_stdin and absent_from == STDIN:
        raise ParameterError("--absent-from: - is read for what is named already. Give a file for one of the two.")
    check_new("--out", out, force=force)
    from erase_core.erasure_report.contents import report_erasure
    from erase_core.verify.forms import SHORTEST

    named = naming.read()
    texts = named_and_listed(None, "--absent-from", absent_from, SHORTEST)
    noted = [receipt_ref_of("--known", each) for each in known or ()]
    with waiting("Checking"), open_store(store, receipts, public_key, key_from) as erase:
        made = report_erasure(
            erase,
            named.ids_for(erase),
            subject=named.subjects,
            match=cast("Match", match),  # `Request` checks its value
            absent=texts,
            known=noted,
            folders=scan or (),
            picture=not no_picture,
            progress=True,
        )
        made.write(out, overwrite=force)
    refs = [f"receipt {each.number}:{each.hash}" for each in made.receipts]
    show({**made.to_dict(), "file": str(out)}, [str(made), *refs, f"written to {out}"], as_json=as_json)
    if CODES[made.verdict]:
        raise typer.Exit(CODES[made.verdict])


def check_new(option: str, file: Path, *, force: bool = False) -> None:
    """Check that a file can be made, before work is done for it.

    Raises
    ------
    ParameterError
        It exists, or its folder does not.
    """
    try:
        if is_dir(file):
            raise ParameterError(f"{option}: {file} is a folder. Name a file in it.")
        if exists(file) and not force:
            hint = ", or replace it with --force" if option == "--out" else ""
            raise ParameterError(f"{option}: {file} exists already. Choose another file{hint}.")
        if not is_dir(file.absolute().parent):
            raise ParameterError(f"{option}: {file.parent} is not a folder. Create it, or choose another.")
    except OSError as error:
        raise ParameterError(f"{option}: {file}: {os_reason(error)}") from error


class Pages:
    """The report that `erase forget` writes when its removal is done.

    Parameters
    ----------
    erase : Erase
    ids, subjects, match
        What is to be forgotten.
    file : Path
    """

    def __init__(
        self, erase: Erase, ids: Sequence[int | str] | None, subjects: list[str] | None, match: str, file: Path
    ) -> None:
        self._erase, self._ids, self._subjects, self._file = erase, ids, subjects, file
        self._match = cast("Match", match)
        self._traces: Traces | None = None

    def collect(self) -> None:
        """Note texts and vectors of the examples, in memory only, to search for them afterwards."""
        from erase_core.erasure_report.contents import traces_of

        self._traces = traces_of(self._erase, self._ids, subject=self._subjects, match=self._match)

    def write(self, done: ForgetReport) -> None:
        """Write the page of a removal, and say so on stderr.

        Raises
        ------
        Unprinted
            It cannot be made or written, or this was interrupted.
        typer.Exit
            It is written, and says that something was found.
        """
        from erase_core.erasure_report.contents import report_erasure

        try:
            with waiting("Checking"):
                made = report_erasure(
                    self._erase,
                    self._ids,
                    subject=self._subjects,
                    match=self._match,
                    removal=done,
                    traces=self._traces,
                    progress=True,
                )
                made.write(self._file)
        except (Exception, KeyboardInterrupt) as error:  # whatever it is, the removal is done
            why = str(error) if isinstance(error, EraseError) else f"{type(error).__name__}"
            raise Unprinted(
                f"the command is done, but cannot write its report: {why}. Run `erase report` with the same request."
            ) from error
        finally:
            self._traces = None
        output.note(f"{made}; report written to {self._file}")
        if CODES[made.verdict]:
            raise typer.Exit(CODES[made.verdict])
